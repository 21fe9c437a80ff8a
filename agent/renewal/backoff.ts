import type { ErrorCode } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { jitterOf } from './certificate-state.ts'
import { recordOf, type AttemptRecord, type HostKeyRecord, type KeyIdentity } from './record.ts'

/** What a failure means for the next attempt. Decided where the failure arises; nobody goes by its message. */
export type NextStep =
  /** The issuer as a whole is in trouble: all keys wait, seconds first, then minutes. */
  | 'issuer-backoff'
  /** This response is unusable: this key waits. */
  | 'key-backoff'
  /** The login failed: all keys wait, minutes at least, so that the identity is not locked. */
  | 'login-backoff'
  /** All keys wait minutes, up to an hour. */
  | 'administrator'
  /** Something on this host failed before the issuer was asked: no wait, the next pass tries again. */
  | 'local'

/** Somebody must act before it can succeed; retrying alone seldom helps. */
export function needsAdministrator(code: ErrorCode, next: NextStep): boolean {
  if (next === 'administrator' || next === 'login-backoff' || next === 'local') return true
  return next === 'key-backoff' && (code.startsWith('CERT_') || code === 'ISSUER_REJECTED')
}

/** What is waited for: an attempt at the issuer, or at sshd. */
type BackoffCause = Exclude<NextStep, 'local'> | 'sshd-trouble' | 'reload'

/** A wait, in force until it is over. Kept on disk. */
export interface Wait {
  /** Failures of this kind in a row. */
  readonly failures: number
  /** By the wall clock; nothing is tried before. */
  readonly until: UnixSeconds
  readonly code: ErrorCode
}

const MINUTE = 60
const HOUR = 3600
const DAY = 24 * HOUR
const WEEK = 7 * DAY

/** Seconds to wait after the first, second … failure of one kind in a row; the last repeats. */
const SCHEDULES = {
  'issuer-backoff': [3, 6, 12, 25, MINUTE, 2 * MINUTE, 5 * MINUTE],
  'key-backoff': [5, 15, MINUTE, 3 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR],
  'login-backoff': [2.5 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, HOUR],
  administrator: [2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR],
  // sshd could not be reloaded, or its files not be placed: it may just be restarting.
  'sshd-trouble': [5, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR],
  // A reload did not help; each one refuses connections for some milliseconds.
  reload: [MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR],
} as const satisfies Record<BackoffCause, readonly number[]>

/** The longest wait of any kind, `Retry-After` included. */
const LONGEST_WAIT_SECONDS = HOUR
/** The longest wait while no valid certificate is left; `Retry-After` is honoured in full up to this. */
const LONGEST_WAIT_WITHOUT_VALIDITY_SECONDS = 5 * MINUTE
/** A tenth of the validity left does not shorten a wait below this. */
const SHORTEST_CAP_SECONDS = 30
/** After three failures within 30 s of each other the issuer locks an identity: with the jitter, logins stay above that. */
const SHORTEST_LOGIN_CAP_SECONDS = 45
/** The issuer locks an identity for 300 s. */
const LOCK_SECONDS = 303
/** Over which hosts that share an identity spread after a lock. */
const LOCK_SPREAD_SECONDS = 20
/** A wait is shortened by up to this share, so that hosts do not come back together. */
const JITTER_SHARE = 0.3

/**
 * How long to wait after a failure.
 *
 * @param failures of this kind in a row, this one included: 1 after the first
 * @param validitySecondsLeft the least of the usable certificates concerned; null when there is none. No wait is longer
 *   than a tenth of it (30 s at least), or than five minutes where nothing is left.
 * @param dice [0, 1)
 * @returns seconds, always above 0
 */
export function backoffSeconds(
  next: BackoffCause,
  failures: number,
  validitySecondsLeft: number | null,
  dice: number,
): number {
  const schedule = SCHEDULES[next]
  const base = schedule[Math.min(Math.max(failures, 1), schedule.length) - 1] ?? LONGEST_WAIT_SECONDS
  const shortestCap = next === 'login-backoff' ? SHORTEST_LOGIN_CAP_SECONDS : SHORTEST_CAP_SECONDS
  return Math.min(base, capOf(validitySecondsLeft, shortestCap)) * (1 - JITTER_SHARE * dice)
}

function capOf(validitySecondsLeft: number | null, shortest: number): number {
  return validitySecondsLeft === null
    ? LONGEST_WAIT_WITHOUT_VALIDITY_SECONDS
    : Math.max(validitySecondsLeft / 10, shortest)
}

/**
 * What `Retry-After` asks for, as far as it counts, and a little more so that hosts behind one NAT spread.
 *
 * @param asked seconds from now; below 1 (a date in the past) counts as 1
 * @param validitySecondsLeft as for {@link backoffSeconds}: beyond five minutes its limit holds
 * @param dice [0, 1)
 * @returns seconds, 1 at least and never less than asked within five minutes, plus 30 at most
 */
export function retryAfterSeconds(asked: number, validitySecondsLeft: number | null, dice: number): number {
  const cap = Math.max(
    capOf(validitySecondsLeft, SHORTEST_CAP_SECONDS),
    LONGEST_WAIT_WITHOUT_VALIDITY_SECONDS,
  )
  const counted = Math.min(Math.max(asked, 1), cap, LONGEST_WAIT_SECONDS)
  return counted + dice * Math.min(counted * 0.1 + 1, 30)
}

/**
 * A locked identity is waited out, once and in full: neither a failure count nor an ending certificate changes that.
 *
 * @param dice [0, 1)
 */
export function lockSeconds(dice: number): number {
  return LOCK_SECONDS + LOCK_SPREAD_SECONDS * dice
}

/** Nobody but the issuer ends this one. */
export function isForLock(wait: Wait | null): boolean {
  return wait?.code === 'LOGIN_LOCKED'
}

/** Whether a wait still holds; one that ends later than any wait can was written under another clock. */
export function isWaiting(wait: Wait | null, now: UnixSeconds): wait is Wait {
  if (wait === null) return false
  const longest = isForLock(wait) ? LOCK_SECONDS + LOCK_SPREAD_SECONDS : LONGEST_WAIT_SECONDS
  return now < wait.until && wait.until <= now + longest + MINUTE
}

/** A key type that the issuer refused is asked for again after a week, half a day more or less: the same for the same key. */
export function askAgainSeconds({ fingerprint }: KeyIdentity): number {
  return WEEK + (jitterOf(fingerprint, 0n) - 0.5) * DAY
}

/** When to ask for a certificate of a type that the issuer refused; 0 for now. A time that is too far off is of another clock. */
export function askAgainAt({ refused }: Pick<HostKeyRecord, 'refused'>, now: UnixSeconds): UnixSeconds {
  return refused === null || refused.askAgainAt > now + WEEK + DAY ? 0 : refused.askAgainAt
}

/** So many repairs of one host key within {@link REPAIR_SECONDS} and no more: something keeps breaking it. */
const MAX_REPAIRS = 10
const REPAIR_SECONDS = 600
/** Between two issuances for one host key. */
const SHORTEST_PAUSE_SECONDS = 10

/** The attempt record, and the time by which its waits are judged. */
export interface RecordNow {
  readonly record: AttemptRecord
  readonly now: UnixSeconds
}

/**
 * Why this key must not be issued for now; null when it may. Of several waits the longest.
 *
 * @param byHand only the lock of an identity counts, as `renew` has it
 */
export function waitOf(recordNow: RecordNow, key: KeyIdentity, byHand: boolean): Wait | null {
  const own = recordOf(recordNow.record, key).wait
  const waits = [...issuerWaits(recordNow), ...(isWaiting(own, recordNow.now) ? [own] : [])]
  const binding = waits.filter((wait) => !byHand || isForLock(wait))
  return binding.toSorted((a, b) => b.until - a.until)[0] ?? null
}

/** Those that are all keys'. */
export function issuerWaits({ record, now }: RecordNow): readonly Wait[] {
  return [record.issuer, record.login, record.administrator].filter((wait) => isWaiting(wait, now))
}

/** A wait in force, and what for. */
interface NamedWait extends Wait {
  /** `issuer`, `login`, `administrator` (all host keys wait), `install`, `reload` (the root helper), or a host key's name. */
  readonly for: string
}

/**
 * Everything that is waited for.
 *
 * @param keys the host keys that there are; the wait of a key that was replaced does not count
 */
export function waitsInForce({ record, now }: RecordNow, keys: readonly KeyIdentity[]): readonly NamedWait[] {
  const shared = (['issuer', 'login', 'administrator', 'install', 'reload'] as const).map(
    (what) => [what, record[what]] as const,
  )
  const own = keys.map((key) => [key.name, recordOf(record, key).wait] as const)
  return [...shared, ...own].flatMap(([what, wait]) => (isWaiting(wait, now) ? [{ ...wait, for: what }] : []))
}

/** When this key may be repaired once more; null for now. */
export function repairWaitOf(recordNow: RecordNow, key: KeyIdentity): UnixSeconds | null {
  const first = recentRepairs(recordNow, key).at(-MAX_REPAIRS)
  return first === undefined ? null : first + REPAIR_SECONDS
}

/** Those that still count. */
export function recentRepairs({ record, now }: RecordNow, key: KeyIdentity): readonly UnixSeconds[] {
  return recordOf(record, key).repairs.filter((at) => at > now - REPAIR_SECONDS && at <= now)
}

/** Too soon after the last issuance for another: a life of seconds must not become a storm either. */
export function pauseAfterIssuance({ record, now }: RecordNow, key: KeyIdentity): UnixSeconds | null {
  const { issued } = recordOf(record, key)
  if (issued === null || issued.at > now || now >= issued.at + SHORTEST_PAUSE_SECONDS) return null
  return issued.at + SHORTEST_PAUSE_SECONDS
}

/** Before the root helper is asked again to copy; null when it may be. */
export function installWait({ record, now }: RecordNow): Wait | null {
  return isWaiting(record.install, now) ? record.install : null
}

/** Before sshd is reloaded again; null when it may be. */
export function reloadWait({ record, now }: RecordNow): Wait | null {
  return isWaiting(record.reload, now) ? record.reload : null
}
