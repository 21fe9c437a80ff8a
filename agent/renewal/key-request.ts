import type { Failure } from '../core/errors.ts'
import type { DueReason } from '../core/renewal-decision.ts'
import type { UnixSeconds } from '../core/time.ts'
import type { VerifiedCertificate } from '../core/verify-issued.ts'
import type { CertifiableView, HostKeyView } from './observe.ts'
import type { IssuerFailure } from './ports.ts'

/** One host key that is to get a certificate in this pass. */
export interface KeyRequest {
  readonly view: CertifiableView
  readonly reason: DueReason
  /** All host keys, for the CAs in place. */
  readonly views: readonly HostKeyView[]
  /** Other host keys that wait for the same issuer; its failure is theirs too. */
  readonly alsoWanting: readonly CertifiableView[]
  readonly dryRun: boolean
  /** The host key as it is now; null when it is gone. */
  readonly lookAgain: (name: string) => Promise<CertifiableView | null>
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
    }
  /** Due, but a wait holds; `until` is null when the host key kept changing. */
  | {
      readonly kind: 'waiting'
      readonly hostKey: string
      readonly reason: DueReason
      readonly until: UnixSeconds | null
    }
