import type { Failure } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { VerifiedCertificate } from '../cert/verify-issued.ts'
import type { DueReason } from './due.ts'
import type { CertifiableView } from './judge.ts'
import type { Facts } from './observe.ts'
import type { IssuerFailure } from './ports.ts'

/** A host key that wants a certificate, and why. */
export interface Wanted {
  readonly view: CertifiableView
  readonly reason: DueReason
}

/** What came of it. */
export type KeyOutcome =
  | {
      /** `would-renew`: issued and verified, but nothing was written. */
      readonly kind: 'renewed' | 'would-renew'
      readonly hostKey: string
      readonly reason: DueReason
      readonly certificate: VerifiedCertificate
    }
  | {
      readonly kind: 'failed'
      readonly hostKey: string
      readonly failure: Failure
      /** Set when the failure is the issuer's as a whole: other keys need not ask now. */
      readonly issuerFailure: IssuerFailure | null
      /** The issuer was not asked: no wait, the next pass tries again. */
      readonly isLocal: boolean
    }
  /** Due, but a wait holds; `until` is null when the host key kept changing. */
  | {
      readonly kind: 'waiting'
      readonly hostKey: string
      readonly reason: DueReason
      readonly until: UnixSeconds | null
    }

export interface IssueResult {
  readonly outcome: KeyOutcome
  /** With what changed: another key file, a new certificate in place. */
  readonly facts: Facts
}
