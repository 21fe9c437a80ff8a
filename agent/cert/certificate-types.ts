import { WireReader } from './wire.ts'

/**
 * Certificate types by the plain type of the key that they certify: PROTOCOL.certkeys, and `ssh -Q key` of OpenSSH 9.2 to
 * 10.6. A list, not a suffix: not every type ends in `-cert-v01@openssh.com`.
 */
const CERTIFICATE_TYPES = new Map(
  Object.entries({
    'ssh-ed25519': 'ssh-ed25519-cert-v01@openssh.com',
    'ssh-rsa': 'ssh-rsa-cert-v01@openssh.com',
    'ssh-dss': 'ssh-dss-cert-v01@openssh.com',
    'ecdsa-sha2-nistp256': 'ecdsa-sha2-nistp256-cert-v01@openssh.com',
    'ecdsa-sha2-nistp384': 'ecdsa-sha2-nistp384-cert-v01@openssh.com',
    'ecdsa-sha2-nistp521': 'ecdsa-sha2-nistp521-cert-v01@openssh.com',
    'sk-ssh-ed25519@openssh.com': 'sk-ssh-ed25519-cert-v01@openssh.com',
    'sk-ecdsa-sha2-nistp256@openssh.com': 'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com',
    'ssh-mldsa44-ed25519': 'ssh-mldsa44-ed25519-cert',
    'ssh-mldsa44-ed25519@openssh.com': 'ssh-mldsa44-ed25519-cert-v01@openssh.com',
  }),
)

const PLAIN_TYPES = new Map([...CERTIFICATE_TYPES].map(([plain, type]) => [type, plain]))

/** The type of a certificate for a key of this plain type; null for a type that OpenSSH does not certify. */
export function certificateTypeOf(keyType: string): string | null {
  return CERTIFICATE_TYPES.get(keyType) ?? null
}

/** The plain type of the key in a certificate of this type; null when this is not the type of a certificate. */
export function plainTypeOf(certificateType: string): string | null {
  return PLAIN_TYPES.get(certificateType) ?? null
}

/** How the file of a certificate ends. */
export const CERTIFICATE_SUFFIX = '-cert.pub'

/** `ssh_host_ed25519_key-cert.pub`: the file of a host key's certificate, as ssh-keygen(1) calls it. */
export function certificateFileOf(hostKeyName: string): string {
  return hostKeyName + CERTIFICATE_SUFFIX
}

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
