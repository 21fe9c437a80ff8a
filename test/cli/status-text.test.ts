import { expect, test } from 'vitest'
import { ERROR_CODES, ERRORS } from '../../agent/cert/errors.ts'
import { formatStatus, lifetimeBar } from '../../agent/cli/status-text.ts'
import { CERTIFICATE_STATES } from '../../agent/renewal/certificate-state.ts'
import type { CertificateStatus, ServedStatus, StatusDocument } from '../../agent/renewal/status-document.ts'

const DAY = 86_400
const NOW = Date.parse('2026-11-23T13:00:00Z') / 1000
const time = (at: number): string => new Date(at * 1000).toISOString().replace('.000Z', 'Z')

const SERVED: ServedStatus = {
  serial: '9223372036854775807',
  matches: true,
  valid_before: time(NOW + 27 * DAY - 3600),
  checked_at: time(NOW),
  unknown: null,
}
const UNSEEN: ServedStatus = {
  serial: null,
  matches: null,
  valid_before: null,
  checked_at: null,
  unknown: '127.0.0.1:22: Connection refused',
}

const VALID: CertificateStatus = {
  host_key: 'ssh_host_ed25519_key',
  key_type: 'ssh-ed25519',
  certificate: '/var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub',
  state: 'valid',
  reason: null,
  serial: '9223372036854775807',
  key_id: 'web1',
  principals: ['web1.example.com'],
  ca_fingerprint: 'SHA256:x',
  valid_after: time(NOW - 13 * DAY),
  valid_before: time(NOW + 27 * DAY - 3600),
  renewal_due: time(NOW + 17 * DAY - 3600),
  served: SERVED,
  last_attempt: null,
  last_success: null,
  failures: 0,
  last_error: null,
}
const NO_CERTIFICATE = {
  serial: null,
  valid_after: null,
  valid_before: null,
  renewal_due: null,
  served: null,
}
/** A pipe. */
const wide = { colour: false, columns: Infinity }
const BAR = '[======>-------!-----]'
const LOOK = `    -> ${ERRORS.SSHD_NOT_SERVING.remedy}`

function document(...certificates: readonly CertificateStatus[]): StatusDocument {
  const issuer = { url: 'https://x', reachable: true, last_success: null, clock_skew_seconds: 0 }
  const sshd = { state: 'up', since: time(NOW - DAY) } as const
  const login = { method: 'kubernetes' }
  const machine = { copied: false }
  return { version: '1', enrolled: true, issuer, certificates, waits: [], notes: [], sshd, machine, login }
}

interface Case {
  readonly name: string
  readonly change: Partial<CertificateStatus>
  readonly says: string
}

const CASES: readonly Case[] = [
  { name: 'valid', change: {}, says: `valid       ${BAR} 26d 23h left, renewal in 16d 23h, served` },
  {
    name: 'in its window, which is no trouble',
    change: { state: 'due', reason: 'window-open', renewal_due: time(NOW - 60) },
    says: 'due         [======!>------------] 26d 23h left, renewal due, served',
  },
  {
    name: 'another is served: the code with its cause, and what to do',
    change: {
      state: 'unconfirmed',
      reason: 'SSHD_NOT_SERVING',
      served: { ...SERVED, serial: '9223372036854775806', matches: false },
    },
    says: `unconfirmed ${BAR} 26d 23h left, renewal in 16d 23h, not served
    SSHD_NOT_SERVING: ${ERRORS.SSHD_NOT_SERVING.cause}
    sshd presents serial 9223372036854775806, but 9223372036854775807 is on disk
${LOOK}`,
  },
  {
    name: 'another was served two hours ago, and since then sshd could not be checked',
    change: {
      state: 'unconfirmed',
      reason: 'SSHD_NOT_SERVING',
      served: {
        ...SERVED,
        serial: '1',
        matches: false,
        checked_at: time(NOW - 7200),
        unknown: 'no common MAC',
      },
    },
    says: `unconfirmed ${BAR} 26d 23h left, renewal in 16d 23h, not served as of 2h ago
    SSHD_NOT_SERVING: ${ERRORS.SSHD_NOT_SERVING.cause}
    sshd presents serial 1, but 9223372036854775807 is on disk
    sshd could not be checked: no common MAC
${LOOK}`,
  },
  {
    name: 'served a moment ago, and the last question brought no answer',
    change: { served: { ...SERVED, checked_at: time(NOW - 60), unknown: 'closed behind the banner' } },
    says: `valid       ${BAR} 26d 23h left, renewal in 16d 23h, served
    sshd could not be checked: closed behind the banner`,
  },
  {
    name: 'served 30 minutes ago',
    change: { served: { ...SERVED, checked_at: time(NOW - 1800) } },
    says: `valid       ${BAR} 26d 23h left, renewal in 16d 23h, served as of 30m ago`,
  },
  {
    name: 'served in the future: the clock was set back',
    change: { served: { ...SERVED, checked_at: time(NOW + 7200) } },
    says: `valid       ${BAR} 26d 23h left, renewal in 16d 23h, served as of an unknown time ago`,
  },
  {
    name: 'never seen',
    change: { state: 'unconfirmed', reason: 'SSHD_UNREACHABLE', served: UNSEEN },
    says: `unconfirmed ${BAR} 26d 23h left, renewal in 16d 23h, not known to be served
    SSHD_UNREACHABLE: ${ERRORS.SSHD_UNREACHABLE.cause}
    sshd could not be checked: 127.0.0.1:22: Connection refused
    -> ${ERRORS.SSHD_UNREACHABLE.remedy}`,
  },
  {
    name: 'ignored, and renewed all the same',
    change: {
      state: 'ignored',
      reason: 'sshd does not offer a host key of type x',
      served: { ...UNSEEN, unknown: null },
    },
    says: `ignored     ${BAR} 26d 23h left, renewal in 16d 23h, not known to be served
    sshd does not offer a host key of type x`,
  },
  {
    name: 'none is served, and the last error says it already',
    change: {
      state: 'unconfirmed',
      reason: 'SSHD_NOT_SERVING',
      served: { ...SERVED, serial: null, matches: false, valid_before: null },
      failures: 3,
      last_error: { code: 'SSHD_NOT_SERVING', message: 'even after a reload', at: time(NOW) },
    },
    says: `unconfirmed ${BAR} 26d 23h left, renewal in 16d 23h, not served
    SSHD_NOT_SERVING: even after a reload (3 times in a row)
${LOOK}`,
  },
  {
    name: 'ignored, whose last error is no trouble',
    change: {
      ...NO_CERTIFICATE,
      state: 'ignored',
      reason: 'sshd does not offer a host key of type x',
      last_error: { code: 'SSHD_NOT_SERVING', message: 'even after a reload', at: time(NOW) },
    },
    says: 'ignored\n    sshd does not offer a host key of type x',
  },
  { name: 'absent', change: { ...NO_CERTIFICATE, state: 'absent' }, says: 'absent' },
  {
    name: 'forever',
    change: { valid_before: null, renewal_due: null },
    says: `valid       ${' '.repeat(BAR.length)} never expires, served`,
  },
  {
    name: 'past the year 9999, which Date does not read',
    change: { valid_before: '+12345-01-01T00:00:00Z', renewal_due: '+10000-01-01T00:00:00Z', served: null },
    says: 'valid       [>--------------!----] 3768610d 11h left, renewal in 2912116d 11h',
  },
  {
    name: 'expired',
    change: { state: 'expired', valid_before: time(NOW - 3600), renewal_due: time(NOW - DAY) },
    says: 'expired     [==================!>] expired 1h ago, renewal due, served',
  },
  {
    name: 'nothing steers the terminal',
    change: { ...NO_CERTIFICATE, state: 'absent', reason: 'a\u001B[2Jb\nc' },
    says: 'absent\n    a\\u001b[2Jb\\nc',
  },
]

test.each(CASES)('$name', ({ change, says }) => {
  const text = formatStatus(document({ ...VALID, ...change }), NOW, wide)
  expect(text).toBe(`ssh_host_ed25519_key  ${says}\n`)
})

test('every error code: its remedy below it, as a reason and as the last error, once for all host keys', () => {
  for (const code of ERROR_CODES) {
    const reason = { ...VALID, state: 'invalid', reason: code } as const
    const error = { ...VALID, last_error: { code, message: 'x', at: time(NOW) } }
    for (const [one, says] of [
      [reason, `    ${code}: ${ERRORS[code].cause}`],
      [error, `    ${code}: x`],
    ] as const) {
      const lines = formatStatus(document(one, { ...one, host_key: 'b' }), NOW, wide).split('\n')
      expect(lines.slice(1, 3)).toEqual([says, `    -> ${ERRORS[code].remedy}`])
      expect(lines.slice(4)).toEqual([says, ''])
    }
  }
})

test('why sshd could not be checked is told once where it is the same for all host keys', () => {
  const one = { ...VALID, served: { ...SERVED, unknown: 'reset' } }
  const other = { ...one, host_key: 'b', served: { ...SERVED, unknown: 'refused' } }
  const text = formatStatus(document(one, { ...one, host_key: 'a' }, other), NOW, wide)
  expect(text.match(/sshd could not be checked: .*/g)).toEqual([
    'sshd could not be checked: reset',
    'sshd could not be checked: refused',
  ])
})

test('what was served before sshd went down is served no more', () => {
  const one = { ...VALID, served: { ...SERVED, checked_at: time(NOW - 60) } }
  const status: StatusDocument = { ...document(one), sshd: { state: 'down', since: time(NOW) } }
  expect(formatStatus(status, NOW, wide)).toContain('renewal in 16d 23h, served as of 1m ago\n')
})

test('no renewal is announced on a copied machine that renews nothing', () => {
  const stopped: StatusDocument = { ...document(VALID), enrolled: false, machine: { copied: true } }
  expect(formatStatus(stopped, NOW, wide)).toContain('26d 23h left, served\n')
})

const NOTE = {
  text: 'the root helper reported: left out ssh_host_rsa_key, whose public half is empty',
  remedy: null,
}
const SKEW = { text: "the issuer's clock and this host's differ by 90 s", remedy: '`timedatectl`, say' }

test.each([40, 80, 99, 100, 101, 120, 200])('at %i columns nothing wraps, whatever the state', (columns) => {
  for (const state of CERTIFICATE_STATES) {
    for (const { change } of CASES) {
      const one = { ...VALID, ...change, state, last_error: null }
      const text = formatStatus(document(one), NOW, { colour: false, columns }, [SKEW, NOTE])
      for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(columns)
    }
  }
})

test.each([40, 80, 120])('at %i columns both marks are in the bar, whatever the state', (columns) => {
  for (const state of CERTIFICATE_STATES) {
    for (const { change } of CASES.filter((one) => one.change.valid_before !== null)) {
      const text = formatStatus(document({ ...VALID, ...change, state }), NOW, { colour: false, columns })
      expect(text).toMatch(/\[[=-]*(?:>[=-]*!|!=*>)-*\]/)
    }
  }
})

test('80 columns: the bar in a line of its own', () => {
  expect(formatStatus(document(VALID), NOW, { colour: false, columns: 80 })).toBe(
    `ssh_host_ed25519_key  valid       26d 23h left, renewal in 16d 23h, served
    [===================>------------------------!---------------]
`,
  )
})

test('40 columns: a line each, words unbroken', () => {
  const another = { ...SERVED, serial: '1', matches: false }
  const one = { ...VALID, state: 'unconfirmed', reason: 'SSHD_NOT_SERVING', served: another } as const
  const text = formatStatus(document(one), NOW, { colour: false, columns: 40 }, [SKEW])
  expect(text).toBe(`ssh_host_ed25519_key  unconfirmed
    [===========>-------------!--------]
    26d 23h left, renewal in 16d 23h,
    not served
    SSHD_NOT_SERVING: sshd presents no
      certificate, or a different one
      than on disk
    sshd presents serial 1, but
      9223372036854775807 is on disk
    -> Run \`hostcertd doctor\`: it
       reports which line of sshd's
       configuration to change.
       \`sshd -T\` shows
       \`HostCertificate\`, \`HostKey\` and
       \`HostKeyAlgorithms\`
the issuer's clock and this host's
differ by 90 s
    -> \`timedatectl\`, say
`)
})

test('a bar in the line as soon as there is room for all', () => {
  const hasBar = (columns: number): boolean =>
    formatStatus(document(VALID), NOW, { colour: false, columns }).includes(`valid       ${BAR} 26d`)
  expect([96, 97].map(hasBar)).toEqual([false, true])
})

test('names are aligned', () => {
  const other = { ...VALID, host_key: 'rsa' }
  const columns = formatStatus(document(VALID, other), NOW, wide)
    .trimEnd()
    .split('\n')
    .map((line) => line.indexOf('valid'))
  expect(columns).toEqual([22, 22])
})

test.each([
  { wait: 'login', method: 'kubernetes', says: 'next login with kubernetes in 5m (LOGIN_LOCKED)' },
  { wait: 'login', method: null, says: 'next request to the issuer in 5m (LOGIN_LOCKED)' },
  { wait: 'issuer', method: 'kubernetes', says: 'next request to the issuer in 5m (LOGIN_LOCKED)' },
])('a wait for $wait, with method $method', ({ wait, method, says }) => {
  const waits = [{ for: wait, code: 'LOGIN_LOCKED', until: time(NOW + 300) }] as const
  const text = formatStatus({ ...document(VALID), waits, login: { method } }, NOW, wide)
  expect(text.split('\n').at(-2)).toBe(says)
})

test('colour only when asked for, and only around the state', () => {
  const text = formatStatus(document(VALID), NOW, { colour: true, columns: 80 })
  expect(text).toContain('  \u001B[32mvalid      \u001B[0m 26d')
  const narrow = formatStatus(document(VALID), NOW, { colour: true, columns: 40 })
  expect(narrow).toContain('  \u001B[32mvalid\u001B[0m\n    [')
})

test.each([
  { name: 'not enrolled', status: { ...document(), enrolled: false }, says: 'not enrolled: ' },
  { name: 'no host keys', status: document(), says: 'no host keys found\n' },
])('$name', ({ status, says }) => {
  expect(formatStatus(status, NOW, wide)).toContain(says)
})

test.each([
  { name: 'a third', now: NOW, bar: '[======>-------!-----]' },
  { name: 'the start', now: NOW - 13 * DAY, bar: '[>-------------!-----]' },
  { name: 'before the start', now: NOW - 14 * DAY, bar: '[>-------------!-----]' },
  { name: 'after the end', now: NOW + 40 * DAY, bar: '[==============!====>]' },
])('the bar at $name', ({ now, bar }) => {
  expect(lifetimeBar(VALID, now, 20)).toBe(bar)
})

test.each([
  { name: 'a moment before it is due', now: NOW, due: NOW + 60, bar: '[===>!-----]' },
  { name: 'a moment after', now: NOW, due: NOW - 60, bar: '[===!>-----]' },
  { name: 'at the end, before', now: NOW + 26 * DAY, due: NOW + 26 * DAY + 60, bar: '[========>!]' },
  { name: 'at the end, after', now: NOW + 40 * DAY, due: NOW + 26 * DAY, bar: '[========!>]' },
  { name: 'at the start, after', now: NOW - 13 * DAY + 60, due: NOW - 13 * DAY, bar: '[!>--------]' },
])('both marks are seen: $name', ({ now, due, bar }) => {
  expect(lifetimeBar({ ...VALID, renewal_due: time(due) }, now, 10)).toBe(bar)
})

test.each([{ valid_before: null }, { valid_after: null }])('no bar without an end or a start', (change) => {
  expect(lifetimeBar({ ...VALID, ...change }, NOW, 10)).toBeNull()
})
