import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { FOREVER } from '../../agent/cert/time.ts'

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

/** A key of our own making, for what ssh-keygen would not sign. As a CA it must be ed25519. */
export interface CraftedKey {
  readonly privateKey: KeyObject
  /** As in a public key line. */
  readonly blob: Buffer
  readonly line: string
}

export function craftKey(): CraftedKey {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const point = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url')
  return craftedOf(privateKey, [sshString('ssh-ed25519'), sshString(point)])
}

/** A host key of another type. */
export function craftEcdsaKey(curve: 256 | 384): CraftedKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: `P-${curve}` })
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
  const name = `nistp${curve}`
  return craftedOf(privateKey, [sshString(`ecdsa-sha2-${name}`), sshString(name), sshString(point)])
}

function craftedOf(privateKey: KeyObject, fields: readonly Buffer[]): CraftedKey {
  const blob = Buffer.concat(fields)
  return { privateKey, blob, line: lineOf(blob) }
}

/** The fields of a certificate, each ready for the wire, so that a test may spoil any of them. */
export function certificateFields(key: CraftedKey, ca: CraftedKey) {
  const typeEnd = 4 + key.blob.readUInt32BE(0)
  return {
    type: sshString(`${key.blob.toString('utf8', 4, typeEnd)}-cert-v01@openssh.com`),
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
  return lineOf(Buffer.concat([body, sshString(signatureOf(body, ca))]))
}

export function signatureOf(body: Buffer, ca: CraftedKey): Buffer {
  return Buffer.concat([sshString('ssh-ed25519'), sshString(sign(null, body, ca.privateKey))])
}

/** A line of the type that the blob itself names. */
export function lineOf(blob: Buffer): string {
  return `${blob.toString('utf8', 4, 4 + blob.readUInt32BE(0))} ${blob.toString('base64')}`
}

export function blobOf(line: string): Buffer {
  return Buffer.from(line.split(' ')[1] ?? '', 'base64')
}
