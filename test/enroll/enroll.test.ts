import { chmod, chown, readFile, rm, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseCaKeys } from '../../agent/cert/public-key.ts'
import type { Enrollment } from '../../agent/host/enrollment.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { enrolled, EnrollHost, type Looked, NAMES } from './enroll-host.ts'

/** What `enroll` finds and plans on a host, seen by `--dry-run`. */

const CONFIG = '/etc/hostcertd/hostcertd.yaml'
const PINS = '/etc/hostcertd/host-ca.pub'
const DEFAULTS = '/etc/default/hostcertd'
const ENROLLMENT = '/var/lib/hostcertd-enroll/enrollment.json'
const RETURN = '/var/lib/hostcertd-enroll/ephemeral.json'
const INSTANCE = '/var/lib/cloud/data/instance-id'
const TOKEN = '/etc/hostcertd/credentials/token'
const KEEP = { url: null, hostId: null, method: null, login: {} }

let host: EnrollHost
beforeAll(async () => {
  host = await EnrollHost.make()
})
beforeEach(() => host.reset())
afterAll(() => host[Symbol.asyncDispose]())

function configured({ principals }: { readonly principals?: string } = {}): string {
  return `issuer:
  url: https://issuer.example.com
  ssh_host_id: ${NAMES.hostId}
auth:
  method: token
  token_file: credential:token
verify:
  principals: [${principals ?? NAMES.host}]
`
}

function enrollmentIn(files: Awaited<ReturnType<EnrollHost['look']>>['files']): Partial<Enrollment> {
  return JSON.parse(files[ENROLLMENT]?.content ?? '{}') as Partial<Enrollment>
}

describe('the configuration', () => {
  test.each([
    { name: 'names that a person added stay', principals: `${NAMES.host}, www.example.com`, hostname: null },
    { name: 'with --hostname too', principals: `${NAMES.host}, www.example.com`, hostname: NAMES.host },
  ])('$name', async ({ principals, hostname }) => {
    const files = { [CONFIG]: configured({ principals }), [PINS]: host.caKeys[0] }
    const looked = await host.look({ files, options: { ...KEEP, hostname } })
    expect(looked).toMatchObject({ error: null })
    expect(looked.files[CONFIG]).toBeUndefined()
  })

  test('another --hostname replaces the names', async () => {
    const files = { [CONFIG]: configured({ principals: 'web2.example.com' }), [PINS]: host.caKeys[0] }
    const looked = await host.look({
      files,
      options: { ...KEEP, hostId: NAMES.hostId, hostname: NAMES.host },
    })
    expect(looked.files[CONFIG]?.content).toContain(`principals: [${NAMES.host}]`)
  })

  test('what is wrong with it is named where it has to say how the host logs in', async () => {
    const files = { [CONFIG]: configured().replace('token_file', 'tokenfile') }
    const { error } = await host.look({ files, options: KEEP })
    expect(error).toMatch(/auth\.tokenfile/)
  })

  test.each(['HOSTCERTD_CONFIG=/etc/other.yaml', 'A=b\nHOSTCERTD_CONFIG="/etc/other.yaml"'])(
    'the service reads another one by its environment: %s',
    async (text) => {
      const { error } = await host.look({ files: { [DEFAULTS]: `${text}\n` } })
      expect(error).toMatch(/^\/etc\/default\/hostcertd sets HOSTCERTD_CONFIG to "\/etc\/other.yaml".*remove/)
    },
  )

  test.each([`HOSTCERTD_CONFIG=${CONFIG}`, '#HOSTCERTD_CONFIG=/etc/other.yaml', 'HOSTCERTD_CONFIG='])(
    'the service reads the usual one: %s',
    async (text) => {
      expect(await host.look({ files: { [DEFAULTS]: `${text}\n` } })).toMatchObject({ error: null })
    },
  )
})

describe('a configuration that a person wrote', () => {
  const WRITTEN = configured().replace(/verify:[^]*/, '')
  const PROJECT = { project: 'ssh', register: null }
  const CERTIFICATE = '/etc/ssh/old-cert.pub'

  const named = (looked: Looked): unknown =>
    looked.error ?? /principals:[\s[-]*([\w.-]+)/.exec(looked.files[CONFIG]?.content ?? '')?.[1]

  test.each([
    { name: 'its host id does, and the machine names it', hostname: null, want: NAMES.host },
    { name: '--hostname names it', hostname: 'web2.example.com', want: 'web2.example.com' },
  ])('without principals: $name', async ({ hostname, want }) => {
    const looked = await host.look({ files: { [CONFIG]: WRITTEN }, options: { ...KEEP, hostname } })
    expect(looked).toMatchObject({ error: null, hostId: NAMES.hostId })
    expect(looked.files[CONFIG]?.content).toBe(`${WRITTEN}verify:\n  principals: [${want}]\n`)
  })

  test('the name is what was recorded of that host, or what its certificate says', async () => {
    const recorded = { [CONFIG]: WRITTEN, [ENROLLMENT]: enrolled({ hostname: 'web7.example.com' }) }
    expect(named(await host.look({ files: recorded, options: KEEP }))).toBe('web7.example.com')
    await host.reset()
    const certificate = await host.certify(NAMES.hostId, { principals: ['web8', 'web8.example.com'] })
    const certified = { [CONFIG]: WRITTEN, [CERTIFICATE]: certificate }
    expect(named(await host.look({ files: certified, options: KEEP }))).toBe('web8.example.com')
    await host.reset()
    const ofAnother = await host.certify(NAMES.otherId, { principals: ['web9.example.com'] })
    const other = { [CONFIG]: WRITTEN, [CERTIFICATE]: ofAnother }
    expect(named(await host.look({ files: other, options: KEEP }))).toBe(NAMES.host)
  })

  test('with --project it is looked up by its name', async () => {
    const { error } = await host.look({ files: { [CONFIG]: WRITTEN }, options: { ...KEEP, ...PROJECT } })
    expect(error).toMatch(/web1\.example\.com is not among the 1 hosts of the project/)
  })

  test('in conf.d: what is set there is not repeated, and not asked for again', async () => {
    const files = { '/etc/hostcertd/conf.d/10.yaml': WRITTEN }
    const looked = await host.look({ files, options: KEEP })
    expect(looked).toMatchObject({ error: null, hostId: NAMES.hostId })
    expect(named(looked)).toBe(NAMES.host)
    expect(looked.files[CONFIG]?.content).not.toContain('issuer:')
  })

  test.each([
    { name: 'another setting', text: `${configured()}log: {level: loud}\n`, says: /^log\.level: / },
    { name: 'a key', text: configured().replace('token_file', 'tokenfile'), says: /^auth\.tokenfile: / },
    {
      name: 'principals',
      text: configured({ principals: '"a b"' }),
      says: /^verify\.principals\[0\].*; the option is --hostname$/,
    },
    { name: 'the id', text: configured().replace(NAMES.hostId, 'x'), says: /the option is --host-id/ },
  ])('invalid in what no option replaces: $name', async ({ text, says }) => {
    const options = { ...KEEP, method: 'token', login: {} } as const
    const looked = await host.look({ files: { [CONFIG]: text }, options, isThere: true })
    expect(looked).toMatchObject({ error: expect.stringMatching(says) as string, asked: [] })
  })

  test('invalid in what the options replace: everything else stays', async () => {
    const principals = `${NAMES.host}, www.example.com`
    const text = configured({ principals }).replace('method: token', 'method: tokn')
    const options = { ...KEEP, method: 'token', login: { token_file: 'credential:token' } } as const
    const looked = await host.look({ files: { [CONFIG]: text }, options })
    expect(looked).toMatchObject({ error: null, hostId: NAMES.hostId })
    expect(looked.files[CONFIG]?.content).toBe(configured({ principals }))
  })

  test('a setting that is missing is named before a secret is asked for', async () => {
    const options = { method: 'universal-auth', login: {} } as const
    const missing = await host.look({ options, isThere: true })
    expect(missing).toMatchObject({
      error: expect.stringMatching(/^auth\.client_id: is required.*; the option is --client-id$/) as string,
      asked: [],
    })
    const given = await host.look({ options: { ...options, login: { client_id: 'c' } }, isThere: true })
    expect(given).toMatchObject({ error: null, asked: ['client secret'] })
  })
})

describe('owners and modes', () => {
  const RUNNING = { isEnabled: ['enabled', 0], isActive: ['active', 0] } as const
  const FOLDER = '/etc/hostcertd/credentials'
  const files = () => ({
    [CONFIG]: configured(),
    [PINS]: host.caKeys[0],
    [DEFAULTS]: '# nothing\n',
    [ENROLLMENT]: enrolled({ ephemeral: true }),
    [RETURN]: { content: '{}', mode: 0o600 },
    [TOKEN]: { content: 'secret\n', mode: 0o600 },
    '/etc/token': 'secret\n',
  })
  const OPTIONS = { ...KEEP, login: { token_file: '/etc/token' } }
  const look = async (changed: () => Promise<void>) => {
    await host.look({ files: files() })
    await chmod(host.path(FOLDER.slice(1)), 0o700)
    await changed()
    return host.look({ options: OPTIONS, systemctl: RUNNING })
  }
  const at = (path: string): string => host.path(path.replace(/^\/(?:var\/)?/, ''))

  test('right ones are no change', async () => {
    expect(await look(async () => {})).toMatchObject({ error: null, steps: [] })
  })

  test.each([
    { path: CONFIG, mode: 0o600, want: '0644 0:0' },
    { path: CONFIG, mode: 0o666, want: '0644 0:0' },
    { path: CONFIG, owner: 65534, want: '0644 0:0' },
    { path: PINS, mode: 0o600, want: '0644 0:0' },
    { path: PINS, owner: 65534, want: '0644 0:0' },
    { path: DEFAULTS, mode: 0o666, want: '0644 0:0' },
    { path: DEFAULTS, owner: 65534, want: '0644 0:0' },
    { path: ENROLLMENT, mode: 0o600, want: '0644 0:0' },
    { path: ENROLLMENT, owner: 65534, want: '0644 0:0' },
    { path: RETURN, mode: 0o644, want: '0600 0:0' },
    { path: TOKEN, mode: 0o400, want: '0600 0:0' },
    { path: TOKEN, mode: 0o640, want: '0600 0:0' },
    { path: TOKEN, owner: 65534, want: '0600 0:0' },
    { path: FOLDER, mode: 0o755, want: '0700 0:0' },
    { path: FOLDER, owner: 65534, want: '0700 0:0' },
    { path: '/etc/hostcertd', mode: 0o750, want: '0755 0:0' },
  ])('$path, $mode $owner: $want', async ({ path, mode, owner, want }) => {
    const looked = await look(async () => {
      if (mode !== undefined) await chmod(at(path), mode)
      if (owner !== undefined) await chown(at(path), owner, owner)
    })
    expect(looked).toMatchObject({ error: null, access: { [path]: want } })
    const changed = looked.steps
      .map(({ detail }) => detail)
      .filter((detail) => detail.startsWith('/etc/host'))
    expect(Object.keys(looked.access)).toEqual([path])
    expect(changed).toEqual(path.startsWith('/etc/host') ? [path] : [])
  })

  test('a file of pins that an administrator named keeps them', async () => {
    const pins = '/etc/ssh/our-ca.pub'
    const text = configured().replace('verify:', `verify:\n  host_ca_file: ${pins}`)
    const all = { ...files(), [CONFIG]: text, [pins]: { content: host.caKeys[0], mode: 0o444 } }
    const looked = await host.look({ files: all, options: KEEP, systemctl: RUNNING })
    expect(looked.error).toBeNull()
    expect(looked.access[pins]).toBeUndefined()
  })

  test('a file of the environment that only root can read stays so', async () => {
    const looked = await look(async () => chmod(at(DEFAULTS), 0o600))
    expect(looked).toMatchObject({ error: null, steps: [] })
  })
})

describe('--check and --dry-run', () => {
  const RIVAL = 'HostCertificate /etc/ssh/rival-cert.pub\n'

  test.each(['check', 'dry-run'] as const)('%s says the same at a terminal and without one', async (mode) => {
    const rival = await host.certify(NAMES.otherId, { keyId: 'rival' })
    const include = 'Include /etc/ssh/sshd_config.d/*.conf\n'
    const files = { '/etc/ssh/rival-cert.pub': rival, '/etc/ssh/sshd_config': include + RIVAL }
    for (const takeOver of [false, true]) {
      const [here, there] = [
        await host.look({ files, options: { mode, takeOver }, isThere: true }),
        await host.look({ files, options: { mode, takeOver }, isThere: false }),
      ]
      const seen = ({ error, steps, access }: Looked) => ({ error, steps, access })
      expect(seen(here)).toEqual(seen(there))
      expect(here.error === null).toBe(takeOver)
    }
  })
})

test('this host is looked at once', async () => {
  const calls = host.path('bin/systemctl.calls')
  await writeFile(calls, '')
  expect(await host.look()).toMatchObject({ error: null })
  const asked = (await readFile(calls, 'utf8')).trimEnd().split('\n')
  expect(asked.toSorted()).toEqual([
    'is-active hostcertd-ca.timer',
    'is-active hostcertd-ephemeral.service',
    'is-active hostcertd.service',
    'is-enabled hostcertd-ca.timer',
    'is-enabled hostcertd-ephemeral.service',
    'is-enabled hostcertd.service',
  ])
})

test.each([CONFIG, PINS])(
  'what changes in %s while a secret is waited for is not written over',
  async (path) => {
    const looked = await host.look({
      files: { [CONFIG]: configured(), [PINS]: host.caKeys[0] },
      options: { ...KEEP, method: 'universal-auth', login: { client_id: 'c' } },
      isThere: true,
      meanwhile: { [path]: '# changed\n' },
    })
    expect(looked).toMatchObject({ asked: ['client secret'], files: {} })
    expect(looked.error).toMatch(/^somebody changed this host while enroll waited/)
  },
)

test('what changes while a person is asked is not written over', async () => {
  const looked = await host.look({
    files: { [DEFAULTS]: '# mine\n' },
    options: { mode: 'ask' },
    environment: { HTTPS_PROXY: 'http://proxy.example.com' },
    isThere: true,
    meanwhile: { [DEFAULTS]: '# changed\n' },
  })
  expect(looked.error).toMatch(/^somebody changed this host while enroll waited/)
  expect(await readFile(host.path('etc/default/hostcertd'), 'utf8')).toBe('# changed\n')
})

test('each step says which files or which unit it changes', async () => {
  const { steps } = await host.look()
  expect(steps).toContainEqual({
    step: 'install certificates for sshd',
    changed: true,
    detail: '/etc/ssh/hostcertd/*-cert.pub, /etc/ssh/sshd_config.d/40-hostcertd.conf',
  })
})

describe('the host CA', () => {
  test('of several that are pinned, clients are told the one that signed first', async () => {
    const [ca, other] = host.caKeys
    const looked = await host.look({ files: { [PINS]: `${ca}\n${other}\n` } })
    expect(looked.error).toBeNull()
    expect(looked.knownHosts).toEqual([ca, other].map((key) => `@cert-authority *.example.com ${key.trim()}`))
    expect(looked.files[PINS]).toBeUndefined()
  })

  test('a host that would be registered has no certificate yet, and no line for clients', async () => {
    const options = { hostId: null, project: NAMES.project, register: { ttl: null, alias: null } }
    const looked = await host.look({ files: { [PINS]: host.caKeys[1] }, options })
    expect(looked).toMatchObject({ error: null, hostId: null, knownHosts: [] })
    expect(looked.steps[0]).toEqual({ step: 'register the host', changed: true, detail: NAMES.host })
    expect(looked.told.join('\n')).toContain('stands for the id that the issuer gives')
  })

  test('a pin that --ca-fingerprint does not name is named', async () => {
    const [fingerprint, other] = host.caKeys.map((key) => parseCaKeys(key)[0]?.fingerprint ?? '')
    const files = { [PINS]: `${host.caKeys.join('\n')}\n` }
    const { told } = await host.look({ files, options: { caFingerprints: [fingerprint ?? ''] } })
    expect(told.filter((line) => line.includes('also pins the CA'))).toEqual([
      expect.stringContaining(`${PINS} also pins the CA ${other}`),
    ])
    expect((await host.look({ files })).told.join('\n')).not.toContain('also pins')
  })
})

describe('--from-certificate', () => {
  const FROM = {
    ...KEEP,
    url: 'https://issuer.example.com',
    method: 'token',
    login: { token_file: 'credential:token' },
    fromCertificate: true,
  } as const

  test('the host is the one of a certificate for a host key of this machine', async () => {
    const files = { '/etc/ssh/ssh_host_ed25519_key-cert.pub': await host.certify(NAMES.hostId) }
    expect(await host.look({ files, options: FROM })).toMatchObject({ error: null, hostId: NAMES.hostId })
  })

  test('a user certificate, and one for a key of another machine, say nothing', async () => {
    const foreign = await generateKey(host.path('foreign'), 'ed25519', '')
    const files = {
      '/etc/ssh/user-cert.pub': await host.certify(NAMES.hostId, { kind: 'user' }),
      '/etc/ssh/left-cert.pub': await host.certify(NAMES.otherId, { publicKey: foreign }),
    }
    const { error } = await host.look({ files, options: FROM })
    expect(error).toMatch(/no host certificate in .* is for a host key of this machine/)
  })

  test('two hosts are not guessed between, until one is configured', async () => {
    const files = {
      '/etc/ssh/one-cert.pub': await host.certify(NAMES.hostId),
      '/etc/ssh/two-cert.pub': await host.certify(NAMES.otherId),
    }
    const { error } = await host.look({ files, options: FROM })
    expect(error).toMatch(/are for different hosts, .*8c1efcfc.*: name the right one by --host-id/)
    const again = await host.look({ files: { [CONFIG]: configured() }, options: FROM })
    expect(again).toMatchObject({ error: null, hostId: NAMES.hostId })
  })
})

test('a host without public halves of its keys is enrolled, and they are written', async () => {
  await rm(host.path('etc/ssh/ssh_host_ed25519_key.pub'))
  const looked = await host.look()
  expect(looked.error).toBeNull()
  expect(looked.files['/etc/ssh/ssh_host_ed25519_key.pub']?.content).toMatch(/^ssh-ed25519 /)
  expect(enrollmentIn(looked.files).host_keys).toEqual([expect.stringMatching(/^SHA256:/)])
})

describe('secrets', () => {
  test('a credential that others can read is corrected, though it is the same', async () => {
    await host.look({ files: { '/etc/token': 'secret\n' } })
    const options = { login: { token_file: '/etc/token' } }
    const open = await host.look({ files: { [TOKEN]: { content: 'secret\n', mode: 0o644 } }, options })
    expect(open.files[TOKEN]).toEqual({ content: 'secret\n', mode: 0o600 })
    const closed = await host.look({ files: { [TOKEN]: { content: 'secret\n', mode: 0o600 } }, options })
    expect(closed.files[TOKEN]).toBeUndefined()
  })

  test('so is a file with the password of a proxy', async () => {
    const content = 'HTTPS_PROXY=http://user:word@proxy.example.com\n'
    const environment = { HTTPS_PROXY: 'http://user:word@proxy.example.com' }
    const looked = await host.look({ files: { [DEFAULTS]: { content, mode: 0o644 } }, environment })
    expect(looked.files[DEFAULTS]).toEqual({ content, mode: 0o600 })
  })
})

describe('enrollment.json', () => {
  const files = () => ({ [CONFIG]: configured(), [PINS]: host.caKeys[0] })

  test('keeps an id that cannot be read any more', async () => {
    const recorded = enrolled({ instance_id: { cloud_init: 'i-1', board_asset_tag: null } })
    const same = await host.look({ files: { ...files(), [ENROLLMENT]: recorded }, options: KEEP })
    expect(same.files[ENROLLMENT]).toBeUndefined()
    const renamed = enrolled({ instance_id: { cloud_init: 'i-1', board_asset_tag: null }, hostname: 'old' })
    const looked = await host.look({ files: { [ENROLLMENT]: renamed }, options: KEEP })
    expect(enrollmentIn(looked.files)).toMatchObject({
      instance_id: { cloud_init: 'i-1' },
      hostname: NAMES.host,
    })
  })

  test('of a copy says what the copy is, and that is told', async () => {
    const recorded = enrolled({ instance_id: { cloud_init: 'i-1', board_asset_tag: 'i-12345678' } })
    const all = { ...files(), [ENROLLMENT]: recorded, [INSTANCE]: 'i-2\n' }
    const looked = await host.look({ files: all, options: KEEP })
    expect(enrollmentIn(looked.files).instance_id?.cloud_init).toBe('i-2')
    expect(enrollmentIn(looked.files).instance_id?.board_asset_tag).not.toBe('i-12345678')
    expect(looked.told).toContainEqual(
      expect.stringMatching(/machine was copied .*; enroll accepts it as it is$/),
    )
  })

  test.each([
    { name: 'the same host', changes: {}, want: true },
    { name: 'another host', changes: { host_id: NAMES.otherId }, want: false },
    { name: 'a copy', changes: { machine_id: 'b'.repeat(32) }, want: false },
  ])('deleted at power-off, $name: still so: $want', async ({ changes, want }) => {
    const recorded = enrolled({ ephemeral: true, ...changes })
    const back = { content: '{}', mode: 0o600 }
    const all = { ...files(), [ENROLLMENT]: recorded, [RETURN]: back }
    const looked = await host.look({ files: all, options: KEEP })
    expect(looked.error).toBeNull()
    const after = enrollmentIn(looked.files)
    expect(looked.files[ENROLLMENT] === undefined ? true : after.ephemeral).toBe(want)
    expect(looked.files[RETURN]).toBe(want ? undefined : null)
    expect(looked.told.some((line) => line.includes('not deleted at the issuer at power-off'))).toBe(!want)
  })
})

describe('the service', () => {
  test.each([
    { name: 'it hangs', systemctl: { isEnabled: ['', 1] } },
    { name: 'there is no bus', systemctl: { isActive: ['', 1] } },
    { name: 'a word that is not known', systemctl: { isActive: ['perplexed', 3] } },
  ] as const)('is not known: $name', async ({ systemctl }) => {
    const { error } = await host.look({ systemctl })
    expect(error).toMatch(/^no answer from `systemctl is-\w+ hostcertd.service`: /)
  })

  test.each([
    { systemctl: { isEnabled: ['not-found', 4], isActive: ['inactive', 4] }, want: 'start the service' },
    { systemctl: { isEnabled: ['disabled', 1], isActive: ['failed', 3] }, want: 'start the service' },
    { systemctl: { isEnabled: ['enabled', 0], isActive: ['active', 0] }, want: 'reload the service' },
  ] as const)('$systemctl: $want', async ({ systemctl, want }) => {
    const { error, steps } = await host.look({ systemctl })
    expect({ error, last: steps.at(-1) }).toEqual({
      error: null,
      last: { step: want, changed: true, detail: 'hostcertd.service' },
    })
  })
})

test('enroll that fails after writing the configuration reloads sshd when it is undone', async () => {
  const failsBefore = 'record which machine this is'
  const { error, told, calls } = await host.look({ options: { mode: 'yes' }, failsBefore })
  expect(error).toBe('cut off')
  expect(told.slice(-3)).toEqual([
    'write the configuration',
    failsBefore,
    expect.stringMatching(/^undone: what was changed \(.*reload sshd.*\)$/),
  ])
  // What the timer started waits for the journal, and with user_ca.install set by hand it would go on when this has ended.
  expect(calls).toContain('stop hostcertd-ca.timer hostcertd-ca.service')
  expect(calls.filter((call) => !/^(stop|reset-failed) /.test(call))).toEqual([
    'disable --now hostcertd.service',
    'disable --now hostcertd-ca.timer',
    'reload sshd',
  ])
  await expect(readFile(host.path('etc/hostcertd/hostcertd.yaml'))).rejects.toThrow('ENOENT')
})
