import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  backoffSeconds,
  isWaiting,
  needsAdministrator,
  lockSeconds,
  retryAfterSeconds,
  type Wait,
  installWait,
  issuerWaits,
  pauseAfterIssuance,
  recentRepairs,
  reloadWait,
  repairWaitOf,
  waitOf,
  waitsInForce,
} from '../../agent/renewal/backoff.ts'
import { EMPTY_RECORD, recordOf, type AttemptRecord, type HostKeyRecord } from '../../agent/renewal/record.ts'

const NOW = 1_795_438_800
const HOUR = 3600
const YEAR = 365 * 86_400
const STEPS = [
  'issuer-backoff',
  'key-backoff',
  'login-backoff',
  'administrator',
  'sshd-trouble',
  'reload',
] as const

describe('backoffSeconds', () => {
  test.each([
    { next: 'issuer-backoff', schedule: [3, 6, 12, 25, 60, 120, 300, 300] },
    { next: 'key-backoff', schedule: [5, 15, 60, 180, 600, 1800, 3600, 3600] },
    { next: 'login-backoff', schedule: [150, 300, 600, 1200, 2400, 3600, 3600] },
    { next: 'administrator', schedule: [120, 300, 900, 1800, 3600, 3600] },
    { next: 'sshd-trouble', schedule: [5, 15, 30, 60, 120, 300, 900, 1800, 3600, 3600] },
    { next: 'reload', schedule: [60, 120, 300, 900, 1800, 3600, 3600] },
  ] as const)('$next without jitter', ({ next, schedule }) => {
    expect(schedule.map((_, index) => backoffSeconds(next, index + 1, YEAR, 0))).toEqual(schedule)
  })

  test.each([
    { name: 'a year left: no cap', next: 'key-backoff', left: 365 * 86_400, want: 3600 },
    { name: 'forever', next: 'key-backoff', left: Infinity, want: 3600 },
    { name: 'an hour left', next: 'key-backoff', left: 3600, want: 360 },
    { name: 'an hour left, administrator', next: 'administrator', left: 3600, want: 360 },
    { name: 'ten minutes left, issuer', next: 'issuer-backoff', left: 600, want: 60 },
    { name: 'five minutes left: 30 s at least', next: 'key-backoff', left: 299, want: 30 },
    { name: 'a second left', next: 'key-backoff', left: 1, want: 30 },
    { name: 'over', next: 'key-backoff', left: -100, want: 30 },
    { name: 'a login, never so often that it locks the identity', next: 'login-backoff', left: 1, want: 45 },
    { name: 'an hour left, login', next: 'login-backoff', left: 3600, want: 360 },
    { name: 'an hour left, reload', next: 'reload', left: 3600, want: 360 },
    { name: 'nothing: five minutes', next: 'key-backoff', left: null, want: 300 },
    { name: 'nothing, administrator', next: 'administrator', left: null, want: 300 },
    { name: 'nothing, login', next: 'login-backoff', left: null, want: 300 },
    { name: 'nothing, reload', next: 'reload', left: null, want: 300 },
  ] as const)('a tenth of what is left: $name', ({ next, left, want }) => {
    expect(backoffSeconds(next, 100, left, 0)).toBe(want)
  })

  test('the cap lengthens nothing', () => {
    expect(backoffSeconds('issuer-backoff', 1, 3600, 0)).toBe(3)
  })

  test('jitter takes up to three tenths off', () => {
    expect(backoffSeconds('reload', 1, null, 0.5)).toBeCloseTo(51, 9)
    expect(backoffSeconds('reload', 1, null, 0.999_999)).toBeCloseTo(42, 3)
  })

  test('never zero, never above the cap, never shorter after more failures', () => {
    fc.assert(
      fc.property(
        fc.record({
          next: fc.constantFrom(...STEPS),
          failures: fc.oneof(fc.integer({ min: -5, max: 20 }), fc.maxSafeNat()),
          left: fc.option(fc.double({ min: -1e6, max: 1e12, noNaN: true })),
          dice: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        }),
        ({ next, failures, left, dice }) => {
          const wait = backoffSeconds(next, failures, left, dice)
          const base = backoffSeconds(next, failures, left, 0)
          expect(wait).toBeGreaterThan(0.69 * base)
          expect(wait).toBeLessThanOrEqual(base)
          expect(base).toBeGreaterThanOrEqual(3)
          expect(base).toBeLessThanOrEqual(HOUR)
          expect(backoffSeconds(next, failures + 1, left, 0)).toBeGreaterThanOrEqual(base)
          const floor = next === 'login-backoff' ? 45 : 30
          expect(base).toBeLessThanOrEqual(left === null ? 300 : Math.max(left / 10, floor))
        },
      ),
    )
  })

  test('an issuer that is down for a day is asked a few hundred times by a host, not more', () => {
    let [at, tries] = [0, 0]
    for (; at < 86_400; tries += 1) at += backoffSeconds('issuer-backoff', tries + 1, YEAR, 0.5)
    expect(tries).toBeLessThan(400)
    expect(backoffSeconds('issuer-backoff', 1, null, 0)).toBeLessThan(5)
  })
})

describe('retryAfterSeconds', () => {
  test.each([
    { asked: 54, left: YEAR, dice: 0, want: 54 },
    { asked: 54, left: YEAR, dice: 0.5, want: 57.2 },
    { asked: 0, left: YEAR, dice: 0, want: 1 },
    { asked: -1000, left: YEAR, dice: 0.99, want: 2.089 },
    { asked: 3600, left: YEAR, dice: 0, want: 3600 },
    { asked: 86_400, left: YEAR, dice: 0, want: 3600 },
    { asked: 86_400, left: YEAR, dice: 0.5, want: 3615 },
    { asked: Infinity, left: YEAR, dice: 0.5, want: 3615 },
    { asked: 300, left: 60, dice: 0, want: 300 },
    { asked: 301, left: 60, dice: 0, want: 300 },
    { asked: 3600, left: 6000, dice: 0, want: 600 },
    { asked: 3600, left: null, dice: 0, want: 300 },
    { asked: 240, left: null, dice: 0, want: 240 },
  ])('asked for $asked s, $left s of validity left, dice $dice', ({ asked, left, dice, want }) => {
    expect(retryAfterSeconds(asked, left, dice)).toBeCloseTo(want, 9)
  })

  test('never less than asked within five minutes, and a wait that isWaiting honours', () => {
    fc.assert(
      fc.property(
        fc.record({
          asked: fc.double({ min: -1e9, max: 1e9, noNaN: true }),
          left: fc.option(fc.double({ min: -1e6, max: 1e12, noNaN: true })),
          dice: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        }),
        ({ asked, left, dice }) => {
          const wait = retryAfterSeconds(asked, left, dice)
          expect(wait).toBeGreaterThanOrEqual(Math.max(1, Math.min(asked, 300)))
          expect(wait).toBeLessThanOrEqual(HOUR + 30)
          expect(isWaiting(until(NOW + wait), NOW)).toBe(true)
        },
      ),
    )
  })
})

test('a locked identity is waited out, a little longer than the 300 s of the issuer, and not much longer', () => {
  expect([lockSeconds(0), lockSeconds(0.999)]).toEqual([303, expect.closeTo(322.98, 6)])
})

function until(end: number): Wait {
  return { failures: 1, until: end, code: 'ISSUER_BUSY' }
}

test.each([
  { name: 'a minute to go', wait: until(NOW + 60), want: true },
  { name: 'a moment to go', wait: until(NOW + 0.001), want: true },
  { name: 'over now', wait: until(NOW), want: false },
  { name: 'long over', wait: until(NOW - 1e6), want: false },
  { name: 'the longest wait', wait: until(NOW + 3600 + 30), want: true },
  { name: 'the clock was set back by a minute', wait: until(NOW + 3600 + 60), want: true },
  { name: 'by two: no wait is that long', wait: until(NOW + 3600 + 61), want: false },
  { name: 'by years', wait: until(NOW + 1e9), want: false },
  { name: 'none', wait: null, want: false },
  { name: 'a lock', wait: { ...until(NOW + 320), code: 'LOGIN_LOCKED' as const }, want: true },
  {
    name: 'a lock, by a clock that was set back',
    wait: { ...until(NOW + 400), code: 'LOGIN_LOCKED' as const },
    want: false,
  },
])('isWaiting: $name', ({ wait, want }) => {
  expect(isWaiting(wait, NOW)).toBe(want)
})

test.each([
  { code: 'ISSUER_FORBIDDEN', next: 'administrator', want: true },
  { code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff', want: true },
  { code: 'ISSUER_TIMEOUT', next: 'login-backoff', want: true },
  { code: 'ISSUER_REJECTED', next: 'key-backoff', want: true },
  { code: 'CERT_CA_MISMATCH', next: 'key-backoff', want: true },
  { code: 'STORE_FAILED', next: 'key-backoff', want: false },
  { code: 'CREDENTIAL_UNREADABLE', next: 'local', want: true },
  { code: 'ISSUER_INVALID_RESPONSE', next: 'key-backoff', want: false },
  { code: 'ISSUER_UNREACHABLE', next: 'issuer-backoff', want: false },
  // An issuer in trouble, whatever it says, may be out of it by itself.
  { code: 'ISSUER_REJECTED', next: 'issuer-backoff', want: false },
] as const)('$code, then $next: somebody must act: $want', ({ code, next, want }) => {
  expect(needsAdministrator(code, next)).toBe(want)
})

const KEY = { name: 'a', fingerprint: 'SHA256:a' }

function waitUntil(end: number, code: Wait['code'] = 'ISSUER_BUSY'): Wait {
  return { failures: 1, until: end, code }
}

/** What is on record at {@link NOW}, for one host key. */
function recordNow(key: Partial<HostKeyRecord>, changed: Partial<AttemptRecord> = {}) {
  const hostKeys = { [KEY.name]: { ...recordOf(EMPTY_RECORD, KEY), ...key } }
  return { record: { ...EMPTY_RECORD, hostKeys, ...changed }, now: NOW }
}

describe('the wait of a key', () => {
  const issuer = waitUntil(NOW + 20)
  const login = waitUntil(NOW + 30)
  const locked = waitUntil(NOW + 25, 'LOGIN_LOCKED')
  const own = waitUntil(NOW + 10)
  const over = waitUntil(NOW)

  test.each([
    { name: 'nothing is waited for', want: null },
    { name: 'its own', wait: own, want: own },
    { name: 'that of the issuer, which is everybody’s', issuer, want: issuer },
    { name: 'that of the login', login, want: login },
    { name: 'of several the longest', wait: own, issuer, login, want: login },
    { name: 'of several the longest, whichever that is', wait: login, issuer, login: own, want: login },
    { name: 'one that is over counts no more', wait: over, issuer, want: issuer },
    { name: 'all are over', wait: over, issuer: over, login: over, want: null },
    { name: 'that for an administrator', administrator: issuer, wait: own, want: issuer },
    { name: 'by hand: none', wait: own, issuer, login, administrator: issuer, byHand: true, want: null },
    { name: 'by hand: but that for a locked identity', issuer, login: locked, byHand: true, want: locked },
  ])('$name', ({ wait = null, byHand = false, want, ...shared }) => {
    const all = { issuer: null, login: null, administrator: null, ...shared }
    expect(waitOf(recordNow({ wait }, all), KEY, byHand)).toEqual(want)
  })

  test('of another key with that name does not count', () => {
    const other = { name: KEY.name, fingerprint: 'SHA256:b' }
    expect(waitOf(recordNow({ wait: own }), other, false)).toBeNull()
  })
})

test.each([
  { name: 'none', want: null },
  { name: 'the issuer’s', issuer: waitUntil(NOW + 1), want: NOW + 1 },
  { name: 'the login’s', login: waitUntil(NOW + 2), want: NOW + 2 },
  { name: 'over', issuer: waitUntil(NOW), login: waitUntil(NOW - 1), want: null },
  { name: 'one over, one not', issuer: waitUntil(NOW), login: waitUntil(NOW + 2), want: NOW + 2 },
])('a wait that is every key’s: $name', ({ issuer = null, login = null, want }) => {
  expect(issuerWaits(recordNow({}, { issuer, login }))[0]?.until ?? null).toBe(want)
})

test('a wait of the helper’s or a reload’s holds until it is over, and not beyond its kind', () => {
  const [install, reload] = [waitUntil(NOW + 1), waitUntil(NOW + 2)]
  expect(installWait(recordNow({}, { install }))).toBe(install)
  expect(reloadWait(recordNow({}, { reload }))).toBe(reload)
  expect([installWait(recordNow({}, { reload })), reloadWait(recordNow({}, { install }))]).toEqual([
    null,
    null,
  ])
  const over = recordNow({}, { install: waitUntil(NOW), reload: waitUntil(NOW - 1) })
  expect([installWait(over), reloadWait(over)]).toEqual([null, null])
})

test('everything that is waited for has its name; what is over has none', () => {
  const shared = {
    login: waitUntil(NOW + 1, 'LOGIN_LOCKED'),
    issuer: waitUntil(NOW),
    reload: waitUntil(NOW + 3),
  }
  const known = recordNow({ wait: waitUntil(NOW + 2) }, shared)
  expect(waitsInForce(known, [KEY])).toEqual([
    { for: 'login', code: 'LOGIN_LOCKED', failures: 1, until: NOW + 1 },
    { for: 'reload', code: 'ISSUER_BUSY', failures: 1, until: NOW + 3 },
    { for: 'a', code: 'ISSUER_BUSY', failures: 1, until: NOW + 2 },
  ])
})

describe('repairs: ten in ten minutes, and no more', () => {
  const repairedAt = (...seconds: readonly number[]) => recordNow({ repairs: seconds.map((at) => NOW + at) })
  const nine = [-590, -500, -400, -300, -200, -100, -50, -20, -10]

  test.each([
    { name: 'none yet', repairs: [], want: null },
    { name: 'nine', repairs: nine, want: null },
    { name: 'ten: when the first of them is ten minutes old', repairs: [-599, ...nine], want: NOW + 1 },
    { name: 'that moment', repairs: [-600, ...nine], want: null },
    { name: 'eleven, some by hand: the second', repairs: [-599, ...nine, -5], want: NOW + 10 },
    { name: 'one of them in the future, from a clock that was ahead', repairs: [...nine, 1], want: null },
    { name: 'one of them just now', repairs: [...nine, 0], want: NOW + 10 },
  ])('$name', ({ repairs, want }) => {
    expect(repairWaitOf(repairedAt(...repairs), KEY)).toBe(want)
  })

  test('what is older or of the future counts no more', () => {
    expect(recentRepairs(repairedAt(-601, -600, -599, 0, 1), KEY)).toEqual([NOW - 599, NOW])
  })
})

test.each([
  { name: 'just now', age: 0, want: NOW + 10 },
  { name: 'nine seconds ago', age: 9, want: NOW + 1 },
  { name: 'ten seconds ago', age: 10, want: null },
  { name: 'in the future, by a clock that was set back since', age: -1, want: null },
  { name: 'long ago', age: 86_400, want: null },
  { name: 'never', age: null, want: null },
])('ten seconds between two certificates for a key; the last was put in place $name', ({ age, want }) => {
  const issued = age === null ? null : { serial: '1', at: NOW - age }
  expect(pauseAfterIssuance(recordNow({ issued }), KEY)).toBe(want)
})
