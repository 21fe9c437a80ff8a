import { needsAdministrator, type NextStep } from '../core/backoff.ts'
import type { Failure } from '../core/errors.ts'
import type { HostKeyView } from './observe.ts'

/** From the third failure in a row on it is a warning. */
const WARN_FROM_FAILURE = 3

export interface FailureFacts {
  readonly failure: Failure
  readonly next: NextStep
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
  return needsAdministrator(failure.code, next) || failures >= WARN_FROM_FAILURE ? 'warn' : 'info'
}
