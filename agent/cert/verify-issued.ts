import { AgentError, type ErrorCode, type Failure } from './errors.ts'
import {
  certificateLine,
  isSignatureValid,
  parseCertificate,
  validAfterOf,
  validBeforeOf,
  type Certificate,
} from './host-certificate.ts'
import { type PublicKey } from './public-key.ts'
import { quote } from './text.ts'
import { formatCertificateTime, type UnixSeconds } from './time.ts'

/** A certificate that starts up to this far in our future is taken, with a warning: clocks differ. */
export const FUTURE_TOLERANCE_SECONDS = 300

/** RSA with SHA-1: sshd serves such a certificate, clients refuse it. */
const REFUSED_BY_CLIENTS = 'ssh-rsa'

/** ssh_config(5), CASignatureAlgorithms: what its default lacks, as of 10.6. */
const CAS_REFUSED_BY_DEFAULT = ['ssh-mldsa44-ed25519', 'ssh-mldsa44-ed25519@openssh.com']

/** What a certificate must be for one host key. */
export interface CertificateRequirements {
  readonly hostKey: PublicKey
  /** Keys of the CAs that may sign; null while none is known yet, then any CA passes. */
  readonly trustedCas: readonly PublicKey[] | null
  /** All of these must be principals of the certificate; null: any, but never none. */
  readonly wantedPrincipals: readonly string[] | null
}

declare const verified: unique symbol

/** A certificate that passed {@link verifyIssued}; nothing else makes one, and the store swaps in nothing else. */
export interface VerifiedCertificate {
  readonly [verified]: true
  readonly certificate: Certificate
  /** The line for the file, with the host key's comment and without a newline. */
  readonly line: string
  readonly warnings: readonly string[]
}

type Verification =
  | { readonly ok: true; readonly value: VerifiedCertificate }
  | { readonly ok: false; readonly failure: Failure; readonly certificate: Certificate | null }

/**
 * Check what the issuer answered: step "verified" of the path.
 *
 * @param signedKey the certificate line as received
 * @param inPlace the usable certificate for this host key that the new one would replace; null when there is none
 * @param comment goes behind the certificate in its file
 * @param now by our clock, seconds since the epoch
 * @returns the first check that fails decides the code, in this order: CERT_UNPARSABLE,
 *   CERT_NOT_HOST, CERT_KEY_MISMATCH, CERT_SIGNATURE_INVALID, CERT_CA_MISMATCH, CERT_NO_PRINCIPALS,
 *   CERT_PRINCIPALS_MISMATCH, CERT_CRITICAL_OPTION, CERT_SIGNATURE_ALGORITHM, CERT_NOT_YET_VALID, CERT_EXPIRED,
 *   CERT_NOT_NEWER
 */
export function verifyIssued(
  signedKey: string,
  requirements: CertificateRequirements,
  inPlace: Certificate | null,
  comment: string,
  now: UnixSeconds,
): Verification {
  const parsed = tryParse(signedKey)
  if (!parsed.ok) return { ok: false, failure: parsed.failure, certificate: null }
  const { certificate } = parsed
  const failure = findFlaw(certificate, requirements, now) ?? findNotNewer(certificate, inPlace)
  if (failure !== null) return { ok: false, failure, certificate }
  const value: Omit<VerifiedCertificate, typeof verified> = {
    certificate,
    line: certificateLine(certificate, comment),
    warnings: warningsOf(certificate, inPlace, now),
  }
  return { ok: true, value: value as VerifiedCertificate }
}

type ParsedCertificate =
  | { readonly ok: true; readonly certificate: Certificate }
  | { readonly ok: false; readonly failure: Failure }

/** {@link parseCertificate} with the failure as a value. */
export function tryParse(text: string): ParsedCertificate {
  try {
    return { ok: true, certificate: parseCertificate(text) }
  } catch (error) {
    if (error instanceof AgentError)
      return { ok: false, failure: { code: error.code, message: error.message } }
    throw error
  }
}

/**
 * The first thing that makes a certificate unusable for this host key now; null when it is usable.
 * The same checks for what was issued and for what is on disk.
 */
export function findFlaw(
  cert: Certificate,
  { hostKey, trustedCas, wantedPrincipals }: CertificateRequirements,
  now: UnixSeconds,
): Failure | null {
  if (cert.kind !== 'host') return flaw('CERT_NOT_HOST', 'it is a user certificate, not a host certificate')
  if (!cert.publicKey.blob.equals(hostKey.blob)) {
    return flaw(
      'CERT_KEY_MISMATCH',
      `it certifies the key ${cert.publicKey.fingerprint}, the host key is ${hostKey.fingerprint}`,
    )
  }
  const isValid = isSignatureValid(cert)
  if (isValid !== true) {
    const algorithm = quote(cert.signatureAlgorithm)
    const why =
      isValid === null
        ? `this version of hostcertd cannot verify its signature (${algorithm})`
        : `its signature is not valid (${algorithm})`
    return flaw('CERT_SIGNATURE_INVALID', why)
  }
  if (trustedCas !== null && !trustedCas.some((ca) => ca.blob.equals(cert.ca.blob))) {
    return flaw(
      'CERT_CA_MISMATCH',
      `it is signed by the CA ${cert.ca.fingerprint}, expected ${trustedCas.map((ca) => ca.fingerprint).join(' or ') || 'none'}`,
    )
  }
  if (cert.principals.every((principal) => principal === '')) {
    return flaw('CERT_NO_PRINCIPALS', 'it names no principals and would be valid for any host name')
  }
  if (!cert.principals.some(isUsableByClients)) {
    return flaw(
      'CERT_PRINCIPALS_MISMATCH',
      `ssh looks for host names in lower case, so no client accepts it for ${cert.principals.map(quote).join(', ')}`,
    )
  }
  const missing = (wantedPrincipals ?? []).filter((principal) => !cert.principals.includes(principal))
  if (missing.length > 0) {
    const list = (names: readonly string[]): string => names.map(quote).join(', ')
    return flaw(
      'CERT_PRINCIPALS_MISMATCH',
      `it lacks the principals ${list(missing)}; it has ${list(cert.principals)}`,
    )
  }
  const [option] = cert.criticalOptions.keys()
  if (option !== undefined) {
    return flaw('CERT_CRITICAL_OPTION', `it has the critical option ${quote(option)}, so clients refuse it`)
  }
  if (cert.signatureAlgorithm === REFUSED_BY_CLIENTS) {
    return flaw('CERT_SIGNATURE_ALGORITHM', 'it is signed with RSA and SHA-1, which clients refuse')
  }
  if (validAfterOf(cert) > now + FUTURE_TOLERANCE_SECONDS) {
    return flaw(
      'CERT_NOT_YET_VALID',
      `it is valid only from ${formatCertificateTime(cert.validAfter) ?? 'the end of time'}; is the clock right?`,
    )
  }
  // A lifetime of zero or less is over at any time.
  if (now >= validBeforeOf(cert) || cert.validBefore <= cert.validAfter) {
    return flaw('CERT_EXPIRED', `it expired at ${formatCertificateTime(cert.validBefore)}`)
  }
  return null
}

/** ssh lower-cases the name that it connects to, and then compares exactly: ssh_config(5), CanonicalizeHostname apart. */
export function isUsableByClients(principal: string): boolean {
  return !/[A-Z]/.test(principal)
}

/** The warning about principals with upper-case letters; null when there are none. */
export function upperCaseWarning(principals: readonly string[]): string | null {
  const names = principals.filter((principal) => !isUsableByClients(principal))
  if (names.length === 0) return null
  return `ssh looks for host names in lower case, so no client accepts the certificate for ${names.map(quote).join(', ')}`
}

/** The warning about a CA whose certificates clients accept only by a setting of their own; null when it is none. */
export function refusedCaWarning({ type, fingerprint }: PublicKey): string | null {
  if (!CAS_REFUSED_BY_DEFAULT.includes(type)) return null
  return `the CA ${fingerprint} is a post-quantum key: only clients with CASignatureAlgorithms=+${type} accept its certificates`
}

function findNotNewer(cert: Certificate, inPlace: Certificate | null): Failure | null {
  if (!concernsSameKeyAndCa(cert, inPlace)) return null
  if (cert.blob.equals(inPlace.blob)) {
    return flaw('CERT_NOT_NEWER', `it is the certificate in place, serial ${cert.serial}`)
  }
  if (cert.validAfter < inPlace.validAfter) {
    return flaw(
      'CERT_NOT_NEWER',
      `it is valid from ${formatCertificateTime(cert.validAfter)}, the one in place from ${formatCertificateTime(inPlace.validAfter)}`,
    )
  }
  return null
}

function warningsOf(cert: Certificate, inPlace: Certificate | null, now: UnixSeconds): string[] {
  const warnings: string[] = []
  const inUpperCase = upperCaseWarning(cert.principals)
  if (inUpperCase !== null) warnings.push(inUpperCase)
  const ofCa = refusedCaWarning(cert.ca)
  if (ofCa !== null) warnings.push(ofCa)
  const ahead = validAfterOf(cert) - now
  if (ahead > 0)
    warnings.push(`the certificate starts ${Math.ceil(ahead)} s in the future: the clocks differ`)
  if (concernsSameKeyAndCa(cert, inPlace) && validBeforeOf(cert) < validBeforeOf(inPlace)) {
    warnings.push(
      `the certificate ends before the one in place (${formatCertificateTime(cert.validBefore)}): was the ttl shortened?`,
    )
  }
  return warnings
}

function concernsSameKeyAndCa(cert: Certificate, inPlace: Certificate | null): inPlace is Certificate {
  return (
    inPlace !== null &&
    inPlace.publicKey.blob.equals(cert.publicKey.blob) &&
    inPlace.ca.blob.equals(cert.ca.blob)
  )
}

function flaw(code: ErrorCode, message: string): Failure {
  return { code, message }
}
