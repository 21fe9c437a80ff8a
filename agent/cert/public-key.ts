import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import sshpk from 'sshpk'
import { AgentError, messageOf } from './errors.ts'
import { quote } from './text.ts'
import { WireError, WireReader } from './wire.ts'

/** Algorithms that we can read; the plain names of `ssh-keygen -l` and of public key lines. */
export const KEY_TYPES = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
] as const

export type KeyType = (typeof KEY_TYPES)[number]

/** Those of them that the issuer signs. */
const ISSUED_KEY_TYPES: readonly string[] = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
]

/** What OpenSSH takes: SSH_RSA_MINIMUM_MODULUS_SIZE in sshkey.h, SSHBUF_MAX_BIGNUM in sshbuf.h. */
const RSA_BITS = { min: 1024, max: 16_384 } as const

/** SEC 1, section 2.3.3: the form 0x04, x, y; OpenSSH takes no other. */
const UNCOMPRESSED = 0x04
const POINT_BYTES = {
  'ecdsa-sha2-nistp256': 65,
  'ecdsa-sha2-nistp384': 97,
  'ecdsa-sha2-nistp521': 133,
} as const

/** A public key of a type that sshpk and the issuer know. */
export interface PublicKey {
  readonly type: KeyType
  /** RFC 4253, section 6.6: the bytes that a public key line carries in base64. */
  readonly blob: Buffer
  /** `SHA256:…` without padding, as `ssh-keygen -l` prints it. */
  readonly fingerprint: string
}

/** The line of a `.pub` file, taken apart; the type may be one that nobody here can use. */
interface PublicKeyLine {
  readonly type: string
  readonly blob: Buffer
  readonly fingerprint: string
  readonly comment: string
}

/**
 * Take a public key line apart: type, base64, and a comment that may hold spaces.
 *
 * @param text a whole `.pub` file or one line; blank lines and lines that start with `#` are skipped
 * @throws AgentError HOST_KEY_UNREADABLE when it is not exactly one well-formed line (half-written, say)
 */
export function parsePublicKeyLine(text: string): PublicKeyLine {
  if (text.startsWith('\u{FEFF}'))
    throw new AgentError('HOST_KEY_UNREADABLE', 'the file begins with a byte order mark')
  if (/^---- BEGIN SSH2 PUBLIC KEY ----/m.test(text))
    throw new AgentError('HOST_KEY_UNREADABLE', 'the file is in RFC 4716 format, not in that of OpenSSH')
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'))
  const [line] = lines
  if (line === undefined) throw new AgentError('HOST_KEY_UNREADABLE', 'the file holds no public key')
  if (lines.length > 1) throw new AgentError('HOST_KEY_UNREADABLE', 'the file holds more than one public key')
  const { type, blob, comment } = splitKeyLine(line)
  if (blob === null)
    throw new AgentError('HOST_KEY_UNREADABLE', 'the public key line is incomplete or damaged')
  let inner: string
  try {
    inner = new WireReader(blob).text()
  } catch {
    throw new AgentError('HOST_KEY_UNREADABLE', 'the public key is cut short')
  }
  if (inner !== type) {
    throw new AgentError(
      'HOST_KEY_UNREADABLE',
      `the line names the type ${quote(type)}, the key in it is ${quote(inner)}`,
    )
  }
  return { type, blob, fingerprint: fingerprintOf(blob), comment }
}

/**
 * Read a public key of a type that can be certified.
 *
 * @throws AgentError HOST_KEY_UNSUPPORTED for another type, HOST_KEY_UNREADABLE for damaged bytes
 */
export function readPublicKey(line: Pick<PublicKeyLine, 'type' | 'blob'>): PublicKey {
  if (!isKeyType(line.type)) {
    throw new AgentError('HOST_KEY_UNSUPPORTED', `keys of type ${quote(line.type)} are not supported`)
  }
  try {
    return publicKeyOf(line.blob)
  } catch (error) {
    throw new AgentError('HOST_KEY_UNREADABLE', `the public key is damaged: ${messageOf(error)}`, {
      cause: error,
    })
  }
}

/** Whether the issuer signs keys of this type: the server compares four prefixes. */
export function isIssuedKeyType(type: string): boolean {
  return ISSUED_KEY_TYPES.includes(type)
}

/** A public key line without a comment: `TYPE BASE64`. */
export function publicKeyText({ type, blob }: Pick<PublicKeyLine, 'type' | 'blob'>): string {
  return `${type} ${blob.toString('base64')}`
}

/**
 * CA keys, one a line, in the format of a `.pub` file; blank lines and `#` comments are skipped.
 *
 * @throws AgentError CONFIG_INVALID that names the line
 */
export function parseCaKeys(text: string): PublicKey[] {
  const form = otherFileForm(text)
  if (form !== null) throw new AgentError('CONFIG_INVALID', `it is ${form}; ${CA_KEY_LINE}`)
  const keys: PublicKey[] = []
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue
    try {
      keys.push(readPublicKey(parsePublicKeyLine(line.trim())))
    } catch (error) {
      const otherForm = otherLineForm(line.trim())
      const why = otherForm === null ? messageOf(error) : `it is ${otherForm}; ${CA_KEY_LINE}`
      throw new AgentError('CONFIG_INVALID', `line ${index + 1}: ${why}`, { cause: error })
    }
  }
  return keys
}

const CA_KEY_LINE = 'write the key alone, as in a .pub file: `TYPE BASE64`'

/** Files that hold a key, and not as one line of a `.pub` file each; null for any other. */
function otherFileForm(text: string): string | null {
  const start = text.replace(/^\u{FEFF}/u, '').trimStart()
  if (start.startsWith('---- BEGIN SSH2 PUBLIC KEY'))
    return 'a key in RFC 4716 form (`ssh-keygen -i -f` converts it)'
  if (/^-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/.test(start))
    return 'a private key, which does not belong here'
  if (start.startsWith('-----BEGIN CERTIFICATE')) return 'a TLS certificate, not an SSH key'
  if (start.startsWith('-----BEGIN ')) return 'a key in PEM form (`ssh-keygen -i -m PKCS8 -f` converts it)'
  return text.startsWith('\u{FEFF}') ? 'a file that begins with a byte order mark' : null
}

/** The line of another kind of file that has a key in it; null for any other. */
function otherLineForm(line: string): string | null {
  if (/^@(?:cert-authority|revoked)\s/.test(line))
    return `a line of known_hosts, with \`${line.split(/\s/)[0]}\``
  const fields = line.split(/\s+/)
  const at = fields.findIndex(
    (field, index) =>
      field !== '' &&
      splitKeyLine(fields.slice(index).join(' ')).blob !== null &&
      /^(?:ssh|ecdsa|sk)-/.test(field),
  )
  if (at < 1) return null
  const isOptions =
    /(?:^|,)(?:cert-authority|restrict|command=|from=|principals=|no-|permit|environment=|expiry-time=)/.test(
      fields[0] ?? '',
    )
  return isOptions ? 'a line of authorized_keys, with options' : 'a line of known_hosts, with host names'
}

/**
 * Read a public key from its bytes, strictly.
 *
 * @throws WireError when the bytes are not exactly one key of a known type
 */
export function publicKeyOf(blob: Buffer): PublicKey {
  const reader = new WireReader(blob)
  const type = reader.text()
  if (!isKeyType(type)) throw new WireError(`unknown key type ${quote(type)}`)
  readKeyParts(reader, type)
  reader.end('the key')
  const key = { type, blob, fingerprint: fingerprintOf(blob) }
  // sshpk accepts any numbers; OpenSSL checks that a point is on its curve.
  try {
    toKeyObject(key)
  } catch (error) {
    throw new WireError('its numbers make no key', { cause: error })
  }
  return key
}

/** Read past the parts of a public key, without its type: PROTOCOL.certkeys repeats them inside a certificate. */
export function readKeyParts(reader: WireReader, type: KeyType): void {
  switch (type) {
    case 'ssh-ed25519':
      if (reader.string().length !== 32) throw new WireError('an ed25519 key is not 32 bytes long')
      return
    case 'ssh-rsa': {
      if (reader.positiveMpint().length === 0) throw new WireError('the exponent of an RSA key is 0')
      const bits = bitLength(reader.positiveMpint())
      if (bits < RSA_BITS.min || bits > RSA_BITS.max) throw new WireError(`an RSA key of ${bits} bits`)
      return
    }
    case 'ecdsa-sha2-nistp256':
    case 'ecdsa-sha2-nistp384':
    case 'ecdsa-sha2-nistp521': {
      const curve = reader.text()
      if (`ecdsa-sha2-${curve}` !== type)
        throw new WireError(`curve ${quote(curve)} in a key of type ${type}`)
      const point = reader.string()
      if (point[0] !== UNCOMPRESSED || point.length !== POINT_BYTES[type])
        throw new WireError('a point of the curve is not in its uncompressed form')
    }
  }
}

function bitLength(mpint: Buffer): number {
  const significant = mpint[0] === 0 ? mpint.subarray(1) : mpint
  return significant.length === 0 ? 0 : significant.length * 8 - Math.clz32(significant[0] ?? 0) + 24
}

/** The key as node:crypto wants it for verifying. */
export function toKeyObject(key: PublicKey): KeyObject {
  return createPublicKey(sshpk.parseKey(key.blob, 'rfc4253').toBuffer('pkcs8').toString())
}

export function isKeyType(type: string): type is KeyType {
  return (KEY_TYPES as readonly string[]).includes(type)
}

export function fingerprintOf(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

/**
 * Split `TYPE BASE64 COMMENT`.
 *
 * @returns `blob` null when the base64 is absent or not in its one canonical form
 */
export function splitKeyLine(line: string): { type: string; blob: Buffer | null; comment: string } {
  // Blanks and tabs, as in OpenSSH: to it a byte order mark or a no-break space is no white space. With `s` and nested
  // optional parts no input makes this backtrack: a file may be 64 KiB of blanks.
  const match = /^[ \t]*(\S+)(?:[ \t]+(\S+)(?:[ \t\r\n]+(.*))?)?[ \t\r\n]*$/s.exec(line)
  const [, type = '', base64 = '', comment = ''] = match ?? []
  const blob = Buffer.from(base64, 'base64')
  const canonical = base64 !== '' && blob.toString('base64') === base64
  return { type, blob: canonical ? blob : null, comment: comment.trim() }
}
