import { plainTypeOf } from './certificate-types.ts'
import { WireReader } from './wire.ts'

/** What the layout of a certificate shows, whatever its CA type and the content of its strings. Unverified. */
interface CertificateOutline {
  /** The certified key as it stands in a plain public key line: RFC 4253, section 6.6. */
  readonly keyBlob: Buffer
  readonly serial: bigint
  /** As in the certificate: 2^64-1 for forever. */
  readonly validBefore: bigint
}

/** PROTOCOL.certkeys: how many fields the key itself has between the nonce and the serial. */
const KEY_FIELDS: Readonly<Record<string, number>> = {
  'ssh-ed25519': 1,
  'ssh-rsa': 2,
  'ssh-dss': 4,
  'ecdsa-sha2-nistp256': 2,
  'ecdsa-sha2-nistp384': 2,
  'ecdsa-sha2-nistp521': 2,
  'sk-ssh-ed25519@openssh.com': 2,
  'sk-ecdsa-sha2-nistp256@openssh.com': 3,
  'ssh-mldsa44-ed25519': 1,
  'ssh-mldsa44-ed25519@openssh.com': 1,
}

/**
 * Read the key, the serial and the end of a certificate that sshd presented. For what
 * {@link parseCertificate} refuses too: a CA in a security key, a key id that is not UTF-8.
 *
 * @returns null when it is not laid out as a certificate
 */
export function outlineOf(blob: Buffer): CertificateOutline | null {
  try {
    const reader = new WireReader(blob)
    const plainType = plainTypeOf(reader.text()) ?? ''
    const fields = KEY_FIELDS[plainType]
    if (fields === undefined) return null
    reader.string() // nonce
    const keyStart = reader.offset
    for (let field = 0; field < fields; field++) reader.string()
    const parts = blob.subarray(keyStart, reader.offset)
    const serial = reader.uint64()
    reader.uint32() // user or host
    reader.string() // key id
    reader.string() // principals
    reader.uint64() // valid after
    const validBefore = reader.uint64()
    return { keyBlob: Buffer.concat([lengthPrefixed(plainType), parts]), serial, validBefore }
  } catch {
    return null
  }
}

function lengthPrefixed(text: string): Buffer {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}
