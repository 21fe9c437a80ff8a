import { describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import {
  CERTIFICATE_STATES,
  dueReasonOf,
  stateOf,
  type CertificateState,
  type OnDisk,
  type Served,
  type StateFacts,
} from '../../agent/renewal/certificate-state.ts'
import { craftCertificate, craftKey, uint32, uint64 } from '../cert/craft.ts'

const NOW = 1_795_438_800
const [key, ca] = [craftKey(), craftKey()]

function certificate(ends: number, kind = 2) {
  const fields = { validBefore: uint64(BigInt(ends)), kind: uint32(kind) }
  return parseCertificate(craftCertificate(key, ca, fields))
}

const current = certificate(NOW + 1000)
const past = certificate(NOW)
const usable: OnDisk = { kind: 'usable', certificate: current }

function unusable(code: ErrorCode, cert: typeof current | null): OnDisk {
  return { kind: 'unusable', failure: { code, message: 'm' }, certificate: cert }
}

const SEEN = { at: NOW - 60, unknown: null }
const SERVED: Served = { kind: 'certificate', ...SEEN, serial: '7', validBefore: NOW + 1000, matches: true }

const good: StateFacts = {
  ignored: null,
  onDisk: usable,
  times: { dueAt: NOW + 500, overdueAt: NOW + 800 },
  served: SERVED,
  lastErrorCode: null,
}

/** What makes each state apply, all else being good. */
const CAUSES: Readonly<Record<CertificateState, Partial<StateFacts>>> = {
  ignored: { ignored: 'sshd does not offer it' },
  absent: { onDisk: { kind: 'absent' } },
  expired: { onDisk: unusable('CERT_EXPIRED', past) },
  invalid: { onDisk: unusable('CERT_CA_MISMATCH', current) },
  overdue: { times: { dueAt: NOW - 500, overdueAt: NOW } },
  unconfirmed: { served: { kind: 'none', ...SEEN } },
  due: { times: { dueAt: NOW, overdueAt: NOW + 1 } },
  valid: {},
}

const PAIRS = CERTIFICATE_STATES.flatMap((first, index) =>
  CERTIFICATE_STATES.slice(index).map((second) => ({ first, second })),
)

test.each(PAIRS)('$first comes before $second', ({ first, second }) => {
  expect(stateOf({ ...good, ...CAUSES[second], ...CAUSES[first] }, NOW).state).toBe(first)
})

test('the order is the one of the interface', () => {
  expect(CERTIFICATE_STATES.join(', ')).toBe(
    'ignored, absent, expired, invalid, overdue, unconfirmed, due, valid',
  )
})

describe('states and their reasons', () => {
  const failed = { lastErrorCode: 'ISSUER_BUSY' } as const
  const other: Served = { kind: 'certificate', ...SEEN, serial: null, validBefore: null, matches: false }
  test.each<{ name: string; facts: Partial<StateFacts>; state: CertificateState; reason: string | null }>([
    { name: 'ignored says why', facts: CAUSES.ignored, state: 'ignored', reason: 'sshd does not offer it' },
    { name: 'absent', facts: CAUSES.absent, state: 'absent', reason: null },
    {
      name: 'absent after a failure',
      facts: { ...CAUSES.absent, ...failed },
      state: 'absent',
      reason: 'ISSUER_BUSY',
    },
    { name: 'expired', facts: CAUSES.expired, state: 'expired', reason: 'CERT_EXPIRED' },
    {
      name: 'expired after a failure',
      facts: { ...CAUSES.expired, ...failed },
      state: 'expired',
      reason: 'ISSUER_BUSY',
    },
    {
      name: 'expired, and of another CA',
      facts: { onDisk: unusable('CERT_CA_MISMATCH', past) },
      state: 'expired',
      reason: 'CERT_EXPIRED',
    },
    {
      name: 'usable when we looked, ended since',
      facts: { onDisk: { kind: 'usable', certificate: past } },
      state: 'expired',
      reason: 'CERT_EXPIRED',
    },
    {
      name: 'a user certificate that ended is invalid all the same',
      facts: { onDisk: unusable('CERT_NOT_HOST', certificate(NOW, 1)) },
      state: 'invalid',
      reason: 'CERT_NOT_HOST',
    },
    {
      name: 'invalid says what is wrong with it, not what failed last',
      facts: { onDisk: unusable('CERT_UNPARSABLE', null), ...failed },
      state: 'invalid',
      reason: 'CERT_UNPARSABLE',
    },
    { name: 'overdue', facts: CAUSES.overdue, state: 'overdue', reason: null },
    {
      name: 'overdue after a failure',
      facts: { ...CAUSES.overdue, ...failed },
      state: 'overdue',
      reason: 'ISSUER_BUSY',
    },
    { name: 'sshd serves none', facts: CAUSES.unconfirmed, state: 'unconfirmed', reason: 'SSHD_NOT_SERVING' },
    {
      name: 'sshd serves another',
      facts: { served: other },
      state: 'unconfirmed',
      reason: 'SSHD_NOT_SERVING',
    },
    {
      name: 'nothing was seen since it was installed',
      facts: { served: { kind: 'nothing-known', unknown: 'connection refused' } },
      state: 'unconfirmed',
      reason: 'SSHD_UNREACHABLE',
    },
    {
      name: 'no answer this time: what was seen before counts',
      facts: { served: { ...SERVED, unknown: 'connection refused' } },
      state: 'valid',
      reason: null,
    },
    { name: 'sshd is not asked', facts: { served: { kind: 'not-asked' } }, state: 'valid', reason: null },
    { name: 'due', facts: CAUSES.due, state: 'due', reason: 'window-open' },
    { name: 'due after a failure', facts: { ...CAUSES.due, ...failed }, state: 'due', reason: 'ISSUER_BUSY' },
    {
      name: 'a second before the window',
      facts: { times: { dueAt: NOW + 1, overdueAt: NOW + 2 } },
      state: 'valid',
      reason: null,
    },
    {
      name: 'forever',
      facts: { times: { dueAt: Infinity, overdueAt: Infinity } },
      state: 'valid',
      reason: null,
    },
    { name: 'no times', facts: { times: null }, state: 'valid', reason: null },
  ])('$name', ({ facts, state, reason }) => {
    expect(stateOf({ ...good, ...facts }, NOW)).toEqual({ state, reason })
  })
})

test.each<{ name: string; onDisk: OnDisk; want: string | null }>([
  { name: 'nothing there', onDisk: { kind: 'absent' }, want: 'absent' },
  { name: 'usable', onDisk: usable, want: null },
  {
    name: 'usable when we looked, ended since',
    onDisk: { kind: 'usable', certificate: past },
    want: 'expired',
  },
  { name: 'another key', onDisk: unusable('CERT_KEY_MISMATCH', current), want: 'key-changed' },
  { name: 'another key, ended', onDisk: unusable('CERT_KEY_MISMATCH', past), want: 'key-changed' },
  { name: 'ended', onDisk: unusable('CERT_EXPIRED', past), want: 'expired' },
  {
    name: 'ended, and of other principals',
    onDisk: unusable('CERT_PRINCIPALS_MISMATCH', past),
    want: 'expired',
  },
  {
    name: 'other principals',
    onDisk: unusable('CERT_PRINCIPALS_MISMATCH', current),
    want: 'principals-wanted',
  },
  { name: 'damaged', onDisk: unusable('CERT_UNPARSABLE', null), want: 'unusable' },
  { name: 'another CA', onDisk: unusable('CERT_CA_MISMATCH', current), want: 'unusable' },
  { name: 'not a regular file', onDisk: unusable('STORE_FAILED', null), want: 'unusable' },
])('due whatever the window says: $name', ({ onDisk, want }) => {
  expect(dueReasonOf(onDisk, NOW)).toBe(want)
})
