import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { FOREVER } from '../../agent/cert/time.ts'
import { certificateTypeOf } from '../../agent/cert/wire.ts'

/** RFC 4251, section 5, written out a second time, so that a mistake in the reader cannot hide in the tests. */
export function sshString(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content)
  return Buffer.concat([uint32(bytes.length), bytes])
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

/** A list of strings inside a string. */
export function stringList(items: readonly (string | Buffer)[]): Buffer {
  return sshString(Buffer.concat(items.map(sshString)))
}

/** Names and values as PROTOCOL.certkeys packs them; a value of '' is a flag. */
export function optionList(options: Readonly<Record<string, string>>): Buffer {
  return stringList(
    Object.entries(options).flatMap(([name, value]) => [name, value === '' ? '' : sshString(value)]),
  )
}

/** A key of our own making, for what ssh-keygen would not sign. */
export interface CraftedKey {
  /** The signature that it makes as a CA, with its name in front. */
  readonly signs: (body: Buffer) => Buffer
  /** As in a public key line. */
  readonly blob: Buffer
  readonly line: string
}

export function craftKey(): CraftedKey {
  const { privateKey, point } = ed25519Pair()
  return craftedOf([sshString('ssh-ed25519'), sshString(point)], (body) => sign(null, body, privateKey))
}

/** A host key of another type; not for a CA. */
export function craftEcdsaKey(curve: 256 | 384 | 521): CraftedKey {
  const { point } = ecPair(curve)
  const name = `nistp${curve}`
  return craftedOf([sshString(`ecdsa-sha2-${name}`), sshString(name), sshString(point)], () => {
    throw new Error('not for a CA')
  })
}

/** A key in a security key, as PROTOCOL.u2f has it: touched, the counter at 9. */
export function craftSecurityKey(kind: 'ed25519' | 'ecdsa', application = 'ssh:'): CraftedKey {
  const state = Buffer.from('0100000009', 'hex')
  const signedFor = (body: Buffer): Buffer =>
    Buffer.concat([hash('sha256', application), state, hash('sha256', body)])
  if (kind === 'ed25519') {
    const { privateKey, point } = ed25519Pair()
    const type = sshString('sk-ssh-ed25519@openssh.com')
    return craftedOf(
      [type, sshString(point), sshString(application)],
      (body) => sign(null, signedFor(body), privateKey),
      state,
    )
  }
  const { privateKey, point } = ecPair(256)
  const type = sshString('sk-ecdsa-sha2-nistp256@openssh.com')
  const signs = (body: Buffer): Buffer => {
    const raw = sign('sha256', signedFor(body), { key: privateKey, dsaEncoding: 'ieee-p1363' })
    return Buffer.concat([mpint(raw.subarray(0, 32)), mpint(raw.subarray(32))])
  }
  return craftedOf([type, sshString('nistp256'), sshString(point), sshString(application)], signs, state)
}

/** ML-DSA-44 and Ed25519: draft-miller-sshm-mldsa44-ed25519-composite-sigs. */
export function craftCompositeKey(
  type = 'ssh-mldsa44-ed25519',
  label = 'COMPSIG-MLDSA44-Ed25519-SHA512',
): CraftedKey {
  const mldsa = generateKeyPairSync('ml-dsa-44')
  const ed25519 = ed25519Pair()
  const spki = mldsa.publicKey.export({ format: 'der', type: 'spki' })
  const bytes = Buffer.concat([spki.subarray(-1312), ed25519.point])
  return craftedOf([sshString(type), sshString(bytes)], (body) => {
    const signed = Buffer.concat([
      Buffer.from(`CompositeAlgorithmSignatures2025${label}\0`),
      hash('sha512', body),
    ])
    return Buffer.concat([
      sign(null, signed, { key: mldsa.privateKey, context: Buffer.from(label) }),
      sign(null, signed, ed25519.privateKey),
    ])
  })
}

function ed25519Pair(): { privateKey: KeyObject; point: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  return { privateKey, point: Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url') }
}

function ecPair(curve: 256 | 384 | 521): { privateKey: KeyObject; point: Buffer } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: `P-${curve}` })
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
  return { privateKey, point }
}

/** A number that is not negative, in its shortest form. */
function mpint(bytes: Buffer): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0)
  const digits = first === -1 ? Buffer.alloc(0) : bytes.subarray(first)
  return sshString((digits[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), digits]) : digits)
}

function hash(algorithm: 'sha256' | 'sha512', content: string | Buffer): Buffer {
  return createHash(algorithm).update(content).digest()
}

/** @param after what follows the signature proper: the state of a security key */
function craftedOf(
  fields: readonly [Buffer, ...Buffer[]],
  signs: (body: Buffer) => Buffer,
  after = Buffer.alloc(0),
): CraftedKey {
  const blob = Buffer.concat(fields)
  const signature = (body: Buffer): Buffer => Buffer.concat([fields[0], sshString(signs(body)), after])
  return { signs: signature, blob, line: lineOf(blob) }
}

/** The fields of a certificate, each ready for the wire, so that a test may spoil any of them. */
export function certificateFields(key: CraftedKey, ca: CraftedKey) {
  const typeEnd = 4 + key.blob.readUInt32BE(0)
  return {
    type: sshString(certificateTypeOf(key.blob.toString('utf8', 4, typeEnd)) ?? ''),
    nonce: sshString(createHash('sha256').update(key.blob).digest()),
    key: key.blob.subarray(typeEnd),
    serial: uint64(7n),
    kind: uint32(2),
    keyId: sshString('crafted'),
    principals: stringList(['host.example.com']),
    validAfter: uint64(0n),
    validBefore: uint64(FOREVER),
    criticalOptions: sshString(''),
    extensions: sshString(''),
    reserved: sshString(''),
    ca: sshString(ca.blob),
  }
}

export type CertificateFields = ReturnType<typeof certificateFields>

/** A certificate with a good signature over whatever fields it was given. */
export function craftCertificate(
  key: CraftedKey,
  ca: CraftedKey,
  changed: Partial<CertificateFields> = {},
): string {
  const fields = { ...certificateFields(key, ca), ...changed }
  const body = Buffer.concat(Object.values(fields))
  return lineOf(Buffer.concat([body, sshString(ca.signs(body))]))
}

/** A line of the type that the blob itself names. */
export function lineOf(blob: Buffer): string {
  return `${blob.toString('utf8', 4, 4 + blob.readUInt32BE(0))} ${blob.toString('base64')}`
}

export function blobOf(line: string): Buffer {
  return Buffer.from(line.split(' ')[1] ?? '', 'base64')
}
