import { AgentError, type ErrorCode, type Failure } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { isForLock } from './backoff.ts'
import type { AttemptRecords, Clock } from './ports.ts'
import {
  type AttemptRecord,
  EMPTY_RECORD,
  type ErrorScope,
  type HostKeyRecord,
  type KeyIdentity,
  recordOf,
} from './record.ts'

/** The attempt record while a pass works on it: every change makes a new record, which the pass saves. */
export class WorkingRecord {
  readonly clock: Clock
  readonly #records: AttemptRecords
  #record: AttemptRecord = EMPTY_RECORD
  /** What is on disk, as far as is known; null when it differs from {@link record}. */
  #onDisk: string | null = null
  #isUnsaved = false

  constructor(records: AttemptRecords, clock: Clock) {
    this.#records = records
    this.clock = clock
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
    return this.clock.now()
  }

  of(key: KeyIdentity): HostKeyRecord {
    return recordOf(this.#record, key)
  }

  replace(record: AttemptRecord): void {
    this.#record = record
  }

  change(fields: Partial<AttemptRecord>): void {
    this.#record = { ...this.#record, ...fields }
  }

  /** Change what is on record for one host key. */
  update(key: KeyIdentity, change: Partial<HostKeyRecord>): void {
    const next = { ...this.of(key), ...change }
    this.#record = { ...this.#record, hostKeys: { ...this.#record.hostKeys, [key.name]: next } }
  }
}

/** A failure is more than these two at times; no more of it is kept. */
export function errorAt(
  { code, message }: Failure,
  at: UnixSeconds,
  scope: ErrorScope,
): NonNullable<HostKeyRecord['lastError']> {
  return { code, message, at, scope }
}

/** So many CAs that the issuer named before still count for the certificates on disk. */
const MAX_FORMER_CAS = 4

/** The issuer named these CAs; those that it named before are kept for the certificates in place. */
export function withCas(record: AttemptRecord, lines: readonly string[]): AttemptRecord {
  const before = [...(record.issuerCas ?? []), ...record.formerCas].filter((line) => !lines.includes(line))
  return { ...record, issuerCas: lines, formerCas: [...new Set(before)].slice(0, MAX_FORMER_CAS) }
}

/**
 * Without any wait but that for a locked identity: the cause was corrected. Counts start anew, and keys that the issuer
 * refused for their type are asked for again.
 */
export function withoutWaits(record: AttemptRecord): AttemptRecord {
  const unlocked = { ...record, issuer: null, administrator: null, install: null, reload: null }
  const login = isForLock(record.login) ? record.login : null
  return withEachKey({ ...unlocked, login }, ({ refused, ...key }) => ({
    ...key,
    wait: null,
    refusals: 0,
    repairs: [],
    refused: refused && { ...refused, askAgainAt: 0 },
  }))
}

/** Without the host keys that are neither named nor were tried or seen to be served since then. */
export function withOnly(record: AttemptRecord, names: readonly string[], since: UnixSeconds): AttemptRecord {
  const kept = Object.entries(record.hostKeys).filter(
    ([name, { lastAttempt, repairs, evidence }]) =>
      names.includes(name) || Math.max(lastAttempt ?? 0, repairs.at(-1) ?? 0, evidence?.at ?? 0) > since,
  )
  return { ...record, hostKeys: Object.fromEntries(kept) }
}

/** With the last errors of this scope gone where they are as given: their cause was seen to have ended. */
export function withoutErrors(
  record: AttemptRecord,
  scope: ErrorScope,
  isOver: (code: ErrorCode) => boolean = () => true,
): AttemptRecord {
  return withEachKey(record, (key) => {
    if (key.lastError?.scope !== scope || !isOver(key.lastError.code)) return key
    // Failures in a row are counted for issuing; an sshd that did not serve is none of them.
    return scope === 'sshd' ? { ...key, lastError: null } : { ...key, lastError: null, failures: 0 }
  })
}

function withEachKey(record: AttemptRecord, change: (key: HostKeyRecord) => HostKeyRecord): AttemptRecord {
  const hostKeys = Object.entries(record.hostKeys).map(([name, key]) => [name, change(key)])
  return { ...record, hostKeys: Object.fromEntries(hostKeys) }
}
