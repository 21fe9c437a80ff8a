import { createHash } from 'node:crypto'
import { bundledPackages, directDependencies, readJson, type BundledPackage } from './components.ts'

/**
 * `node packaging/sbom.ts amd64|arm64`: the bill of materials of the packages, CycloneDX 1.6, on standard output.
 * Run at the top of the checkout, after the build, by the Node that is packaged. The same input gives the same bytes.
 */

/** Native parts for which advisories name a product; the rest are found by name and version. */
const CPE_VENDORS: Readonly<Record<string, string>> = {
  ares: 'c-ares:c-ares',
  brotli: 'google:brotli',
  icu: 'unicode:international_components_for_unicode',
  llhttp: 'llhttp:llhttp',
  nghttp2: 'nghttp2:nghttp2',
  node: 'nodejs:node.js',
  openssl: 'openssl:openssl',
  sqlite: 'sqlite:sqlite',
  undici: 'nodejs:undici',
  uv: 'libuv:libuv',
  zlib: 'zlib:zlib',
  zstd: 'facebook:zstandard',
}
/** Numbers of interfaces, not parts. */
const NOT_PARTS = new Set(['node', 'modules', 'napi'])

const manifest = readJson('package.json') as Readonly<Record<'version' | 'license' | 'description', string>>
const architecture = process.argv[2] ?? 'amd64'
const packages = bundledPackages()
const parts = Object.entries(process.versions).filter(
  (entry): entry is [string, string] => !NOT_PARTS.has(entry[0]) && entry[1] !== undefined && entry[1] !== '',
)
const program = `pkg:generic/hostcertd@${manifest.version}?arch=${architecture}`
const node = `pkg:generic/node@${process.versions.node}?arch=${architecture}`

const components = [
  ...packages.map((part) => ({
    type: 'library',
    'bom-ref': refOf(part.folder),
    name: part.name,
    version: part.version,
    licenses: [{ expression: part.license }],
    ...(part.integrity === null ? {} : { hashes: [hashOf(part.integrity)] }),
    purl: purlOf(part),
  })),
  {
    type: 'platform',
    'bom-ref': node,
    name: 'node',
    version: process.versions.node,
    licenses: [{ license: { name: 'Node.js licence, see LICENSE.node' } }],
    ...cpeOf('node', process.versions.node),
    purl: node,
    components: parts.map(([name, version]) => ({
      type: 'library',
      'bom-ref': `node:${name}`,
      name,
      version,
      ...cpeOf(name, version),
      purl: `pkg:generic/${name}@${encodeURIComponent(version)}`,
    })),
  },
]
const dependencies = [
  { ref: program, dependsOn: [...directDependencies(packages).map(refOf), node] },
  ...packages.map(({ folder, dependsOn }) => ({ ref: refOf(folder), dependsOn: dependsOn.map(refOf) })),
  { ref: node, dependsOn: parts.map(([name]) => `node:${name}`) },
]
const content = {
  metadata: {
    timestamp: new Date(Number(process.env['SOURCE_DATE_EPOCH'] ?? 0) * 1000).toISOString(),
    component: {
      type: 'application',
      'bom-ref': program,
      name: 'hostcertd',
      version: manifest.version,
      description: manifest.description,
      licenses: [{ expression: manifest.license }],
      purl: program,
    },
  },
  components,
  dependencies,
}
const document = {
  $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
  bomFormat: 'CycloneDX',
  specVersion: '1.6',
  serialNumber: `urn:uuid:${uuidOf(JSON.stringify(content))}`,
  version: 1,
  ...content,
}
process.stdout.write(`${JSON.stringify(document, null, 1)}\n`)

function purlOf({ name, version }: BundledPackage): string {
  return `pkg:npm/${name.replace('@', '%40')}@${version}`
}

/** Two versions of one package are two folders. */
function refOf(folder: string): string {
  return `npm:${folder}`
}

/** From `sha512-BASE64`. */
function hashOf(integrity: string): { alg: string; content: string } {
  const [algorithm = '', digest = ''] = integrity.split('-', 2)
  return { alg: algorithm.replace('sha', 'SHA-'), content: Buffer.from(digest, 'base64').toString('hex') }
}

function cpeOf(name: string, version: string): { cpe?: string } {
  const product = CPE_VENDORS[name]
  const plain = /^\d+(?:\.\d+)*/.exec(version)?.[0]
  return product === undefined || plain === undefined
    ? {}
    : { cpe: `cpe:2.3:a:${product}:${plain}:*:*:*:*:*:*:*` }
}

/** Named by its content, RFC 9562 version 8, so that it is the same for the same content. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
