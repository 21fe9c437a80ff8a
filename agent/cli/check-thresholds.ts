import { renewalTimes, type RenewalPolicy, type Validity } from '../core/renewal-decision.ts'
import { parseDuration, type UnixSeconds } from '../core/time.ts'

/** How much of a certificate must be left: a share of its lifetime, or a time. */
export type Threshold =
  | { readonly kind: 'share'; readonly ratio: number }
  | { readonly kind: 'duration'; readonly seconds: number }

/** Below so many seconds left a certificate is a warning, or critical. */
export interface Limits {
  readonly warning: number
  readonly critical: number
}

/** By default what is left at `overdue` is a warning, and a third of that is critical. */
const CRITICAL_SHARE = 1 / 3

/** @returns null when the text is neither 0% to 100% (`15%`, `2.5%`) nor a duration (`3d`) */
export function parseThreshold(text: string): Threshold | null {
  const percent = /^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(text)?.[1]
  if (percent !== undefined) {
    return Number(percent) <= 100 ? { kind: 'share', ratio: Number(percent) / 100 } : null
  }
  const seconds = parseDuration(text)
  return seconds === null ? null : { kind: 'duration', seconds }
}

/** Whether a warning could never come, for it would come after what is critical. False where that hangs on a lifetime. */
export function isUpsideDown(warning: Threshold, critical: Threshold): boolean {
  if (warning.kind === 'share') return critical.kind === 'share' && warning.ratio < critical.ratio
  return critical.kind === 'duration' && warning.seconds < critical.seconds
}

/**
 * The limits for one certificate that ends.
 *
 * @param issuedAt when it was put in place, null when that is not known
 * @param warning null: from `overdue` on
 * @param critical null: a third of what `overdue` leaves
 * @returns seconds left
 */
export function limitsFor(
  validity: Validity,
  policy: RenewalPolicy,
  issuedAt: UnixSeconds | null,
  warning: Threshold | null,
  critical: Threshold | null,
): Limits {
  const lifetime = validity.validBefore - validity.validAfter
  // The jitter moves when a certificate is due, not when it is overdue.
  const overdueLeft = validity.validBefore - renewalTimes(validity, policy, 0, issuedAt).overdueAt
  return {
    warning: warning === null ? overdueLeft : secondsOf(warning, lifetime),
    critical: critical === null ? overdueLeft * CRITICAL_SHARE : secondsOf(critical, lifetime),
  }
}

function secondsOf(threshold: Threshold, lifetime: number): number {
  return threshold.kind === 'share' ? threshold.ratio * lifetime : threshold.seconds
}
