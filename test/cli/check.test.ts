import { rm, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import type { CertificateStatus, ServedStatus, StatusDocument } from '../../agent/renewal/status-document.ts'
import type { SignOptions } from '../support/ssh-keygen.ts'
import { ECDSA, ED25519, makeBareHost } from './bare-host.ts'
import { HANGS, makeHostWithDaemon, statusAnswer } from './fake-daemon.ts'
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
      says: /^HOSTCERTD OK - 1 host key has a valid .* expires in (59m|1h)/,
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
      says: /OK - 1 host key has a valid certificate\n/,
    },
    {
      name: 'expired',
      certificate: { validity: '-2h:-1h' },
      status: 2,
      says: /CRITICAL - .*: the certificate expired 1h.* ago/,
    },
    { name: 'absent', certificate: null, status: 2, says: /CRITICAL - .*: no certificate/ },
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
    const stdout = 'HOSTCERTD UNKNOWN - not enrolled: /nonexistent/hostcertd.yaml does not exist\n'
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
  expect(stdout).toContain('CRITICAL - no certificate to check: no host key was found')
})

test.each([
  { args: ['--warning', '3'], says: 'It must be a percentage' },
  { args: ['--critical', '101%'], says: 'It must be a percentage' },
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
  const served: ServedStatus = {
    serial: '7',
    matches: true,
    valid_before: time(20 * DAY),
    checked_at: checkedAt,
    unknown: null,
  }
  const none: ServedStatus = { ...served, serial: null, matches: false, valid_before: null }
  const unseen: ServedStatus = { ...none, matches: null, checked_at: null, unknown: 'no common cipher' }
  const seenAgo = (seconds: number): ServedStatus => ({ ...served, checked_at: time(-seconds) })
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
    served,
    last_attempt: null,
    last_success: time(-10 * DAY),
    failures: 0,
    last_error: null,
  }
  const error = { code: 'ISSUER_FORBIDDEN', message: 'no | way', at: checkedAt } as const
  /** @param left seconds until it ends; null: forever, or not known */
  const anotherServed = (left: number | null = null): Partial<CertificateStatus> => ({
    state: 'unconfirmed',
    reason: 'SSHD_NOT_SERVING',
    served: { ...served, serial: '6', matches: false, valid_before: left === null ? null : time(left) },
  })
  const rows: readonly {
    readonly name: string
    readonly change: Partial<CertificateStatus>
    readonly status: number
    readonly says: string | RegExp
    readonly sshd?: StatusDocument['sshd']
  }[] = [
    { name: 'valid and served', change: {}, status: 0, says: 'which expires in 19d 23h' },
    {
      name: 'past the year 9999',
      change: { valid_before: '+12345-01-01T00:00:00Z' },
      status: 0,
      says: /which expires in \d{7}d/,
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
        served: none,
      },
      status: 2,
      says: 'sshd presents no usable certificate',
    },
    {
      name: 'sshd presents another',
      change: anotherServed(),
      status: 1,
      says: 'sshd presents another certificate, serial 6',
    },
    {
      name: 'sshd presents another, which has ended: clients are refused, whatever lies on disk',
      change: anotherServed(-3 * 3600),
      status: 2,
      says: /^HOSTCERTD CRITICAL - .*unconfirmed, 19d .* left; sshd .* certificate, serial 6, which expired 3h.* ago/,
    },
    {
      name: 'sshd presents another, which is about to end',
      change: anotherServed(DAY),
      status: 2,
      says: /^HOSTCERTD CRITICAL - .*serial 6, which expires in (23h|1d)/,
    },
    {
      name: 'sshd presents another, which ends soon, and what is on disk never does',
      change: { ...anotherServed(DAY), valid_before: null, renewal_due: null },
      status: 1,
      says: /^HOSTCERTD WARNING - .*never expires; .*serial 6, which expires in (23h|1d)/,
    },
    {
      name: 'sshd presents another, which holds for long',
      change: anotherServed(10 * DAY),
      status: 1,
      says: /^HOSTCERTD WARNING - .*serial 6, which expires in (9d|10d)/,
    },
    {
      name: 'overdue, and sshd presents none',
      change: { state: 'overdue', served: none },
      status: 2,
      says: 'overdue, 19d 23h left; sshd presents no usable certificate',
    },
    {
      name: 'overdue, and sshd presents another, which has ended',
      change: { ...anotherServed(-60), state: 'overdue', reason: null },
      status: 2,
      says: /serial 6, which expired \d+m/,
    },
    {
      name: 'overdue, and sshd is not asked',
      change: { state: 'overdue', valid_before: time(DAY), served: null },
      status: 1,
      says: /WARNING - .*: overdue, (23h .*|1d) left \|/,
    },
    {
      name: 'sshd is not asked: the files count',
      change: { served: null },
      sshd: { state: null, since: null },
      status: 0,
      says: 'OK - 1 host key has a valid certificate',
    },
    {
      name: 'what sshd presents was never seen',
      change: { state: 'unconfirmed', reason: 'SSHD_UNREACHABLE', served: unseen },
      status: 1,
      says: 'unconfirmed, 19d 23h left; sshd was not seen to present it: no common cipher',
    },
    {
      name: 'what sshd presents was never seen, whatever the state says',
      change: { served: { ...unseen, unknown: null } },
      status: 1,
      says: /^HOSTCERTD WARNING - .*: 19d 23h left; sshd was not seen to present it \|/,
    },
    {
      name: 'unconfirmed, and nothing says why',
      change: { state: 'unconfirmed', served: null },
      status: 1,
      says: 'sshd was not seen to present it',
    },
    {
      name: 'evidence of 20 minutes, and a question without an answer: told, and no more',
      change: { served: { ...seenAgo(20 * 60), unknown: 'closed behind the banner' } },
      sshd: { state: 'unknown', since: time(-60) },
      status: 0,
      says: /^HOSTCERTD OK - .*\n\[OK\] .*: 19d 23h left; sshd could not be checked now: closed behind the banner\n/,
    },
    {
      name: 'evidence of 30 minutes',
      change: { served: seenAgo(30 * 60) },
      status: 1,
      says: /^HOSTCERTD WARNING - .*: 19d 23h left; sshd was last seen to present it 3\dm( \d+s)? ago \|/,
    },
    {
      name: 'evidence of two hours, and why there is none since',
      change: { served: { ...seenAgo(7200), unknown: 'no common MAC' } },
      sshd: { state: 'unknown', since: time(-7200) },
      status: 1,
      says: /last seen to present it 2h( \d+[ms])? ago: no common MAC/,
    },
    {
      name: 'evidence from the future: the clock was set back',
      change: { served: seenAgo(-7200) },
      status: 1,
      says: 'sshd was last seen to present it an unknown time ago',
    },
    {
      name: 'sshd presented another two hours ago',
      change: {
        ...anotherServed(),
        served: { ...seenAgo(7200), serial: '6', matches: false, unknown: 'reset' },
      },
      status: 1,
      says: /serial 6, .* \(seen 2h( \d+[ms])? ago: reset\)/,
    },
    {
      name: 'sshd is down, and was seen to serve all a minute ago: at once',
      change: { served: { ...seenAgo(60), unknown: '127.0.0.1:22: Connection refused' } },
      sshd: { state: 'down', since: '2026-11-23T13:00:00Z' },
      status: 1,
      says: /^HOSTCERTD WARNING - sshd has been down since 2026-11-23T13:00:00Z \|.*\n\[OK\] /,
    },
    {
      name: 'sshd is down since nobody knows when',
      change: {},
      sshd: { state: 'down', since: null },
      status: 1,
      says: /^HOSTCERTD WARNING - sshd is down \|/,
    },
    {
      name: 'sshd is down, and the evidence is old',
      change: { served: seenAgo(7200) },
      sshd: { state: 'down', since: '2026-11-23T13:00:00Z' },
      status: 1,
      says: /^HOSTCERTD WARNING - sshd has been down since 2026-11-23T13:00:00Z, .*last seen to present it 2h/,
    },
    {
      name: 'sshd is down, and something is worse',
      change: { state: 'absent' },
      sshd: { state: 'down', since: '2026-11-23T13:00:00Z' },
      status: 2,
      says: /^HOSTCERTD CRITICAL - key'=\/: no certificate \|[^]*\nsshd has been down since 2026-11-23T13:00:00Z -> Start sshd: /,
    },
    {
      name: 'all ignored, whatever is known of them',
      change: { state: 'ignored', reason: 'P-521' },
      status: 2,
      says: 'CRITICAL - no certificate to check: all host keys are ignored',
    },
  ]
  test.each(rows)('$name: $status', async ({ change, sshd, status, says }) => {
    const issuer = { reachable: false, clock_skew_seconds: 90 }
    await using host = await makeHostWithDaemon(
      statusAnswer([{ ...usual, ...change }], issuer, sshd === undefined ? {} : { sshd }),
    )
    const result = await host.verb(['check'])
    expect(result.status).toBe(status)
    expect(result.stdout).toMatch(says)
    const [first = ''] = result.stdout.split('\n')
    // One bar, and a label that no parser stumbles over.
    const [, performance = "'key''_/'=0s;;;;", ...more] = first.split(' | ')
    expect(performance).toMatch(PERFORMANCE)
    expect(performance).toContain("'key''_/'=")
    expect(more).toEqual([])
    expect(result.stdout).toContain("the issuer's clock and this host's differ by 90 s -> Set the clock")
    expect(result.stdout).toContain('the issuer https://issuer did not respond')
    expect(result.stdout).not.toContain('the daemon')
  })

  test('an ignored host key has no performance data, whose limits it would only cross', async () => {
    await using host = await makeHostWithDaemon(
      statusAnswer([usual, { ...usual, host_key: 'other', state: 'ignored', reason: 'P-521' }]),
    )
    const { status, stdout } = await host.verb(['check'])
    expect(status).toBe(0)
    expect(stdout).toContain("'key''_/'=")
    expect(stdout).not.toContain("'other'=")
  })

  test('a limit for what never expires: as a duration it holds for what sshd presents', async () => {
    await using host = await makeHostWithDaemon(
      statusAnswer([{ ...usual, ...anotherServed(DAY), valid_before: null }]),
    )
    expect((await host.verb(['check', '--critical', '2d'])).status).toBe(2)
    expect((await host.verb(['check', '--critical', '50%'])).status).toBe(1)
  })

  test('evidence for one host key is none for another, and an ignored one needs none', async () => {
    const ignored: CertificateStatus = { ...usual, host_key: 'b', state: 'ignored', served: unseen }
    const rest: CertificateStatus = { ...usual, host_key: 'c', served: unseen }
    for (const [keys, status] of [
      [[usual, ignored], 0],
      [[usual, rest], 1],
    ] as const) {
      await using host = await makeHostWithDaemon(statusAnswer(keys))
      expect((await host.verb(['check'])).status).toBe(status)
    }
  })

  test('what the root helper reported is told below, and changes no status', async () => {
    const notes = ['left out ssh_host_rsa_key | empty']
    const answer = statusAnswer([usual], {}, { notes })
    await using host = await makeHostWithDaemon(answer)
    const { status, stdout } = await host.verb(['check'])
    expect(status).toBe(0)
    expect(stdout).toMatch(/\nthe root helper reported: left out ssh_host_rsa_key \/ empty\n$/)
  })
})

test('a daemon that hangs: what it said before is not believed, and that it hangs is told', async () => {
  await using host = await makeHostWithDaemon(statusAnswer([]), HANGS)
  await host.certify(ED25519)
  const { status, stdout } = await host.verb(['check'])
  expect(status).toBe(0)
  expect(stdout).toContain('1 host key has a valid certificate')
  expect(stdout).toMatch(
    /\nthe daemon hangs: .* since 2026-11-23T13:00:00Z; .* -> `systemctl restart hostcertd`; /,
  )
})
