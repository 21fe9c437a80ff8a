import { constants, createHash, verify as cryptoVerify } from 'node:crypto'
import { applicationOf, isKeyType, mldsaKeyObject, toKeyObject, type KeyType } from './key-types.ts'
import type { PublicKey } from './public-key.ts'
import { WireReader } from './wire.ts'

/** Signature algorithms, by the type of the key (RFC 8332 for RSA), and what hashes the data. */
const ALGORITHMS: Readonly<Record<KeyType, Readonly<Record<string, string | null>>>> = {
  'ssh-ed25519': { 'ssh-ed25519': null },
  'ssh-rsa': { 'ssh-rsa': 'sha1', 'rsa-sha2-256': 'sha256', 'rsa-sha2-512': 'sha512' },
  'ecdsa-sha2-nistp256': { 'ecdsa-sha2-nistp256': 'sha256' },
  'ecdsa-sha2-nistp384': { 'ecdsa-sha2-nistp384': 'sha384' },
  'ecdsa-sha2-nistp521': { 'ecdsa-sha2-nistp521': 'sha512' },
  'sk-ssh-ed25519@openssh.com': { 'sk-ssh-ed25519@openssh.com': null },
  'sk-ecdsa-sha2-nistp256@openssh.com': { 'sk-ecdsa-sha2-nistp256@openssh.com': 'sha256' },
  'ssh-mldsa44-ed25519': { 'ssh-mldsa44-ed25519': 'sha512' },
  'ssh-mldsa44-ed25519@openssh.com': { 'ssh-mldsa44-ed25519@openssh.com': 'sha512' },
}

/** PROTOCOL.u2f: by way of a browser, over a document of its own; ssh-keygen makes no such signature. */
const WEBAUTHN = 'webauthn-sk-ecdsa-sha2-nistp256@openssh.com'

/** draft-ietf-lamps-pq-composite-sigs: the prefix of all composites, and the label of this one. */
const COMPOSITE_PREFIX = 'CompositeAlgorithmSignatures2025'
const COMPOSITE_LABEL = 'COMPSIG-MLDSA44-Ed25519-SHA512'
/** FIPS 204, table 2. */
const MLDSA44_SIGNATURE_BYTES = 2420
const ED25519_SIGNATURE_BYTES = 64

/**
 * Whether this key made this signature over the data, by an algorithm that fits the key.
 *
 * @param signature as in a certificate: the algorithm's name, then what belongs to it
 * @returns null when that cannot be known here: the type of key or signature is not supported, or this Node has no ML-DSA
 */
export function verifySignature(key: PublicKey, signature: Buffer, data: Buffer): boolean | null {
  const { type, blob } = key
  if (!isKeyType(type)) return null
  try {
    const reader = new WireReader(signature)
    const algorithm = reader.text()
    if (type === 'sk-ecdsa-sha2-nistp256@openssh.com' && algorithm === WEBAUTHN) return null
    if (!Object.hasOwn(ALGORITHMS[type], algorithm)) return false
    const hash = ALGORITHMS[type][algorithm] ?? null
    const body = reader.string()
    const keyObject = toKeyObject({ type, blob })
    switch (type) {
      case 'ssh-ed25519':
        reader.end('the signature')
        return cryptoVerify(null, data, keyObject, body)
      case 'ssh-rsa':
        reader.end('the signature')
        return cryptoVerify(hash, data, { key: keyObject, padding: constants.RSA_PKCS1_PADDING }, body)
      case 'ecdsa-sha2-nistp256':
      case 'ecdsa-sha2-nistp384':
      case 'ecdsa-sha2-nistp521':
        reader.end('the signature')
        return cryptoVerify(hash, data, keyObject, derOf(body))
      case 'sk-ssh-ed25519@openssh.com':
        return cryptoVerify(
          null,
          signedBySecurityKey(reader, applicationOf(blob, type), data),
          keyObject,
          body,
        )
      case 'sk-ecdsa-sha2-nistp256@openssh.com': {
        const signed = signedBySecurityKey(reader, applicationOf(blob, type), data)
        return cryptoVerify(hash, signed, keyObject, derOf(body))
      }
      case 'ssh-mldsa44-ed25519':
      case 'ssh-mldsa44-ed25519@openssh.com': {
        reader.end('the signature')
        if (body.length !== MLDSA44_SIGNATURE_BYTES + ED25519_SIGNATURE_BYTES) return false
        const signed = signedByComposite(data)
        if (!cryptoVerify(null, signed, keyObject, body.subarray(MLDSA44_SIGNATURE_BYTES))) return false
        const mldsa = mldsaKeyObject(blob)
        if (mldsa === null) return null
        const context = Buffer.from(COMPOSITE_LABEL)
        return cryptoVerify(null, signed, { key: mldsa, context }, body.subarray(0, MLDSA44_SIGNATURE_BYTES))
      }
    }
  } catch {
    return false
  }
}

/**
 * PROTOCOL.u2f: what a security key signs is made of its application, its flags (touched, PIN entered), its counter and
 * the data. Flags and counter follow in the signature.
 */
function signedBySecurityKey(reader: WireReader, application: Buffer, data: Buffer): Buffer {
  const flagsAndCounter = reader.bytes(5)
  reader.end('the signature')
  return Buffer.concat([digest('sha256', application), flagsAndCounter, digest('sha256', data)])
}

/** What both halves sign: there is no context of ours, so its length is 0. */
function signedByComposite(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${COMPOSITE_PREFIX}${COMPOSITE_LABEL}\0`), digest('sha512', data)])
}

function digest(algorithm: 'sha256' | 'sha512', data: Buffer): Buffer {
  return createHash(algorithm).update(data).digest()
}

/** RFC 5656, section 3.1.2: two mpints; node:crypto wants them in DER. */
function derOf(body: Buffer): Buffer {
  const reader = new WireReader(body)
  const r = derInteger(reader.positiveMpint())
  const s = derInteger(reader.positiveMpint())
  reader.end('the signature')
  const length = r.length + s.length
  return Buffer.concat([Buffer.from(length < 0x80 ? [0x30, length] : [0x30, 0x81, length]), r, s])
}

function derInteger(mpint: Buffer): Buffer {
  if (mpint.length === 0 || mpint.length > 67) throw new Error('a number of the signature is out of range')
  return Buffer.concat([Buffer.from([0x02, mpint.length]), mpint])
}
