import type { CertificateState } from './certificate-state.ts'
import type { ErrorCode } from './errors.ts'

/** A clock skew above this is reported. */
export const SKEW_WARNING_SECONDS = 60

/** Whether the issuer's clock and ours differ by more than is well; `skew` is null while that is not known. */
export function isSkewed(skew: number | null): skew is number {
  return skew !== null && Math.abs(skew) > SKEW_WARNING_SECONDS
}

/** What `GET /status` and `status --json` print. Times are RFC 3339 UTC or null; serials are strings. */
export interface StatusDocument {
  readonly version: string
  readonly enrolled: boolean
  readonly issuer: {
    readonly url: string | null
    /** Whether the last exchange brought an answer; null before the first. */
    readonly reachable: boolean | null
    readonly last_success: string | null
    readonly clock_skew_seconds: number | null
  }
  readonly certificates: readonly CertificateStatus[]
}

export interface CertificateStatus {
  readonly host_key: string
  readonly key_type: string | null
  /** Path of the certificate. */
  readonly certificate: string
  readonly state: CertificateState
  readonly reason: string | null
  readonly serial: string | null
  readonly key_id: string | null
  readonly principals: readonly string[]
  readonly ca_fingerprint: string | null
  readonly valid_after: string | null
  /** Null with a serial: forever. */
  readonly valid_before: string | null
  readonly renewal_due: string | null
  readonly served: {
    readonly serial: string | null
    readonly matches: boolean
    readonly checked_at: string
  } | null
  readonly last_attempt: string | null
  readonly last_success: string | null
  /** In a row. */
  readonly failures: number
  readonly last_error: { readonly code: ErrorCode; readonly message: string; readonly at: string } | null
}

/** What `GET /readyz` prints. */
export interface ReadinessDocument {
  readonly status: 'pass' | 'warn' | 'fail'
  /** Why, where no single check says it. */
  readonly reason?: 'not-enrolled' | 'starting' | 'no-host-key' | 'clock-skew'
  readonly checks: readonly ReadinessCheck[]
}

export interface ReadinessCheck {
  readonly host_key: string
  readonly state: CertificateState
  readonly reason: string | null
}

const FAILING: readonly CertificateState[] = ['absent', 'expired', 'invalid', 'overdue', 'unconfirmed']

/**
 * Whether this host's certificates are as they should be.
 *
 * @param status null before the first look is done
 * @param hostKey restrict the answer to this host key
 * @returns null when there is no such host key
 */
export function readinessOf(status: StatusDocument | null, hostKey: string | null): ReadinessDocument | null {
  if (status === null) return { status: 'fail', reason: 'starting', checks: [] }
  if (!status.enrolled) return { status: 'fail', reason: 'not-enrolled', checks: [] }
  const certificates = status.certificates.filter(({ host_key }) => hostKey === null || host_key === hostKey)
  if (hostKey !== null && certificates.length === 0) return null
  const checks = certificates.map(({ host_key, state, reason }) => ({ host_key, state, reason }))
  if (certificates.some(({ state }) => FAILING.includes(state))) return { status: 'fail', checks }
  // A key that is left alone is no failure of its own; a host that serves none is one.
  if (hostKey === null && certificates.every(({ state }) => state === 'ignored'))
    return { status: 'fail', reason: 'no-host-key', checks }
  if (certificates.some(({ state, failures }) => state === 'due' && failures > 0))
    return { status: 'warn', checks }
  if (isSkewed(status.issuer.clock_skew_seconds)) return { status: 'warn', reason: 'clock-skew', checks }
  return { status: 'pass', checks }
}
