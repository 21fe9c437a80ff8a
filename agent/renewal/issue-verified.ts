import type { Failure } from '../core/errors.ts'
import type { Certificate } from '../core/host-certificate.ts'
import type { PublicKey } from '../core/public-key.ts'
import { verifyIssued, type VerifiedCertificate } from '../core/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import type { CertifiableView, HostKeyView } from './observe.ts'
import type { IssuerFailure } from './ports.ts'
import type { Host } from './settings.ts'
import { askIssuer, casInPlace, knownCas, mustAskIssuer } from './trusted-cas.ts'

export type IssueResult =
  | { readonly kind: 'verified'; readonly value: VerifiedCertificate; readonly requestId: string | null }
  /** The issuer refused or could not be asked. */
  | { readonly kind: 'issuer-failed'; readonly failure: IssuerFailure }
  /** It answered, and the answer is no good. */
  | {
      readonly kind: 'rejected'
      readonly failure: Failure
      readonly requestId: string | null
      /** Of the certificate in the answer; null when none could be read. */
      readonly serial: string | null
    }
  /** The host key is no longer the one that was posted; the answer was dropped. */
  | { readonly kind: 'key-changed'; readonly requestId: string | null; readonly serial: string }

/**
 * Steps "issued" and "verified" of the path, for one host key.
 *
 * @param views all host keys, for the CAs in place where the issuer does not name its CA
 */
export async function issueVerified(
  host: Host,
  attempts: Attempts,
  view: CertifiableView,
  views: readonly HostKeyView[],
  signal: AbortSignal,
): Promise<IssueResult> {
  if (await mustAskIssuer(host, attempts)) {
    const asked = await askIssuer(host, attempts, signal)
    if (!asked.ok && !asked.noSuchRoute) return { kind: 'issuer-failed', failure: asked.failure }
  }
  const { key, comment } = view.subject
  const sentComment = comment === '' ? view.name : comment
  const answer = await host.issuer.issue(`${key.type} ${key.blob.toString('base64')} ${sentComment}`, signal)
  if (!answer.ok) return { kind: 'issuer-failed', failure: answer.failure }
  const { requestId } = answer
  const inPlace = view.onDisk.kind === 'usable' ? view.onDisk.certificate : null
  const check = (cas: readonly PublicKey[] | null): ReturnType<typeof verifyIssued> => {
    const requirements = { hostKey: key, trustedCas: cas, wantedPrincipals: host.settings.wantedPrincipals }
    return verifyIssued(answer.signedKey, requirements, inPlace, sentComment, host.clock.now())
  }
  let verification = check((await knownCas(host, attempts))?.current ?? casInPlace(views))
  if (
    !verification.ok &&
    verification.failure.code === 'CERT_CA_MISMATCH' &&
    (await host.pinnedCas.read()) === null
  ) {
    const asked = await askIssuer(host, attempts, signal)
    if (asked.ok) verification = check(asked.keys)
  }
  // Last of all, for asking for the CA takes its time too.
  if (!(await isStill(host, view))) return { kind: 'key-changed', requestId, serial: answer.serialNumber }
  if (!verification.ok) {
    const { failure, certificate } = verification
    return { kind: 'rejected', failure, requestId, serial: certificate && String(certificate.serial) }
  }
  const { value } = verification
  const mismatch = serialMismatch(value.certificate, answer.serialNumber)
  return mismatch === null
    ? { kind: 'verified', value, requestId }
    : { kind: 'rejected', failure: mismatch, requestId, serial: String(value.certificate.serial) }
}

async function isStill(host: Host, { file, subject }: CertifiableView): Promise<boolean> {
  const now = await host.hostKeys.read(file.path)
  return now?.content.kind === 'key' && now.content.key.blob.equals(subject.key.blob)
}

function serialMismatch(certificate: Certificate, serialNumber: string): Failure | null {
  if (String(certificate.serial) === serialNumber) return null
  return {
    code: 'ISSUER_INVALID_RESPONSE',
    message: `the answer says serial ${serialNumber}, the certificate in it has ${certificate.serial}`,
  }
}
