import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decideRenewal,
  isRoutine,
  jitterOf,
  renewalTimes,
  type RenewalPolicy,
  type Validity,
} from '../../agent/renewal/certificate-state.ts'

const MINUTE = 60
const HOUR = 3600
const DAY = 86_400
const YEAR = 365 * DAY
const NOW = 1_795_438_800

const share = (ratio: number, jitterRatio = 0): RenewalPolicy => ({
  window: { kind: 'share', ratio },
  jitterRatio,
})
const left = (seconds: number, jitterRatio = 0): RenewalPolicy => ({
  window: { kind: 'duration', seconds },
  jitterRatio,
})
const month: Validity = { validAfter: NOW, validBefore: NOW + 30 * DAY }

describe('renewalTimes', () => {
  test.each([
    {
      name: 'a third of the life',
      policy: share(1 / 3),
      jitter: 0,
      due: 20 * DAY,
      overdue: 30 * DAY - (10 / 3) * DAY,
    },
    { name: 'three days left', policy: left(3 * DAY), jitter: 0, due: 27 * DAY, overdue: 29 * DAY },
    { name: 'a duration is at most half', policy: left(YEAR), jitter: 0, due: 15 * DAY, overdue: 25 * DAY },
    { name: 'a share is not bounded', policy: share(0.9), jitter: 0, due: 3 * DAY, overdue: 21 * DAY },
    { name: 'jitter delays', policy: left(3 * DAY, 0.5), jitter: 0.5, due: 27.75 * DAY, overdue: 29 * DAY },
    {
      name: 'jitter without a spread does not',
      policy: left(3 * DAY, 0),
      jitter: 0.9,
      due: 27 * DAY,
      overdue: 29 * DAY,
    },
    {
      name: 'a spread of 100 % counts as 60 %',
      policy: left(3 * DAY, 1),
      jitter: 0.5,
      due: 27.9 * DAY,
      overdue: 29 * DAY,
    },
  ])('$name', ({ policy, jitter, due, overdue }) => {
    const times = renewalTimes(month, policy, jitter, null)
    expect(times.dueAt - NOW).toBeCloseTo(due, 3)
    expect(times.overdueAt - NOW).toBeCloseTo(overdue, 3)
  })

  test.each([
    { name: 'issued long before the window: no matter', issued: NOW, due: 27 * DAY, overdue: 29 * DAY },
    {
      name: 'issued in the window: half of what was left',
      issued: NOW + 28 * DAY,
      due: 29 * DAY,
      overdue: 30 * DAY - DAY / 3,
    },
    {
      name: 'issued after the end, by a clock that was set back: no matter',
      issued: NOW + YEAR,
      due: 27 * DAY,
      overdue: 29 * DAY,
    },
  ])('$name', ({ issued, due, overdue }) => {
    const times = renewalTimes(month, left(3 * DAY), 0, issued)
    expect(times.dueAt - NOW).toBeCloseTo(due, 3)
    expect(times.overdueAt - NOW).toBeCloseTo(overdue, 3)
  })

  test('issued at its very end: no matter', () => {
    const { validBefore } = month
    expect(renewalTimes(month, left(3 * DAY), 0, validBefore)).toEqual(
      renewalTimes(month, left(3 * DAY), 0, null),
    )
  })

  test('a certificate that is valid since always, and of which nobody knows when it was put in place', () => {
    const times = renewalTimes({ validAfter: 0, validBefore: NOW }, share(0.9), 0, null)
    expect(times.dueAt).toBeCloseTo(0.1 * NOW, 3)
  })

  test('a certificate that never ends is never due', () => {
    const times = renewalTimes({ validAfter: 0, validBefore: Infinity }, share(0.33, 0.5), 0.5, NOW)
    expect(times).toEqual({ dueAt: Infinity, overdueAt: Infinity })
    expect(decideRenewal(times, NOW)).toEqual({ kind: 'wait', until: null })
  })
})

describe('decideRenewal', () => {
  const times = { dueAt: NOW, overdueAt: NOW + 100 }
  test.each([
    { now: NOW - 1, want: { kind: 'wait', until: NOW } },
    { now: NOW - 0.001, want: { kind: 'wait', until: NOW } },
    { now: NOW, want: { kind: 'due', reason: 'window-open' } },
    { now: NOW + 99, want: { kind: 'due', reason: 'window-open' } },
    { now: NOW + 100, want: { kind: 'due', reason: 'overdue' } },
    { now: NOW + 1e9, want: { kind: 'due', reason: 'overdue' } },
  ])('at $now', ({ now, want }) => {
    expect(decideRenewal(times, now)).toEqual(want)
  })

  test('only a renewal in its window, or one for another CA, may wait for the maintenance window', () => {
    const reasons = [
      'absent',
      'key-changed',
      'unusable',
      'principals-wanted',
      'expired',
      'overdue',
      'forced',
    ] as const
    expect(reasons.filter(isRoutine)).toEqual([])
    expect([isRoutine('window-open'), isRoutine('ca-changed')]).toEqual([true, true])
  })
})

const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const policy: fc.Arbitrary<RenewalPolicy> = fc.record({
  window: fc.oneof(
    fc.integer({ min: 1, max: 99 }).map((percent) => ({ kind: 'share' as const, ratio: percent / 100 })),
    fc.integer({ min: 1, max: 400 * DAY }).map((seconds) => ({ kind: 'duration' as const, seconds })),
  ),
  jitterRatio: fc.integer({ min: 0, max: 100 }).map((percent) => percent / 100),
})
const ttl = fc.oneof(fc.constantFrom(20, 90, HOUR, 30 * DAY, YEAR), fc.integer({ min: 2, max: 10 * YEAR }))

/** As the server does: valid after = now − 59 s, floored to the minute; valid before = now + ttl. */
function issueAt(now: number, lifetime: number): Validity {
  const second = Math.floor(now)
  return { validAfter: Math.floor((second - 59) / MINUTE) * MINUTE, validBefore: second + lifetime }
}

test('after the start, due, overdue, end; a wait ends after now and before the end', () => {
  fc.assert(
    fc.property(
      fc.record({
        policy,
        jitter: unit,
        ttl,
        age: fc.option(fc.double({ min: 0, max: 0.99, noNaN: true })),
        at: unit,
      }),
      ({ policy: rules, jitter, ttl: lifetime, age, at }) => {
        const cert = issueAt(NOW, lifetime)
        const issued = age === null ? null : NOW + age * lifetime
        const times = renewalTimes(cert, rules, jitter, issued)
        expect(times.dueAt).toBeGreaterThan(cert.validAfter)
        expect(times.overdueAt).toBeGreaterThan(times.dueAt)
        expect(times.overdueAt).toBeLessThan(cert.validBefore)
        const now = NOW + at * lifetime
        const decision = decideRenewal(times, now)
        const until = decision.kind === 'wait' ? (decision.until ?? Infinity) : null
        expect(until === null ? now >= times.dueAt : until > now && until < cert.validBefore).toBe(true)
      },
    ),
  )
})

test('while the issuer is well: no storm, no gap, never overdue', () => {
  fc.assert(
    fc.property(
      fc.record({ policy, ttl, jitters: fc.array(unit, { minLength: 60, maxLength: 60 }), latency: unit }),
      ({ policy: rules, ttl: lifetime, jitters, latency }) => {
        let now = NOW + latency
        for (const jitter of jitters) {
          const cert = issueAt(now, lifetime)
          const issued = now
          const times = renewalTimes(cert, rules, jitter, issued)
          // Looked at again at once, and a moment before it is due: nothing to do.
          expect(decideRenewal(times, issued).kind).toBe('wait')
          expect(decideRenewal(times, times.dueAt - 0.001).kind).toBe('wait')
          expect(times.dueAt - issued).toBeGreaterThanOrEqual((cert.validBefore - issued) / 2 - 1e-3)
          // The loop wakes at the due time.
          now = times.dueAt
          expect(decideRenewal(times, now)).toEqual({ kind: 'due', reason: 'window-open' })
          expect(now).toBeLessThan(cert.validBefore)
        }
      },
    ),
    { numRuns: 300 },
  )
})

test.each([
  { lifetime: 20 },
  { lifetime: 90 },
  { lifetime: HOUR },
  { lifetime: 30 * DAY },
  { lifetime: YEAR },
])('a lifetime of $lifetime s, default policy: about as many renewals as windows', ({ lifetime }) => {
  let now = NOW
  let renewals = 0
  const end = NOW + 100 * lifetime
  while (now < end && renewals < 1000) {
    now = renewalTimes(
      issueAt(now, lifetime),
      share(0.33, 0.5),
      jitterOf('SHA256:x', BigInt(renewals)),
      now,
    ).dueAt
    renewals += 1
  }
  expect(renewals).toBeGreaterThan(100)
  expect(renewals).toBeLessThanOrEqual(200)
})

describe('jitterOf', () => {
  test('is the same for the same key and certificate, and another for another', () => {
    expect(jitterOf('SHA256:abc', 5n)).toBe(jitterOf('SHA256:abc', 5n))
    expect(jitterOf('SHA256:abc', 5n)).not.toBe(jitterOf('SHA256:abc', 6n))
    expect(jitterOf('SHA256:abc', 5n)).not.toBe(jitterOf('SHA256:abd', 5n))
    // A fleet that is upgraded must not shift; this is what the first version gave.
    expect(jitterOf('SHA256:abc', 2n ** 64n - 1n)).toBeCloseTo(0.9803158613954966, 12)
  })

  test.each([
    { name: 'a fleet, one serial', of: (i: number) => jitterOf(`SHA256:${i}`, 1n) },
    { name: 'one host, many serials', of: (i: number) => jitterOf('SHA256:x', BigInt(i)) },
  ])('10,000 of $name are spread evenly over [0, 1)', ({ of }) => {
    const values = Array.from({ length: 10_000 }, (_, i) => of(i))
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    expect(mean).toBeCloseTo(0.5, 1)
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...values)).toBeLessThan(1)
    const buckets = Array.from({ length: 20 }, () => 0)
    for (const value of values) buckets[Math.floor(value * 20)]! += 1
    // 500 each; 22 is one standard deviation.
    expect(Math.min(...buckets)).toBeGreaterThan(400)
    expect(Math.max(...buckets)).toBeLessThan(600)
  })
})
