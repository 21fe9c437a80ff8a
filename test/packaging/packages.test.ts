import { execFile } from 'node:child_process'
import { readFile, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { command, tryCommand } from '../host/support/commands.ts'
import { isRoot, runsIf } from '../support/skip.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const run = promisify(execFile)
const FIVE_MINUTES = 300_000
const onX64 = runsIf(isRoot && process.arch === 'x64', 'only root on x64 can build them')
/** Distributions name them in a fixed way: `.deb` and `.rpm` of this version, for this machine. */
const DEB = /^hostcertd_[\d.]+_amd64\.deb$/
const RPM = /^hostcertd-[\d.]+-1\.x86_64\.rpm$/

describe('the packages', onX64, () => {
  let folder: TemporaryFolder
  let deb: string
  let rpm: string
  let root: string

  beforeAll(async () => {
    folder = await makeTemporaryFolder()
    const out = join(folder.path, 'out')
    // Built twice, in two places: `package.sh` fails unless both are the same to the bit.
    await command(['npm', 'run', '--silent', 'package', '--', '--fast', '--twice', '--out', out], {
      timeout: FIVE_MINUTES,
    })
    const files = await readdir(out)
    deb = join(out, files.find((file) => DEB.test(file)) ?? 'no deb')
    rpm = join(out, files.find((file) => RPM.test(file)) ?? 'no rpm')
    root = join(folder.path, 'root')
    await command(['dpkg-deb', '--extract', deb, root])
  }, FIVE_MINUTES)
  afterAll(() => folder.remove())

  test('lintian and rpmlint have nothing to say', { timeout: FIVE_MINUTES }, async () => {
    const argv = ['lintian', '--allow-root', '--fail-on', 'error,warning', deb]
    const lintian = await tryCommand(argv, { timeout: FIVE_MINUTES })
    expect(lintian).toMatchObject({ status: 0, stdout: '' })
    const rpmlint = await tryCommand(['rpmlint', '-r', 'packaging/rpm/hostcertd.rpmlintrc', rpm])
    expect(rpmlint.stdout).toContain('0 errors, 0 warnings')
  })

  test('shellcheck has nothing to say of what is run', async () => {
    const scripts = ['reload-helper', 'import-credentials'].map((name) =>
      join(root, 'usr/lib/hostcertd', name),
    )
    const control = join(folder.path, 'control')
    await command(['dpkg-deb', '--control', deb, control])
    const maintainer = ['postinst', 'prerm', 'postrm'].map((name) => join(control, name))
    const own = (await readdir('packaging'))
      .filter((file) => file.endsWith('.sh'))
      .map((f) => join('packaging', f))
    // What debhelper writes into them is its own.
    const debhelpers = ['shellcheck', '--shell', 'sh', '--severity', 'warning', ...maintainer]
    expect(await tryCommand(debhelpers)).toMatchObject({ status: 0, stdout: '' })
    const ours = ['shellcheck', '--shell', 'sh', join(root, 'usr/bin/hostcertd'), ...scripts, ...own]
    expect(await tryCommand(ours)).toMatchObject({ status: 0, stdout: '' })
  })

  test('both have the same files, but for what each distribution has elsewhere', async () => {
    // The drop-in is written at the installation; rpm has to know of it to remove it.
    const elsewhere =
      /\/(?:zsh|licenses|lintian|hostcertd-(?:exchange@|ephemeral)\.service\.d)\/|\/(?:copyright|changelog)|\/[^/]*\.gz$|LICENSE|NOTICES/
    const inDeb = (await command(['find', root, '-type', 'f', '-printf', '/%P\n'])).split('\n')
    const inRpm = (await command(['rpm', '-qp', '--queryformat', '[%{FILEMODES:perms} %{FILENAMES}\n]', rpm]))
      .split('\n')
      .filter((line) => line.startsWith('-'))
      .map((line) => line.slice(line.indexOf('/')))
    const plain = (files: readonly string[]) => files.filter((f) => f !== '' && !elsewhere.test(f)).sort()
    expect(plain(inRpm)).toEqual(plain(inDeb))
    expect(plain(inDeb)).toContain('/usr/lib/systemd/system/hostcertd-reload@.service')
    expect(plain(inDeb)).toContain('/usr/lib/systemd/system/hostcertd-textfile.timer')
  })

  test('the timer for the textfile collector is neither enabled nor started, and is stopped before it is removed', async () => {
    const control = join(folder.path, 'scripts')
    await command(['dpkg-deb', '--control', deb, control])
    const [postinst, prerm] = await Promise.all(
      ['postinst', 'prerm'].map(async (name) => readFile(join(control, name), 'utf8')),
    )
    expect(postinst).not.toMatch(/(?:invoke|_dh_action) .*hostcertd-textfile/)
    // In such a block, debhelper's for units with `--no-enable`, is what an administrator enabled before.
    const atFirst = postinst?.replaceAll(/^\tif deb-systemd-helper debian-installed [^]*?^\tfi$/gm, '') ?? ''
    const enabled = atFirst.matchAll(/deb-systemd-helper enable '(.*?)'/g)
    expect([...enabled].map(([, unit]) => unit)).toEqual([
      'hostcertd-exchange.socket',
      'hostcertd-reload.socket',
      'hostcertd.service',
      'hostcertd-enroll.service',
    ])
    expect(prerm).toMatch(/deb-systemd-invoke stop .*hostcertd-textfile\.timer/)
    const inRpm = await command(['rpm', '-qp', '--scripts', rpm])
    const linesInRpm = inRpm.split('\n').filter((line) => line.includes('hostcertd-textfile.timer'))
    expect(linesInRpm).toEqual([expect.stringContaining('disable --now hostcertd-textfile.timer')])
  })

  test('documents and what monitors need are there, as they are in the checkout', async () => {
    const doc = join(root, 'usr/share/doc/hostcertd')
    const examples = join(doc, 'examples/monitoring')
    const documents = (await readdir('docs')).filter((name) => name.endsWith('.md'))
    const names = await readdir('packaging/monitoring')
    expect((await readdir(examples)).sort()).toEqual(names.sort())
    for (const [installed, source] of [
      [join(doc, 'CHANGELOG.md'), 'CHANGELOG.md'],
      ...documents.map((name) => [join(doc, name), join('docs', name)] as const),
      ...names.map((name) => [join(examples, name), join('packaging/monitoring', name)] as const),
    ] as const)
      expect(await readFile(installed, 'utf8'), source).toBe(await readFile(source, 'utf8'))
    const rules = await readFile(join(examples, 'hostcertd.rules.yml'), 'utf8')
    expect(rules).toContain('/usr/share/doc/hostcertd/errors.md')
  })

  test('dependencies are what Node is linked with, and the programs that are run', async () => {
    await run('mkdir', ['-p', join(folder.path, 'shlibs/debian')])
    await run('cp', ['packaging/debian/control', join(folder.path, 'shlibs/debian')])
    const { stdout } = await run('dpkg-shlibdeps', ['-O', join(root, 'usr/lib/hostcertd/bin/node')], {
      cwd: join(folder.path, 'shlibs'),
    })
    const depends = await command(['dpkg-deb', '--field', deb, 'Depends'])
    expect(depends).toContain(stdout.trim().replace('shlibs:Depends=', ''))
    expect(depends).toContain('openssh-client, openssh-server, systemd (>= 252)')
    const requires = (await command(['rpm', '-qp', '--requires', rpm])).split('\n')
    expect(requires).toEqual(
      expect.arrayContaining(['/usr/bin/ssh', '/usr/bin/ssh-keygen', '/usr/sbin/sshd', 'util-linux']),
    )
    expect(requires.join('\n')).toMatch(/^libatomic\.so\.1/m)
  })

  test('the compile cache is taken, also elsewhere and by another user', async () => {
    const lib = join(root, 'usr/lib/hostcertd')
    const become = ['setpriv', '--reuid=65534', '--clear-groups', join(lib, 'bin/node')]
    const unit = await readFile(resolve('systemd/hostcertd.service'), 'utf8')
    const [, flags = ''] = /^ExecStart=\S+ --inspect-port=\S+ (.*) \S+\.js run$/m.exec(unit) ?? []
    // As the unit has them, and as /usr/bin/hostcertd has: none.
    for (const given of [flags.split(' '), []]) {
      const { stdout, stderr } = await tryCommand(
        [...become, ...given, join(lib, 'hostcertd.js'), 'version'],
        {
          env: {
            NODE_COMPILE_CACHE: join(lib, 'cache'),
            NODE_COMPILE_CACHE_PORTABLE: '1',
            NODE_DEBUG_NATIVE: 'COMPILE_CACHE',
          },
        },
      )
      expect(stdout + stderr).toMatch(/V8 code cache for CommonJS .*hostcertd\.js was accepted/)
    }
  })

  test('the bill of materials: everything in the bundle, Node, and what is in Node', async () => {
    const text = await readFile(join(root, 'usr/lib/hostcertd/hostcertd.cdx.json'), 'utf8')
    const bill = JSON.parse(text) as Bill
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5' })
    const { dependencies } = JSON.parse(await readFile(resolve('package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    const listed = new Map(bill.components.map(({ name, version }) => [name, version]))
    for (const [name, version] of Object.entries(dependencies))
      expect([name, listed.get(name)]).toEqual([name, version])
    // Shared with development tools, and from a package that states its licence in the old way.
    for (const name of ['yaml', 'systemd-notify'])
      expect(bill.components.find((one) => one.name === name)).toMatchObject({
        purl: expect.stringContaining(`pkg:npm/${name}@`) as string,
        hashes: [{ alg: 'SHA-512' }],
        licenses: [expect.anything()],
      })
    expect([...listed.keys()]).not.toContain('vitest')
    const node = bill.components.find(({ name }) => name === 'node')
    expect(node).toMatchObject({ version: process.versions.node })
    const parts = node?.components?.map(({ name, version }) => `${name} ${version}`)
    expect(parts).toContain(`openssl ${process.versions.openssl}`)
    expect(parts).toContain(`v8 ${process.versions.v8}`)
    const refs = new Set(
      [bill.metadata.component, ...bill.components, ...(node?.components ?? [])].map((c) => c['bom-ref']),
    )
    for (const { ref, dependsOn } of bill.dependencies)
      expect([ref, ...dependsOn].filter((r) => !refs.has(r))).toEqual([])
  })
})

/** Debian's package of each library that a Node from nodejs.org is linked with. */
const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  'ld-linux-aarch64.so.1': 'libc6',
  'libatomic.so.1': 'libatomic1',
  'libc.so.6': 'libc6',
  'libdl.so.2': 'libc6',
  'libgcc_s.so.1': 'libgcc-s1',
  'libm.so.6': 'libc6',
  'libpthread.so.0': 'libc6',
  'libstdc++.so.6': 'libstdc++6',
}

// In this file, for two builds at the same time would write the same bundle.
describe('the packages for arm64', onX64, () => {
  let folder: TemporaryFolder
  let deb: string
  let rpm: string
  let node: string

  beforeAll(async () => {
    folder = await makeTemporaryFolder()
    const out = join(folder.path, 'out')
    await command(['npm', 'run', '--silent', 'package', '--', '--fast', '--arch', 'arm64', '--out', out], {
      timeout: FIVE_MINUTES,
    })
    const files = await readdir(out)
    deb = join(out, files.find((file) => /^hostcertd_[\d.]+_arm64\.deb$/.test(file)) ?? 'no deb')
    rpm = join(out, files.find((file) => /^hostcertd-[\d.]+-1\.aarch64\.rpm$/.test(file)) ?? 'no rpm')
    await command(['dpkg-deb', '--extract', deb, join(folder.path, 'root')])
    node = join(folder.path, 'root/usr/lib/hostcertd/bin/node')
  }, FIVE_MINUTES)
  afterAll(() => folder.remove())

  test('are for arm64, and so is the stripped Node in both', async () => {
    expect(await command(['dpkg-deb', '--field', deb, 'Architecture'])).toBe('arm64\n')
    expect(await command(['rpm', '-qp', '--queryformat', '%{ARCH} %{OS}', rpm])).toBe('aarch64 linux')
    expect(await command(['readelf', '--file-header', node])).toMatch(/^\s*Machine:\s+AArch64$/m)
    expect(await command(['readelf', '--section-headers', '--wide', node])).not.toContain(' .symtab ')
    const inDeb = (await command(['sha256sum', node])).slice(0, 64)
    const digests = await command(['rpm', '-qp', '--queryformat', '[%{FILENAMES} %{FILEDIGESTS}\n]', rpm])
    expect(digests).toContain(`/usr/lib/hostcertd/bin/node ${inDeb}\n`)
  })

  test('dependencies are what that Node is linked with', async () => {
    const needed = [
      ...(await command(['readelf', '--dynamic', node])).matchAll(/\(NEEDED\)\s.*\[(.*)\]$/gm),
    ].map(([, library = '']) => library)
    expect(needed.length).toBeGreaterThan(5)
    const depends = await command(['dpkg-deb', '--field', deb, 'Depends'])
    const libraries = depends.match(/\blib[\w+-]+\d(?= \()/g)
    expect(libraries).toEqual(
      [...new Set(needed.map((library) => DEBIAN_PACKAGES[library] ?? library))].toSorted(),
    )
    // A glibc that is old enough for what is asked for lacks nothing that Node wants.
    const [, enough = ''] = /libc6 \(>= ([\d.]+)\)/.exec(depends) ?? []
    const versions = await command(['readelf', '--version-info', '--wide', node])
    for (const version of new Set(versions.match(/(?<=GLIBC_)[\d.]+/g)))
      await command(['dpkg', '--compare-versions', version, 'le', enough])
    const requires = (await command(['rpm', '-qp', '--requires', rpm])).split('\n')
    expect(requires).toEqual(expect.arrayContaining(needed.map((library) => `${library}()(64bit)`)))
  })

  test('the program runs, emulated', { timeout: FIVE_MINUTES }, async () => {
    const program = join(folder.path, 'root/usr/lib/hostcertd/hostcertd.js')
    const emulated = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu', node, program]
    expect(await command([...emulated, 'version'])).toContain(`Node ${process.versions.node}`)
    const inspected = await command([...emulated, 'inspect', 'test/fixtures/certificates/capitals-cert.pub'])
    expect(inspected).toContain('signature   ssh-ed25519, valid')
  })

  test('the bill of materials is that of arm64, with the same Node as here', async () => {
    const text = await readFile(join(folder.path, 'root/usr/lib/hostcertd/hostcertd.cdx.json'), 'utf8')
    const { metadata, components } = JSON.parse(text) as Bill
    expect(metadata.component['bom-ref']).toMatch(/^pkg:generic\/hostcertd@[\d.]+\?arch=arm64$/)
    const { version = '', 'bom-ref': ref } = components.find(({ name }) => name === 'node') ?? {}
    expect(ref).toBe(`pkg:generic/node@${version}?arch=arm64`)
    expect(version).toBe(process.versions.node)
  })
})

interface Component {
  readonly 'bom-ref': string
  readonly name: string
  readonly version: string
  readonly components?: readonly Component[]
}

interface Bill {
  readonly metadata: { readonly component: Component }
  readonly components: readonly Component[]
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[]
}
