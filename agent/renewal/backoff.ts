import type { ErrorCode } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'

/** What a failure means for the next attempt. Decided where the failure arises; nobody goes by its message. */
export type NextStep =
  /** The issuer as a whole is in trouble: all keys wait, seconds first, then minutes. */
  | 'issuer-backoff'
  /** This answer is no good: this key waits. */
  | 'key-backoff'
  /** The login failed: all keys wait, long, lest the identity be locked. */
  | 'login-backoff'
  /** All keys wait minutes, up to an hour; SIGHUP ends it. */
  | 'administrator'

/** Somebody must act before it can go better; the failure does not mend itself, or seldom. */
export function needsAdministrator(code: ErrorCode, next: NextStep): boolean {
  if (next === 'administrator' || next === 'login-backoff') return true
  return next === 'key-backoff' && (code.startsWith('CERT_') || code === 'ISSUER_REJECTED')
}

/** What is waited for: an attempt at the issuer, or at sshd. */
type BackoffCause = NextStep | 'sshd-trouble' | 'reload'

/** A wait in force. Kept on disk. */
export interface Wait {
  /** Failures in a row. */
  readonly failures: number
  /** By the wall clock; nothing is tried before. */
  readonly until: UnixSeconds
  readonly kind: 'backoff' | 'retry-after' | 'login' | 'administrator'
  readonly code: ErrorCode
}

const MINUTE = 60
const HOUR = 3600

/** Seconds to wait after the first, second … failure in a row; the last repeats. */
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

/** What must not be hurried by a certificate that ends soon. */
const UNCAPPED: readonly BackoffCause[] = ['login-backoff', 'sshd-trouble', 'reload']

/** The longest wait of any kind, `Retry-After` included. */
export const LONGEST_WAIT_SECONDS = HOUR
/** The tenth of what is left does not shorten a wait below this. */
const SHORTEST_CAP_SECONDS = 30
/** A wait is shortened by up to this share, so that hosts do not come back together. */
const JITTER_SHARE = 0.3

/**
 * How long to wait after a failure.
 *
 * @param failures in a row, this one included: 1 after the first
 * @param validitySecondsLeft of the usable certificate in place; null when there is none. While there is one, no
 *   wait but that of a login is longer than a tenth of it (30 s at least).
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
  const capped =
    validitySecondsLeft === null || UNCAPPED.includes(next)
      ? base
      : Math.min(base, Math.max(validitySecondsLeft / 10, SHORTEST_CAP_SECONDS))
  return capped * (1 - JITTER_SHARE * dice)
}

/**
 * What `Retry-After` asks for, as far as it counts, and a little more so that hosts behind one NAT spread.
 *
 * @param asked seconds from now; below 1 (a date in the past) counts as 1
 * @param dice [0, 1)
 * @returns seconds, 1 at least and never less than asked within {@link LONGEST_WAIT_SECONDS}, plus 30 at most
 */
export function retryAfterSeconds(asked: number, dice: number): number {
  const counted = Math.min(Math.max(asked, 1), LONGEST_WAIT_SECONDS)
  return counted + dice * Math.min(counted * 0.1 + 1, 30)
}

/** Whether a wait still holds; one that ends later than any wait can was written under another clock. */
export function isWaiting(wait: Wait | null, now: UnixSeconds): wait is Wait {
  return wait !== null && now < wait.until && wait.until <= now + LONGEST_WAIT_SECONDS + MINUTE
}
