import { describe, expect, test } from 'vitest'
import type { ErrorCode, Failure } from '../../agent/cert/errors.ts'
import { AgentError } from '../../agent/cert/errors.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import { repairWaitOf } from '../../agent/renewal/backoff.ts'
import type { AttemptRecords } from '../../agent/renewal/ports.ts'
import { EMPTY_RECORD, type AttemptRecord, type Evidence } from '../../agent/renewal/record.ts'
import { DAY, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { ManualClock } from '../fakes/manual-clock.ts'

const A = { name: 'a', fingerprint: 'SHA256:a' }
const B = { name: 'b', fingerprint: 'SHA256:b' }

/** A record on a disk that can be broken, and what works on it. */
function start(given: Partial<AttemptRecord> = {}) {
  const clock = new ManualClock(START)
  const disk = {
    record: { ...EMPTY_RECORD, ...given } as AttemptRecord | null,
    saves: 0,
    fault: null as Error | null,
  }
  const records: AttemptRecords = {
    load: async () => disk.record,
    save: async (record) => {
      if (disk.fault !== null) throw disk.fault
      disk.record = record
      disk.saves += 1
    },
  }
  return { clock, disk, attempts: new Attempts(records, clock) }
}

function failed(code: ErrorCode): Failure {
  return { code, message: `made to fail: ${code}` }
}

const errorsOf = (attempts: Attempts) =>
  [attempts.of(A), attempts.of(B)].map(({ lastError }) => lastError?.code)

describe('what is on disk', () => {
  const changed: AttemptRecord = { ...EMPTY_RECORD, issuerCas: ['by another process'] }

  test('is taken at the start of each pass: another process may have tried since', async () => {
    const { attempts, disk } = start(changed)
    await attempts.load()
    expect(attempts.record).toEqual(changed)
    disk.record = EMPTY_RECORD
    await attempts.load()
    expect(attempts.record).toEqual(EMPTY_RECORD)
  })

  test('is not taken where it cannot be used: what is in memory holds, and is put there', async () => {
    const { attempts, disk } = start()
    await attempts.load()
    attempts.begin(A, null)
    await attempts.save()
    disk.record = null
    await attempts.load()
    expect(attempts.of(A).wait).not.toBeNull()
    expect(await attempts.save()).toBeNull()
    expect(disk.record).toEqual(attempts.record)
  })

  test('is not taken where our own word could not be put there, until it can', async () => {
    const { attempts, disk } = start()
    await attempts.load()
    attempts.begin(A, null)
    disk.fault = new AgentError('STORE_FAILED', 'no space left on device')
    expect(await attempts.save()).toEqual({ code: 'STORE_FAILED', message: 'no space left on device' })
    await attempts.load()
    expect(attempts.of(A).wait).not.toBeNull()
    disk.fault = null
    expect(await attempts.save()).toBeNull()
    expect(disk.record?.hostKeys['a']?.wait).not.toBeNull()
    disk.record = changed
    await attempts.load()
    expect(attempts.record).toEqual(changed)
  })

  test('is written when it changed only, and again when it changed back', async () => {
    const { attempts, disk } = start()
    await attempts.load()
    await attempts.save()
    expect(disk.saves).toBe(0)
    attempts.sshd.oweReload()
    await attempts.save()
    await attempts.save()
    expect(disk.saves).toBe(1)
    attempts.sshd.nothingOwed()
    await attempts.save()
    expect(disk.saves).toBe(2)
  })

  test('a mistake of ours is no full disk', async () => {
    const { attempts, disk } = start()
    disk.fault = new TypeError('x is not a function')
    await expect(attempts.save()).rejects.toThrow('x is not a function')
  })
})

describe('an attempt that starts', () => {
  test('counts as failed until its result is known: a crash must not repeat it at once', () => {
    const { attempts } = start()
    attempts.begin(A, null)
    expect(attempts.of(A)).toMatchObject({
      lastAttempt: START,
      failures: 0,
      wait: { code: 'ISSUER_UNREACHABLE', failures: 1, until: START + 5 },
    })
    expect(attempts.of(B).wait).toBeNull()
  })

  test.each([
    { name: 'after a crash', crashes: 1, failures: 0, want: 15 },
    { name: 'after two', crashes: 2, failures: 0, want: 60 },
    { name: 'after failures that are known', crashes: 0, failures: 2, want: 60 },
    { name: 'after a failure and two crashes', crashes: 2, failures: 1, want: 180 },
    { name: 'after many, with nothing valid: five minutes', crashes: 9, failures: 9, want: 300 },
  ])('waits longer $name', ({ crashes, failures, want }) => {
    const { attempts } = start()
    for (let failure = 0; failure < failures; failure++) attempts.keyFailed(A, failed('STORE_FAILED'), null)
    for (let crash = 0; crash < crashes; crash++) attempts.begin(A, null)
    attempts.begin(A, null)
    expect(attempts.of(A).wait?.until).toBe(START + want)
  })
})

describe('a failure of the issuer', () => {
  const down = failureOf('ISSUER_UNREACHABLE', 'issuer-backoff')

  test('is each key’s that wanted a certificate, and one wait for all', () => {
    const { attempts } = start()
    const wait = attempts.issuerFailed([A, B], down, null)
    expect(wait).toEqual({ code: 'ISSUER_UNREACHABLE', failures: 1, until: START + 3 })
    expect(attempts.record).toMatchObject({ issuer: wait, login: null })
    for (const key of [A, B])
      expect(attempts.of(key)).toMatchObject({
        failures: 1,
        wait: null,
        lastAttempt: START,
        lastError: {
          code: 'ISSUER_UNREACHABLE',
          message: down.message,
          at: START,
          scope: 'issuer',
        },
      })
    expect(attempts.issuerFailed([A], down, null)?.until).toBe(START + 6)
    expect([attempts.of(A).failures, attempts.of(B).failures]).toEqual([2, 1])
  })

  test('of another kind starts its own schedule: an outage does not lengthen the first wait of a login', () => {
    const { attempts } = start()
    for (let failure = 0; failure < 5; failure++) attempts.issuerFailed([A], down, null)
    const wait = attempts.issuerFailed([A], failureOf('ISSUER_UNAUTHORIZED', 'login-backoff'), null)
    expect(wait).toMatchObject({ failures: 1, until: START + 150 })
    expect(attempts.record).toMatchObject({ login: wait })
    attempts.issuerFailed([A], failureOf('ISSUER_UNAUTHORIZED', 'login-backoff'), null)
    expect(attempts.record).toMatchObject({ login: { failures: 2 } })
  })

  test('ends the count of what it shows to be well: an issuer that refused something was reached', () => {
    const { attempts } = start()
    const refused = failureOf('ISSUER_UNAUTHORIZED', 'login-backoff')
    for (let failure = 0; failure < 5; failure++) attempts.issuerFailed([A], down, null)
    attempts.issuerFailed([A], refused, null)
    expect(attempts.record).toMatchObject({ issuer: null, login: { failures: 1 } })
    attempts.issuerFailed([A], down, null)
    expect(attempts.record).toMatchObject({ issuer: { failures: 1 }, login: { failures: 1 } })
    attempts.issuerFailed([A], failureOf('ISSUER_FORBIDDEN', 'administrator'), null)
    expect(attempts.record).toMatchObject({
      issuer: null,
      login: { failures: 1 },
      administrator: { failures: 1 },
    })
  })

  test.each([
    { name: 'the end of what is in place is near', next: 'administrator', left: 400, want: 40 },
    { name: 'nothing is in place', next: 'administrator', left: null, want: 120 },
  ] as const)('is waited for less when $name', ({ next, left, want }) => {
    const { attempts } = start()
    expect(attempts.issuerFailed([A], failureOf('ISSUER_FORBIDDEN', next), left)?.until).toBe(START + want)
  })

  test.each([
    { next: 'issuer-backoff', retryAfter: null, slot: 'issuer', until: 3 },
    { next: 'key-backoff', retryAfter: null, slot: 'issuer', until: 5 },
    { next: 'administrator', retryAfter: null, slot: 'administrator', until: 120 },
    { next: 'login-backoff', retryAfter: null, slot: 'login', until: 150 },
    { next: 'issuer-backoff', retryAfter: 54, slot: 'issuer', until: 54 },
    { next: 'login-backoff', retryAfter: 54, slot: 'login', until: 150 },
    { next: 'login-backoff', retryAfter: 200, slot: 'login', until: 200 },
  ] as const)(
    '$next, Retry-After $retryAfter: the wait is noted as $slot',
    ({ next, retryAfter, slot, until }) => {
      const { attempts } = start()
      const wait = attempts.issuerFailed([A], failureOf('ISSUER_BUSY', next, retryAfter), null)
      expect(wait).toMatchObject({ until: START + until })
      const { issuer, login, administrator } = attempts.record
      expect({ issuer, login, administrator }).toEqual({
        issuer: null,
        login: null,
        administrator: null,
        [slot]: wait,
      })
    },
  )

  test('each kind has its own count: seven bad gateways, then a first refusal of each kind', () => {
    const { attempts } = start()
    const busy = failureOf('ISSUER_BUSY', 'issuer-backoff')
    for (let failure = 0; failure < 7; failure++) attempts.issuerFailed([A], busy, 365 * DAY)
    expect(attempts.keyFailed(A, failed('CERT_CA_MISMATCH'), 365 * DAY).until).toBe(START + 5)
    const forbidden = failureOf('ISSUER_FORBIDDEN', 'administrator')
    expect(attempts.issuerFailed([A], forbidden, 365 * DAY)?.until).toBe(START + 120)
    const refused = failureOf('ISSUER_UNAUTHORIZED', 'login-backoff')
    expect(attempts.issuerFailed([A], refused, 365 * DAY)?.until).toBe(START + 150)
    // All the same it failed so often in a row, and that is what status shows.
    expect(attempts.of(A).failures).toBe(10)
  })

  test('a server that asks for a second again and again is waited for longer all the same', () => {
    const { attempts } = start()
    const busy = failureOf('ISSUER_BUSY', 'issuer-backoff', 1)
    const waits = Array.from(
      { length: 7 },
      () => (attempts.issuerFailed([A], busy, 365 * DAY)?.until ?? 0) - START,
    )
    expect(waits).toEqual([3, 6, 12, 25, 60, 120, 300])
  })

  test('ends the wait of the attempt under way, and not that of a key that was not tried', () => {
    const { attempts } = start()
    attempts.keyFailed(B, failed('CERT_CA_MISMATCH'), null)
    const { wait } = attempts.of(B)
    attempts.begin(A, null)
    attempts.issuerFailed([A, B], down, null)
    expect([attempts.of(A).wait, attempts.of(B).wait]).toEqual([null, wait])
  })

  test('a locked identity is waited out once, and never longer after the next refusal', () => {
    const { attempts } = start()
    const locked = failureOf('LOGIN_LOCKED', 'login-backoff')
    for (let failure = 0; failure < 5; failure++)
      expect(attempts.issuerFailed([A], locked, 100)?.until).toBe(START + 303)
  })

  test('a failure on this host is no wait for the issuer, and leaves those that there are', () => {
    const { attempts } = start()
    const wait = attempts.issuerFailed([A], failureOf('ISSUER_BUSY', 'issuer-backoff'), null)
    expect(attempts.issuerFailed([A], failureOf('CREDENTIAL_UNREADABLE', 'local'), null)).toBeNull()
    expect(attempts.record).toMatchObject({ issuer: wait, login: null, administrator: null })
    expect(attempts.of(A)).toMatchObject({
      wait: null,
      failures: 2,
      lastError: { code: 'CREDENTIAL_UNREADABLE' },
    })
  })
})

describe('a failure of one key', () => {
  test('is that key’s, and counted in a row', () => {
    const { attempts } = start()
    const first = attempts.keyFailed(A, failed('STORE_FAILED'), null)
    expect(first).toEqual({ code: 'STORE_FAILED', failures: 1, until: START + 5 })
    expect(attempts.of(A)).toMatchObject({ wait: first, failures: 1, lastError: { scope: 'key', at: START } })
    expect(attempts.keyFailed(A, failed('STORE_FAILED'), null)).toMatchObject({
      failures: 2,
      until: START + 15,
    })
    expect(attempts.of(B)).toMatchObject({ failures: 0, wait: null, lastError: null })
  })

  test('is waited for no longer than a tenth of what is left', () => {
    const { attempts } = start()
    for (let failure = 0; failure < 6; failure++) attempts.keyFailed(A, failed('STORE_FAILED'), null)
    expect(attempts.keyFailed(A, failed('STORE_FAILED'), 4000).until).toBe(START + 400)
  })

  test('that did not even reach the issuer makes nothing wait', () => {
    const { attempts } = start()
    attempts.notAsked(A, failed('STORE_FAILED'))
    expect(attempts.of(A)).toMatchObject({ wait: null, failures: 1, lastError: { code: 'STORE_FAILED' } })
    expect(attempts.keyFailed(A, failed('STORE_FAILED'), null).until).toBe(START + 5)
  })
})

/** One wait of each kind, the second of its kind; the login is refused, or locked. */
function waitingForAll(login: ErrorCode) {
  const { attempts, ...rest } = start()
  for (let failure = 0; failure < 2; failure++) {
    attempts.issuerFailed([], failureOf('ISSUER_BUSY', 'issuer-backoff', 54), null)
    attempts.issuerFailed([], failureOf('ISSUER_FORBIDDEN', 'administrator'), null)
    attempts.issuerFailed([], failureOf(login, 'login-backoff'), null)
    attempts.sshd.notInstalled([], failed('SSHD_CONFIG_INVALID'), null)
    attempts.sshd.notServed([], failed('SSHD_NOT_SERVING'), null)
    attempts.keyFailed(A, failed('CERT_CA_MISMATCH'), null)
  }
  return { attempts, ...rest }
}

const NO_WAITS = { issuer: null, login: null, administrator: null, install: null, reload: null }

describe('SIGHUP', () => {
  test('ends every wait, and what fails again begins with the first wait', () => {
    const { attempts } = waitingForAll('ISSUER_UNAUTHORIZED')
    attempts.endWaits()
    expect(attempts.record).toMatchObject(NO_WAITS)
    expect(attempts.of(A)).toMatchObject({ wait: null, failures: 2 })
    expect(attempts.keyFailed(A, failed('CERT_CA_MISMATCH'), null).until).toBe(START + 5)
  })

  test('lets a host key that something keeps breaking be repaired again', () => {
    const { attempts } = start()
    for (let nth = 1n; nth <= 10n; nth += 1n) attempts.swapped(A, nth, true)
    expect(repairWaitOf(attempts, A)).toBe(START + 600)
    attempts.endWaits()
    expect(repairWaitOf(attempts, A)).toBeNull()
  })

  test('but not that for a locked identity', () => {
    const { attempts } = waitingForAll('LOGIN_LOCKED')
    const { login } = attempts.record
    attempts.endWaits()
    expect(attempts.record).toMatchObject({ ...NO_WAITS, login })
    expect(login).toMatchObject({ code: 'LOGIN_LOCKED' })
  })
})

describe('a start', () => {
  test('after a stop on purpose ends the waits as SIGHUP does', () => {
    const { attempts } = waitingForAll('LOGIN_LOCKED')
    const { login } = attempts.record
    attempts.stopped()
    attempts.started()
    expect(attempts.record).toMatchObject({ ...NO_WAITS, login, stoppedAt: null, restartedAt: START })
    expect(attempts.of(A).wait).toBeNull()
  })

  test('after a crash ends none', () => {
    const { attempts } = waitingForAll('ISSUER_UNAUTHORIZED')
    const before = attempts.record
    attempts.started()
    expect(attempts.record).toEqual(before)
  })

  test('ends none when the last one that did is less than five minutes ago, by whatever clock', () => {
    const { attempts, clock } = waitingForAll('ISSUER_UNAUTHORIZED')
    const restart = () => {
      attempts.stopped()
      attempts.started()
      attempts.keyFailed(A, failed('CERT_CA_MISMATCH'), null)
      return attempts.of(A).wait?.failures
    }
    expect(restart()).toBe(1)
    clock.jump(START + 299)
    expect(restart()).toBe(2)
    expect(attempts.record.stoppedAt).toBeNull()
    clock.jump(START + 300)
    expect(restart()).toBe(1)
    clock.jump(START - 3600)
    expect(restart()).toBe(1)
  })
})

describe('the issuer answers', () => {
  test('no wait of its own holds any more, and what it failed for is over, for every key', () => {
    const { attempts } = start()
    attempts.issuerFailed([A, B], failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'), null)
    attempts.issuerFailed([A, B], failureOf('ISSUER_UNAUTHORIZED', 'login-backoff'), null)
    attempts.issuerAnswered()
    expect(attempts.record).toMatchObject({ issuer: null, login: null })
    for (const key of [A, B]) expect(attempts.of(key)).toMatchObject({ failures: 0, lastError: null })
  })

  test('what was wrong with an answer for one key, or with sshd, is not over with that', () => {
    const { attempts } = start()
    attempts.keyFailed(A, failed('CERT_NO_PRINCIPALS'), null)
    attempts.sshd.notServed([B], failed('SSHD_NOT_SERVING'), null)
    attempts.issuerAnswered()
    expect(errorsOf(attempts)).toEqual(['CERT_NO_PRINCIPALS', 'SSHD_NOT_SERVING'])
    expect(attempts.of(A)).toMatchObject({ failures: 1, wait: { failures: 1 } })
  })
})

const NONE: Evidence = { kind: 'none', at: START }
const SERVES: Evidence = { kind: 'certificate', at: START, digest: '00', serial: '1', validBefore: '2' }
const NOT_OFFERED: Evidence = {
  kind: 'not-offered',
  at: START,
  why: 'sshd does not offer it',
  pairVersion: 'v1',
  isSettled: false,
}
const OTHER_KEY: Evidence = { ...NOT_OFFERED, kind: 'other-key' }

describe('a new certificate in place', () => {
  test('ends what went wrong before', () => {
    const { attempts, clock } = start()
    attempts.keyFailed(A, failed('STORE_FAILED'), null)
    clock.jump(START + 60)
    attempts.swapped(A, 7n, false)
    expect(attempts.of(A)).toMatchObject({
      wait: null,
      failures: 0,
      lastError: null,
      lastSuccess: START + 60,
      issued: { serial: '7', at: START + 60 },
      repairs: [],
    })
  })

  test.each([
    { name: 'the certificate before', evidence: SERVES, stays: false },
    { name: 'no certificate', evidence: NONE, stays: false },
    { name: 'that it does not offer the key', evidence: NOT_OFFERED, stays: true },
    { name: 'that it offers another key', evidence: OTHER_KEY, stays: true },
  ])('what sshd presented before ($name) is evidence still: $stays', ({ evidence, stays }) => {
    const { attempts } = start()
    attempts.sshd.found(A, { evidence })
    attempts.swapped(A, 7n, false)
    expect(attempts.of(A).evidence).toEqual(stays ? evidence : null)
  })

  test('a repair is counted, a renewal is not; those of ten minutes ago no more', () => {
    const { attempts, clock } = start()
    attempts.swapped(A, 1n, true)
    clock.jump(START + 300)
    attempts.dropped(A)
    attempts.swapped(A, 2n, false)
    expect(attempts.of(A).repairs).toEqual([START, START + 300])
    clock.jump(START + 600)
    attempts.swapped(A, 3n, true)
    expect(attempts.of(A).repairs).toEqual([START + 300, START + 600])
  })
})

test('an answer for a key that is no more: the next attempt need not wait, and counts as a repair', () => {
  const { attempts } = start()
  attempts.begin(A, null)
  attempts.dropped(A)
  expect(attempts.of(A)).toMatchObject({ wait: null, repairs: [START], failures: 0 })
})

describe('a key that wants nothing any more', () => {
  test('has neither error nor wait left', () => {
    const { attempts } = start()
    attempts.keyFailed(A, failed('STORE_FAILED'), null)
    attempts.noLongerDue(A)
    expect(attempts.of(A)).toMatchObject({ lastError: null, failures: 0, wait: null })
  })

  test('nor one whose first attempt crashed', () => {
    const { attempts } = start()
    attempts.begin(A, null)
    attempts.noLongerDue(A)
    expect(attempts.of(A).wait).toBeNull()
  })

  test('that sshd does not serve it is another matter', () => {
    const { attempts } = start()
    attempts.keyFailed(A, failed('STORE_FAILED'), null)
    attempts.sshd.notServed([A], failed('SSHD_NOT_SERVING'), null)
    attempts.noLongerDue(A)
    expect(attempts.of(A)).toMatchObject({ lastError: { code: 'SSHD_NOT_SERVING' }, failures: 0, wait: null })
  })

  test('and that it is so is nothing to write down', async () => {
    const { attempts, disk } = start()
    await attempts.load()
    attempts.noLongerDue(A)
    attempts.sshd.served(A)
    attempts.sshd.settle(A)
    attempts.sshd.copiesMatch()
    attempts.sshd.allServed()
    attempts.sshd.nothingOwed()
    attempts.endErrorsOfAnotherClock()
    await attempts.save()
    expect(disk.saves).toBe(0)
  })
})

test.each([
  { name: 'a year', back: 365 * DAY, ends: true },
  { name: 'somewhat more than a minute', back: 61, ends: true },
  { name: 'a minute, which clocks may differ', back: 60, ends: false },
  { name: 'nothing', back: 0, ends: false },
])('an error from the future is over, once the clock was set right by $name: $ends', ({ back, ends }) => {
  const { attempts, clock } = start()
  attempts.keyFailed(A, failed('CERT_EXPIRED'), null)
  attempts.begin(B, null)
  clock.jump(START - back)
  attempts.endErrorsOfAnotherClock()
  const ended = { lastError: null, failures: 0, wait: null }
  expect(attempts.of(A)).toMatchObject(ends ? ended : { failures: 1, lastError: { code: 'CERT_EXPIRED' } })
  expect(attempts.of(B).wait).not.toBeNull()
})

describe('with an error from the future', () => {
  test('that was of sshd the waits for the root helper and for a reload end', () => {
    const { attempts, clock } = start()
    attempts.sshd.notInstalled([A], failed('STORE_FAILED'), null)
    attempts.sshd.notServed([A], failed('SSHD_RELOAD_FAILED'), null)
    clock.jump(START - DAY)
    attempts.endErrorsOfAnotherClock()
    expect(attempts.record).toMatchObject({ install: null, reload: null })
  })

  test('that was of one key no other wait ends', () => {
    const { attempts, clock } = start()
    attempts.issuerFailed([B], failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'), null)
    attempts.sshd.notInstalled([B], failed('STORE_FAILED'), null)
    attempts.sshd.notServed([B], failed('SSHD_RELOAD_FAILED'), null)
    const { issuer, install, reload } = attempts.record
    clock.jump(START + DAY)
    attempts.keyFailed(A, failed('CERT_EXPIRED'), null)
    clock.jump(START + 1)
    attempts.endErrorsOfAnotherClock()
    expect(attempts.of(A).lastError).toBeNull()
    expect(attempts.record).toMatchObject({ issuer, install, reload })
  })
})

describe('sshd', () => {
  const sinceOf = (attempts: Attempts) => attempts.record.sshd.since

  test('how it is, and since when it is so', () => {
    const { attempts, clock } = start()
    expect(attempts.record.sshd).toMatchObject({ state: null, since: null, askedAt: null })
    attempts.sshd.answered('down')
    clock.jump(START + 30)
    attempts.sshd.answered('down')
    expect(attempts.record.sshd).toMatchObject({ state: 'down', since: START, askedAt: START + 30 })
    clock.jump(START + 60)
    attempts.sshd.answered('up')
    expect(attempts.record.sshd).toMatchObject({ state: 'up', since: START + 60, askedAt: START + 60 })
  })

  test('under a clock that was set back it is so since now, not since a time to come', () => {
    const { attempts, clock } = start()
    attempts.sshd.answered('down')
    attempts.sshd.found(A, { unknown: 'connection refused' })
    clock.jump(START - 3600)
    attempts.sshd.answered('down')
    attempts.sshd.found(A, { unknown: 'connection refused' })
    expect([sinceOf(attempts), attempts.of(A).unknown?.since]).toEqual([START - 3600, START - 3600])
  })

  test('that gives no answer for a key: since when, and why it did not the last time', () => {
    const { attempts, clock } = start()
    attempts.sshd.found(A, { evidence: SERVES })
    attempts.sshd.found(A, { unknown: 'connection refused' })
    clock.jump(START + 30)
    attempts.sshd.found(A, { unknown: 'no answer within 5 s' })
    expect(attempts.of(A)).toMatchObject({
      evidence: SERVES,
      unknown: { reason: 'no answer within 5 s', since: START },
    })
    attempts.sshd.found(A, { evidence: NONE })
    expect(attempts.of(A)).toMatchObject({ evidence: NONE, unknown: null })
  })

  test.each([
    { evidence: NOT_OFFERED, settles: true },
    { evidence: OTHER_KEY, settles: true },
    { evidence: SERVES, settles: false },
    { evidence: NONE, settles: false },
  ])('that still shows $evidence.kind after a reload is configured so: $settles', ({ evidence, settles }) => {
    const { attempts } = start()
    attempts.sshd.found(A, { evidence })
    attempts.sshd.settle(A)
    expect(attempts.of(A).evidence).toEqual(settles ? { ...evidence, isSettled: true } : evidence)
    attempts.sshd.settle(B)
    expect(attempts.of(B).evidence).toBeNull()
  })

  test('what it was not served for is over when it is served', () => {
    const { attempts } = start()
    attempts.sshd.notServed([A], failed('SSHD_NOT_SERVING'), null)
    attempts.sshd.served(A)
    expect(attempts.of(A).lastError).toBeNull()
  })

  test.each<{ name: string; spoil: (attempts: Attempts) => void }>([
    { name: 'a reload is owed', spoil: (attempts) => attempts.sshd.oweReload() },
    {
      name: 'the helper failed',
      spoil: (attempts) => attempts.sshd.notInstalled([], failed('STORE_FAILED'), null),
    },
  ])('not while $name', ({ spoil }) => {
    const { attempts } = start()
    attempts.sshd.notServed([A], failed('SSHD_RELOAD_FAILED'), null)
    spoil(attempts)
    attempts.sshd.served(A)
    expect(attempts.of(A).lastError).not.toBeNull()
  })

  test('that serves it says nothing of the issuer', () => {
    const { attempts } = start()
    attempts.keyFailed(A, failed('CERT_NO_PRINCIPALS'), null)
    attempts.sshd.served(A)
    expect(attempts.of(A)).toMatchObject({ failures: 1, lastError: { code: 'CERT_NO_PRINCIPALS' } })
  })
})

describe('the root helper', () => {
  test('that cannot copy has a schedule of its own, and keys have its error', () => {
    const { attempts } = start()
    const until = [1, 2, 3].map(
      () => attempts.sshd.notInstalled([A, B], failed('STORE_FAILED'), null).until - START,
    )
    expect(until).toEqual([5, 15, 30])
    expect(attempts.record).toMatchObject({
      install: { code: 'STORE_FAILED' },
      reload: null,
    })
    expect(errorsOf(attempts)).toEqual(['STORE_FAILED', 'STORE_FAILED'])
    expect(attempts.of(A)).toMatchObject({ failures: 0, lastError: { scope: 'sshd', at: START } })
  })

  test('that need not copy any more: its error is over, and no other', () => {
    const { attempts } = start()
    attempts.sshd.notServed([B], failed('SSHD_NOT_SERVING'), null)
    attempts.sshd.notInstalled([A], failed('STORE_FAILED'), null)
    attempts.sshd.copiesMatch()
    expect(attempts.record.install).toBeNull()
    expect(errorsOf(attempts)).toEqual([undefined, 'SSHD_NOT_SERVING'])
  })

  test('what it said last stays: where sshd listens, and what it left out', () => {
    const { attempts, clock } = start()
    attempts.sshd.helperReported(['0.0.0.0:22'], ['left out: x'])
    expect(attempts.record.sshd).toMatchObject({
      listen: ['0.0.0.0:22'],
      notes: ['left out: x'],
      helperAt: START,
    })
    clock.jump(START + 1)
    attempts.sshd.helperReported(['[::]:22'], null)
    expect(attempts.record.sshd).toMatchObject({
      listen: ['[::]:22'],
      notes: ['left out: x'],
      helperAt: START + 1,
    })
    attempts.sshd.helperReported([], [])
    expect(attempts.record.sshd).toMatchObject({ listen: [], notes: [] })
  })
})

describe('a reload', () => {
  test.each([
    { code: 'SSHD_NOT_SERVING', name: 'did not help', want: [60, 120, 300] },
    { code: 'SSHD_RELOAD_FAILED', name: 'failed', want: [5, 15, 30] },
    { code: 'SSHD_CONFIG_INVALID', name: 'was refused', want: [5, 15, 30] },
  ] as const)('that $name is tried again, later and later', ({ code, want }) => {
    const { attempts } = start()
    expect(want.map(() => attempts.sshd.notServed([A], failed(code), 365 * DAY).until - START)).toEqual(want)
    expect(attempts.record).toMatchObject({ install: null, reload: { failures: 3, code } })
  })

  test('that comes too soon is owed and waits, as if nothing had failed', () => {
    const { attempts } = start()
    attempts.sshd.reloadPostponed(40)
    expect(attempts.record).toMatchObject({
      reloadOwed: true,
      reload: { failures: 0, until: START + 40 },
    })
    expect(errorsOf(attempts)).toEqual([undefined, undefined])
    attempts.sshd.notServed([A], failed('SSHD_NOT_SERVING'), null)
    attempts.sshd.reloadPostponed(40)
    expect(attempts.record.reload?.failures).toBe(1)
  })

  test('ends what keys were not served for, and is owed no more; the wait stays until it is seen to help', () => {
    const { attempts } = start()
    attempts.sshd.notServed([A], failed('SSHD_NOT_SERVING'), null)
    attempts.keyFailed(B, failed('STORE_FAILED'), null)
    attempts.sshd.oweReload()
    attempts.sshd.reloaded()
    expect(attempts.record).toMatchObject({ reloadOwed: false, reload: { failures: 1 } })
    expect(errorsOf(attempts)).toEqual([undefined, 'STORE_FAILED'])
    attempts.sshd.allServed()
    expect(attempts.record.reload).toBeNull()
  })

  test('and does not end that keys could not be issued for: failures in a row stay counted', () => {
    const { attempts } = start()
    attempts.keyFailed(A, failed('STORE_FAILED'), null)
    attempts.sshd.notServed([A], failed('SSHD_NOT_SERVING'), null)
    attempts.sshd.reloaded()
    expect(attempts.of(A)).toMatchObject({ failures: 1, lastError: null, wait: { failures: 1 } })
  })

  test('that is owed keeps its wait, though all is served as far as sshd shows', () => {
    const { attempts } = start()
    attempts.sshd.notServed([A], failed('SSHD_RELOAD_FAILED'), null)
    attempts.sshd.oweReload()
    attempts.sshd.allServed()
    expect(attempts.record.reload).not.toBeNull()
    attempts.sshd.nothingOwed()
    attempts.sshd.allServed()
    expect(attempts.record).toMatchObject({ reloadOwed: false, reload: null })
  })
})

describe('host keys that are gone', () => {
  test('are forgotten an hour after the last attempt or repair, not at once; those that are there are not', () => {
    const { attempts, clock } = start()
    attempts.begin(A, null)
    attempts.dropped(B)
    attempts.keepOnly([])
    expect(Object.keys(attempts.record.hostKeys)).toEqual(['a', 'b'])
    clock.jump(START + 3600)
    attempts.begin(B, null)
    attempts.keepOnly(['c'])
    expect(Object.keys(attempts.record.hostKeys)).toEqual(['b'])
    clock.jump(START + 2 * 3600)
    attempts.keepOnly(['b'])
    expect(Object.keys(attempts.record.hostKeys)).toEqual(['b'])
    attempts.keepOnly([])
    expect(Object.keys(attempts.record.hostKeys)).toEqual([])
  })

  test('nor are those that sshd was seen to serve within the hour', () => {
    const { attempts, clock } = start()
    attempts.sshd.found(A, { evidence: { ...SERVES, at: START } })
    clock.jump(START + 3599)
    attempts.keepOnly([])
    expect(Object.keys(attempts.record.hostKeys)).toEqual(['a'])
    clock.jump(START + 3600)
    attempts.keepOnly([])
    expect(Object.keys(attempts.record.hostKeys)).toEqual([])
  })

  test('a key of that name that is another owes nothing to the former, but for its repairs', () => {
    const { attempts } = start()
    attempts.keyFailed(A, failed('STORE_FAILED'), null)
    attempts.sshd.found(A, { evidence: SERVES })
    attempts.dropped(A)
    const other = { name: 'a', fingerprint: 'SHA256:c' }
    expect(attempts.of(other)).toEqual({
      fingerprint: 'SHA256:c',
      wait: null,
      refusals: 0,
      lastAttempt: null,
      lastSuccess: null,
      failures: 0,
      lastError: null,
      issued: null,
      repairs: [START],
      refused: null,
      evidence: null,
      unknown: null,
    })
  })
})

test('CAs that the issuer named before stay known, the last four, each once', () => {
  const { attempts } = start()
  expect(attempts.record).toMatchObject({ issuerCas: null, formerCas: [] })
  attempts.learnCas(['one'])
  expect(attempts.record).toMatchObject({ issuerCas: ['one'], formerCas: [] })
  attempts.learnCas(['one', 'two'])
  expect(attempts.record).toMatchObject({ issuerCas: ['one', 'two'], formerCas: [] })
  attempts.learnCas(['three'])
  expect(attempts.record.formerCas).toEqual(['one', 'two'])
  attempts.learnCas(['one'])
  expect(attempts.record).toMatchObject({ issuerCas: ['one'], formerCas: ['three', 'two'] })
  for (const ca of ['four', 'five', 'six', 'five']) attempts.learnCas([ca])
  expect(attempts.record).toMatchObject({ issuerCas: ['five'], formerCas: ['six', 'four', 'one', 'three'] })
})
