/** Thrown by {@link WireReader} on input that ends early or goes on too long. */
export class WireError extends Error {
  override readonly name = 'WireError'
}

/** Reads the data types of RFC 4251, section 5, from one buffer, strictly: nothing is skipped or padded. */
export class WireReader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get offset(): number {
    return this.#offset
  }

  uint32(): number {
    return this.#take(4).readUInt32BE(0)
  }

  uint64(): bigint {
    return this.#take(8).readBigUInt64BE(0)
  }

  /** `string`: a length and so many bytes, any bytes. */
  string(): Buffer {
    return this.#take(this.uint32())
  }

  /** A `string` that must be UTF-8. */
  text(): string {
    const bytes = this.string()
    const text = bytes.toString('utf8')
    if (!Buffer.from(text, 'utf8').equals(bytes)) throw new WireError('a text is not UTF-8')
    return text
  }

  /** `mpint` that is not negative, in its shortest form; RFC 4251 demands both. */
  positiveMpint(): Buffer {
    const bytes = this.string()
    const [first = 0, second = 0] = bytes
    if (first >= 0x80) throw new WireError('a number is negative')
    if (bytes.length > 0 && first === 0 && second < 0x80) throw new WireError('a number has leading zeros')
    return bytes
  }

  /** So many bytes, whatever they are. */
  bytes(length: number): Buffer {
    return this.#take(length)
  }

  atEnd(): boolean {
    return this.#offset === this.#bytes.length
  }

  /** @throws WireError when bytes are left */
  end(what: string): void {
    if (!this.atEnd())
      throw new WireError(`${this.#bytes.length - this.#offset} bytes after the end of ${what}`)
  }

  #take(length: number): Buffer {
    if (length > this.#bytes.length - this.#offset) throw new WireError('the data ends early')
    const part = this.#bytes.subarray(this.#offset, this.#offset + length)
    this.#offset += length
    return part
  }
}

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
 * `parseCertificate` (host-certificate.ts) refuses too: a CA in a security key, a key id that is not UTF-8.
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
    return { keyBlob: Buffer.concat([lengthPrefixed(Buffer.from(plainType)), parts]), serial, validBefore }
  } catch {
    return null
  }
}

/** A `string` with these bytes. */
export function lengthPrefixed(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}
