import { readdirSync } from 'node:fs'
import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { command, type Outcome, tryCommand } from '../host/support/commands.ts'
import { isRoot, runsIf } from '../support/skip.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const FIVE_MINUTES = 300_000
const KEY_MADE = '20260101T000000!'
/** After the key was made. */
const SOURCE_DATE_EPOCH = '1790000000'
const onX64 = runsIf(isRoot && process.arch === 'x64', 'only root on x64 can build the packages')

let folder: TemporaryFolder
/** GnuPG's, with a key of this test's own. */
let keyHome: string
/** A repository that no test changes. */
let made: string

const withKey = (): NodeJS.ProcessEnv => ({ ...process.env, GNUPGHOME: keyHome, SOURCE_DATE_EPOCH })

async function make(out: string, options: readonly string[] = []): Promise<Outcome> {
  const packages = join(folder.path, 'packages')
  const argv = ['sh', 'packaging/repository.sh', '--packages', packages, '--out', out, ...options]
  return tryCommand(argv, { env: withKey() })
}

describe('the package repositories', onX64, () => {
  beforeAll(async () => {
    folder = await makeTemporaryFolder()
    keyHome = join(folder.path, 'gnupg')
    await mkdir(keyHome, { mode: 0o700 })
    const key = ['--quick-generate-key', 'packages@example.com', 'rsa3072', 'sign', 'never']
    const gpg = ['gpg', '--batch', '--quiet', '--faked-system-time', KEY_MADE, '--passphrase', '', ...key]
    await command(gpg, { env: withKey() })
    const packages = join(folder.path, 'packages')
    await command(['npm', 'run', '--silent', 'package', '--', '--fast', '--out', packages], {
      timeout: FIVE_MINUTES,
    })
    made = join(folder.path, 'made')
    const { status, stderr } = await make(made, ['--key', 'packages@example.com'])
    if (status !== 0) throw new Error(stderr)
  }, FIVE_MINUTES)
  afterAll(async () => {
    await tryCommand(['gpgconf', '--kill', 'all'], { env: withKey() })
    await folder.remove()
  })

  test('the same packages, key and date make the same repositories, to the bit', async () => {
    const again = join(folder.path, 'again')
    await make(again, ['--key', 'packages@example.com'])
    expect(await command(['diff', '-r', made, again])).toBe('')
  })

  test.each([
    { name: 'no key', options: [], status: 64, says: 'no signing key: pass --key FINGERPRINT' },
    { name: 'an unknown key', options: ['--key', 'nobody@example.com'], status: 66, says: 'no secret key' },
    {
      name: 'no packages',
      options: ['--key', 'packages@example.com', '--packages', '/etc'],
      status: 66,
      says: 'no package',
    },
  ])('$name is refused', async ({ options, status, says }) => {
    const outcome = await make(join(folder.path, 'refused'), options)
    expect(outcome).toMatchObject({ status, stderr: expect.stringContaining(says) })
  })

  describe('apt', () => {
    test('updates from it and would install it, with every file checked', async () => {
      await using apt = await privateApt(made)
      expect(await apt.run('update')).toMatchObject({ status: 0, stderr: '' })
      expect(await apt.run('install', '--download-only', '--reinstall', 'hostcertd')).toMatchObject({
        status: 0,
      })
      expect((await apt.run('indextargets', '--format', '$(REPO_URI)')).stdout).toContain(`${made}/apt`)
    })

    test.each([
      { name: 'a changed InRelease', file: 'apt/dists/stable/InRelease', says: 'BADSIG|invalid|NODATA' },
      {
        name: 'a changed list',
        file: 'apt/dists/stable/main/binary-amd64',
        says: 'Hash Sum|unexpected size',
      },
    ])('$name is refused', async ({ file, says }) => {
      await using copy = await makeTemporaryFolder()
      await cp(made, copy.path, { recursive: true })
      for (const path of filesIn(join(copy.path, file))) await damage(path)
      await using apt = await privateApt(copy.path)
      const { status, stderr, stdout } = await apt.run('update', '--error-on=any')
      expect(status).not.toBe(0)
      expect(stderr + stdout).toMatch(new RegExp(says))
    })

    test('a changed package is refused', async () => {
      await using copy = await makeTemporaryFolder()
      await cp(made, copy.path, { recursive: true })
      for (const path of filesIn(join(copy.path, 'apt/pool'))) await damage(path)
      await using apt = await privateApt(copy.path)
      expect(await apt.run('update')).toMatchObject({ status: 0 })
      const { status, stderr } = await apt.run('install', '--download-only', '--reinstall', 'hostcertd')
      expect(status).not.toBe(0)
      expect(stderr).toMatch(/Hash Sum|unexpected size/)
    })

    test('the key of somebody else is refused', async () => {
      await using copy = await makeTemporaryFolder()
      await cp(made, copy.path, { recursive: true })
      await using apt = await privateApt(copy.path, '/usr/share/keyrings/debian-archive-keyring.gpg')
      const { status, stderr, stdout } = await apt.run('update', '--error-on=any')
      expect(status).not.toBe(0)
      expect(stderr + stdout).toContain('NO_PUBKEY')
    })
  })

  describe('dnf', () => {
    test('checks the signature of the list, and finds the package', async () => {
      await using dnf = await privateDnf(made)
      const { status, stdout } = await dnf.run('repoquery', '--quiet', '--location', 'hostcertd')
      expect(status).toBe(0)
      expect(stdout).toMatch(/rpm\/hostcertd-[\d.]+-1\.x86_64\.rpm\n$/)
    })

    test('the package is signed with the same key', async () => {
      await using copy = await makeTemporaryFolder()
      const rpm = (await readdir(join(made, 'rpm'))).find((name) => name.endsWith('.rpm')) ?? 'no rpm'
      const database = ['--dbpath', copy.path]
      await command(['rpm', ...database, '--import', join(made, 'hostcertd.asc')])
      const check = ['rpm', ...database, '--checksig', '--verbose']
      expect(await command([...check, join(made, 'rpm', rpm)])).toMatch(/RSA\/SHA512 Signature.*: OK/)
      await cp(join(made, 'rpm', rpm), join(copy.path, rpm))
      await damage(join(copy.path, rpm))
      expect(await tryCommand([...check, join(copy.path, rpm)])).toMatchObject({ status: 1 })
    })

    test('a changed list is refused', async () => {
      await using copy = await makeTemporaryFolder()
      await cp(made, copy.path, { recursive: true })
      const list = join(copy.path, 'rpm/repodata/repomd.xml')
      await writeFile(list, (await readFile(list, 'utf8')).replace('1790000000', '1790000001'))
      await using dnf = await privateDnf(copy.path)
      const { status, stderr } = await dnf.run('repoquery', 'hostcertd')
      expect(status).not.toBe(0)
      expect(stderr).toMatch(/GPG|signature/i)
    })
  })
})

function filesIn(path: string): string[] {
  if (!path.includes('pool') && !path.includes('binary-')) return [path]
  const entries = readdirSync(path, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
}

/** One byte in the middle is another one. */
async function damage(path: string): Promise<void> {
  const bytes = await readFile(path)
  const middle = Math.floor(bytes.length / 2)
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle)
  await writeFile(path, bytes)
}

/** An apt with lists, sources and cache of its own, which only knows from the machine what is installed. */
async function privateApt(repository: string, key = join(repository, 'hostcertd.asc')) {
  const own = await makeTemporaryFolder()
  for (const name of ['lists/partial', 'archives/partial', 'parts', 'empty'])
    await mkdir(join(own.path, name), { recursive: true })
  const source = ['Types: deb', `URIs: file:${repository}/apt`, 'Suites: stable', 'Components: main']
  await writeFile(join(own.path, 'parts/hostcertd.sources'), [...source, `Signed-By: ${key}`, ''].join('\n'))
  const settings = {
    'Dir::State::lists': 'lists',
    'Dir::Cache::archives': 'archives',
    'Dir::Cache::pkgcache': '',
    'Dir::Cache::srcpkgcache': '',
    'Dir::Etc::sourcelist': 'none',
    'Dir::Etc::sourceparts': 'parts',
    'Dir::Etc::preferencesparts': 'empty',
    'Dir::Etc::trustedparts': 'empty',
  }
  const options = Object.entries(settings).map(
    ([name, value]) => `${name}=${value === '' ? '' : join(own.path, value)}`,
  )
  const all = [...options, 'APT::Sandbox::User=root', 'Debug::NoLocking=true'].flatMap((one) => ['-o', one])
  const env = { ...process.env, LC_ALL: 'C' }
  return {
    run: async (...argv: string[]) => tryCommand(['apt-get', ...all, '--yes', ...argv], { env }),
    [Symbol.asyncDispose]: async () => own.remove(),
  }
}

/** A dnf with a root, repositories and cache of its own. */
async function privateDnf(repository: string) {
  const own = await makeTemporaryFolder()
  const file = `[hostcertd]
name=hostcertd
baseurl=file://${repository}/rpm
gpgcheck=1
repo_gpgcheck=1
skip_if_unavailable=0
gpgkey=file://${repository}/hostcertd.asc
`
  for (const name of ['repos', 'log']) await mkdir(join(own.path, name))
  await writeFile(join(own.path, 'repos/hostcertd.repo'), file)
  const set = { reposdir: 'repos', cachedir: 'cache', logdir: 'log', varsdir: 'none', persistdir: 'state' }
  const settings = Object.entries(set).map(([name, value]) => `--setopt=${name}=${join(own.path, value)}`)
  const root = ['--installroot', join(own.path, 'root'), '--releasever=9', '--assumeyes']
  return {
    run: async (...argv: string[]) => tryCommand(['dnf', ...root, ...settings, ...argv]),
    [Symbol.asyncDispose]: async () => own.remove(),
  }
}
