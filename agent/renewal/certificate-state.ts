import type { ErrorCode, Failure } from '../cert/errors.ts'
import { validBeforeOf, type Certificate } from '../cert/host-certificate.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { DueReason, RenewalTimes } from './due.ts'

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
  /** Null unless what is on disk is usable. */
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
