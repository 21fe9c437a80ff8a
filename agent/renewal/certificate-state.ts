import { createHash } from 'node:crypto'
import type { ErrorCode, Failure } from '../cert/errors.ts'
import { validBeforeOf, type Certificate } from '../cert/host-certificate.ts'
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
  /** `until` is null when the certificate never expires. */
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

/** Where in its life a certificate is due and overdue; all `Infinity` for one that never expires. */
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

/** In the order in which they apply: the first that does is the state. */
export const CERTIFICATE_STATES = [
  'ignored',
  'absent',
  'expired',
  'invalid',
  'overdue',
  'unconfirmed',
  'due',
  'valid',
] as const

export type CertificateState = (typeof CERTIFICATE_STATES)[number]

/** What was found for a host key in the certificate's place. */
export type OnDisk =
  | { readonly kind: 'absent' }
  | { readonly kind: 'unusable'; readonly failure: Failure; readonly certificate: Certificate | null }
  | { readonly kind: 'usable'; readonly certificate: Certificate }

/** What is known of what sshd presents for a host key: evidence, from when it is, and why there is no newer. */
export type Served =
  /** sshd is not asked (`address: none`), or there is no key to ask about. */
  | { readonly kind: 'not-asked' }
  /** Nothing was seen since the certificate on disk was put there. */
  | { readonly kind: 'nothing-known'; readonly unknown: string | null }
  /** It presents this certificate, ours or another. */
  | (Seen & {
      readonly kind: 'certificate'
      readonly matches: boolean
      /** Decimal; null when it cannot be read. */
      readonly serial: string | null
      /** `Infinity` for forever; null when it cannot be read. */
      readonly validBefore: UnixSeconds | null
    })
  /** It presents the key without a certificate. */
  | (Seen & { readonly kind: 'none' })
  /** It does not offer the key, or another of its type instead. */
  | (Seen & {
      readonly kind: 'not-offered' | 'other-key'
      readonly why: string
      /** A reload did not change it, or there is no way to reload. */
      readonly isSettled: boolean
    })

interface Seen {
  readonly at: UnixSeconds
  /** Why the last question brought no answer; null when it did. */
  readonly unknown: string | null
}

export interface StateFacts {
  /** Why the key is ignored; null when it is not. */
  readonly ignored: string | null
  readonly onDisk: OnDisk
  /** Null unless what is on disk can be read and has an end. */
  readonly times: RenewalTimes | null
  readonly served: Served
  /** The code of the last failure of this key since its last success. */
  readonly lastErrorCode: ErrorCode | null
}

export interface StateAndReason {
  readonly state: CertificateState
  readonly reason: string | null
}

/** The state of one host key's certificate, as a person and a monitor see it. */
export function stateOf(facts: StateFacts, now: UnixSeconds): StateAndReason {
  const { ignored, onDisk, times, served, lastErrorCode } = facts
  if (ignored !== null) return { state: 'ignored', reason: ignored }
  if (onDisk.kind === 'absent') return { state: 'absent', reason: lastErrorCode }
  if (isExpired(onDisk, now)) return { state: 'expired', reason: lastErrorCode ?? 'CERT_EXPIRED' }
  if (onDisk.kind === 'unusable') return { state: 'invalid', reason: onDisk.failure.code }
  if (times !== null && now >= times.overdueAt) return { state: 'overdue', reason: lastErrorCode }
  switch (served.kind) {
    case 'none':
      return { state: 'unconfirmed', reason: 'SSHD_NOT_SERVING' }
    case 'nothing-known':
      return { state: 'unconfirmed', reason: 'SSHD_UNREACHABLE' }
    case 'certificate':
      if (!served.matches) return { state: 'unconfirmed', reason: 'SSHD_NOT_SERVING' }
      break
    // The first means that the key is ignored.
    case 'not-offered':
    case 'other-key':
    case 'not-asked':
      break
  }
  if (times !== null && now >= times.dueAt) return { state: 'due', reason: lastErrorCode ?? 'window-open' }
  return { state: 'valid', reason: null }
}

/** Why a new certificate is needed before the renewal window opens; null when the one on disk is usable. */
export function dueReasonOf(onDisk: OnDisk, now: UnixSeconds): DueReason | null {
  if (onDisk.kind === 'absent') return 'absent'
  if (onDisk.kind === 'unusable' && onDisk.failure.code === 'CERT_KEY_MISMATCH') return 'key-changed'
  if (isExpired(onDisk, now)) return 'expired'
  if (onDisk.kind === 'usable') return null
  return onDisk.failure.code === 'CERT_PRINCIPALS_MISMATCH' ? 'principals-wanted' : 'unusable'
}

/**
 * A host certificate past its end is `expired`, whatever else may be wrong with it, and also when it was usable as we
 * looked and ended since.
 */
function isExpired(onDisk: OnDisk, now: UnixSeconds): boolean {
  if (onDisk.kind === 'absent' || onDisk.certificate?.kind !== 'host') return false
  return now >= validBeforeOf(onDisk.certificate)
}
