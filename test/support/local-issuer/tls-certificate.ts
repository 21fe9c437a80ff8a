import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'

/** PEM: a key, and its certificate, or a chain that starts with it. */
export interface TlsCertificate {
  readonly key: string
  readonly certificate: string
}

/** A certificate that others can be signed with. */
export interface TlsAuthority extends TlsCertificate {
  readonly name: string
  readonly privateKey: KeyObject
}

export interface TlsWish {
  /** Common name. */
  readonly name: string
  /** Default: it signs itself. */
  readonly issuer?: TlsAuthority
  /** Whether it may sign others; default true. */
  readonly isCa?: boolean
  /** IPv4, besides ::1 and localhost; default 127.0.0.1. */
  readonly address?: string
  /** From now; the first default yesterday, the second a year from now. */
  readonly startsInDays?: number
  readonly endsInDays?: number
}

const DAY_MILLISECONDS = 86_400_000

/** A self-signed TLS certificate for an IPv4 address, ::1 and localhost, good for a year: its own CA. */
export function makeTlsCertificate(address = '127.0.0.1'): TlsCertificate {
  return issueTlsCertificate({ name: 'hostcertd local issuer', address })
}

/**
 * Make a TLS certificate and its key.
 *
 * Node makes keys and signatures but no certificates, so the DER is written here (RFC 5280); thus no openssl program
 * is needed.
 */
export function issueTlsCertificate(wish: TlsWish): TlsAuthority {
  const { name, issuer, isCa = true, address = '127.0.0.1', startsInDays = -1, endsInDays = 365 } = wish
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const inDays = (days: number): Buffer => time(Date.now() + days * DAY_MILLISECONDS)
  const signed = sequence(
    der(0xa0, der(INTEGER, Buffer.of(2))),
    der(INTEGER, Buffer.concat([Buffer.of(1), randomBytes(8)])),
    sequence(oid(ECDSA_WITH_SHA256)),
    nameOf(issuer?.name ?? name),
    sequence(inDays(startsInDays), inDays(endsInDays)),
    nameOf(name),
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...(isCa ? [basicConstraints()] : []), subjectAltName(address))),
  )
  const signature = Buffer.concat([Buffer.of(0), sign('sha256', signed, issuer?.privateKey ?? privateKey)])
  const certificate = sequence(signed, sequence(oid(ECDSA_WITH_SHA256)), der(BIT_STRING, signature))
  return {
    name,
    privateKey,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    certificate: pem('CERTIFICATE', certificate),
  }
}

function nameOf(commonName: string): Buffer {
  return sequence(set(sequence(oid(COMMON_NAME), der(UTF8_STRING, Buffer.from(commonName)))))
}

/** Tags of X.690. */
const INTEGER = 0x02
const BIT_STRING = 0x03
const OCTET_STRING = 0x04
const OBJECT_IDENTIFIER = 0x06
const UTF8_STRING = 0x0c
const GENERALIZED_TIME = 0x18
const UTC_TIME = 0x17

/** Object identifiers, in their DER form. */
const COMMON_NAME = '550403'
const BASIC_CONSTRAINTS = '551d13'
const SUBJECT_ALT_NAME = '551d11'
const ECDSA_WITH_SHA256 = '2a8648ce3d040302'

function basicConstraints(): Buffer {
  const yes = der(0x01, Buffer.of(0xff))
  return sequence(oid(BASIC_CONSTRAINTS), yes, der(OCTET_STRING, sequence(yes)))
}

function subjectAltName(address: string): Buffer {
  const ipv4 = Buffer.from(address.split('.').map(Number))
  const addresses = [ipv4, Buffer.concat([Buffer.alloc(15), Buffer.of(1)])]
  const names = sequence(der(0x82, Buffer.from('localhost')), ...addresses.map((ip) => der(0x87, ip)))
  return sequence(oid(SUBJECT_ALT_NAME), der(OCTET_STRING, names))
}

/** RFC 5280, 4.1.2.5: two digits of the year until 2049, four from then on. */
function time(milliseconds: number): Buffer {
  const digits = `${new Date(milliseconds).toISOString().replace(/\..*|[-:T]/g, '')}Z`
  return digits < '2050'
    ? der(UTC_TIME, Buffer.from(digits.slice(2)))
    : der(GENERALIZED_TIME, Buffer.from(digits))
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts))
}

function set(...parts: readonly Buffer[]): Buffer {
  return der(0x31, Buffer.concat(parts))
}

function oid(hex: string): Buffer {
  return der(OBJECT_IDENTIFIER, Buffer.from(hex, 'hex'))
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content])
  if (length < 0x100) return Buffer.concat([Buffer.of(tag, 0x81, length), content])
  return Buffer.concat([Buffer.of(tag, 0x82, length >> 8, length & 0xff), content])
}

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').replace(/.{64}/g, '$&\n').trimEnd()
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}
