import type { NextStep } from '../core/backoff.ts'
import type { Failure } from '../core/errors.ts'
import type { HostKeyView } from './observe.ts'

/** From the third failure in a row on it is a warning. */
const WARN_FROM_FAILURE = 3
/** What mends itself seldom is a warning at once. */
const NEEDS_ADMINISTRATOR: readonly NextStep[] = ['administrator', 'login-backoff']

export interface FailureFacts {
  readonly failure: Failure
  /** What the issuer's failure means; null when it was not the issuer's as a whole. */
  readonly next: NextStep | null
  /** In a row, this one among them. */
  readonly failures: number
  /** Host keys that lack a certificate because of it. */
  readonly views: readonly HostKeyView[]
}

/**
 * How loud a failed attempt is: an error when a host key has nothing usable, or soon will not have; a warning when
 * somebody must act, or when it happens again and again; else it mends itself, and is only told.
 */
export function levelOfFailure({ failure, next, failures, views }: FailureFacts): 'info' | 'warn' | 'error' {
  if (views.some(({ onDisk, state }) => onDisk.kind !== 'usable' || state.state === 'overdue')) return 'error'
  const needsAdministrator =
    failure.code.startsWith('CERT_') || (next !== null && NEEDS_ADMINISTRATOR.includes(next))
  return needsAdministrator || failures >= WARN_FROM_FAILURE ? 'warn' : 'info'
}
