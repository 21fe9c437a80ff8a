import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { bundledPackages, readJson } from './components.ts'

/**
 * `node packaging/sbom.ts amd64|arm64`: the bill of materials of the packages, CycloneDX 1.5, on standard output: what
 * `npm sbom` says of the libraries that are in the bundle, and what npm cannot know, the Node beside it with its parts.
 * Run at the top of the checkout, after the build, by the Node that is packaged. The same input gives the same bytes.
 */

interface Component {
  readonly 'bom-ref': string
  readonly licenses?: readonly object[]
}

interface Bill {
  readonly $schema: string
  readonly bomFormat: string
  readonly specVersion: string
  readonly metadata: { readonly component: Component }
  readonly components: readonly Component[]
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[]
}

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
const program = `pkg:generic/hostcertd@${manifest.version}?arch=${architecture}`
const node = `pkg:generic/node@${process.versions.node}?arch=${architecture}`
const parts = Object.entries(process.versions).filter(
  (entry): entry is [string, string] => !NOT_PARTS.has(entry[0]) && entry[1] !== undefined && entry[1] !== '',
)

// With --omit=dev npm leaves out what development tools use too, so all is asked for; the bundler knows what is in.
const argv = ['sbom', '--sbom-format=cyclonedx', '--package-lock-only']
const npm = JSON.parse(execFileSync('npm', argv, { encoding: 'utf8', maxBuffer: 1e8 })) as Bill
const licenses = new Map(bundledPackages().map((one) => [`${one.name}@${one.version}`, one.license]))
const libraries = npm.components.filter((component) => licenses.has(component['bom-ref']))
const listed = new Set(libraries.map((component) => component['bom-ref']))
for (const ref of licenses.keys()) if (!listed.has(ref)) throw new Error(`npm sbom does not list ${ref}`)

const components = [
  ...libraries.map((library) => ({
    ...library,
    // Old packages state theirs in a way that npm does not read.
    licenses: library.licenses ?? [{ expression: licenses.get(library['bom-ref']) }],
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
  { ref: program, dependsOn: [...dependenciesOf(npm.metadata.component), node] },
  ...libraries.map((library) => ({ ref: library['bom-ref'], dependsOn: dependenciesOf(library) })),
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
  $schema: npm.$schema,
  bomFormat: npm.bomFormat,
  specVersion: npm.specVersion,
  serialNumber: `urn:uuid:${uuidOf(JSON.stringify(content))}`,
  version: 1,
  ...content,
}
process.stdout.write(`${JSON.stringify(document, null, 1)}\n`)

function dependenciesOf(component: Component): string[] {
  const { dependsOn = [] } = npm.dependencies.find(({ ref }) => ref === component['bom-ref']) ?? {}
  return dependsOn.filter((ref) => listed.has(ref))
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
