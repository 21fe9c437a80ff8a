import type { CertificateStatus, StatusDocument } from '../core/status-document.ts'
import { validBeforeOf } from '../core/host-certificate.ts'
import { formatCertificateTime, formatTime, type UnixSeconds } from '../core/time.ts'
import type { Attempts } from './attempts.ts'
import type { HostKeyView } from './observe.ts'
import type { ServedKnowledge } from './served-knowledge.ts'
import type { IssuerHealth } from './ports.ts'

/** What of the status document does not come from looking. */
export interface StatusIdentity {
  readonly version: string
  readonly issuerUrl: string
}

/** The status document of what one pass saw. */
export function statusOf(
  { version, issuerUrl }: StatusIdentity,
  views: readonly HostKeyView[],
  attempts: Attempts,
  knowledge: ServedKnowledge,
  issuer: IssuerHealth,
): StatusDocument {
  return {
    version,
    enrolled: true,
    issuer: {
      url: issuerUrl,
      reachable: issuer.reachable,
      last_success: formatTime(issuer.lastSuccess),
      clock_skew_seconds: issuer.clockSkewSeconds,
    },
    certificates: views.map((view) => certificateStatus(view, attempts, knowledge)),
  }
}

/** When the certificates that sshd presents end, by host key name; where it presents none there is no entry. */
export function servedNotAfter(views: readonly HostKeyView[]): ReadonlyMap<string, UnixSeconds> {
  return new Map(
    views.flatMap(({ name, served }): [string, UnixSeconds][] =>
      served.kind === 'certificate' ? [[name, validBeforeOf(served.certificate)]] : [],
    ),
  )
}

/** The status document of a host without a configuration. */
export function notEnrolledStatus(version: string): StatusDocument {
  const issuer = { url: null, reachable: null, last_success: null, clock_skew_seconds: null }
  return { version, enrolled: false, issuer, certificates: [] }
}

function certificateStatus(
  view: HostKeyView,
  attempts: Attempts,
  knowledge: ServedKnowledge,
): CertificateStatus {
  const { onDisk, subject, times, state } = view
  const certificate = onDisk.kind === 'absent' ? null : onDisk.certificate
  const record = subject === null ? null : attempts.of(subject.identity)
  const error = record?.lastError ?? null
  return {
    host_key: view.name,
    key_type: keyTypeOf(view),
    certificate: view.certificatePath,
    ...state,
    serial: certificate === null ? null : String(certificate.serial),
    key_id: certificate?.keyId ?? null,
    principals: certificate?.principals ?? [],
    ca_fingerprint: certificate?.ca.fingerprint ?? null,
    valid_after: certificate === null ? null : formatCertificateTime(certificate.validAfter),
    valid_before: certificate === null ? null : formatCertificateTime(certificate.validBefore),
    renewal_due: formatTime(times?.dueAt ?? null),
    served: servedStatus(view, knowledge),
    last_attempt: formatTime(record?.lastAttempt ?? null),
    last_success: formatTime(record?.lastSuccess ?? null),
    failures: record?.failures ?? 0,
    last_error:
      error === null ? null : { code: error.code, message: error.message, at: formatTime(error.at) ?? '' },
  }
}

function keyTypeOf({ file: { content } }: HostKeyView): string | null {
  switch (content.kind) {
    case 'key':
      return content.key.type
    case 'unsupported':
      return content.keyType
    case 'unreadable':
    case 'shadowed':
      return null
  }
}

function servedStatus({ served }: HostKeyView, { answered }: ServedKnowledge): CertificateStatus['served'] {
  if (answered === null) return null
  const checkedAt = formatTime(answered.at) ?? ''
  switch (served.kind) {
    case 'certificate':
      return { serial: String(served.certificate.serial), matches: served.matches, checked_at: checkedAt }
    case 'none':
      return { serial: null, matches: false, checked_at: checkedAt }
    case 'not-asked':
    case 'unknown':
    case 'never-seen':
      return null
  }
}
