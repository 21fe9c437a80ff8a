import { describe, expect, test } from 'vitest'
import { formatTime } from '../../agent/cert/time.ts'
import type { CertificateState } from '../../agent/renewal/certificate-state.ts'
import {
  servingOf,
  readinessOf,
  type CertificateStatus,
  type ServedStatus,
  type StatusDocument,
} from '../../agent/renewal/status-document.ts'

const NOW = 1_790_000_000
const MINUTE = 60

const SERVED: ServedStatus = {
  serial: '1',
  matches: true,
  valid_before: '2027-01-01T00:00:00Z',
  checked_at: formatTime(NOW - 5 * MINUTE),
  unknown: null,
}
const REFUTED: ServedStatus = { ...SERVED, serial: '2', matches: false }
const UNSEEN: ServedStatus = {
  serial: null,
  matches: null,
  valid_before: null,
  checked_at: null,
  unknown: '127.0.0.1:22: Connection refused',
}

function seenAgo(seconds: number): ServedStatus {
  return { ...SERVED, checked_at: formatTime(NOW - seconds) }
}

function certificate(state: CertificateState, changed: Partial<CertificateStatus> = {}): CertificateStatus {
  return {
    host_key: 'ssh_host_ed25519_key',
    key_type: 'ssh-ed25519',
    certificate: '/var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub',
    state,
    reason: null,
    serial: '1',
    key_id: 'host-1',
    principals: ['web1.example.com'],
    ca_fingerprint: 'SHA256:x',
    valid_after: '2026-01-01T00:00:00Z',
    valid_before: null,
    renewal_due: null,
    served: SERVED,
    last_attempt: null,
    last_success: null,
    failures: 0,
    last_error: null,
    ...changed,
  }
}

function status(certificates: readonly CertificateStatus[], skew: number | null = null): StatusDocument {
  return {
    version: '0.1.0',
    enrolled: true,
    issuer: { url: 'https://x.example', reachable: true, last_success: null, clock_skew_seconds: skew },
    certificates,
    waits: [],
    notes: [],
    sshd: { state: 'up', since: formatTime(NOW - 60 * MINUTE) },
    machine: { copied: null },
    login: { method: null },
  }
}

describe('one host key', () => {
  test.each<{ state: CertificateState; failures?: number; want: string; reason?: string }>([
    { state: 'valid', want: 'pass' },
    { state: 'valid', failures: 3, want: 'pass' },
    { state: 'due', want: 'pass' },
    { state: 'due', failures: 1, want: 'warn' },
    { state: 'absent', want: 'fail' },
    { state: 'expired', want: 'fail' },
    { state: 'invalid', want: 'fail' },
    { state: 'overdue', want: 'fail' },
    { state: 'unconfirmed', want: 'fail' },
    { state: 'ignored', want: 'fail', reason: 'no-host-key' },
  ])('$state with $failures failures: $want', ({ state, failures = 0, want, reason }) => {
    expect(readinessOf(status([certificate(state, { failures, reason: 'why' })]), null, NOW)).toEqual({
      status: want,
      ...(reason === undefined ? {} : { reason }),
      checks: [{ host_key: 'ssh_host_ed25519_key', state, reason: 'why' }],
    })
  })
})

test('an ignored key is no failure when it is asked for by its name', () => {
  const ignored = status([certificate('ignored', { reason: 'why' })])
  expect(readinessOf(ignored, 'ssh_host_ed25519_key', NOW)).toMatchObject({
    status: 'pass',
    checks: [{ state: 'ignored', reason: 'why' }],
  })
})

describe('the host', () => {
  test.each<{ name: string; document: StatusDocument | null; want: object }>([
    {
      name: 'before the first look',
      document: null,
      want: { status: 'fail', reason: 'starting', checks: [] },
    },
    {
      name: 'not enrolled',
      document: { ...status([certificate('valid')]), enrolled: false },
      want: { status: 'fail', reason: 'not-enrolled', checks: [] },
    },
    {
      name: 'no host key',
      document: status([]),
      want: { status: 'fail', reason: 'no-host-key', checks: [] },
    },
    {
      name: 'one ignored beside a valid one',
      document: status([certificate('ignored'), certificate('valid')]),
      want: { status: 'pass' },
    },
    {
      name: 'one ignored beside a failing one',
      document: status([certificate('ignored'), certificate('absent')]),
      want: { status: 'fail' },
    },
    {
      name: 'all ignored',
      document: status([certificate('ignored'), certificate('ignored')]),
      want: { status: 'fail', reason: 'no-host-key' },
    },
    {
      name: 'fail outweighs warn',
      document: status([certificate('due', { failures: 1 }), certificate('overdue')]),
      want: { status: 'fail' },
    },
    { name: 'skew of a minute', document: status([certificate('valid')], 60), want: { status: 'pass' } },
    {
      name: 'more',
      document: status([certificate('valid')], 61),
      want: { status: 'warn', reason: 'clock-skew' },
    },
    {
      name: 'backwards',
      document: status([certificate('valid')], -61),
      want: { status: 'warn', reason: 'clock-skew' },
    },
    {
      name: 'skew does not hide a failure',
      document: status([certificate('expired')], 999),
      want: { status: 'fail' },
    },
    {
      name: 'an unreachable issuer alone is no failure',
      document: { ...status([certificate('valid')]), issuer: { ...status([]).issuer, reachable: false } },
      want: { status: 'pass' },
    },
  ])('$name', ({ document, want }) => {
    expect(readinessOf(document, null, NOW)).toMatchObject(want)
  })
})

describe('evidence of what sshd presents', () => {
  test.each<{ name: string; served: ServedStatus | null; want: string }>([
    { name: 'sshd is not asked', served: null, want: 'not-asked' },
    { name: 'nothing seen yet', served: UNSEEN, want: 'unseen' },
    { name: 'only what it presented before', served: { ...SERVED, matches: null }, want: 'unseen' },
    { name: 'another certificate', served: REFUTED, want: 'refuted' },
    {
      name: 'no certificate',
      served: { ...REFUTED, serial: null, valid_before: null },
      want: 'refuted',
    },
    {
      name: 'another certificate, long ago',
      served: { ...REFUTED, checked_at: formatTime(1) },
      want: 'refuted',
    },
    { name: 'now', served: seenAgo(0), want: 'served' },
    { name: 'under 30 minutes ago', served: seenAgo(30 * MINUTE - 1), want: 'served' },
    { name: '30 minutes ago', served: seenAgo(30 * MINUTE), want: 'served-before' },
    { name: 'days ago', served: seenAgo(86_400 * 9), want: 'served-before' },
    { name: 'in a little while: a clock set back', served: seenAgo(-MINUTE), want: 'served' },
    { name: 'in half an hour: a clock set back', served: seenAgo(-30 * MINUTE), want: 'served-before' },
    { name: 'at an unknown time', served: { ...SERVED, checked_at: null }, want: 'served-before' },
    {
      name: 'at a time that cannot be read',
      served: { ...SERVED, checked_at: 'today' },
      want: 'served-before',
    },
    { name: 'recently, and not this time', served: { ...SERVED, unknown: 'reset' }, want: 'served' },
  ])('$name: $want', ({ served, want }) => {
    expect(servingOf(served, NOW)).toBe(want)
  })

  test.each<{ name: string; keys: readonly CertificateStatus[]; want: object }>([
    {
      name: 'sshd is not asked: the files count',
      keys: [certificate('valid', { served: null }), certificate('due', { served: null })],
      want: { status: 'pass' },
    },
    {
      name: 'one key was never seen served',
      keys: [certificate('valid'), certificate('valid', { served: UNSEEN })],
      want: { status: 'fail' },
    },
    {
      name: 'one key is seen not to be served',
      keys: [certificate('valid'), certificate('due', { served: REFUTED })],
      want: { status: 'fail' },
    },
    {
      name: 'the evidence for one key is old',
      keys: [certificate('valid'), certificate('valid', { served: seenAgo(30 * MINUTE) })],
      want: { status: 'warn', reason: 'evidence-old' },
    },
    {
      name: 'evidence for a key that is ignored counts neither way',
      keys: [
        certificate('valid'),
        certificate('ignored', { served: UNSEEN }),
        certificate('ignored', { served: REFUTED }),
        certificate('ignored', { served: seenAgo(86_400) }),
      ],
      want: { status: 'pass' },
    },
    {
      name: 'good evidence for an ignored key is none for the host',
      keys: [certificate('ignored')],
      want: { status: 'fail', reason: 'no-host-key' },
    },
    {
      name: 'old evidence hides no failure',
      keys: [certificate('valid', { served: seenAgo(86_400) }), certificate('absent', { served: null })],
      want: { status: 'fail' },
    },
    {
      name: 'a question without an answer takes nothing from fresh evidence',
      keys: [certificate('valid', { served: { ...SERVED, unknown: 'no common cipher' } })],
      want: { status: 'pass' },
    },
  ])('$name', ({ keys, want }) => {
    const { checks, ...rest } = readinessOf(status(keys), null, NOW) ?? {}
    expect(checks).toHaveLength(keys.length)
    expect(rest).toEqual(want)
  })
})

describe('asked for one host key', () => {
  const document = status([
    certificate('valid', { host_key: 'a' }),
    certificate('expired', { host_key: 'b' }),
  ])
  test.each([
    { hostKey: 'a', want: { status: 'pass', checks: [{ host_key: 'a', state: 'valid', reason: null }] } },
    { hostKey: 'b', want: { status: 'fail', checks: [{ host_key: 'b', state: 'expired', reason: null }] } },
    { hostKey: 'c', want: null },
    { hostKey: '', want: null },
  ])('$hostKey', ({ hostKey, want }) => {
    expect(readinessOf(document, hostKey, NOW)).toEqual(want)
  })

  test('before the first look, and before enrolment, any name gets the answer of the host', () => {
    expect(readinessOf(null, 'a', NOW)).toMatchObject({ status: 'fail', reason: 'starting' })
    expect(readinessOf({ ...document, enrolled: false }, 'c', NOW)).toMatchObject({ reason: 'not-enrolled' })
  })
})
