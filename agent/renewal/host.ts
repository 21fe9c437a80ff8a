import type { UnixSeconds } from '../cert/time.ts'
import type { RenewalPolicy } from './certificate-state.ts'
import type {
  AttemptRecords,
  CertificateStore,
  Clock,
  HostKeys,
  Issuer,
  Log,
  Metrics,
  PassLock,
  PinnedCas,
  ServedCertificates,
  Sshd,
} from './ports.ts'

/** The settings for renewal. */
export interface RenewalSettings {
  readonly policy: RenewalPolicy
  /** All of these must be in the certificate; null: any, but never none. */
  readonly wantedPrincipals: readonly string[] | null
  readonly reload: 'auto' | 'always' | 'never'
  readonly maintenance: MaintenanceWindow
}

/** The minutes in which a routine renewal may start. */
interface MaintenanceWindow {
  contains(now: UnixSeconds): boolean
}

/** One host, as the renewal path sees it: a port for each thing outside. */
export interface Host {
  readonly settings: RenewalSettings
  readonly clock: Clock
  readonly hostKeys: HostKeys
  readonly store: CertificateStore
  readonly issuer: Issuer
  readonly served: ServedCertificates
  readonly sshd: Sshd
  readonly records: AttemptRecords
  readonly lock: PassLock
  readonly pinnedCas: PinnedCas
  readonly log: Log
  readonly metrics: Metrics
}
