import { chmod, readFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseCaKeys } from '../../agent/cert/public-key.ts'
import type { Change, FileChange } from '../../agent/enroll/change.ts'
import { undoingOf } from '../../agent/enroll/files.ts'
import { unenroll } from '../../agent/enroll/unenroll.ts'
import { userCaDropIn } from '../../agent/enroll/user-ca-files.ts'
import { USER_CA_PLACES } from '../../agent/enroll/user-ca-in-place.ts'
import { userCaText } from '../../agent/enroll/user-ca.ts'
import type { EnrollTools } from '../../agent/enroll/wanted.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { enrolled, EnrollHost, NAMES } from './enroll-host.ts'

const KEYS = '/etc/ssh/hostcertd/user-ca.pub'
const DROP_IN = '/etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf'
const STATUS = '/var/lib/hostcertd-enroll/ca-status.json'
const CONFIG = '/etc/hostcertd/hostcertd.yaml'
const SSHD = '/etc/ssh/sshd_config'
const TIMER = 'hostcertd-ca.timer'
const LEFTOVER = '/etc/ssh/infisical_user_ca.pub'
const ANY = { userCa: { fingerprints: [] } }
const BEFORE = 'Include /etc/ssh/sshd_config.d/*.conf\n'

let host: EnrollHost
let ca: string
let other: string
beforeAll(async () => {
  host = await EnrollHost.make()
  ca = await generateKey(host.path('user-ca'), 'ed25519', '')
  other = await generateKey(host.path('other-user-ca'), 'ed25519', '')
})
beforeEach(() => host.reset())
afterAll(() => host[Symbol.asyncDispose]())

describe('enroll --user-ca', () => {
  test('puts the CA, the drop-in and the setting in place, and enables the timer; again it changes nothing', async () => {
    const token = { '/etc/hostcertd/credentials/token': { content: 'x', mode: 0o600 } }
    const options = { ...ANY, login: {}, method: null, url: null, hostId: null }
    const first = await host.look({
      files: {
        ...token,
        [CONFIG]: `issuer:\n  url: https://issuer.example.com\n  ssh_host_id: ${NAMES.hostId}\nauth:\n  method: token\n  token_file: credential:token\nverify:\n  principals: [${NAMES.host}]\n`,
      },
      options,
      userCa: ca,
    })
    expect(first.error).toBeNull()
    expect(first.files[KEYS]).toEqual({
      content: expect.stringMatching(`\n${ca.replaceAll('+', '\\+')}\n$`),
      mode: 0o644,
    })
    expect(first.files[DROP_IN]?.content).toContain(`\nTrustedUserCAKeys ${KEYS}\n`)
    expect(JSON.parse(first.files[STATUS]?.content ?? '')).toMatchObject({
      error: null,
      reload_pending: false,
    })
    expect(first.files[CONFIG]?.content).toContain('user_ca:\n  install: true\n')
    expect(first.steps.map(({ detail }) => detail)).toContain('hostcertd-ca.timer')

    const written = Object.entries(first.files).flatMap(([path, file]) =>
      file === null ? [] : [[path, file] as const],
    )
    await chmod(host.path('etc/hostcertd/credentials'), 0o700)
    const again = await host.look({
      files: Object.fromEntries(written),
      options,
      userCa: ca,
      systemctl: { isEnabled: ['enabled', 0], isActive: ['active', 0] },
    })
    expect(again).toMatchObject({ error: null, steps: [] })
  })

  test('with fingerprints: they are pinned, and another CA is refused', async () => {
    const fingerprints = [parseCaKeys(ca)[0]?.fingerprint ?? '']
    const options = { userCa: { fingerprints } }
    const good = await host.look({ options, userCa: ca, environment: {} })
    expect(good.files[CONFIG]?.content).toContain(`fingerprints:\n    - ${fingerprints[0]}\n`)
    await host.reset()
    const bad = await host.look({ options, userCa: other })
    expect(bad.error).toMatch(
      /^the issuer names the user CA SHA256:\S+, which user_ca\.fingerprints does not list$/,
    )
    expect(bad.files).toEqual({})
  })

  test('without fingerprints the CA is named, so that a person can compare it', async () => {
    const fingerprint = parseCaKeys(ca)[0]?.fingerprint ?? ''
    const { told } = await host.look({ options: ANY, userCa: ca })
    expect(told).toContainEqual(expect.stringContaining(`--user-ca-fingerprint ${fingerprint}`))
    const named = await host.look({ options: { userCa: { fingerprints: [fingerprint] } }, userCa: ca })
    expect(named).toMatchObject({ error: null })
    expect(named.told.filter((line) => line.includes('users can log in'))).toEqual([])
  })

  test.each([
    { name: 'configured, and not listed', options: {}, lists: false, isNamed: true },
    { name: 'configured and listed', options: {}, lists: true, isNamed: false },
    { name: 'asked for, and listed', options: ANY, lists: true, isNamed: false },
  ])('the CA that is installed is named unless it is listed: $name', async ({ options, lists, isNamed }) => {
    const { fingerprint } = parseCaKeys(ca)[0]!
    const listed = lists ? `  fingerprints: ['${fingerprint}']\n` : ''
    const files = { '/etc/hostcertd/conf.d/1.yaml': `user_ca:\n  install: true\n${listed}` }
    const looked = await host.look({ files, options, userCa: ca })
    expect(looked.error).toBeNull()
    expect(looked.files[KEYS]?.content).toBe(userCaTextOf(ca))
    expect(looked.told.filter((line) => line.includes(`the user CA ${fingerprint}`))).toHaveLength(
      isNamed ? 1 : 0,
    )
  })

  test('a CA that is refused lets nobody log in', async () => {
    const conf = `user_ca:\n  revoked: ['${parseCaKeys(ca)[0]?.fingerprint}']\n`
    const looked = await host.look({
      files: { '/etc/hostcertd/conf.d/1.yaml': conf },
      options: ANY,
      userCa: ca,
    })
    expect(looked.error).toContain('which user_ca.revoked lists')
    expect(looked.told.filter((line) => line.includes('users can log in'))).toEqual([])
  })

  test.each([
    { name: 'a revoked CA goes', files: { [KEYS]: () => `${other}\n${ca}\n` }, isRevoked: true },
    { name: 'a file that others may write to', files: { [KEYS]: () => userCaTextOf(ca), mode: 0o666 } },
  ])('what is there already is corrected: $name', async ({ files, isRevoked = false }) => {
    const { [KEYS]: text, mode = 0o644 } = files
    const revoked = isRevoked ? parseCaKeys(other)[0]?.fingerprint : undefined
    const conf =
      revoked === undefined ? {} : { '/etc/hostcertd/conf.d/1.yaml': `user_ca:\n  revoked: ['${revoked}']\n` }
    const looked = await host.look({
      files: { ...conf, [KEYS]: { content: text(), mode } },
      options: ANY,
      userCa: ca,
    })
    expect(looked.error).toBeNull()
    expect(looked.files[KEYS]).toEqual({ content: userCaTextOf(ca), mode: 0o644 })
  })

  test('an issuer that names none: nothing changes', async () => {
    expect(await host.look({ options: ANY })).toMatchObject({
      error: 'it answered nothing',
      files: {},
    })
  })

  test('of a host that would be registered: it is said that a user CA comes later, and the timer is a step', async () => {
    const options = { hostId: null, project: NAMES.project, register: { ttl: null, alias: null } }
    const later = expect.stringMatching(
      /^note: once the host is registered, .* user CA.*user-ca\.pub/,
    ) as string
    const { told, steps } = await host.look({ options: { ...options, ...ANY }, userCa: ca })
    expect(told).toContainEqual(later)
    expect(steps.map(({ detail }) => detail)).toContain('hostcertd-ca.timer')
    expect((await host.look({ options })).told).not.toContainEqual(later)
    expect((await host.look({ options: ANY, userCa: ca })).told).not.toContainEqual(later)
    const files = { '/etc/hostcertd/conf.d/1.yaml': 'user_ca:\n  install: true\n' }
    expect((await host.look({ files, options })).told).toContainEqual(later)
    expect((await host.look({ userCa: ca })).told).not.toContainEqual(later)
  })

  test('a timer that is masked is found before the issuer is asked', async () => {
    const looked = await host.look({ options: ANY, systemctl: { masked: TIMER } })
    expect(looked).toMatchObject({ error: expect.stringContaining('hostcertd-ca.timer is masked') as string })
  })

  test('that fails: the drop-in goes, sshd is reloaded, then the keys go; each under the lock of the root helper', async () => {
    const options = { ...ANY, mode: 'yes' } as const
    const failsBefore = 'record which machine this is'
    const { error, calls, locked } = await host.look({ options, userCa: ca, failsBefore })
    expect(error).toBe('cut off')
    expect(calls.at(-1)).toBe('reload sshd, which can read user-ca.pub')
    expect(locked).toEqual([`${KEYS} written`, `${DROP_IN} written`, `${DROP_IN} removed`, `${KEYS} removed`])
    await expect(readFile(host.path('etc/ssh/hostcertd/user-ca.pub'))).rejects.toThrow('ENOENT')
  })

  test('is not needed on a new host whose configuration says user_ca.install: true', async () => {
    const files = { '/etc/hostcertd/conf.d/1.yaml': 'user_ca:\n  install: true\n' }
    const looked = await host.look({ files, userCa: ca })
    expect(looked.error).toBeNull()
    expect(looked.files[KEYS]?.content).toBe(userCaTextOf(ca))
    expect(Object.keys(looked.files)).toEqual(expect.arrayContaining([DROP_IN, STATUS]))
    const masked = await host.look({ userCa: ca, systemctl: { masked: TIMER } })
    expect(masked.error).toContain('hostcertd-ca.timer is masked')
    const enrollment = { '/var/lib/hostcertd-enroll/enrollment.json': enrolled() }
    // An issuer that was asked would have failed.
    const known = await host.look({ files: enrollment })
    expect(known.error).toBeNull()
    expect(Object.keys(known.files)).not.toContain(KEYS)
  })

  test('what is in place counts: the CA before stays for the overlap', async () => {
    const files = { [CONFIG]: `issuer:\n  ssh_host_id: ${NAMES.hostId}\n`, [KEYS]: `${other}\n` }
    const looked = await host.look({ files, options: ANY, userCa: ca })
    expect(looked.files[KEYS]?.content).toContain(other)
    expect(looked.files[KEYS]?.content).toContain(ca)
    expect(JSON.parse(looked.files[STATUS]?.content ?? '')).toMatchObject({ cas: [{}, {}] })
  })

  test('of a host that nothing names: a user CA that is in place is not known to be its own, and goes', async () => {
    const looked = await host.look({ files: { [KEYS]: `${other}\n` }, options: ANY, userCa: ca })
    expect(looked.error).toBeNull()
    const [ended] = parseCaKeys(other)
    expect(looked.told).toContain(
      `note: logins by certificates of the user CA ${ended!.fingerprint} end: it is not known to be this host's`,
    )
    expect(looked.files[KEYS]?.content).toBe(userCaTextOf(ca))
  })

  test.each([
    { name: 'nothing names the host', config: '', isNoted: true },
    { name: 'it was another host', config: `issuer:\n  ssh_host_id: ${NAMES.otherId}\n`, isNoted: true },
    { name: 'it was this host', config: `issuer:\n  ssh_host_id: ${NAMES.hostId}\n`, isNoted: false },
  ])('a user CA in place that nobody asked for stays; $name: noted $isNoted', async ({ config, isNoted }) => {
    const inPlace = { [KEYS]: `${other}\n`, [DROP_IN]: userCaDropIn(USER_CA_PLACES) }
    const files = { [SSHD]: BEFORE, ...inPlace, ...(config === '' ? {} : { [CONFIG]: config }) }
    const { error, files: after, told } = await host.look({ files })
    expect({ error, keys: after[KEYS] }).toEqual({ error: null, keys: undefined })
    const noted = (lines: readonly string[]) =>
      lines.filter((line) => line.startsWith(`note: sshd keeps trusting the user CAs in ${KEYS}`))
    expect(noted(told)).toHaveLength(isNoted ? 1 : 0)
    // Of a host that is not registered yet no user CA is known, but it is asked for.
    const options = { ...ANY, hostId: null, project: NAMES.project, register: { ttl: null, alias: null } }
    expect(noted((await host.look({ files, options })).told)).toEqual([])
    // Without a key nobody is trusted.
    const none = await host.look({ files: { ...files, [KEYS]: userCaText([]) } })
    expect(noted(none.told)).toEqual([])
  })

  test('of a host that becomes another host: its user CA takes the place of the one before, asked for or not', async () => {
    const files = {
      [CONFIG]: `issuer:\n  url: https://issuer.example.com\n  ssh_host_id: ${NAMES.otherId}\nuser_ca:\n  install: true\n`,
      [KEYS]: `${other}\n`,
      '/var/lib/hostcertd-enroll/enrollment.json': enrolled({ host_id: NAMES.otherId }),
    }
    const looked = await host.look({ files, userCa: ca })
    expect(looked.error).toBeNull()
    expect(looked.files[KEYS]?.content).toBe(userCaTextOf(ca))
  })

  test.each([
    { clockSkewSeconds: 0, isOver: true },
    { clockSkewSeconds: -86_400 * 30, isOver: false },
    { clockSkewSeconds: null, isOver: false },
  ])(
    'an overlap ends by a clock that the issuer confirms: $clockSkewSeconds',
    async ({ clockSkewSeconds, isOver }) => {
      const [before] = parseCaKeys(other)
      const cas = [{ fingerprint: before!.fingerprint, unnamed_since: '2026-01-01T00:00:00Z' }]
      const done = { last_attempt: '2026-01-01T00:00:00Z', last_success: null, error: null }
      const files = {
        [CONFIG]: `issuer:\n  ssh_host_id: ${NAMES.hostId}\nuser_ca:\n  install: true\n`,
        [KEYS]: `${other}\n`,
        [STATUS]: JSON.stringify({ version: 1, ...done, cas, reload_pending: false }),
      }
      const looked = await host.look({ files, options: ANY, userCa: ca, clockSkewSeconds })
      expect(looked.error).toBeNull()
      expect(looked.files[KEYS]?.content.includes(other)).toBe(!isOver)
    },
  )

  test('the line of add-host goes only when the same key is put in place, and not without --user-ca', async () => {
    const line = `TrustedUserCAKeys ${LEFTOVER}\n`
    const files = { [SSHD]: `${BEFORE}${line}`, [LEFTOVER]: `${ca}\n` }
    expect((await host.look({ files, options: ANY, userCa: ca })).files[SSHD]?.content).toBe(BEFORE)
    expect((await host.look({ options: ANY, userCa: other })).files[SSHD]).toBeUndefined()
    expect((await host.look()).files[SSHD]).toBeUndefined()
  })
})

describe('enroll without a user CA', () => {
  test('enables the timer, which also asks for host CAs, and leaves nothing of user CAs', async () => {
    const { error, steps, files, told } = await host.look()
    expect(error).toBeNull()
    expect(steps).toContainEqual({
      step: 'ask the issuer for its CAs once a day',
      changed: true,
      detail: TIMER,
    })
    expect(Object.keys(files).filter((path) => [KEYS, DROP_IN, STATUS].includes(path))).toEqual([])
    expect(told).not.toContainEqual(expect.stringContaining('no timer'))
  })

  const UNKNOWN =
    'note: no timer will say when the issuer names another host CA: no answer from `systemctl show'
  test.each([
    { name: 'it waits for time-sync.target', job: ['Job=12', 0], isStarted: false, isUnknown: false },
    { name: 'it was stopped', job: ['Job=', 0], isStarted: true, isUnknown: false },
    { name: 'systemctl leaves out what is empty', job: ['', 0], isStarted: true, isUnknown: false },
    { name: 'systemctl prints a number also for none', job: ['Job=0', 0], isStarted: true, isUnknown: false },
    { name: 'systemctl fails', job: ['', 1], isStarted: false, isUnknown: true },
    { name: 'systemctl says something else', job: ['Job=perplexed', 0], isStarted: false, isUnknown: true },
  ] as const)(
    'the timer is enabled and inactive; $name: started $isStarted',
    async ({ job, isStarted, isUnknown }) => {
      const { error, steps, told } = await host.look({ systemctl: { isEnabled: ['enabled', 0], job } })
      expect(error).toBeNull()
      expect(steps.some(({ detail }) => detail === TIMER)).toBe(isStarted)
      expect(told.some((line) => line.startsWith(UNKNOWN))).toBe(isUnknown)
    },
  )

  test('goes on when the timer is masked, and says so', async () => {
    const { error, steps, told } = await host.look({ systemctl: { masked: TIMER } })
    expect(error).toBeNull()
    expect(steps.map(({ detail }) => detail)).not.toContain(TIMER)
    expect(told).toContain(
      'note: no timer will say when the issuer names another host CA: hostcertd-ca.timer is masked: run `systemctl unmask hostcertd-ca.timer` first',
    )
  })
})

const userCaTextOf = (line: string): string => userCaText(parseCaKeys(line).map((key) => ({ key })))

const state = (content: string): FileChange['after'] => ({
  content: Buffer.from(content),
  mode: 0o644,
  uid: 0,
  gid: 0,
})
const file = (path: string, before: string | null, after: string | null): FileChange => ({
  kind: 'file',
  step: path,
  path,
  before: before === null ? null : state(before),
  after: after === null ? null : state(after),
  isSecret: false,
})

describe('unenroll', () => {
  const CHANGES: readonly Change[] = [
    { kind: 'sshd', step: 'reload sshd' },
    file(CONFIG, null, 'user_ca: {}\n'),
    file(KEYS, null, 'key\n'),
    file(DROP_IN, null, 'line\n'),
    file(SSHD, `TrustedUserCAKeys ${LEFTOVER}\n`, ''),
    file(SSHD, '', `Include ${DROP_IN}\n`),
    file(SSHD, 'HostKey /x\n', ''),
    { kind: 'registration', step: 'register', hostId: null, hostname: 'x' },
  ]

  async function run(mode: 'ask' | 'yes', answers: readonly boolean[], keepsUserCa = false) {
    const told: string[] = []
    const asked: string[] = []
    const left = [...answers]
    let undone: readonly Change[] | null = null
    const tools = {
      person: {
        isThere: true,
        print: (text: string) => void told.push(text),
        show: () => {},
        agrees: async (question: string) => {
          asked.push(question)
          return left.shift() ?? false
        },
      },
      journal: {
        runs: [{ isFinished: true, changes: CHANGES }],
        undoAll: async (keep: (change: Change) => boolean) => {
          undone = CHANGES.filter((change) => !keep(change))
          return { changes: [], left: [] }
        },
        setRegistrations: async () => {},
      },
    } as unknown as EnrollTools
    const { isDone } = await unenroll(
      { mode, keepsUserCa, deletion: null },
      tools,
      new AbortController().signal,
    )
    return { isDone, asked, told: told.filter((line) => line.includes('logins')), undone }
  }

  test('says that logins by user certificate end, and asks for that by itself; --yes counts', async () => {
    const told = [expect.stringContaining('logins by user certificate end') as string]
    expect(await run('ask', [true, false])).toMatchObject({ isDone: false, told, undone: null })
    const { asked, undone } = await run('ask', [true, true])
    expect(asked).toEqual(['Take all of this back?', 'End logins by user certificate?'])
    expect(undone).toEqual(CHANGES.slice(0, -1))
    expect(await run('yes', [])).toMatchObject({ isDone: true, told, undone: CHANGES.slice(0, -1) })
  })

  test('--keep-user-ca: what logins depend on stays, and there is nothing more to ask', async () => {
    const { asked, told, undone } = await run('ask', [true], true)
    expect({ asked, told }).toEqual({ asked: ['Take all of this back?'], told: [] })
    expect(undone).toEqual([CHANGES[0], CHANGES[1], CHANGES[6]])
  })

  test('a file that is hostcertd’s own goes whole, whatever the timer wrote since', () => {
    const change = { ...file(KEYS, null, 'one\n'), isOwn: true }
    expect(undoingOf(change, state('one\ntwo\n'))).toMatchObject({ target: null, left: [] })
    expect(undoingOf({ ...change, before: state('before\n') }, null)).toMatchObject({
      target: state('before\n'),
      left: [],
    })
  })
})
