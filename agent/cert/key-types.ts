import { createPublicKey, type KeyObject } from 'node:crypto'
import sshpk from 'sshpk'
import { quote } from './text.ts'
import { lengthPrefixed, WireError, WireReader } from './wire.ts'

/** Types of keys, and of CAs, that we can read: the plain names of `ssh-keygen -l` and of public key lines. */
export const KEY_TYPES = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
  'ssh-mldsa44-ed25519',
  // Its name before OpenSSH 10.6.
  'ssh-mldsa44-ed25519@openssh.com',
] as const

export type KeyType = (typeof KEY_TYPES)[number]

/** Those that sshpk reads. */
const SSHPK_TYPES: readonly string[] = KEY_TYPES.slice(0, 5)

export function isKeyType(type: string): type is KeyType {
  return (KEY_TYPES as readonly string[]).includes(type)
}

export function isSshpkType(type: string): boolean {
  return SSHPK_TYPES.includes(type)
}

/** What OpenSSH takes: SSH_RSA_MINIMUM_MODULUS_SIZE in sshkey.h, SSHBUF_MAX_BIGNUM in sshbuf.h. */
const RSA_BITS = { min: 1024, max: 16_384 } as const

/** SEC 1, section 2.3.3: the form 0x04, x, y; OpenSSH takes no other. */
const UNCOMPRESSED = 0x04
const POINT_BYTES = { nistp256: 65, nistp384: 97, nistp521: 133 } as const

const ED25519_BYTES = 32
/** FIPS 204, table 2. */
const MLDSA44_BYTES = 1312

/** Read past the parts of a public key, without its type: PROTOCOL.certkeys repeats them inside a certificate. */
export function readKeyParts(reader: WireReader, type: KeyType): void {
  switch (type) {
    case 'ssh-ed25519':
      readEd25519(reader)
      return
    case 'ssh-rsa': {
      if (reader.positiveMpint().length === 0) throw new WireError('the exponent of an RSA key is 0')
      const bits = bitLength(reader.positiveMpint())
      if (bits < RSA_BITS.min || bits > RSA_BITS.max) throw new WireError(`an RSA key of ${bits} bits`)
      return
    }
    case 'ecdsa-sha2-nistp256':
      readPoint(reader, 'nistp256', type)
      return
    case 'ecdsa-sha2-nistp384':
      readPoint(reader, 'nistp384', type)
      return
    case 'ecdsa-sha2-nistp521':
      readPoint(reader, 'nistp521', type)
      return
    case 'sk-ssh-ed25519@openssh.com':
      readEd25519(reader)
      readApplication(reader)
      return
    case 'sk-ecdsa-sha2-nistp256@openssh.com':
      readPoint(reader, 'nistp256', type)
      readApplication(reader)
      return
    case 'ssh-mldsa44-ed25519':
    case 'ssh-mldsa44-ed25519@openssh.com':
      readComposite(reader)
  }
}

/** The key as node:crypto wants it for verifying; of a security key the one in it, of a composite the Ed25519 half. */
export function toKeyObject({ type, blob }: { readonly type: KeyType; readonly blob: Buffer }): KeyObject {
  switch (type) {
    case 'sk-ssh-ed25519@openssh.com':
      return ed25519Of(readEd25519(partsOf(blob)))
    case 'sk-ecdsa-sha2-nistp256@openssh.com': {
      const point = readPoint(partsOf(blob), 'nistp256', type)
      return bySshpk('ecdsa-sha2-nistp256', Buffer.from('nistp256'), point)
    }
    case 'ssh-mldsa44-ed25519':
    case 'ssh-mldsa44-ed25519@openssh.com':
      return ed25519Of(readComposite(partsOf(blob)).ed25519)
    case 'ssh-ed25519':
    case 'ssh-rsa':
    case 'ecdsa-sha2-nistp256':
    case 'ecdsa-sha2-nistp384':
    case 'ecdsa-sha2-nistp521':
      return createPublicKey(sshpk.parseKey(blob, 'rfc4253').toBuffer('pkcs8').toString())
  }
}

/** RFC 9881: SubjectPublicKeyInfo with id-ml-dsa-44, up to the bytes of the key. */
const MLDSA44_SPKI = Buffer.from('30820532300b06096086480165030403110382052100', 'hex')

/** The post-quantum half of a composite key; null where this Node has no ML-DSA. */
export function mldsaKeyObject(blob: Buffer): KeyObject | null {
  const { mldsa } = readComposite(partsOf(blob))
  try {
    return createPublicKey({ key: Buffer.concat([MLDSA44_SPKI, mldsa]), format: 'der', type: 'spki' })
  } catch {
    // Any bytes of that length are a key.
    return null
  }
}

/** PROTOCOL.u2f: what a security key signs for, `ssh:` unless chosen otherwise. */
export function applicationOf(blob: Buffer, type: KeyType): Buffer {
  const reader = partsOf(blob)
  if (type === 'sk-ecdsa-sha2-nistp256@openssh.com') reader.string() // curve
  reader.string() // key
  return readApplication(reader)
}

function partsOf(blob: Buffer): WireReader {
  const reader = new WireReader(blob)
  reader.string() // type
  return reader
}

function ed25519Of(bytes: Buffer): KeyObject {
  return bySshpk('ssh-ed25519', bytes)
}

function bySshpk(type: KeyType, ...parts: readonly Buffer[]): KeyObject {
  return toKeyObject({ type, blob: Buffer.concat([Buffer.from(type), ...parts].map(lengthPrefixed)) })
}

function readEd25519(reader: WireReader): Buffer {
  const bytes = reader.string()
  if (bytes.length !== ED25519_BYTES) throw new WireError('an ed25519 key is not 32 bytes long')
  return bytes
}

function readPoint(reader: WireReader, wanted: keyof typeof POINT_BYTES, type: KeyType): Buffer {
  const curve = reader.text()
  if (curve !== wanted) throw new WireError(`curve ${quote(curve)} in a key of type ${type}`)
  const point = reader.string()
  if (point[0] !== UNCOMPRESSED || point.length !== POINT_BYTES[wanted])
    throw new WireError('a point of the curve is not in its uncompressed form')
  return point
}

function readApplication(reader: WireReader): Buffer {
  const application = reader.string()
  if (application.includes(0)) throw new WireError('the application of a security key contains a NUL byte')
  return application
}

/** ssh-mldsa-eddsa.c in OpenSSH: one string, the ML-DSA-44 key and then the Ed25519 key. */
function readComposite(reader: WireReader): { readonly mldsa: Buffer; readonly ed25519: Buffer } {
  const bytes = reader.string()
  if (bytes.length !== MLDSA44_BYTES + ED25519_BYTES)
    throw new WireError(`a composite key is ${bytes.length} bytes long, not ${MLDSA44_BYTES + ED25519_BYTES}`)
  return { mldsa: bytes.subarray(0, MLDSA44_BYTES), ed25519: bytes.subarray(MLDSA44_BYTES) }
}

function bitLength(mpint: Buffer): number {
  const significant = mpint[0] === 0 ? mpint.subarray(1) : mpint
  return significant.length === 0 ? 0 : significant.length * 8 - Math.clz32(significant[0] ?? 0) + 24
}
