import { backoffSeconds, isWaiting, retryAfterSeconds, type Wait } from '../core/backoff.ts'
import { AgentError, type ErrorCode, type Failure } from '../core/errors.ts'
import type { UnixSeconds } from '../core/time.ts'
import {
  afterReload,
  EMPTY_RECORD,
  newHostKeyRecord,
  withCas,
  withOnly,
  withoutAdministratorWaits,
  type AttemptRecord,
  type HostKeyRecord,
} from './attempt-record.ts'
import type { AttemptRecords, Clock, IssuerFailure } from './ports.ts'

/** So many repairs of one host key within {@link REPAIR_SECONDS} and no more: something keeps breaking it. */
const MAX_REPAIRS = 10
const REPAIR_SECONDS = 600
/** The record of a host key that is gone is kept this long. */
const FORGET_SECONDS = 3600
/** Between two issuances for one host key. */
const SHORTEST_PAUSE_SECONDS = 10

/** A host key as the record knows it. */
export interface KeyIdentity {
  readonly name: string
  readonly fingerprint: string
}

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

  /** Take what is on disk, for another process may have tried since; not where our own word could not be put there. */
  async load(): Promise<void> {
    if (this.#isUnsaved) return
    this.#record = await this.#records.load()
    this.#onDisk = JSON.stringify(this.#record)
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

  /** Put back what {@link record} was before an attempt that was cut short by us. */
  restore(record: AttemptRecord): void {
    this.#record = record
  }

  of({ name, fingerprint }: KeyIdentity): HostKeyRecord {
    const known = this.#record.hostKeys[name]
    if (known === undefined) return newHostKeyRecord(fingerprint)
    // A new key owes nothing to the old one's failures, but a host whose keys change all the time is a storm too.
    return known.fingerprint === fingerprint
      ? known
      : { ...newHostKeyRecord(fingerprint), repairs: known.repairs }
  }

  /**
   * Why this key must not be issued for now; null when it may.
   *
   * @param everything false: only what the server asked for (`Retry-After`) counts, as `renew` has it
   */
  waitOf(key: KeyIdentity, everything: boolean): Wait | null {
    const now = this.#clock.now()
    const { issuer, login } = this.#record
    const waits = [issuer, login, this.of(key).wait].filter((wait) => isWaiting(wait, now))
    const binding = waits.filter((wait) => everything || wait.kind === 'retry-after')
    return binding.toSorted((a, b) => b.until - a.until)[0] ?? null
  }

  /** A wait before yet another repair of the same host key; null when it may be repaired. */
  repairWaitOf(key: KeyIdentity): UnixSeconds | null {
    const recent = this.#recentRepairs(key)
    const [first] = recent
    return recent.length < MAX_REPAIRS || first === undefined ? null : first + REPAIR_SECONDS
  }

  reloadWait(): Wait | null {
    return isWaiting(this.#record.reload, this.#clock.now()) ? this.#record.reload : null
  }

  issuerWait(): Wait | null {
    const now = this.#clock.now()
    return [this.#record.issuer, this.#record.login].find((wait) => isWaiting(wait, now)) ?? null
  }

  /** Too soon after the last issuance for another: a life of seconds must not become a storm either. */
  pauseAfterIssuance(key: KeyIdentity): UnixSeconds | null {
    const { issued } = this.of(key)
    const now = this.#clock.now()
    if (issued === null || issued.at > now || now >= issued.at + SHORTEST_PAUSE_SECONDS) return null
    return issued.at + SHORTEST_PAUSE_SECONDS
  }

  /** An attempt is about to start. Until its result is known it counts as failed: a crash must not repeat it at once. */
  begin(key: KeyIdentity): void {
    const before = this.of(key)
    // A wait that is still on record was left by a crash: each crash in a row waits longer than the one before.
    const failures = Math.max(before.failures, before.wait?.failures ?? 0) + 1
    const now = this.#clock.now()
    const until = now + backoffSeconds('key-backoff', failures, null, this.#clock.dice())
    this.#update(key, {
      lastAttempt: now,
      wait: { kind: 'backoff', code: 'ISSUER_UNREACHABLE', failures, until },
    })
  }

  /**
   * The issuer, or its answer, failed.
   *
   * @param keys that wanted a certificate and now lack one
   * @param validitySecondsLeft the least of all certificates in place; null when there is none
   */
  issuerFailed(
    keys: readonly KeyIdentity[],
    failure: IssuerFailure,
    validitySecondsLeft: number | null,
  ): Wait {
    const now = this.#clock.now()
    const dice = this.#clock.dice()
    const isLogin = failure.next === 'login-backoff'
    const before = isLogin ? this.#record.login : this.#record.issuer
    const failures = (before?.failures ?? 0) + 1
    const seconds =
      failure.retryAfterSeconds === null
        ? backoffSeconds(failure.next, failures, validitySecondsLeft, dice)
        : retryAfterSeconds(failure.retryAfterSeconds, dice)
    const wait: Wait = { kind: kindOf(failure), code: failure.code, failures, until: now + seconds }
    this.#record = { ...this.#record, [isLogin ? 'login' : 'issuer']: wait }
    for (const key of keys) this.#failed(key, failure, null)
    return wait
  }

  /** An answer for this key was no good, or could not be put in place. */
  keyFailed(key: KeyIdentity, failure: Failure, validitySecondsLeft: number | null): Wait {
    const failures = this.of(key).failures + 1
    const seconds = backoffSeconds('key-backoff', failures, validitySecondsLeft, this.#clock.dice())
    const needsAdministrator = failure.code.startsWith('CERT_') || failure.code === 'ISSUER_REJECTED'
    const wait: Wait = {
      kind: needsAdministrator ? 'administrator' : 'backoff',
      code: failure.code,
      failures,
      until: this.#clock.now() + seconds,
    }
    this.#failed(key, failure, wait)
    return wait
  }

  /** The issuer answered well: nothing that concerned it as a whole holds any more. */
  issuerAnswered(): void {
    this.#record = { ...this.#record, issuer: null, login: null }
  }

  /** A new certificate is in place. */
  swapped(key: KeyIdentity, serial: bigint, isRepair: boolean): void {
    const now = this.#clock.now()
    const repairs = this.#recentRepairs(key)
    this.#update(key, {
      wait: null,
      failures: 0,
      lastError: null,
      lastSuccess: now,
      issued: { serial: String(serial), at: now },
      repairs: isRepair ? [...repairs, now] : repairs,
    })
  }

  /** The answer was for a key that is no more: no failure, but an issuance all the same. */
  dropped(key: KeyIdentity): void {
    this.#update(key, { wait: null, repairs: [...this.#recentRepairs(key), this.#clock.now()] })
  }

  /** sshd was seen to serve this serial. */
  confirmed(key: KeyIdentity, serial: bigint): void {
    const { lastError } = this.of(key)
    const cleared = lastError?.code.startsWith('SSHD_') === true ? null : lastError
    this.#update(key, { confirmedSerial: String(serial), notOffered: null, lastError: cleared })
  }

  /** sshd is not configured to offer this key, or, null, it is. */
  notOffered(key: KeyIdentity, notOffered: HostKeyRecord['notOffered']): void {
    this.#update(key, { notOffered })
  }

  /** What sshd serves is not what it should, or it could not be reloaded. Wants no new certificate. */
  notServed(keys: readonly KeyIdentity[], failure: Failure): Wait {
    const at = this.#clock.now()
    const failures = (this.#record.reload?.failures ?? 0) + 1
    const seconds = backoffSeconds(
      failure.code === 'SSHD_NOT_SERVING' ? 'reload' : 'sshd-trouble',
      failures,
      null,
      this.#clock.dice(),
    )
    const reload: Wait = { kind: 'backoff', code: failure.code, failures, until: at + seconds }
    this.#record = { ...this.#record, reload }
    for (const key of keys) this.#update(key, { lastError: { ...pick(failure), at } })
    return reload
  }

  allServed(): void {
    if (!this.#record.reloadOwed) this.#record = { ...this.#record, reload: null }
  }

  /** sshd has to be reloaded, and what it serves will not tell whether it was. */
  oweReload(): void {
    this.#record = { ...this.#record, reloadOwed: true }
  }

  /** sshd was reloaded. What it still does not serve will be noted anew. */
  reloaded(): void {
    this.#record = afterReload(this.#record)
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
    this.#record = withOnly(this.#record, names, this.#clock.now() - FORGET_SECONDS)
  }

  #recentRepairs(key: KeyIdentity): readonly UnixSeconds[] {
    const now = this.#clock.now()
    return this.of(key).repairs.filter((at) => at > now - REPAIR_SECONDS && at <= now)
  }

  #failed(key: KeyIdentity, failure: Failure, wait: Wait | null): void {
    const at = this.#clock.now()
    this.#update(key, {
      wait,
      failures: this.of(key).failures + 1,
      lastAttempt: at,
      lastError: { ...pick(failure), at },
    })
  }

  #update(key: KeyIdentity, change: Partial<HostKeyRecord>): void {
    const next = { ...this.of(key), ...change }
    this.#record = { ...this.#record, hostKeys: { ...this.#record.hostKeys, [key.name]: next } }
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

function pick({ code, message }: Failure): { code: ErrorCode; message: string } {
  return { code, message }
}
