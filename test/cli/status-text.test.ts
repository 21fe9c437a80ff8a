import { expect, test } from 'vitest'
import { formatStatus, lifetimeBar } from '../../agent/cli/status-text.ts'
import { CERTIFICATE_STATES } from '../../agent/core/certificate-state.ts'
import type { CertificateStatus, StatusDocument } from '../../agent/core/status-document.ts'

const DAY = 86_400
const NOW = Date.parse('2026-11-23T13:00:00Z') / 1000
const time = (at: number): string => new Date(at * 1000).toISOString().replace('.000Z', 'Z')

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
  served: { serial: '9223372036854775807', matches: true, checked_at: time(NOW) },
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
const narrow = { colour: false, columns: 80 }

function document(...certificates: readonly CertificateStatus[]): StatusDocument {
  const issuer = { url: 'https://x', reachable: true, last_success: null, clock_skew_seconds: 0 }
  return { version: '1', enrolled: true, issuer, certificates }
}

interface Case {
  readonly name: string
  readonly change: Partial<CertificateStatus>
  readonly says: string
}

const CASES: readonly Case[] = [
  { name: 'valid', change: {}, says: 'valid       26d 23h left, renewal in 16d 23h, served' },
  {
    name: 'another is served',
    change: {
      state: 'unconfirmed',
      reason: 'SSHD_NOT_SERVING',
      served: { serial: '9223372036854775806', matches: false, checked_at: time(NOW) },
    },
    says: `unconfirmed 26d 23h left, renewal in 16d 23h, not served
    SSHD_NOT_SERVING
    sshd serves serial 9223372036854775806, on disk is 9223372036854775807`,
  },
  {
    name: 'none is served, and the last error says it already',
    change: {
      state: 'unconfirmed',
      reason: 'SSHD_NOT_SERVING',
      served: { serial: null, matches: false, checked_at: time(NOW) },
      failures: 3,
      last_error: { code: 'SSHD_NOT_SERVING', message: 'even after a reload', at: time(NOW) },
    },
    says: `unconfirmed 26d 23h left, renewal in 16d 23h, not served
    SSHD_NOT_SERVING: even after a reload (3 times in a row)`,
  },
  {
    name: 'ignored',
    change: { ...NO_CERTIFICATE, state: 'ignored', reason: 'sshd does not offer a host key of type x' },
    says: 'ignored\n    sshd does not offer a host key of type x',
  },
  { name: 'absent', change: { ...NO_CERTIFICATE, state: 'absent' }, says: 'absent' },
  {
    name: 'forever',
    change: { valid_before: null, renewal_due: null },
    says: 'valid       never ends, served',
  },
  {
    name: 'past the year 9999, which Date does not read',
    change: { valid_before: '+12345-01-01T00:00:00Z', renewal_due: '+10000-01-01T00:00:00Z', served: null },
    says: 'valid       3768610d 11h left, renewal in 2912116d 11h',
  },
  {
    name: 'expired',
    change: { state: 'expired', valid_before: time(NOW - 3600), renewal_due: time(NOW - DAY) },
    says: 'expired     ended 1h ago, renewal due, served',
  },
  {
    name: 'nothing steers the terminal',
    change: { ...NO_CERTIFICATE, state: 'absent', reason: 'a\u001B[2Jb\nc' },
    says: 'absent\n    a\\u001b[2Jb\\nc',
  },
]

test.each(CASES)('$name', ({ change, says }) => {
  const text = formatStatus(document({ ...VALID, ...change }), NOW, narrow)
  expect(text).toBe(`ssh_host_ed25519_key  ${says}\n`)
})

test.each([80, 99, 100, 101, 200])('at %i columns nothing wraps, whatever the state', (columns) => {
  for (const state of CERTIFICATE_STATES) {
    for (const { change } of CASES) {
      const text = formatStatus(document({ ...VALID, ...change, state }), NOW, { colour: false, columns })
      for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(columns)
    }
  }
})

test.each([
  { columns: 99, bars: false },
  { columns: 100, bars: true },
])('bars at $columns columns: $bars', ({ columns, bars }) => {
  const text = formatStatus(document(VALID), NOW, { colour: false, columns })
  expect(/ \[[=>!-]{20}\] /.test(text)).toBe(bars)
})

test('names are aligned', () => {
  const other = { ...VALID, host_key: 'rsa' }
  const columns = formatStatus(document(VALID, other), NOW, narrow)
    .trimEnd()
    .split('\n')
    .map((line) => line.indexOf('valid'))
  expect(columns).toEqual([22, 22])
})

test('colour only when asked for, and only around the state', () => {
  const text = formatStatus(document(VALID), NOW, { colour: true, columns: 80 })
  expect(text).toContain('  \u001B[32mvalid      \u001B[0m 26d')
})

test.each([
  { name: 'not enrolled', status: { ...document(), enrolled: false }, says: 'not enrolled: ' },
  { name: 'no host keys', status: document(), says: 'no host keys found\n' },
])('$name', ({ status, says }) => {
  expect(formatStatus(status, NOW, narrow)).toContain(says)
})

test.each([
  { name: 'a third', now: NOW, bar: '[======>-------!-----]' },
  { name: 'the start', now: NOW - 13 * DAY, bar: '[>-------------!-----]' },
  { name: 'before the start', now: NOW - 14 * DAY, bar: '[>-------------!-----]' },
  { name: 'after the end', now: NOW + 40 * DAY, bar: '[==============!====>]' },
])('the bar at $name', ({ now, bar }) => {
  expect(lifetimeBar(VALID, now)).toBe(bar)
})
