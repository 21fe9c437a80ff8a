import { createHash } from 'node:crypto'
import { AgentError, messageOf } from './errors.ts'
import { isKeyType, readKeyParts, toKeyObject } from './key-types.ts'
import { quote } from './text.ts'
import { WireError, WireReader } from './wire.ts'

/** Those of them that the issuer signs. */
const ISSUED_KEY_TYPES: readonly string[] = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
]

/** A public key; that of a CA in a certificate may be of a type that is not known here. */
export interface PublicKey {
  readonly type: string
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
