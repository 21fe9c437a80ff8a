import type { Failure } from '../cert/errors.ts'
import { formatCertificateTime, formatTime, type UnixSeconds } from '../cert/time.ts'
import { type RecordNow, waitsInForce } from './backoff.ts'
import type { HostKeyView } from './judge.ts'
import type { MachineFacts } from './observe.ts'
import type { IssuerHealth } from './ports.ts'
import { recordOf, type AttemptRecord, type KeyIdentity } from './record.ts'
import type { CertificateStatus, ServedStatus, StatusDocument } from './status-document.ts'

/** What of the status document does not come from looking. */
export interface StatusIdentity {
  readonly version: string
  /** Null where a program takes the issuer's place. */
  readonly issuerUrl: string | null
  /** Null there too. */
  readonly loginMethod: string | null
}

/** The status document of what one pass saw. */
export function statusOf(
  { version, issuerUrl, loginMethod }: StatusIdentity,
  views: readonly HostKeyView[],
  recordNow: RecordNow,
  issuer: IssuerHealth,
  machine: MachineFacts,
): StatusDocument {
  const { record } = recordNow
  const isAsked = views.some(({ served }) => served.kind !== 'not-asked')
  const { state, since, notes } = record.sshd
  const { copied, stopped } = machine
  const certificates = views.map((view) => certificateStatus(view, record))
  return {
    version,
    enrolled: stopped === null,
    issuer: {
      url: issuerUrl,
      reachable: issuer.reachable,
      last_success: formatTime(issuer.lastSuccess),
      clock_skew_seconds: issuer.clockSkewSeconds,
    },
    certificates: stopped === null ? certificates : withLastError(certificates, stopped, recordNow.now),
    waits: waitsInForce(recordNow, identitiesOf(views)).map(waitStatus),
    notes,
    sshd: isAsked ? { state, since: formatTime(since) } : { state: null, since: null },
    machine: { copied: copied === null ? null : copied !== false },
    login: { method: loginMethod },
  }
}

function waitStatus({
  for: what,
  code,
  until,
  isLater = false,
}: ReturnType<typeof waitsInForce>[number]): StatusDocument['waits'][number] {
  const wait = { for: what, code, until: formatTime(until) ?? '' }
  return isLater ? { ...wait, later: true } : wait
}

/** The status document of a host without a configuration. */
export function notEnrolledStatus(version: string): StatusDocument {
  const issuer = { url: null, reachable: null, last_success: null, clock_skew_seconds: null }
  return {
    version,
    enrolled: false,
    issuer,
    certificates: [],
    waits: [],
    notes: [],
    sshd: { state: null, since: null },
    machine: { copied: null },
    login: { method: null },
  }
}

/** The document's certificates when nothing could be done for any of them, and why. */
export function withLastError(
  certificates: readonly CertificateStatus[],
  { code, message }: Failure,
  now: UnixSeconds,
): readonly CertificateStatus[] {
  const last_error = { code, message, at: formatTime(now) ?? '' }
  return certificates.map((one) => (one.state === 'ignored' ? one : { ...one, last_error }))
}

function identitiesOf(views: readonly HostKeyView[]): KeyIdentity[] {
  return views.flatMap(({ subject }) => (subject === null ? [] : [subject.identity]))
}

function certificateStatus(view: HostKeyView, attempts: AttemptRecord): CertificateStatus {
  const { onDisk, subject, times, state } = view
  const certificate = onDisk.kind === 'absent' ? null : onDisk.certificate
  const record = subject === null ? null : recordOf(attempts, subject.identity)
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
    served: servedStatus(view),
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

function servedStatus({ served }: HostKeyView): ServedStatus | null {
  if (served.kind === 'not-asked') return null
  const { unknown } = served
  if (served.kind === 'nothing-known')
    return { serial: null, matches: null, valid_before: null, checked_at: null, unknown }
  const checked_at = formatTime(served.at)
  if (served.kind !== 'certificate')
    return { serial: null, matches: false, valid_before: null, checked_at, unknown }
  const { serial, matches, validBefore } = served
  return { serial, matches, valid_before: formatTime(validBefore), checked_at, unknown }
}
