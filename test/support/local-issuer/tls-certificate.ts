import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

/** PEM. The certificate is its own CA: what a client trusts and what the server shows. */
export interface TlsCertificate {
  readonly key: string
  readonly certificate: string
}

const DAY_MILLISECONDS = 86_400_000

/**
 * Make a self-signed TLS certificate for an IPv4 address, ::1 and localhost, good for a year.
 *
 * Node makes keys and signatures but no certificates, so the DER is written here (RFC 5280); thus no openssl program
 * is needed.
 */
export function makeTlsCertificate(address = '127.0.0.1'): TlsCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const name = sequence(
    set(sequence(oid(COMMON_NAME), der(UTF8_STRING, Buffer.from('hostcertd local issuer')))),
  )
  const now = Date.now()
  const signed = sequence(
    der(0xa0, der(INTEGER, Buffer.of(2))),
    der(INTEGER, Buffer.concat([Buffer.of(1), randomBytes(8)])),
    sequence(oid(ECDSA_WITH_SHA256)),
    name,
    sequence(time(now - DAY_MILLISECONDS), time(now + 365 * DAY_MILLISECONDS)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(basicConstraints(), subjectAltName(address))),
  )
  const signature = Buffer.concat([Buffer.of(0), sign('sha256', signed, privateKey)])
  const certificate = sequence(signed, sequence(oid(ECDSA_WITH_SHA256)), der(BIT_STRING, signature))
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    certificate: pem('CERTIFICATE', certificate),
  }
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
