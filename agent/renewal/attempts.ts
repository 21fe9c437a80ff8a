import type { Failure } from '../cert/errors.ts'
import {
  askAgainSeconds,
  backoffSeconds,
  lockSeconds,
  type NextStep,
  recentRepairs,
  retryAfterSeconds,
  type Wait,
} from './backoff.ts'
import type { IssuerFailure } from './ports.ts'
import type { AttemptRecord, ErrorScope, HostKeyRecord, KeyIdentity } from './record.ts'
import { SshdAttempts } from './sshd-attempts.ts'
import { errorAt, withCas, withOnly, withoutErrors, withoutWaits, WorkingRecord } from './working-record.ts'

/** The record of a host key that is gone is kept this long. */
const FORGET_SECONDS = 3600
/** A restart ends the waits so often at most, whatever restarts the program again and again. */
const RESTART_COUNTS_AGAIN_SECONDS = 300
/** What was noted further in the future than this was noted under another clock. */
const CLOCK_TOLERANCE_SECONDS = 60

/** What comes of attempts at the issuer, as changes of the attempt record. */
export class Attempts extends WorkingRecord {
  /** Its other half. */
  readonly sshd = new SshdAttempts(this)
  /** The host key of the attempt under way. */
  #begun: string | null = null
  /** The last failure of this host's own that was logged. */
  #logged: string | null = null

  /**
   * An attempt is about to start. Until its result is known it counts as failed: a crash must not repeat it at once.
   *
   * @param validitySecondsLeft of the certificate in place; null when there is none
   */
  begin(key: KeyIdentity, validitySecondsLeft: number | null): void {
    const before = this.of(key)
    // A wait that is still on record was left by a crash: each crash in a row waits longer than the one before.
    const failures = Math.max(before.refusals, before.wait?.failures ?? 0) + 1
    const until = this.now + backoffSeconds('key-backoff', failures, validitySecondsLeft, this.clock.dice())
    this.#begun = key.name
    this.update(key, { lastAttempt: this.now, wait: { code: 'ISSUER_UNREACHABLE', failures, until } })
  }

  /**
   * The issuer as a whole failed, or could not be asked.
   *
   * @param keys that wanted a certificate and now lack one
   * @param validitySecondsLeft the least of all certificates in place; null when there is none
   * @returns null when nothing waits: the cause is on this host, and costs the issuer nothing
   */
  issuerFailed(
    keys: readonly KeyIdentity[],
    failure: IssuerFailure,
    validitySecondsLeft: number | null,
  ): Wait | null {
    const wait = this.#waitAfter(failure, validitySecondsLeft)
    // The wait of the attempt under way is over; those of keys that were not tried are their own.
    for (const key of keys)
      this.#failed(key, failure, key.name === this.#begun ? { wait: null } : {}, 'issuer')
    this.#begun = null
    return wait
  }

  /** Each kind of failure has its own count and schedule: an outage does not lengthen the first wait of another kind. */
  #waitAfter(failure: IssuerFailure, validitySecondsLeft: number | null): Wait | null {
    const { code, next, retryAfterSeconds: asked } = failure
    if (next === 'local') return null
    const slot = slotOf(next)
    const failures = (this.record[slot]?.failures ?? 0) + 1
    const dice = this.clock.dice()
    const seconds =
      code === 'LOGIN_LOCKED'
        ? lockSeconds(dice)
        : asked === null
          ? backoffSeconds(next, failures, validitySecondsLeft, dice)
          : Math.max(
              retryAfterSeconds(asked, validitySecondsLeft, dice),
              // A server that asks for a second each time is failing all the same.
              backoffSeconds(next, failures, validitySecondsLeft, dice),
            )
    const wait: Wait = { code, failures, until: this.now + seconds }
    this.change({ ...provenBy(slot), [slot]: wait })
    return wait
  }

  /** A response for this key was unusable, or its certificate could not be put in place. */
  keyFailed(key: KeyIdentity, failure: Failure, validitySecondsLeft: number | null): Wait {
    const refusals = this.of(key).refusals + 1
    const seconds = backoffSeconds('key-backoff', refusals, validitySecondsLeft, this.clock.dice())
    const wait: Wait = { code: failure.code, failures: refusals, until: this.now + seconds }
    this.#failed(key, failure, { wait, refusals }, 'key')
    return wait
  }

  /** The issuer does not sign keys of this type: no failure. It is asked again in about a week. */
  refused(key: KeyIdentity, { message: why }: Failure): void {
    const refused = { why, askAgainAt: this.now + askAgainSeconds(key) }
    this.update(key, {
      refused,
      lastAttempt: this.now,
      lastError: null,
      failures: 0,
      refusals: 0,
      wait: null,
    })
  }

  /** The issuer was not even asked for this key; the next pass tries again. */
  notAsked(key: KeyIdentity, failure: Failure): void {
    this.#failed(key, failure, {}, 'key')
  }

  /** Whether a failure on this host is news: it may repeat in each pass. */
  isNews({ code, message }: Failure): boolean {
    const text = `${code} ${message}`
    const isNews = text !== this.#logged
    this.#logged = text
    return isNews
  }

  /** The issuer answered: nothing that concerned it as a whole holds any more, for no key. */
  issuerAnswered(): void {
    this.#logged = null
    this.replace(withoutErrors({ ...this.record, issuer: null, login: null, administrator: null }, 'issuer'))
  }

  /** A new certificate is in place; what sshd presented before is no evidence for it, only that it offers no such key. */
  swapped(key: KeyIdentity, serial: bigint, isRepair: boolean): void {
    const { now } = this
    const { evidence } = this.of(key)
    const isOfKey = evidence?.kind === 'not-offered' || evidence?.kind === 'other-key'
    const repairs = recentRepairs(this, key)
    this.update(key, {
      wait: null,
      refusals: 0,
      failures: 0,
      lastError: null,
      lastSuccess: now,
      issued: { serial: String(serial), at: now },
      repairs: isRepair ? [...repairs, now] : repairs,
      refused: null,
      evidence: isOfKey ? evidence : null,
    })
  }

  /** The answer was for a key that is no more: no failure, but an issuance all the same. */
  dropped(key: KeyIdentity): void {
    this.update(key, { wait: null, repairs: [...recentRepairs(this, key), this.now] })
  }

  /** This key wants nothing any more, so what went wrong before has ended. */
  noLongerDue(key: KeyIdentity): void {
    const { lastError, failures, refusals, wait } = this.of(key)
    const kept = lastError?.scope === 'sshd' ? lastError : null
    if (lastError !== kept || failures > 0 || refusals > 0 || wait !== null)
      this.update(key, { lastError: kept, failures: 0, refusals: 0, wait: null })
  }

  /**
   * Errors of the future were noted under another clock, which was corrected since; so were the waits that came with
   * them. That of a login stays: a locked identity is not opened by a clock.
   */
  endErrorsOfAnotherClock(): void {
    const latest = this.now + CLOCK_TOLERANCE_SECONDS
    for (const [name, { fingerprint, lastError }] of Object.entries(this.record.hostKeys)) {
      if (lastError === null || lastError.at <= latest) continue
      this.update({ name, fingerprint }, { lastError: null, failures: 0, refusals: 0, wait: null })
      if (lastError.scope === 'issuer') this.change({ issuer: null, administrator: null })
      if (lastError.scope === 'sshd') this.change({ install: null, reload: null })
    }
  }

  /** CA keys as the issuer gave them; empty when it has no route for that. Those before stay good for what is in place. */
  learnCas(lines: readonly string[]): void {
    this.replace(withCas(this.record, lines))
  }

  /** The cause was corrected: everything is tried again, except for a locked identity. */
  endWaits(): void {
    this.replace(withoutWaits(this.record))
  }

  /** The daemon ends because somebody asked it to. */
  stopped(): void {
    this.change({ stoppedAt: this.now })
  }

  /** The daemon starts. After a stop on purpose that counts as {@link endWaits}, once in a while; after a crash never. */
  started(): void {
    const { now } = this
    const { stoppedAt, restartedAt } = this.record
    const wasLately =
      restartedAt !== null && restartedAt <= now && now < restartedAt + RESTART_COUNTS_AGAIN_SECONDS
    if (stoppedAt === null) return
    this.change({ stoppedAt: null })
    if (wasLately) return
    this.replace({ ...withoutWaits(this.record), restartedAt: now })
  }

  /** Forget host keys that were removed. Not at once: one that is deleted and recreated again and again is a storm too. */
  keepOnly(names: readonly string[]): void {
    this.replace(withOnly(this.record, names, this.now - FORGET_SECONDS))
  }

  #failed(
    key: KeyIdentity,
    failure: Failure,
    change: Pick<Partial<HostKeyRecord>, 'wait' | 'refusals'>,
    scope: ErrorScope,
  ): void {
    const at = this.now
    const failures = this.of(key).failures + 1
    this.update(key, { ...change, failures, lastAttempt: at, lastError: errorAt(failure, at, scope) })
  }
}

/**
 * What a failure shows to be well, so that its next failure is a first one: an issuer that refused something was reached.
 */
function provenBy(slot: 'issuer' | 'login' | 'administrator'): Partial<AttemptRecord> {
  return slot === 'issuer' ? {} : { issuer: null }
}

function slotOf(next: Exclude<NextStep, 'local'>): 'issuer' | 'login' | 'administrator' {
  switch (next) {
    case 'login-backoff':
      return 'login'
    case 'administrator':
      return 'administrator'
    case 'issuer-backoff':
    case 'key-backoff':
      return 'issuer'
  }
}
