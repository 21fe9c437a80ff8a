import { AgentError } from '../core/errors.ts'
import { isRoutine, type DueReason } from '../core/renewal-decision.ts'
import { formatCertificateTime } from '../core/time.ts'
import type { VerifiedCertificate } from '../core/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import { noteFailure } from './failed-attempt.ts'
import type { IssueResult } from './issue-verified.ts'
import type { KeyOutcome, KeyRequest } from './key-request.ts'
import type { CertifiableView } from './observe.ts'
import type { Host } from './settings.ts'

/** Step "swapped". */
export async function putInPlace(
  host: Host,
  attempts: Attempts,
  request: KeyRequest,
  { value: certificate, requestId }: Extract<IssueResult, { kind: 'verified' }>,
): Promise<KeyOutcome> {
  const { view, reason } = request
  const { serial } = certificate.certificate
  // On record first: after a crash in between nothing else would tell that sshd still has the old one.
  if (isBlind(host, view)) {
    attempts.oweReload()
    await attempts.save()
  }
  try {
    await host.store.swap(view.name, certificate)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const failure = { code: error.code, message: error.message }
    if (!(await isInPlace(host, view.name, certificate))) {
      const attempt = { failure, issuerFailure: null, serial: String(serial), requestId }
      return noteFailure(host, attempts, request, attempt)
    }
    // What lies on disk decides, not what was reported; but a power cut may still bring the old one back.
    const fields = { host_key: view.name, serial: String(serial), code: failure.code }
    host.log.warn(fields, `the certificate is in place, though perhaps not for good: ${failure.message}`)
  }
  attempts.swapped(view.subject.identity, serial, isRepair(reason))
  await attempts.save()
  host.metrics.renewal(view.name, 'ok')
  report(host, view, certificate, reason, requestId)
  return { kind: 'renewed', hostKey: view.name, reason, certificate }
}

async function isInPlace(host: Host, name: string, { line }: VerifiedCertificate): Promise<boolean> {
  const stored = await host.store.read(name)
  return stored.kind === 'text' && stored.text.trimEnd() === line
}

/** Whether a reload is due after a swap whatever sshd shows, or because it shows nothing of this key. */
function isBlind({ settings, sshd }: Host, { served }: CertifiableView): boolean {
  if (!sshd.canReload || settings.reload === 'never') return false
  return settings.reload === 'always' || served.kind === 'not-asked'
}

function isRepair(reason: DueReason): boolean {
  return !isRoutine(reason) && reason !== 'overdue' && reason !== 'forced'
}

function report(
  host: Host,
  { name }: CertifiableView,
  { certificate, warnings }: VerifiedCertificate,
  reason: DueReason,
  requestId: string | null,
): void {
  const fields = { host_key: name, serial: String(certificate.serial), request_id: requestId }
  for (const warning of warnings) host.log.warn(fields, warning)
  const validity = {
    principals: certificate.principals,
    valid_after: formatCertificateTime(certificate.validAfter),
    valid_before: formatCertificateTime(certificate.validBefore) ?? 'forever',
    ca: certificate.ca.fingerprint,
  }
  host.log.info({ ...fields, reason, ...validity }, 'a new certificate is in place')
}
