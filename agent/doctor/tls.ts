import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { systemCodeOf } from '../cert/text.ts'
import { formatDuration, formatTime, type UnixSeconds } from '../cert/time.ts'
import type { AddressSetting } from '../issuer/answer.ts'
import { failure, type Finding, ok, warning } from './finding.ts'

/** The result of a TLS handshake, and the certificates that count here. */
export interface TlsFindings {
  /** Null when we trust it; Node's code when we do not. */
  readonly distrust: string | null
  /** What the server sent: its own certificate, then each one that signed the one before. */
  readonly sent: readonly X509Certificate[]
  /** What `ca_file` holds. */
  readonly inCaFile: readonly X509Certificate[]
  /** The system's store, or Node's own list, and NODE_EXTRA_CA_CERTS. */
  readonly inStore: readonly X509Certificate[]
}

/** Of certificates that a server sends; more are ignored. */
const LONGEST_CHAIN = 10

/** Whose certificate is judged, and by what. */
interface TlsQuestion {
  /** It names {@link host}. */
  readonly setting: AddressSetting
  readonly host: string
  /** `issuer.ca_file`. */
  readonly caFile: string | null
  /** The variable that names the proxy in between; null for none. */
  readonly proxyVariable: string | null
  readonly now: UnixSeconds
}

/** A server certificate that ends sooner is worth a warning; most are renewed well before. */
const WARNING_SECONDS = 14 * 86_400
/** Of certificates from the server's own to the root CA's; more are ignored. */
const LONGEST_PATH = 10
/** OpenSSL's names for a certificate that leads to no root CA which we trust. */
const UNTRUSTED = [
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  // By a CA of the right name, so that its key was tried.
  'CERT_SIGNATURE_FAILURE',
]

/** The certificates of an open connection. */
export function findingsOf(socket: TLSSocket): Pick<TlsFindings, 'distrust' | 'sent'> {
  const error: unknown = socket.authorizationError
  const code = error instanceof Error ? (systemCodeOf(error) ?? error.message) : String(error)
  const sent: X509Certificate[] = []
  let next = socket.getPeerX509Certificate()
  while (next !== undefined && sent.length < LONGEST_CHAIN) {
    sent.push(next)
    next = next.issuerCertificate
  }
  return { distrust: socket.authorized ? null : code, sent }
}

/** Explain a handshake: OpenSSL has verified the certificate; this finds the reason and a remedy. */
export function tlsFinding(seen: TlsFindings, question: TlsQuestion): Finding<'tls'> {
  const [own] = seen.sent
  if (own === undefined) {
    const remedy = `configure a TLS certificate for ${question.host} at the server`
    return failure('tls', 'the server sent no certificate', remedy)
  }
  const end = endOf(own)
  const who = `certificate of "${nameOf(own)}", signed by "${issuerNameOf(own)}", valid until ${formatTime(end)}`
  if (seen.distrust !== null) return distrusted(who, own, seen, seen.distrust, question)
  const left = end - question.now
  if (left >= WARNING_SECONDS) return ok('tls', who)
  const remedy = `have the TLS certificate of ${question.host} renewed`
  return warning('tls', `${who}: it expires in ${formatDuration(left)}`, remedy)
}

function distrusted(
  who: string,
  own: X509Certificate,
  seen: TlsFindings,
  code: string,
  question: TlsQuestion,
): Finding<'tls'> {
  const path = pathFrom(own, seen)
  const reason = UNTRUSTED.includes(code)
    ? withoutRoot(path, seen, question)
    : (reasonFor(code, path, seen, question) ?? {
        why: 'OpenSSL does not accept it',
        remedy: `have the TLS certificate of ${question.host} replaced with a valid one`,
      })
  return failure('tls', `${who}: ${reason.why} (${code})`, reason.remedy)
}

interface Reason {
  readonly why: string
  readonly remedy: string
}

/** The server's certificate and those above it, each signed by the next, as far as they are sent or known here. */
function pathFrom(
  own: X509Certificate,
  { sent, inCaFile, inStore }: TlsFindings,
): readonly [X509Certificate, ...X509Certificate[]] {
  const path: [X509Certificate, ...X509Certificate[]] = [own]
  let top = own
  while (!signed(top, top) && path.length < LONGEST_PATH) {
    const below = top
    const above = [...inCaFile, ...inStore, ...sent].find((one) => !isIn(path, one) && signed(one, below))
    if (above === undefined) break
    path.push(above)
    top = above
  }
  return path
}

/** The path leads to no root CA that is trusted: which certificate is missing, and where it belongs. */
function withoutRoot(
  path: readonly [X509Certificate, ...X509Certificate[]],
  { sent, inCaFile, inStore }: TlsFindings,
  { caFile, proxyVariable }: TlsQuestion,
): Reason {
  const [own] = path
  const top = path.at(-1) ?? own
  const places = caFile === null ? "the system's store" : `the system's store or in ${caFile}`
  const put = (what: string): string =>
    caFile === null
      ? `write ${what} to a file and set issuer.ca_file to its path`
      : `add ${what} to ${caFile}`
  const certificateOf = (name: string): string => `the certificate (PEM) of "${name}"`
  const otherwise = `; if you do not expect that CA, the connection is intercepted${proxyVariable === null ? '' : `, possibly by the proxy (${proxyVariable}): ask its administrator`}`
  const isPinned = isIn(inCaFile, own) && !signed(own, own)
  const pinned = isPinned
    ? `; ${caFile} contains the server's own certificate, but the certificate of its CA is required`
    : ''

  if (signed(top, top)) {
    if (top === own) {
      const remedy = `if it is the issuer's own (SHA-256 fingerprint ${own.fingerprint256}), ${put('that certificate (PEM)')}; if not, the connection is intercepted`
      return { why: `it is self-signed and not in ${places}`, remedy }
    }
    const name = nameOf(top)
    return {
      why: `its root CA "${name}" is not in ${places}${heldBelow(path, inCaFile)}${pinned}`,
      remedy: `${put(certificateOf(name))}${otherwise}`,
    }
  }

  const issuer = issuerNameOf(top)
  const namesake = [...inCaFile, ...inStore].find(({ subject }) => subject === top.issuer)
  if (namesake !== undefined) {
    const isOurs = isIn(inCaFile, namesake)
    const current = `the current certificate (PEM) of "${issuer}"`
    return {
      why: `the CA "${issuer}" in ${isOurs ? caFile : "the system's store"} has a different key from the one that signed it`,
      remedy: `${isOurs ? `replace it in ${caFile} with ${current}` : put(current)}${otherwise}`,
    }
  }
  if (top !== own && isIn(inCaFile, top)) {
    const keep = isIn(sent, top) ? '' : `, and keep "${nameOf(top)}" there: the server does not send it`
    return {
      why: `${caFile} contains "${nameOf(top)}", an intermediate CA, but not the root CA above it, "${issuer}"`,
      remedy: `${put(certificateOf(issuer))}${keep}`,
    }
  }
  if (top === own) {
    const remedy = `if "${issuer}" is an intermediate CA, have the server send its certificate too (nginx, Apache: a file with the full chain)${caFile === null ? '' : `, or add it to ${caFile} in addition to the root CA's`}; if it is the root CA, ${put(certificateOf(issuer))}${otherwise}`
    return {
      why: `the server does not send the certificate of "${issuer}", and it is not in ${places}${pinned}`,
      remedy,
    }
  }
  return {
    why: `the CA above "${nameOf(top)}", "${issuer}", is not in ${places}${pinned}`,
    remedy: `${put(certificateOf(issuer))}${otherwise}`,
  }
}

/** ` (which contains "X", an intermediate CA)`: what of a path without its root is in `ca_file`. */
function heldBelow([, ...above]: readonly X509Certificate[], inCaFile: readonly X509Certificate[]): string {
  const held = above.filter((one) => isIn(inCaFile, one)).map((one) => `"${nameOf(one)}"`)
  return held.length === 0 ? '' : ` (which contains ${held.join(', ')}, an intermediate CA)`
}

function reasonFor(
  code: string,
  path: readonly X509Certificate[],
  { sent, inCaFile }: TlsFindings,
  { setting, host, caFile, now }: TlsQuestion,
): Reason | null {
  const [own] = path
  switch (code) {
    case 'CERT_HAS_EXPIRED': {
      const ended = path.find((one) => endOf(one) <= now)
      const clock = 'if `date` is wrong, set the clock of this host'
      if (ended === undefined || ended === own)
        return { why: 'it has expired', remedy: `have the TLS certificate of ${host} renewed; ${clock}` }
      const renewed = `a current certificate of "${nameOf(ended)}"`
      const remedy = isIn(inCaFile, ended)
        ? `add ${renewed} (PEM) to ${caFile}`
        : isIn(sent, ended)
          ? `have the server send ${renewed}`
          : `update the system's store of CA certificates (the package ca-certificates)`
      const why = `that of the CA "${nameOf(ended)}" expired at ${formatTime(endOf(ended))}`
      return { why, remedy: `${remedy}; ${clock}` }
    }
    case 'CERT_NOT_YET_VALID':
      return { why: 'it is not valid yet', remedy: 'set the clock of this host: `timedatectl set-ntp true`' }
    case 'ERR_TLS_CERT_ALTNAME_INVALID': {
      const names = own === undefined ? '' : namesIn(own)
      return {
        why: `it is for ${names}, not for ${host}`,
        remedy: `set ${setting} to a name that the certificate is for, or have one issued for ${host}`,
      }
    }
    default:
      return null
  }
}

function signed(issuer: X509Certificate, certificate: X509Certificate): boolean {
  try {
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
  } catch {
    // A key of a kind that Node does not know.
    return false
  }
}

function isIn(list: readonly X509Certificate[], wanted: X509Certificate): boolean {
  return list.some(({ fingerprint256 }) => fingerprint256 === wanted.fingerprint256)
}

function endOf({ validTo }: X509Certificate): UnixSeconds {
  return Date.parse(validTo) / 1000
}

/** Its common name, else its organisation. */
function nameOf(certificate: X509Certificate): string {
  return nameIn(certificate.toLegacyObject().subject)
}

function issuerNameOf(certificate: X509Certificate): string {
  return nameIn(certificate.toLegacyObject().issuer)
}

function nameIn(name: ReturnType<X509Certificate['toLegacyObject']>['subject'] | undefined): string {
  return [name?.CN ?? name?.O ?? 'nobody'].flat()[0] ?? 'nobody'
}

/** As in `DNS:a.example, IP Address:192.0.2.1`; without them the common name counts. */
function namesIn(certificate: X509Certificate): string {
  return certificate.subjectAltName?.replace(/\b(?:DNS|IP Address):/g, '') ?? nameOf(certificate)
}
