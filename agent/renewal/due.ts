import { createHash } from 'node:crypto'
import type { UnixSeconds } from '../cert/time.ts'

/** Why a host key needs a new certificate. */
export type DueReason =
  | 'absent'
  | 'key-changed'
  | 'unusable'
  | 'principals-wanted'
  | 'expired'
  | 'overdue'
  | 'window-open'
  /** The certificate is good, but of a CA that the issuer no longer names. */
  | 'ca-changed'
  | 'forced'

type RenewalDecision =
  | { readonly kind: 'due'; readonly reason: DueReason }
  /** `until` is null when the certificate never ends. */
  | { readonly kind: 'wait'; readonly until: UnixSeconds | null }

export interface RenewalPolicy {
  /** How much of the lifetime is left when renewal opens. */
  readonly window:
    | { readonly kind: 'share'; readonly ratio: number }
    | { readonly kind: 'duration'; readonly seconds: number }
  /** Share of the window, 0 to 1, over which hosts spread. */
  readonly jitterRatio: number
}

/** The times of one usable certificate. */
export interface Validity {
  readonly validAfter: UnixSeconds
  /** `Infinity` for forever. */
  readonly validBefore: UnixSeconds
}

/** Where in its life a certificate is due and overdue; all `Infinity` for one that never ends. */
export interface RenewalTimes {
  readonly dueAt: UnixSeconds
  /** Less than a third of the window is left from here on. */
  readonly overdueAt: UnixSeconds
}

/** A window given as a duration is at most this share of the lifetime. */
const MAX_DURATION_SHARE = 1 / 2
const OVERDUE_SHARE = 1 / 3
/** Hosts spread over at most this share of the window, so that none is overdue before it was due. */
const MAX_SPREAD = 0.6

/**
 * When a certificate is due and when it is overdue. Reads no clock, rolls no dice.
 *
 * @param jitter [0, 1), from {@link jitterOf}
 * @param issuedAt when this very certificate was put in place, null when that is not known. It is not due again
 *   before half of what was left then has passed: a lifetime shorter than its window must not become a storm.
 * @returns both before expiry and overdue after due; at expiry only when the window is nothing
 */
export function renewalTimes(
  { validAfter, validBefore }: Validity,
  policy: RenewalPolicy,
  jitter: number,
  issuedAt: UnixSeconds | null,
): RenewalTimes {
  if (validBefore === Infinity) return { dueAt: Infinity, overdueAt: Infinity }
  const lifetime = validBefore - validAfter
  const window = windowSeconds(lifetime, policy)
  const spread = jitter * Math.min(policy.jitterRatio, MAX_SPREAD)
  const inWindow = validBefore - window * (1 - spread)
  // After the clock was set back, "issued" may be later than the end; then it does not count.
  if (issuedAt === null || issuedAt >= validBefore)
    return { dueAt: inWindow, overdueAt: validBefore - window * OVERDUE_SHARE }
  const settled = (validBefore - issuedAt) / 2
  return {
    dueAt: Math.max(inWindow, validBefore - settled),
    // Where half of what was left is shorter than the window, a third of that: never overdue as soon as due.
    overdueAt: validBefore - Math.min(window, settled) * OVERDUE_SHARE,
  }
}

function windowSeconds(lifetime: number, { window }: RenewalPolicy): number {
  switch (window.kind) {
    case 'share':
      return lifetime * window.ratio
    case 'duration':
      return Math.min(window.seconds, lifetime * MAX_DURATION_SHARE)
  }
}

/**
 * Decide whether a usable certificate is due.
 *
 * @returns `until` is after `now` and before expiry
 */
export function decideRenewal(times: RenewalTimes, now: UnixSeconds): RenewalDecision {
  if (now < times.dueAt) return { kind: 'wait', until: times.dueAt === Infinity ? null : times.dueAt }
  return { kind: 'due', reason: now >= times.overdueAt ? 'overdue' : 'window-open' }
}

/** Whether a reason may wait for the maintenance window; the others mean that the host is or soon will be in trouble. */
export function isRoutine(reason: DueReason): boolean {
  return reason === 'window-open' || reason === 'ca-changed'
}

/**
 * A number in [0, 1), the same for the same host key and certificate: a restart repeats it, a fleet spreads over it.
 *
 * @param hostKeyFingerprint `SHA256:…`
 */
export function jitterOf(hostKeyFingerprint: string, serial: bigint): number {
  const hash = createHash('sha256').update(`${hostKeyFingerprint} ${serial}`).digest()
  return hash.readUIntBE(0, 6) / 2 ** 48
}
