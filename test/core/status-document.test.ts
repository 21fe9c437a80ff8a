import { describe, expect, test } from 'vitest'
import type { CertificateState } from '../../agent/core/certificate-state.ts'
import { readinessOf, type CertificateStatus, type StatusDocument } from '../../agent/core/status-document.ts'

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
    served: null,
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
    expect(readinessOf(status([certificate(state, { failures, reason: 'why' })]), null)).toEqual({
      status: want,
      ...(reason === undefined ? {} : { reason }),
      checks: [{ host_key: 'ssh_host_ed25519_key', state, reason: 'why' }],
    })
  })
})

test('a key that is left alone is no failure when it is asked for by its name', () => {
  const ignored = status([certificate('ignored', { reason: 'why' })])
  expect(readinessOf(ignored, 'ssh_host_ed25519_key')).toMatchObject({
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
    expect(readinessOf(document, null)).toMatchObject(want)
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
    expect(readinessOf(document, hostKey)).toEqual(want)
  })

  test('before the first look, and before enrolment, any name gets the answer of the host', () => {
    expect(readinessOf(null, 'a')).toMatchObject({ status: 'fail', reason: 'starting' })
    expect(readinessOf({ ...document, enrolled: false }, 'c')).toMatchObject({ reason: 'not-enrolled' })
  })
})
