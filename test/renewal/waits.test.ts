import { describe, expect, test } from 'vitest'
import {
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
const KEY = { name: 'a', fingerprint: 'SHA256:a' }

function waitUntil(until: number, code: Wait['code'] = 'ISSUER_BUSY'): Wait {
  return { failures: 1, until, code }
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
