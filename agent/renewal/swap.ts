import { AgentError } from '../cert/errors.ts'
import { formatCertificateTime } from '../cert/time.ts'
import type { VerifiedCertificate } from '../cert/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import { isRoutine, type DueReason } from './certificate-state.ts'
import type { CertifiableView } from './judge.ts'
import { withCertificate, type Facts } from './observe.ts'
import type { Host } from './ports.ts'
import { noteKeyFailure, type IssueResult, type Wanted } from './report.ts'

/** Step "swapped". */
export async function swap(
  host: Host,
  attempts: Attempts,
  facts: Facts,
  { view, reason }: Wanted,
  certificate: VerifiedCertificate,
  requestId: string | null,
): Promise<IssueResult> {
  const { serial } = certificate.certificate
  // On record first: after a crash in between nothing else would show that sshd still has the old one.
  if (isBlind(host, view)) {
    attempts.sshd.oweReload()
    await attempts.save()
  }
  try {
    await host.store.swap(view.name, certificate)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const failure = { code: error.code, message: error.message }
    if (!(await isInPlace(host, view.name, certificate))) {
      noteKeyFailure(host, attempts, view, failure, { serial: String(serial), requestId })
      await attempts.save()
      const outcome = {
        kind: 'failed',
        hostKey: view.name,
        failure,
        issuerFailure: null,
        isLocal: false,
      } as const
      return { outcome, facts }
    }
    // The file on disk decides, not the reported error; but after a power failure the old one may be back.
    const fields = { host_key: view.name, serial: String(serial), code: failure.code }
    host.log.warn(
      fields,
      `the certificate is installed, but may not survive a power failure: ${failure.message}`,
    )
  }
  attempts.swapped(view.subject.identity, serial, isRepair(reason))
  await attempts.save()
  host.metrics.renewal(view.name, 'ok')
  report(host, view, certificate, reason, requestId)
  return {
    outcome: { kind: 'renewed', hostKey: view.name, reason, certificate },
    facts: withCertificate(facts, view.name, `${certificate.line}\n`),
  }
}

async function isInPlace(host: Host, name: string, { line }: VerifiedCertificate): Promise<boolean> {
  const stored = await host.store.read(name)
  return stored.kind === 'text' && stored.text.trimEnd() === line
}

/** Whether a reload is due after a swap whatever sshd shows, or because it shows nothing of this key. */
function isBlind({ settings, sshd }: Host, { served }: CertifiableView): boolean {
  if (!sshd.canReload || settings.reload === 'never') return false
  if (settings.reload === 'always' || served.kind === 'not-asked') return true
  return served.kind === 'nothing-known' || served.unknown !== null
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
  host.log.info({ ...fields, reason, ...validity }, 'a new certificate is installed')
}
