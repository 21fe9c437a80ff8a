import { AgentError, type Failure } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { backoffSeconds, needsAdministrator, retryAfterSeconds, type Wait } from './backoff.ts'
import type { AttemptRecords, Clock, IssuerFailure, SshdAnswer } from './ports.ts'
import {
  EMPTY_RECORD,
  recordOf,
  withCas,
  withOnly,
  withoutAdministratorWaits,
  withoutErrors,
  type AttemptRecord,
  type ErrorScope,
  type Evidence,
  type HostKeyRecord,
  type KeyIdentity,
  type SshdRecord,
} from './record.ts'
import { recentRepairs } from './waits.ts'

/** The record of a host key that is gone is kept this long. */
const FORGET_SECONDS = 3600
/** What was noted further in the future than this was noted under another clock. */
const CLOCK_TOLERANCE_SECONDS = 60

/** What a question showed of one host key: evidence, or why there is none. */
export type Finding = { readonly evidence: Evidence } | { readonly unknown: string }

/** The attempt record while a pass works on it: every change is a whole new record, saved when the pass says so. */
export class Attempts {
  readonly #records: AttemptRecords
  readonly #clock: Clock
  #record: AttemptRecord = EMPTY_RECORD
  /** What is on disk, as far as we know; null when it is not what {@link record} says. */
  #onDisk: string | null = null
  #isUnsaved = false

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

  /** An attempt is about to start. Until its result is known it counts as failed: a crash must not repeat it at once. */
  begin(key: KeyIdentity): void {
    const before = this.of(key)
    // A wait that is still on record was left by a crash: each crash in a row waits longer than the one before.
    const failures = Math.max(before.failures, before.wait?.failures ?? 0) + 1
    const until = this.now + backoffSeconds('key-backoff', failures, null, this.#clock.dice())
    this.#update(key, {
      lastAttempt: this.now,
      wait: { kind: 'backoff', code: 'ISSUER_UNREACHABLE', failures, until },
    })
  }

  /**
   * The issuer as a whole failed.
   *
   * @param keys that wanted a certificate and now lack one
   * @param validitySecondsLeft the least of all certificates in place; null when there is none
   */
  issuerFailed(
    keys: readonly KeyIdentity[],
    failure: IssuerFailure,
    validitySecondsLeft: number | null,
  ): Wait {
    const dice = this.#clock.dice()
    const isLogin = failure.next === 'login-backoff'
    const before = isLogin ? this.#record.login : this.#record.issuer
    const failures = (before?.failures ?? 0) + 1
    const seconds =
      failure.retryAfterSeconds === null
        ? backoffSeconds(failure.next, failures, validitySecondsLeft, dice)
        : retryAfterSeconds(failure.retryAfterSeconds, dice)
    const wait: Wait = { kind: kindOf(failure), code: failure.code, failures, until: this.now + seconds }
    this.#record = { ...this.#record, [isLogin ? 'login' : 'issuer']: wait }
    for (const key of keys) this.#failed(key, failure, null, 'issuer')
    return wait
  }

  /** An answer for this key was no good, or could not be put in place. */
  keyFailed(key: KeyIdentity, failure: Failure, validitySecondsLeft: number | null): Wait {
    const failures = this.of(key).failures + 1
    const seconds = backoffSeconds('key-backoff', failures, validitySecondsLeft, this.#clock.dice())
    const wait: Wait = {
      kind: needsAdministrator(failure.code, 'key-backoff') ? 'administrator' : 'backoff',
      code: failure.code,
      failures,
      until: this.now + seconds,
    }
    this.#failed(key, failure, wait, 'key')
    return wait
  }

  /** The issuer answered: nothing that concerned it as a whole holds any more, for no key. */
  issuerAnswered(): void {
    this.#record = withoutErrors({ ...this.#record, issuer: null, login: null }, 'issuer')
  }

  /** A new certificate is in place; what sshd presented before is no evidence for it, only that it offers no such key. */
  swapped(key: KeyIdentity, serial: bigint, isRepair: boolean): void {
    const { now } = this
    const { evidence } = this.of(key)
    const isOfKey = evidence?.kind === 'not-offered' || evidence?.kind === 'other-key'
    const repairs = recentRepairs(this, key)
    this.#update(key, {
      wait: null,
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
    const { lastError, failures, wait } = this.of(key)
    const kept = lastError?.scope === 'sshd' ? lastError : null
    if (lastError !== kept || failures > 0 || wait !== null)
      this.#update(key, { lastError: kept, failures: 0, wait: null })
  }

  /**
   * Errors of the future were noted under another clock, which was corrected since; so were the waits that came with
   * them. That of a login stays: a locked identity is not opened by a clock.
   */
  endErrorsOfAnotherClock(): void {
    const latest = this.now + CLOCK_TOLERANCE_SECONDS
    for (const [name, { fingerprint, lastError }] of Object.entries(this.#record.hostKeys)) {
      if (lastError === null || lastError.at <= latest) continue
      this.#update({ name, fingerprint }, { lastError: null, failures: 0, wait: null })
      if (lastError.scope === 'issuer') this.#record = { ...this.#record, issuer: null }
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
  notInstalled(keys: readonly KeyIdentity[], failure: Failure): Wait {
    return this.#sshdFailed('install', 'sshd-trouble', keys, failure)
  }

  /** Every copy is what it should be. */
  copiesMatch(): void {
    const { install } = this.#record
    if (install === null) return
    this.#record = withoutErrors({ ...this.#record, install: null }, 'sshd', (code) => code === install.code)
  }

  /** The root helper said where sshd listens, and what it left out. */
  helperSaid(listen: readonly string[], notes: readonly string[] | null): void {
    const { sshd } = this.#record
    this.#updateSshd({ listen, notes: notes ?? sshd.notes, helperAt: this.now })
  }

  /** What sshd serves is not what it should, or it could not be reloaded. Wants no new certificate. */
  notServed(keys: readonly KeyIdentity[], failure: Failure): Wait {
    const cause = failure.code === 'SSHD_NOT_SERVING' ? 'reload' : 'sshd-trouble'
    return this.#sshdFailed('reload', cause, keys, failure)
  }

  /** The helper reloads no more often than its limit: a wait, no failure, and the reload is still owed. */
  reloadPostponed(seconds: number): void {
    const failures = this.#record.reload?.failures ?? 0
    const wait: Wait = {
      kind: 'retry-after',
      code: 'SSHD_RELOAD_FAILED',
      failures,
      until: this.now + seconds,
    }
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

  /** SIGHUP: whatever waits for an administrator is tried again. */
  endAdministratorWaits(): void {
    this.#record = withoutAdministratorWaits(this.#record)
  }

  /** Forget host keys that are no more. Not at once: one that is deleted and made again all the time is a storm too. */
  keepOnly(names: readonly string[]): void {
    this.#record = withOnly(this.#record, names, this.now - FORGET_SECONDS)
  }

  #sshdFailed(
    what: 'install' | 'reload',
    cause: 'reload' | 'sshd-trouble',
    keys: readonly KeyIdentity[],
    failure: Failure,
  ): Wait {
    const at = this.now
    const failures = (this.#record[what]?.failures ?? 0) + 1
    const until = at + backoffSeconds(cause, failures, null, this.#clock.dice())
    const wait: Wait = { kind: 'backoff', code: failure.code, failures, until }
    this.#record = { ...this.#record, [what]: wait }
    for (const key of keys) this.#update(key, { lastError: errorAt(failure, at, 'sshd') })
    return wait
  }

  #failed(key: KeyIdentity, failure: Failure, wait: Wait | null, scope: ErrorScope): void {
    const at = this.now
    const failures = this.of(key).failures + 1
    this.#update(key, { wait, failures, lastAttempt: at, lastError: errorAt(failure, at, scope) })
  }

  #update(key: KeyIdentity, change: Partial<HostKeyRecord>): void {
    const next = { ...this.of(key), ...change }
    this.#record = { ...this.#record, hostKeys: { ...this.#record.hostKeys, [key.name]: next } }
  }

  #updateSshd(change: Partial<SshdRecord>): void {
    this.#record = { ...this.#record, sshd: { ...this.#record.sshd, ...change } }
  }
}

function kindOf(failure: IssuerFailure): Wait['kind'] {
  if (failure.retryAfterSeconds !== null) return 'retry-after'
  switch (failure.next) {
    case 'login-backoff':
      return 'login'
    case 'administrator':
      return 'administrator'
    case 'issuer-backoff':
    case 'key-backoff':
      return 'backoff'
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
