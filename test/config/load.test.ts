import { execFileSync } from 'node:child_process'
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { configPathFrom, loadConfig, type LoadedConfig } from '../../agent/config/load.ts'
import { problemLine } from '../../agent/config/problem.ts'
import { craftKey } from '../cert/craft.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { configOf, LEAST, linesOf, loadFiles, writeFiles } from './config-folder.ts'

describe('issuer.command', () => {
  const COMMAND = 'issuer: {command: [/bin/sign, -x], timeout: 2m}\nhost_keys: /nowhere/ssh_host_*_key.pub\n'

  test('needs a pinned CA', async () => {
    const log = 'log: {level: loud}'
    expect(linesOf(await loadFiles({ 'hostcertd.yaml': `${COMMAND}${log}` }))).toEqual([
      expect.stringMatching(/^log\.level: must be one of/),
      'verify.host_ca_file: is required with issuer.command: name a file with the public key of the CA, or create /etc/hostcertd/host-ca.pub',
    ])
  })

  test('with one', async () => {
    const text = `${COMMAND}verify: {host_ca_file: /ca.pub}`
    expect(configOf(await loadFiles({ 'hostcertd.yaml': text }, {}, false)).issuer).toEqual({
      kind: 'command',
      command: ['/bin/sign', '-x'],
      timeoutMilliseconds: 60_000,
    })
  })
})

test('tls-cert with an issuer.url without TLS needs a login_url', async () => {
  const text = (more: string): string => `
    issuer: {url: "http://127.0.0.1:8080", ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}
    auth: {method: tls-cert, identity_id: me, certificate_file: /c, key_file: /k${more}}
    host_keys: /nowhere/ssh_host_*_key.pub`
  expect(linesOf(await loadFiles({ 'hostcertd.yaml': text('') }))).toEqual([
    'auth.login_url: is required: issuer.url is not https://',
  ])
  configOf(await loadFiles({ 'hostcertd.yaml': text(', login_url: "https://mtls.example"') }, {}, false))
})

describe('which files', () => {
  test('none at all: not enrolled', async () => {
    const none = { kind: 'not-enrolled', warnings: [] }
    expect(await loadFiles({})).toEqual(none)
    expect(await loadFiles({ 'conf.d/readme': 'x', 'conf.d/.10.yaml': 'x', 'other.yaml': 'x' })).toEqual(none)
    expect(await loadConfig({ path: '/nowhere/hostcertd.yaml', environment: {} })).toEqual(none)
  })

  test('an empty one is one', async () => {
    expect((await loadFiles({ 'hostcertd.yaml': '' })).kind).toBe('invalid')
  })

  test.each([
    ['a setting', 'log: {level: debug}'],
    ['nothing', ''],
    ['an issuer for all hosts', 'issuer: {url: https://us.infisical.com, timeout: 5s}'],
  ])('conf.d alone, with %s, which names no host: not enrolled, with a warning', async (_, text) => {
    const loaded = await loadFiles({ 'conf.d/10-fleet.yaml': text })
    expect(loaded).toEqual({
      kind: 'not-enrolled',
      warnings: [
        expect.stringMatching(/conf\.d\/10-fleet\.yaml has no effect: there is no \/.*hostcertd\.yaml/),
      ],
    })
  })

  test('conf.d alone that names a host, or cannot be read, is not "not enrolled"', async () => {
    const host = 'issuer: {ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}'
    expect((await loadFiles({ 'conf.d/a.yaml': host })).kind).toBe('invalid')
    expect((await loadFiles({ 'conf.d/a.yaml': 'issuer: {command: [/bin/sign]}' })).kind).toBe('invalid')
    expect((await loadFiles({ 'conf.d/a.yaml': '[a]' })).kind).toBe('invalid')
  })

  test('conf.d alone', async () => {
    expect((await loadFiles({ 'conf.d/a.yaml': LEAST })).kind).toBe('ok')
  })

  test('conf.d over the main file, in name order', async () => {
    await using folder = await makeTemporaryFolder()
    await writeFiles(folder.path, {
      'hostcertd.yaml': `${LEAST}log: {level: warn, format: json}\nverify: {principals: [a, b]}`,
      'conf.d/20.yaml': 'log: {level: debug}\nverify: {principals: [c]}',
      'conf.d/10.yaml': 'log: {level: error}\nissuer: {timeout: 5s}',
    })
    const loaded = await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment: {} })
    const config = configOf(loaded)
    expect(config.log).toEqual({ level: 'debug', format: 'json' })
    expect(config.verify.principals).toEqual(['c'])
    expect(config.issuer).toMatchObject({ url: 'https://us.infisical.com', timeoutMilliseconds: 5000 })
    expect(loaded).toMatchObject({
      files: ['hostcertd.yaml', 'conf.d/10.yaml', 'conf.d/20.yaml'].map((name) => join(folder.path, name)),
    })
  })

  test('a longer time than a pass has for the issuer counts as that, and says so', async () => {
    const loaded = await loadFiles({ 'hostcertd.yaml': LEAST, 'conf.d/10.yaml': 'issuer: {timeout: 1d}' })
    expect(loaded).toMatchObject({
      config: { issuer: { timeoutMilliseconds: 60_000 } },
      warnings: expect.arrayContaining(['issuer.timeout: values above 60s are treated as 60s']),
    })
  })

  test('a .yml file is a warning', async () => {
    const loaded = await loadFiles({ 'hostcertd.yaml': LEAST, 'conf.d/10.yml': 'x: y' })
    expect(loaded).toMatchObject({
      warnings: expect.arrayContaining([expect.stringMatching(/10\.yml is not read/)]),
    })
  })

  test('credential:NAME lies beside the main file when systemd gives none', async () => {
    await using folder = await makeTemporaryFolder()
    await writeFiles(folder.path, {
      'hostcertd.yaml': `${LEAST}auth: {client_id: i, client_secret_file: credential:s}`.replace(
        /^auth.*\n/m,
        '',
      ),
    })
    const loaded = await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment: {} })
    expect(configOf(loaded).issuer).toMatchObject({
      auth: { clientSecretFile: join(folder.path, 'credentials/s') },
    })
  })

  test('files that cannot be used', async () => {
    await using folder = await makeTemporaryFolder()
    await writeFiles(folder.path, {
      'hostcertd.yaml': LEAST,
      'conf.d/large.yaml': `# ${'x'.repeat(64 * 1024)}`,
      'conf.d/latin1.yaml': Buffer.from('a: \xe4', 'latin1'),
      'conf.d/list.yaml': '[a]',
    })
    await mkdir(join(folder.path, 'conf.d/folder.yaml'))
    await symlink('/nowhere/x', join(folder.path, 'conf.d/link.yaml'))
    execFileSync('mkfifo', [join(folder.path, 'conf.d/fifo.yaml')])
    expect(linesOf(await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment: {} }))).toEqual(
      [
        'conf.d/fifo.yaml: cannot be read: it is not a regular file',
        'conf.d/folder.yaml: cannot be read: it is not a regular file',
        'conf.d/large.yaml: cannot be read: it is larger than 64 KiB',
        'conf.d/latin1.yaml: is not UTF-8 text',
        'conf.d/link.yaml: cannot be read: no such file or directory (ENOENT)',
        'conf.d/list.yaml: must be a map of keys at the top',
      ],
    )
  })

  test('a main file that is a link to nowhere is not "not enrolled"', async () => {
    await using folder = await makeTemporaryFolder()
    await symlink('/nowhere/x', join(folder.path, 'hostcertd.yaml'))
    expect((await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment: {} })).kind).toBe(
      'invalid',
    )
  })

  test('conf.d that is no folder', async () => {
    expect(linesOf(await loadFiles({ 'hostcertd.yaml': LEAST, 'conf.d': 'x' }))).toEqual([
      'conf.d: cannot be read: not a directory (ENOTDIR)',
    ])
  })

  test('a path with a NUL', async () => {
    expect((await loadConfig({ path: '/x\0y', environment: {} })).kind).toBe('invalid')
  })
})

describe('pinned CAs', () => {
  const FILE = 'host-ca.pub'
  const pinning = (path: string): string => `${LEAST}verify: {host_ca_file: ${JSON.stringify(path)}}\n`

  async function load(content: string | null, more = '', checkPinnedCas = true): Promise<LoadedConfig> {
    await using folder = await makeTemporaryFolder()
    const path = join(folder.path, FILE)
    const text = `${pinning(path)}${more}`
    await writeFiles(folder.path, {
      'hostcertd.yaml': text,
      ...(content === null ? {} : { [FILE]: content }),
    })
    return await loadConfig({ path: join(folder.path, 'hostcertd.yaml'), environment: {}, checkPinnedCas })
  }

  test('that can be read', async () => {
    const loaded = await load(`# the CA\n${craftKey().line}\n`)
    expect(configOf(loaded).verify.hostCaFile).toMatch(/\/host-ca\.pub$/)
  })

  test.each([
    { name: 'missing', content: null, why: 'no such file or directory (ENOENT)' },
    { name: 'empty', content: '\n# none yet\n', why: 'it holds no CA key' },
    {
      name: 'garbage',
      content: '# a\n\nnonsense\n',
      why: 'line 3: the public key line is incomplete or damaged',
    },
  ])('$name: a problem with its path', async ({ content, why }) => {
    expect(linesOf(await load(content))).toEqual([`verify.host_ca_file: ${FILE}: ${why} (hostcertd.yaml)`])
    expect((await load(content, '', false)).kind).toBe('ok')
  })

  test('told together with all other problems', async () => {
    expect(linesOf(await load('', 'renewal: {tick: often}\n'))).toEqual([
      expect.stringMatching(/^renewal\.tick: /),
      expect.stringMatching(/^verify\.host_ca_file: host-ca\.pub: it holds no CA key/),
    ])
  })

  test('a path that is none is told once', async () => {
    const lines = linesOf(await loadFiles({ 'hostcertd.yaml': pinning('host-ca.pub') }))
    expect(lines).toEqual([expect.stringMatching(/^verify\.host_ca_file: must be an absolute path/)])
  })
})

describe('problems', () => {
  test('all at once, each with its path and its file', async () => {
    const loaded = await loadFiles({
      'hostcertd.yaml': 'issuer: {url: ftp://x, timeout: }\nlog: {level: loud}\nauth: {method: token}',
      'conf.d/10.yaml':
        'log: {level: louder}\nrenewal: {tick: "0 * * * *"}\nhost_keys: [/a/k.pub, /b/k.pub]\nfoo: 1',
    })
    expect(linesOf(loaded)).toEqual([
      'issuer.timeout: has no value: give it one, or leave the key out (hostcertd.yaml)',
      'foo: unknown key (conf.d/10.yaml)',
      'issuer.url: must be a URL such as https://us.infisical.com, is "ftp://x" (hostcertd.yaml)',
      'issuer.ssh_host_id: is required',
      'auth.token_file: is required',
      'renewal.tick: must be at least every 5 minutes, all day and every day, is "0 * * * *" (conf.d/10.yaml)',
      'log.level: must be one of trace, debug, info, warn, error, fatal, is "louder" (conf.d/10.yaml)',
      'host_keys: /a/k.pub and /b/k.pub have the same file name, k.pub (conf.d/10.yaml)',
    ])
  })

  test('of every file that is not YAML', async () => {
    const files = { 'hostcertd.yaml': 'a: 1\na: 2', 'conf.d/a.yaml': 'x: "y', 'conf.d/b.yaml': LEAST }
    expect(linesOf(await loadFiles(files))).toEqual([
      'hostcertd.yaml:2:1: this key is there twice in the same map',
      'conf.d/a.yaml:1:6: is not YAML: Missing closing "quote',
    ])
  })

  test('a required key without a value is told once', async () => {
    const lines = linesOf(await loadFiles({ 'hostcertd.yaml': LEAST.replace(/url: [^,]+/, 'url: ') }))
    expect(lines).toEqual(['issuer.url: has no value: give it one, or leave the key out (hostcertd.yaml)'])
  })

  test('whatever the files hold: never throws, every problem has a path', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({ main: fc.string({ unit: 'binary' }), over: fc.option(fc.json()) }),
        async ({ main, over }) => {
          const loaded = await loadFiles({
            'hostcertd.yaml': main,
            ...(over === null ? {} : { 'conf.d/x.yaml': over }),
          })
          expect(loaded.kind).toBe('invalid')
          if (loaded.kind !== 'invalid') return
          expect(loaded.problems).not.toEqual([])
          for (const problem of loaded.problems) {
            expect(problem.path).not.toBe('')
            expect(problemLine(problem)).toMatch(/^.+: .+$/)
          }
        },
      ),
      { numRuns: 50 },
    )
  })
})

test.each([
  { listen: '0.0.0.0:9847', warns: true },
  { listen: '[::1]:9847', warns: false },
  { listen: 'none', warns: false },
])('a health server for everybody is a warning: $listen', async ({ listen, warns }) => {
  const loaded = await loadFiles({ 'hostcertd.yaml': `${LEAST}health: {listen: "${listen}"}` })
  const warnings = loaded.kind === 'ok' ? loaded.warnings : []
  expect(warnings.some((warning) => warning.startsWith('health.listen: '))).toBe(warns)
})

test.each([
  { maintenance: '* 2-4 * * 0', warns: false },
  { maintenance: '* 2-4 1 * *', warns: true },
  { maintenance: '0 3 29 2 *', warns: true },
])('a maintenance window that opens less often than every week is a warning: $maintenance', async (row) => {
  const loaded = await loadFiles({ 'hostcertd.yaml': `${LEAST}renewal: {maintenance: "${row.maintenance}"}` })
  const warnings = loaded.kind === 'ok' ? loaded.warnings : []
  expect(warnings.some((warning) => warning.startsWith('renewal.maintenance: '))).toBe(row.warns)
})

test('the largest file there may be, full of unknown keys: each is named', async () => {
  const keys = Array.from({ length: 6000 }, (_, index) => `k${index}: 1`).join('\n')
  const loaded = await loadFiles({ 'hostcertd.yaml': `${LEAST}${keys}` })
  expect(loaded.kind === 'invalid' && loaded.problems.length).toBe(6000)
})

test.each([
  { option: '/a.yaml', environment: { HOSTCERTD_CONFIG: '/b.yaml' }, want: '/a.yaml' },
  { option: undefined, environment: { HOSTCERTD_CONFIG: '/b.yaml' }, want: '/b.yaml' },
  { option: undefined, environment: { HOSTCERTD_CONFIG: '' }, want: '/etc/hostcertd/hostcertd.yaml' },
  { option: undefined, environment: {}, want: '/etc/hostcertd/hostcertd.yaml' },
  { option: 'a.yaml', environment: {}, want: join(process.cwd(), 'a.yaml') },
])('--config $option, $environment: $want', ({ option, environment, want }) => {
  expect(configPathFrom(option, environment)).toBe(want)
})
