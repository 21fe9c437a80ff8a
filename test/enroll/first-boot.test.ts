import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { type BootHost, FILES, makeBootHost, NAMES } from './boot-host.ts'

const UNIT = new URL('../../systemd/hostcertd-enroll.service', import.meta.url)
const TAKEN = { hosts: { [NAMES.host]: NAMES.otherId } }

/** What a failed attempt must not have left. */
async function filesOf(host: BootHost): Promise<readonly string[]> {
  return (await readdir(host.path('etc'), { recursive: true })).toSorted()
}

test('a registration whose answer was lost is not taken for its own, until the template says so', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  const before = await filesOf(host)
  const lost = await host.start({ losesAnswer: true })
  expect(lost.hosts).toEqual(TAKEN.hosts)
  expect(lost.error).toMatch(
    /^ISSUER_REJECTED: web1\.example\.com is registered already, as 9d20adfd.*got no answer/,
  )
  expect(lost.next).toMatch(/tries again; .*restart.* in \/etc\/hostcertd\/enroll\.json \(--take-over is/)
  // And again, later each time.
  const pauses: number[] = []
  for (let attempt = 2; attempt <= 4; attempt++) {
    const { error, log, sleeps } = await host.start(TAKEN)
    expect(error).toContain('add --take-over')
    expect(log[0]).toBe(`attempt ${attempt} begins in ${sleeps[0]} s`)
    pauses.push(sleeps[0] ?? 0)
  }
  expect(pauses).toEqual([31, 62, 124])
  expect(await filesOf(host)).toEqual(before)

  const template = await host.read(FILES.template)
  await host.write(FILES.template, template.replace('{', '{"take_over":true,'))
  expect(await host.start(TAKEN)).toMatchObject({ error: null, hostId: NAMES.otherId, ...TAKEN })
  expect(await host.read(FILES.config)).toContain(NAMES.otherId)
  expect(existsSync(host.path(FILES.template))).toBe(false)
})

test('when the host is deleted at the issuer instead, the next attempt registers it', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  await host.start({ losesAnswer: true })
  expect(await host.start()).toMatchObject({ error: null, hostId: NAMES.otherId })
})

test("the host's own certificate shows that a registered name is its own", async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  await host.certify(NAMES.otherId)
  expect(await host.start(TAKEN)).toMatchObject({ error: null, hostId: NAMES.otherId, ...TAKEN })
})

test('a clock that is wrong ends nothing: it enrolls once the clock is right', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  const before = await filesOf(host)
  // The clock of this host is two hours behind.
  const issuer = { hosts: {}, validity: '+2h:+3h' }
  const { error, hosts } = await host.start(issuer)
  expect(error).toMatch(/^CERT_NOT_YET_VALID: /)
  expect((await host.start({ ...issuer, hosts })).error).toMatch(/^CERT_NOT_YET_VALID: /)
  expect(await filesOf(host)).toEqual(before)
  expect(await host.start({ hosts })).toMatchObject({ error: null, hostId: NAMES.otherId })
})

test('the service waits for no time server, which may never answer, and no failure ends it', async () => {
  const unit = await readFile(UNIT, 'utf8')
  expect(unit).not.toMatch(/^(?:After|Wants|Requires)=.*time-sync/m)
  expect(unit).toMatch(/^Restart=on-failure$/m)
  expect(unit).toMatch(/^StartLimitIntervalSec=0$/m)
  expect(unit).not.toMatch(/^(?:RestartPreventExitStatus|SuccessExitStatus)=/m)
})

test('a service that is stopped has the time that undoing an attempt takes at most', async () => {
  const limitOf = async (unit: string, name: string): Promise<number> => {
    const text = await readFile(new URL(`../../systemd/${unit}`, import.meta.url), 'utf8')
    // What it has without one: systemd-system.conf(5).
    return Number(new RegExp(`^${name}=(\\d+)s$`, 'm').exec(text)?.[1] ?? 90)
  }
  const constantIn = async (file: string, name: string): Promise<number> => {
    const text = await readFile(new URL(`../../agent/${file}`, import.meta.url), 'utf8')
    return Number(new RegExp(`${name} = ([\\d_]+)$`, 'm').exec(text)?.[1]?.replace('_', ''))
  }
  const longest =
    (await limitOf('hostcertd.service', 'TimeoutStopSec')) +
    (await limitOf('hostcertd-ephemeral.service', 'TimeoutStopSec')) +
    (await limitOf('hostcertd-reload@.service', 'TimeoutStopSec')) +
    (3 * (await constantIn('enroll/service-state.ts', 'MILLISECONDS'))) / 1000 +
    (await constantIn('enroll/reload.ts', 'LONGEST_RELOAD_SECONDS')) +
    (await constantIn('host/sshd.ts', 'HELPER_TIMEOUT_MILLISECONDS')) / 1000 +
    (await limitOf('hostcertd.service', 'TimeoutStartSec')) +
    (await constantIn('enroll/user-ca-files.ts', 'LOCK_MILLISECONDS')) / 1000 +
    (await constantIn('host/lock.ts', 'SLACK_MILLISECONDS')) / 1000
  expect(longest).toBe(15 + 9 + 90 + 30 + 90 + 35 + 90 + 35 + 10)
  expect(await limitOf('hostcertd-enroll.service', 'TimeoutStopSec')).toBeGreaterThan(longest)
})

test('a service that was stopped waits for nothing when it is started again', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate({ jitter_seconds: 3600 })
  const [jitter = 0] = (await host.start(TAKEN)).sleeps
  expect(jitter).toBeGreaterThan(100)
  expect(await host.start(TAKEN, { stopsAfter: 1 })).toMatchObject({
    error: 'Error: ended by SIGTERM',
    sleeps: [31],
    asked: [],
  })
  const restarted = await host.start(TAKEN)
  expect(restarted.sleeps).toEqual([])
  expect(restarted.error).toContain('is registered already')
})

test('a machine that a person enrolled in the meantime stays as it is, and the template is removed', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  expect((await host.start()).hostId).toBe(NAMES.otherId)
  const config = await host.read(FILES.config)
  await host.writeTemplate({ url: 'https://other.example.com' })
  const { error, log, asked } = await host.start()
  expect({ error, asked }).toEqual({ error: null, asked: [] })
  expect(log).toContain('this machine is enrolled already: removing /etc/hostcertd/enroll.json')
  expect(existsSync(host.path(FILES.template))).toBe(false)
  expect(await host.read(FILES.config)).toBe(config)
})

test('a template that cannot be removed is named, with a code', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  const { error } = await host.start({}, { isTemplateBusy: true })
  expect(error).toMatch(
    /^STORE_FAILED: cannot remove \/etc\/hostcertd\/enroll\.json, which may contain secrets: /,
  )
  expect(await host.start({ hosts: { [NAMES.host]: NAMES.otherId } })).toMatchObject({
    error: null,
    asked: [],
  })
  expect(existsSync(host.path(FILES.template))).toBe(false)
})

/** As after a power-off, at which the host was deleted. */
async function makeEphemeral(host: BootHost): Promise<void> {
  await host.writeTemplate({ ephemeral: true })
  const first = await host.start({ hosts: { [NAMES.host]: NAMES.hostId } })
  expect(first.error).toContain('registered already')
  await host.certify(NAMES.hostId)
  expect(await host.start({ hosts: { [NAMES.host]: NAMES.hostId } })).toMatchObject({ hostId: NAMES.hostId })
  expect(JSON.parse(await host.read(FILES.back))).toMatchObject({ ephemeral: true })
}

test('an ephemeral machine whose host was deleted registers it again, by the word of the issuer alone', async () => {
  await using host = await makeBootHost()
  await makeEphemeral(host)
  const there = await host.start({ hosts: { [NAMES.host]: NAMES.hostId } })
  expect(there).toMatchObject({ error: null, hostId: NAMES.hostId, asked: ['find by id', 'issue'] })
  const proxy = await host.start({ isBehindProxy: true })
  expect(proxy).toMatchObject({ error: 'ISSUER_NOT_FOUND: fault', hosts: {} })
  expect(proxy.asked).not.toContain('register')
  const gone = await host.start()
  expect(gone).toMatchObject({
    error: null,
    hostId: NAMES.otherId,
    asked: ['find by id', 'register', 'issue'],
  })
  expect(await host.read(FILES.config)).toContain(NAMES.otherId)
  expect(JSON.parse(await host.read(FILES.enrollment))).toMatchObject({
    host_id: NAMES.otherId,
    ephemeral: true,
  })
})

test('the host keys that it waits for are those that the configuration names', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  const conf = 'etc/hostcertd/conf.d/50-keys.yaml'
  await host.write(conf, 'host_keys: /etc/ssh/keys/*_key.pub\n')
  const { error, asked } = await host.start()
  expect(asked).toEqual([])
  expect(error).toMatch(/^HOST_KEY_UNREADABLE: no host key matches \/etc\/ssh\/keys\/\*_key\.pub: /)
  await mkdir(host.path('etc/ssh/keys'))
  await rename(host.path('etc/ssh/ssh_host_ed25519_key'), host.path('etc/ssh/keys/host_key'))
  await host.write(
    'etc/ssh/sshd_config',
    'Include /etc/ssh/sshd_config.d/*.conf\nHostKey /etc/ssh/keys/host_key\n',
  )
  await rename(host.path('etc/ssh/ssh_host_ed25519_key.pub'), host.path('etc/ssh/keys/host_key.pub'))
  expect(await host.start()).toMatchObject({ error: null, hostId: NAMES.otherId })
})

test('a host key whose public half is missing counts, as enroll writes that', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  await rm(host.path('etc/ssh/ssh_host_ed25519_key.pub'))
  expect(await host.start()).toMatchObject({ error: null, hostId: NAMES.otherId })
  expect(existsSync(host.path('etc/ssh/ssh_host_ed25519_key.pub'))).toBe(true)
})

test('a setting of the configuration that is invalid is named, not waited for', async () => {
  await using host = await makeBootHost()
  await host.writeTemplate()
  await host.write(FILES.config, 'host_keys: 7\n')
  const { error, sleeps } = await host.start()
  expect(error).toMatch(/^CONFIG_INVALID: host_keys/)
  expect(sleeps).toEqual([])
})

test('without a record that the machine is ephemeral, nothing is registered again', async () => {
  await using host = await makeBootHost()
  await host.write(FILES.back, '{"version": 1, "ephemeral": true, "jitter_seconds": 0}')
  const { error, log, asked } = await host.start()
  expect({ error, asked }).toEqual({ error: null, asked: [] })
  expect(log[0]).toMatch(/^nothing to do: .*enrollment\.json does not say/)
})
