import { AgentError, type Failure } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import {
  backoffSeconds,
  lockSeconds,
  type NextStep,
  retryAfterSeconds,
  type Wait,
  recentRepairs,
} from './backoff.ts'
import type { AttemptRecords, Clock, IssuerFailure, SshdAnswer } from './ports.ts'
import { withCas, withOnly, withoutErrors, withoutWaits } from './record-changes.ts'
import {
  EMPTY_RECORD,
  recordOf,
  type AttemptRecord,
  type ErrorScope,
  type Evidence,
  type HostKeyRecord,
  type KeyIdentity,
  type SshdRecord,
} from './record.ts'

/** The record of a host key that is gone is kept this long. */
const FORGET_SECONDS = 3600
/** A restart ends the waits so often at most, whatever restarts the program again and again. */
const RESTART_COUNTS_AGAIN_SECONDS = 300
/** What was noted further in the future than this was noted under another clock. */
const CLOCK_TOLERANCE_SECONDS = 60

/** What a question showed of one host key: evidence, or why there is none. */
export type Finding = { readonly evidence: Evidence } | { readonly unknown: string }

/** The attempt record while a pass works on it: every change makes a new record, which the pass saves. */
export class Attempts {
  readonly #records: AttemptRecords
  readonly #clock: Clock
  #record: AttemptRecord = EMPTY_RECORD
  /** What is on disk, as far as is known; null when it differs from {@link record}. */
  #onDisk: string | null = null
  #isUnsaved = false
  /** The host key of the attempt under way. */
  #begun: string | null = null
  /** The last failure of this host's own that was logged. */
  #logged: string | null = null

  constructor(records: AttemptRecords, clock: Clock) {
    this.#records = records
    this.#clock = clock
  }

  /**
   * Take what is on disk, for another process may have tried since. What is in memory holds where it could not be put
   * there, and where that on disk cannot be used.
   */
  async load(): Promise<void> {
    if (this.#isUnsaved) return
    const record = await this.#records.load()
    this.#onDisk = record === null ? null : JSON.stringify(record)
    if (record !== null) this.#record = record
  }

  /**
   * Put it on disk, if it changed. Where that fails it holds in memory, so that no wait is forgotten, and is tried again.
   *
   * @returns why it could not be saved; null when it is
   */
  async save(): Promise<Failure | null> {
    const text = JSON.stringify(this.#record)
    if (text === this.#onDisk) return null
    try {
      await this.#records.save(this.#record)
      this.#onDisk = text
      this.#isUnsaved = false
      return null
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      this.#isUnsaved = true
      return { code: error.code, message: error.message }
    }
  }

  get record(): AttemptRecord {
    return this.#record
  }

  /** By the wall clock, read anew. */
  get now(): UnixSeconds {
    return this.#clock.now()
  }

  /** Put back what {@link record} was before an attempt that was cut short by us. */
  restore(record: AttemptRecord): void {
    this.#record = record
  }

  of(key: KeyIdentity): HostKeyRecord {
    return recordOf(this.#record, key)
  }

  /**
   * An attempt is about to start. Until its result is known it counts as failed: a crash must not repeat it at once.
   *
   * @param validitySecondsLeft of the certificate in place; null when there is none
   */
  begin(key: KeyIdentity, validitySecondsLeft: number | null): void {
    const before = this.of(key)
    // A wait that is still on record was left by a crash: each crash in a row waits longer than the one before.
    const failures = Math.max(before.refusals, before.wait?.failures ?? 0) + 1
    const until = this.now + backoffSeconds('key-backoff', failures, validitySecondsLeft, this.#clock.dice())
    this.#begun = key.name
    this.#update(key, { lastAttempt: this.now, wait: { code: 'ISSUER_UNREACHABLE', failures, until } })
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
    const failures = (this.#record[slot]?.failures ?? 0) + 1
    const dice = this.#clock.dice()
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
    this.#record = { ...this.#record, [slot]: wait }
    return wait
  }

  /** A response for this key was unusable, or its certificate could not be put in place. */
  keyFailed(key: KeyIdentity, failure: Failure, validitySecondsLeft: number | null): Wait {
    const refusals = this.of(key).refusals + 1
    const seconds = backoffSeconds('key-backoff', refusals, validitySecondsLeft, this.#clock.dice())
    const wait: Wait = { code: failure.code, failures: refusals, until: this.now + seconds }
    this.#failed(key, failure, { wait, refusals }, 'key')
    return wait
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
    this.#record = withoutErrors(
      { ...this.#record, issuer: null, login: null, administrator: null },
      'issuer',
    )
  }

  /** A new certificate is in place; what sshd presented before is no evidence for it, only that it offers no such key. */
  swapped(key: KeyIdentity, serial: bigint, isRepair: boolean): void {
    const { now } = this
    const { evidence } = this.of(key)
    const isOfKey = evidence?.kind === 'not-offered' || evidence?.kind === 'other-key'
    const repairs = recentRepairs(this, key)
    this.#update(key, {
      wait: null,
      refusals: 0,
      failures: 0,
      lastError: null,
      lastSuccess: now,
      issued: { serial: String(serial), at: now },
      repairs: isRepair ? [...repairs, now] : repairs,
      evidence: isOfKey ? evidence : null,
    })
  }

  /** The answer was for a key that is no more: no failure, but an issuance all the same. */
  dropped(key: KeyIdentity): void {
    this.#update(key, { wait: null, repairs: [...recentRepairs(this, key), this.now] })
  }

  /** This key wants nothing any more, so what went wrong before has ended. */
  noLongerDue(key: KeyIdentity): void {
    const { lastError, failures, refusals, wait } = this.of(key)
    const kept = lastError?.scope === 'sshd' ? lastError : null
    if (lastError !== kept || failures > 0 || refusals > 0 || wait !== null)
      this.#update(key, { lastError: kept, failures: 0, refusals: 0, wait: null })
  }

  /**
   * Errors of the future were noted under another clock, which was corrected since; so were the waits that came with
   * them. That of a login stays: a locked identity is not opened by a clock.
   */
  endErrorsOfAnotherClock(): void {
    const latest = this.now + CLOCK_TOLERANCE_SECONDS
    for (const [name, { fingerprint, lastError }] of Object.entries(this.#record.hostKeys)) {
      if (lastError === null || lastError.at <= latest) continue
      this.#update({ name, fingerprint }, { lastError: null, failures: 0, refusals: 0, wait: null })
      if (lastError.scope === 'issuer') this.#record = { ...this.#record, issuer: null, administrator: null }
      if (lastError.scope === 'sshd') this.#record = { ...this.#record, install: null, reload: null }
    }
  }

  /** sshd was asked. */
  sshdAnswered(state: SshdAnswer['state']): void {
    const { sshd } = this.#record
    const since =
      sshd.state === state && sshd.since !== null && sshd.since <= this.now ? sshd.since : this.now
    this.#updateSshd({ state, since, askedAt: this.now })
  }

  /** What asking sshd showed of this key. What could not be found out leaves the evidence that there is. */
  found(key: KeyIdentity, finding: Finding): void {
    const { unknown } = this.of(key)
    if ('evidence' in finding) {
      this.#update(key, { evidence: finding.evidence, unknown: null })
    } else {
      const since = unknown !== null && unknown.since <= this.now ? unknown.since : this.now
      this.#update(key, { unknown: { reason: finding.unknown, since } })
    }
  }

  /** A reload did not make sshd offer this key, or there is no way to reload: that is how sshd is configured. */
  settle(key: KeyIdentity): void {
    const { evidence } = this.of(key)
    if (evidence?.kind === 'not-offered' || evidence?.kind === 'other-key')
      this.#update(key, { evidence: { ...evidence, isSettled: true } })
  }

  /** sshd serves this key's certificate. */
  served(key: KeyIdentity): void {
    const { lastError } = this.of(key)
    if (lastError?.scope === 'sshd' && !this.#record.reloadOwed && this.#record.install === null)
      this.#update(key, { lastError: null })
  }

  /** The root helper could not copy what these keys have in place. */
  notInstalled(keys: readonly KeyIdentity[], failure: Failure, validitySecondsLeft: number | null): Wait {
    return this.#sshdFailed('install', 'sshd-trouble', keys, failure, validitySecondsLeft)
  }

  /** Every copy is what it should be. */
  copiesMatch(): void {
    const { install } = this.#record
    if (install === null) return
    this.#record = withoutErrors({ ...this.#record, install: null }, 'sshd', (code) => code === install.code)
  }

  /** The root helper reported where sshd listens, and what it left out. */
  helperSaid(listen: readonly string[], notes: readonly string[] | null): void {
    const { sshd } = this.#record
    this.#updateSshd({ listen, notes: notes ?? sshd.notes, helperAt: this.now })
  }

  /** What sshd serves is not what it should, or it could not be reloaded. Wants no new certificate. */
  notServed(keys: readonly KeyIdentity[], failure: Failure, validitySecondsLeft: number | null): Wait {
    const cause = failure.code === 'SSHD_NOT_SERVING' ? 'reload' : 'sshd-trouble'
    return this.#sshdFailed('reload', cause, keys, failure, validitySecondsLeft)
  }

  /** The helper reloads no more often than its limit: a wait, no failure, and the reload is still owed. */
  reloadPostponed(seconds: number): void {
    const failures = this.#record.reload?.failures ?? 0
    const wait: Wait = { code: 'SSHD_RELOAD_FAILED', failures, until: this.now + seconds }
    this.#record = { ...this.#record, reload: wait, reloadOwed: true }
  }

  /** sshd serves everything, as far as it shows. */
  allServed(): void {
    if (!this.#record.reloadOwed && this.#record.reload !== null)
      this.#record = { ...this.#record, reload: null }
  }

  /** Everything was seen to be served: whether sshd was reloaded for it does not matter any more. */
  nothingOwed(): void {
    if (this.#record.reloadOwed) this.#record = { ...this.#record, reloadOwed: false }
  }

  /** sshd has to be reloaded, and what it presents will not show whether it was. */
  oweReload(): void {
    this.#record = { ...this.#record, reloadOwed: true }
  }

  /** sshd was reloaded. What it still does not serve will be noted anew. */
  reloaded(): void {
    this.#record = withoutErrors({ ...this.#record, reloadOwed: false }, 'sshd')
  }

  /** CA keys as the issuer gave them; empty when it has no route for that. Those before stay good for what is in place. */
  learnCas(lines: readonly string[]): void {
    this.#record = withCas(this.#record, lines)
  }

  /** The cause was corrected: everything is tried again, except for a locked identity. */
  endWaits(): void {
    this.#record = withoutWaits(this.#record)
  }

  /** The daemon ends because somebody asked it to. */
  stopped(): void {
    this.#record = { ...this.#record, stoppedAt: this.now }
  }

  /** The daemon starts. After a stop on purpose that counts as {@link endWaits}, once in a while; after a crash never. */
  started(): void {
    const { now } = this
    const { stoppedAt, restartedAt } = this.#record
    const wasLately =
      restartedAt !== null && restartedAt <= now && now < restartedAt + RESTART_COUNTS_AGAIN_SECONDS
    if (stoppedAt === null) return
    this.#record = { ...this.#record, stoppedAt: null }
    if (wasLately) return
    this.#record = { ...withoutWaits(this.#record), restartedAt: now }
  }

  /** Forget host keys that were removed. Not at once: one that is deleted and recreated again and again is a storm too. */
  keepOnly(names: readonly string[]): void {
    this.#record = withOnly(this.#record, names, this.now - FORGET_SECONDS)
  }

  #sshdFailed(
    what: 'install' | 'reload',
    cause: 'reload' | 'sshd-trouble',
    keys: readonly KeyIdentity[],
    failure: Failure,
    validitySecondsLeft: number | null,
  ): Wait {
    const at = this.now
    const failures = (this.#record[what]?.failures ?? 0) + 1
    const until = at + backoffSeconds(cause, failures, validitySecondsLeft, this.#clock.dice())
    const wait: Wait = { code: failure.code, failures, until }
    this.#record = { ...this.#record, [what]: wait }
    for (const key of keys) this.#update(key, { lastError: errorAt(failure, at, 'sshd') })
    return wait
  }

  #failed(
    key: KeyIdentity,
    failure: Failure,
    change: Pick<Partial<HostKeyRecord>, 'wait' | 'refusals'>,
    scope: ErrorScope,
  ): void {
    const at = this.now
    const failures = this.of(key).failures + 1
    this.#update(key, { ...change, failures, lastAttempt: at, lastError: errorAt(failure, at, scope) })
  }

  #update(key: KeyIdentity, change: Partial<HostKeyRecord>): void {
    const next = { ...this.of(key), ...change }
    this.#record = { ...this.#record, hostKeys: { ...this.#record.hostKeys, [key.name]: next } }
  }

  #updateSshd(change: Partial<SshdRecord>): void {
    this.#record = { ...this.#record, sshd: { ...this.#record.sshd, ...change } }
  }
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

/** A failure is more than these two at times; no more of it is kept. */
function errorAt(
  { code, message }: Failure,
  at: UnixSeconds,
  scope: ErrorScope,
): NonNullable<HostKeyRecord['lastError']> {
  return { code, message, at, scope }
}
