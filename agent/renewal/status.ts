import type { CertificateStatus, StatusDocument } from '../core/status-document.ts'
import { formatCertificateTime, formatTime } from '../core/time.ts'
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
    notes: [],
    sshd: { state: null, since: null },
  }
}

/** The status document of a host without a configuration. */
export function notEnrolledStatus(version: string): StatusDocument {
  const issuer = { url: null, reachable: null, last_success: null, clock_skew_seconds: null }
  return { version, enrolled: false, issuer, certificates: [], notes: [], sshd: { state: null, since: null } }
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

function servedStatus(
  { served, subject, onDisk }: HostKeyView,
  { answered, silence }: ServedKnowledge,
): CertificateStatus['served'] {
  if (subject === null || served.kind === 'not-asked') return null
  const checkedAt = formatTime(answered?.at ?? null)
  const nothing = { serial: null, matches: null, valid_before: null, checked_at: null, unknown: silence }
  switch (served.kind) {
    case 'certificate': {
      const { serial, validBefore } = served.certificate
      const end = formatCertificateTime(validBefore)
      const { matches } = served
      return { serial: String(serial), matches, valid_before: end, checked_at: checkedAt, unknown: silence }
    }
    case 'none':
      return { ...nothing, matches: false, checked_at: checkedAt }
    case 'unknown': {
      if (silence === null || onDisk.kind === 'absent' || onDisk.certificate === null) return nothing
      const { serial, validBefore } = onDisk.certificate
      const end = formatCertificateTime(validBefore)
      return { ...nothing, serial: String(serial), matches: true, valid_before: end, checked_at: checkedAt }
    }
    case 'never-seen':
      return nothing
  }
}
