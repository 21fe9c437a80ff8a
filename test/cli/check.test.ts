import { rm, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import type { CertificateStatus } from '../../agent/core/status-document.ts'
import type { SignOptions } from '../support/ssh-keygen.ts'
import { ECDSA, ED25519, makeBareHost } from './bare-host.ts'
import { HANGS, LIVE, startFakeDaemon, statusAnswer } from './fake-daemon.ts'
import { hostcertd } from './hostcertd.ts'
import { parseOnly } from './in-process.ts'

const DAY = 86_400

/** Performance data as the guidelines have it: `'label'=value[UOM];[warn];[crit];[min];[max]`, separated by a space. */
const PERFORMANCE =
  /^(?:'(?:[^'=]|'')+'=\d+s;\d*:?;\d*:?;\d*;\d*)(?: '(?:[^'=]|'')+'=\d+s;\d*:?;\d*:?;\d*;\d*)*$/

describe('by what is on disk, without a daemon', () => {
  const wishes: readonly {
    readonly name: string
    readonly certificate: Partial<SignOptions> | null
    readonly args?: readonly string[]
    readonly status: number
    readonly says: RegExp
  }[] = [
    {
      name: 'fresh',
      certificate: {},
      status: 0,
      says: /^HOSTCERTD OK - 1 host key has its .* ends in (59m|1h)/,
    },
    { name: 'due', certificate: { validity: '-80m:+25m' }, status: 0, says: /^HOSTCERTD OK - / },
    {
      name: 'overdue: less than a third of the window',
      certificate: { validity: '-100m:+5m' },
      status: 1,
      says: /^HOSTCERTD WARNING - ssh_host_ed25519_key: overdue, (4m \d+s|5m) left/,
    },
    {
      name: 'a third of what overdue leaves',
      certificate: { validity: '-100m:+3m' },
      status: 2,
      says: /^HOSTCERTD CRITICAL - ssh_host_ed25519_key: overdue, (2m \d+s|3m) left/,
    },
    {
      name: 'forever',
      certificate: { validity: 'always:forever' },
      status: 0,
      says: /OK - 1 host key has its certificate\n/,
    },
    {
      name: 'expired',
      certificate: { validity: '-2h:-1h' },
      status: 2,
      says: /CRITICAL - .*: the certificate ended 1h.* ago/,
    },
    { name: 'absent', certificate: null, status: 2, says: /CRITICAL - .*: there is no certificate/ },
    { name: 'invalid', certificate: { kind: 'user' }, status: 2, says: /cannot be used \(CERT_NOT_HOST\)/ },
    {
      name: '--warning as a duration',
      certificate: {},
      args: ['--warning', '2h'],
      status: 1,
      says: /WARNING - .*(59m|1h)/,
    },
    { name: '--warning as a share', certificate: {}, args: ['--warning', '60%'], status: 1, says: /WARNING/ },
    {
      name: '--critical as a share',
      certificate: {},
      args: ['--critical', '60%'],
      status: 2,
      says: /CRITICAL/,
    },
    {
      name: '--critical as a duration',
      certificate: {},
      args: ['--critical=1h'],
      status: 2,
      says: /CRITICAL/,
    },
    {
      name: 'wider limits than the usual ones',
      certificate: { validity: '-100m:+5m' },
      args: ['--warning', '2m', '--critical', '1m'],
      status: 0,
      says: /OK/,
    },
  ]
  test.each(wishes)('$name: $status', async ({ certificate, args = [], status, says }) => {
    await using host = await makeBareHost()
    if (certificate !== null) await host.certify(ED25519, certificate)
    const before = await host.files()
    const result = await host.verb(['check', ...args])
    expect(result).toMatchObject({ status, stderr: '' })
    expect(result.stdout).toMatch(says)
    expect(await host.files()).toEqual(before)
  })
})

test('one line with performance data, then a line for each host key', async () => {
  await using host = await makeBareHost()
  await host.addHostKey(ECDSA, 'ecdsa')
  await host.certify(ED25519, { validity: '-100m:+5m' })
  await host.certify(ECDSA)
  const { status, stdout } = await host.verb(['check'])
  expect(status).toBe(1)
  const [first = '', ...rest] = stdout.trimEnd().split('\n')
  const [text = '', performance = '', ...more] = first.split(' | ')
  expect(more).toEqual([])
  expect(text).toMatch(/^HOSTCERTD WARNING - ssh_host_ed25519_key: overdue/)
  expect(performance).toMatch(PERFORMANCE)
  // 33% of 105 minutes, a third of that, and a third of that.
  expect(performance).toMatch(/'ssh_host_ed25519_key'=2\d\ds;693:;231:;0;6300$/)
  expect(rest).toEqual([
    expect.stringMatching(/^\[OK\] ssh_host_ecdsa_key: (59m.*|1h) left$/),
    expect.stringMatching(/^\[WARNING\] ssh_host_ed25519_key: overdue, /),
  ])
})

test('with --json', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  const { status, stdout } = await host.verb(['check', '--json'])
  expect(status).toBe(0)
  expect(JSON.parse(stdout)).toEqual({
    status: 'OK',
    summary: expect.stringMatching(/^1 host key/) as string,
    host_keys: [
      {
        host_key: ED25519,
        status: 'OK',
        state: 'valid',
        message: expect.stringMatching(/ left$/) as string,
        seconds_left: expect.any(Number) as number,
        warning_below: 792,
        critical_below: 264,
      },
    ],
    remarks: [],
  })
})

describe('unknown', () => {
  test('not enrolled', async () => {
    const result = await hostcertd(['check', '--config', '/nonexistent/hostcertd.yaml'])
    const stdout = 'HOSTCERTD UNKNOWN - not enrolled: there is no /nonexistent/hostcertd.yaml\n'
    expect(result).toEqual({ status: 3, stdout, stderr: '' })
  })

  test('a bad configuration: every problem, on stdout', async () => {
    await using host = await makeBareHost({ nonsense: 1, log: { level: 'loud' } })
    const { status, stdout, stderr } = await host.verb(['check'])
    expect({ status, stderr }).toEqual({ status: 3, stderr: '' })
    expect(stdout).toMatch(/^HOSTCERTD UNKNOWN - CONFIG_INVALID: .*\nCONFIG_INVALID: .*\n$/)
  })

  test('pinned CAs that cannot be read', async () => {
    await using host = await makeBareHost()
    await writeFile(`${host.folder}/ca.pub`, 'nothing | of use\n')
    const { status, stdout } = await host.verb(['check'])
    expect(status).toBe(3)
    expect(stdout).toMatch(/^HOSTCERTD UNKNOWN - CONFIG_INVALID: verify.host_ca_file: [^|]*\n$/)
  })
})

test('no host key at all is critical: nothing is protected', async () => {
  await using host = await makeBareHost()
  await rm(host.hostKeyPath(ED25519))
  const { status, stdout } = await host.verb(['check'])
  expect(status).toBe(2)
  expect(stdout).toContain('there is no host key that could have a certificate')
})

test.each([
  { args: ['--warning', '3'], says: 'It must be a share' },
  { args: ['--critical', '101%'], says: 'It must be a share' },
  { args: ['--warning', '10%', '--critical', '20%'], says: '--warning must not be less than --critical' },
  { args: ['--warning', '1d', '--critical', '25h'], says: '--warning must not be less than --critical' },
])('a usage error: $args', async ({ args, says }) => {
  const { status, stderr } = await parseOnly(['check', ...args])
  expect(status).toBe(64)
  expect(stderr).toContain(says)
})

describe('by what the daemon says', () => {
  const now = Date.now() / 1000
  const time = (seconds: number): string => new Date((now + seconds) * 1000).toISOString()
  const checkedAt = time(0)
  const usual: CertificateStatus = {
    host_key: "key'=|",
    key_type: 'ssh-ed25519',
    certificate: '/certs/key-cert.pub',
    state: 'valid',
    reason: null,
    serial: '7',
    key_id: 'k',
    principals: ['web1'],
    ca_fingerprint: 'SHA256:x',
    valid_after: time(-10 * DAY),
    valid_before: time(20 * DAY),
    renewal_due: time(8 * DAY),
    served: { serial: '7', matches: true, checked_at: checkedAt },
    last_attempt: null,
    last_success: time(-10 * DAY),
    failures: 0,
    last_error: null,
  }
  const error = { code: 'ISSUER_FORBIDDEN', message: 'no | way', at: checkedAt } as const
  const anotherServed = {
    state: 'unconfirmed',
    reason: 'SSHD_NOT_SERVING',
    served: { serial: '6', matches: false, checked_at: checkedAt },
  } as const
  const rows: readonly {
    readonly name: string
    readonly change: Partial<CertificateStatus>
    readonly status: number
    readonly says: string | RegExp
    /** Seconds until what sshd presents ends, as the metrics tell it. */
    readonly servedLeft?: number
  }[] = [
    { name: 'valid and served', change: {}, status: 0, says: 'the first ends in 19d 23h' },
    {
      name: 'past the year 9999',
      change: { valid_before: '+12345-01-01T00:00:00Z' },
      status: 0,
      says: /the first ends in \d{7}d/,
    },
    {
      name: 'due, and failing: told, and there is time',
      change: { state: 'due', failures: 4, last_error: error },
      status: 0,
      says: 'ISSUER_FORBIDDEN: no / way (4 times in a row)',
    },
    {
      name: 'sshd presents none: clients are asked now',
      change: {
        state: 'unconfirmed',
        reason: 'SSHD_NOT_SERVING',
        served: { serial: null, matches: false, checked_at: checkedAt },
      },
      status: 2,
      says: 'sshd presents no certificate',
    },
    {
      name: 'sshd presents another',
      change: anotherServed,
      status: 1,
      says: 'sshd presents another certificate, serial 6',
    },
    {
      name: 'sshd presents another, which has ended: clients are refused, whatever lies on disk',
      change: anotherServed,
      servedLeft: -3 * 3600,
      status: 2,
      says: /^HOSTCERTD CRITICAL - .*unconfirmed, 19d .* left; sshd .* certificate, serial 6, which ended 3h.* ago/,
    },
    {
      name: 'sshd presents another, which is about to end',
      change: anotherServed,
      servedLeft: DAY,
      status: 2,
      says: /^HOSTCERTD CRITICAL - .*serial 6, which ends in (23h|1d)/,
    },
    {
      name: 'sshd presents another, which ends soon, and what is on disk never does',
      change: { ...anotherServed, valid_before: null, renewal_due: null },
      servedLeft: DAY,
      status: 1,
      says: /^HOSTCERTD WARNING - .*never ends; .*serial 6, which ends in (23h|1d)/,
    },
    {
      name: 'sshd presents another, which holds for long',
      change: anotherServed,
      servedLeft: 10 * DAY,
      status: 1,
      says: /^HOSTCERTD WARNING - .*serial 6, which ends in (9d|10d)/,
    },
    {
      name: 'overdue, and sshd presents none',
      change: { state: 'overdue', served: { serial: null, matches: false, checked_at: checkedAt } },
      status: 2,
      says: 'overdue, 19d 23h left; sshd presents no certificate',
    },
    {
      name: 'overdue, and sshd presents another, which has ended',
      change: { ...anotherServed, state: 'overdue', reason: null },
      servedLeft: -60,
      status: 2,
      says: /serial 6, which ended \d+m/,
    },
    {
      name: 'overdue, and nobody knows what sshd presents',
      change: { state: 'overdue', valid_before: time(DAY), served: null },
      status: 1,
      says: /WARNING - .*: overdue, (23h .*|1d) left \|/,
    },
    {
      name: 'sshd does not answer',
      change: { state: 'unconfirmed', reason: 'SSHD_UNREACHABLE', served: null },
      status: 1,
      says: 'sshd does not answer',
    },
    { name: 'all ignored', change: { state: 'ignored', reason: 'P-521' }, status: 2, says: 'no host key' },
  ]
  /** As Prometheus escapes the name of the host key. */
  const series =
    'hostcertd_served_certificate_not_after_timestamp_seconds{host_key="key\'=|",key_type="ssh-ed25519"}'
  test.each(rows)('$name: $status', async ({ change, servedLeft = null, status, says }) => {
    await using daemon = await startFakeDaemon({
      '/status': statusAnswer([{ ...usual, ...change }], { reachable: false, clock_skew_seconds: 90 }),
      '/livez': LIVE,
      '/metrics': { body: servedLeft === null ? '' : `${series} ${now + servedLeft}\n` },
    })
    await using host = await makeBareHost({ health: { listen: daemon.listen } })
    const result = await host.verb(['check'])
    expect(result.status).toBe(status)
    expect(result.stdout).toMatch(says)
    const [first = ''] = result.stdout.split('\n')
    // One bar, and a label that no parser stumbles over.
    const [, performance = "'key''_/'=0s;;;;", ...more] = first.split(' | ')
    expect(performance).toMatch(PERFORMANCE)
    expect(performance).toContain("'key''_/'=")
    expect(more).toEqual([])
    expect(result.stdout).toContain("the issuer's clock and this host's differ by 90 s -> set the clock")
    expect(result.stdout).toContain('the issuer https://issuer did not answer')
    expect(result.stdout).not.toContain('the daemon')
  })

  test('a host key that is left alone has no performance data, whose limits it would only cross', async () => {
    await using daemon = await startFakeDaemon({
      '/status': statusAnswer([usual, { ...usual, host_key: 'other', state: 'ignored', reason: 'P-521' }]),
      '/livez': LIVE,
      '/metrics': { body: '' },
    })
    await using host = await makeBareHost({ health: { listen: daemon.listen } })
    const { status, stdout } = await host.verb(['check'])
    expect(status).toBe(0)
    expect(stdout).toContain("'key''_/'=")
    expect(stdout).not.toContain("'other'=")
  })

  test('a limit for what never ends: as a duration it holds for what sshd presents', async () => {
    await using daemon = await startFakeDaemon({
      '/status': statusAnswer([{ ...usual, ...anotherServed, valid_before: null }]),
      '/livez': LIVE,
      '/metrics': { body: `${series} ${now + DAY}\n` },
    })
    await using host = await makeBareHost({ health: { listen: daemon.listen } })
    expect((await host.verb(['check', '--critical', '2d'])).status).toBe(2)
    expect((await host.verb(['check', '--critical', '50%'])).status).toBe(1)
  })
})

test('a daemon that hangs: what it said before is not believed, and that it hangs is told', async () => {
  await using daemon = await startFakeDaemon({ '/status': statusAnswer([]), '/livez': HANGS })
  await using host = await makeBareHost({ health: { listen: daemon.listen } })
  await host.certify(ED25519)
  const { status, stdout } = await host.verb(['check'])
  expect(status).toBe(0)
  expect(stdout).toContain('1 host key has its certificate')
  expect(stdout).toMatch(
    /\nthe daemon hangs: .* since 2026-11-23T13:00:00Z; .* -> `systemctl restart hostcertd`; /,
  )
})
