import { createHash } from 'node:crypto'
import sshpk from 'sshpk'
import { AgentError, messageOf } from './errors.ts'
import { isKeyType, isSshpkType, readKeyParts, type KeyType } from './key-types.ts'
import { fingerprintOf, publicKeyOf, splitKeyLine, type PublicKey } from './public-key.ts'
import { verifySignature } from './signature.ts'
import { quote } from './text.ts'
import { secondsOf, type UnixSeconds } from './time.ts'
import { certificateTypeOf, lengthPrefixed, plainTypeOf, WireReader } from './wire.ts'

/** SSHKEY_CERT_MAX_PRINCIPALS in sshkey.h: sshd, ssh and ssh-keygen read no certificate with more. */
const MAX_PRINCIPALS = 256

/** PROTOCOL.certkeys: the values of the field `type`. */
const KINDS: Readonly<Record<number, 'host' | 'user'>> = { 1: 'user', 2: 'host' }

/** An OpenSSH certificate, exact to the bit; a user certificate until someone looks at {@link kind}. */
export interface Certificate {
  readonly kind: 'host' | 'user'
  /** The plain type of the certified key, `ssh-ed25519`, not the type of the certificate. */
  readonly keyType: KeyType
  /** The certified key, as it stands in a plain public key line. */
  readonly publicKey: PublicKey
  readonly serial: bigint
  readonly keyId: string
  /** Empty when the certificate names none: then it is valid for any name. `*` here is a literal star. */
  readonly principals: readonly string[]
  readonly validAfter: bigint
  /** {@link FOREVER} when it never expires. */
  readonly validBefore: bigint
  readonly criticalOptions: ReadonlyMap<string, string>
  readonly extensions: ReadonlyMap<string, string>
  readonly ca: PublicKey
  /** As the signature names it, `rsa-sha2-512` for one; not yet checked against the CA's key. */
  readonly signatureAlgorithm: string
  /** What the signature covers: every received byte before the signature. */
  readonly signedBytes: Buffer
  readonly signature: Buffer
  /** The whole certificate as received. */
  readonly blob: Buffer
}

/**
 * Read one certificate line, `TYPE BASE64 [COMMENT]`. The format is PROTOCOL.certkeys of OpenSSH.
 * Where sshpk knows the types it must take it as well; what sshpk cannot tell (64-bit times, no principals, the signed
 * bytes) is read here.
 * Anything that is not in its one canonical form is refused. The signature is not verified here.
 *
 * @param text one line, or a file with one line
 * @throws AgentError CERT_UNPARSABLE
 */
export function parseCertificate(text: string): Certificate {
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  const [line] = lines
  if (line === undefined) throw unparsable('it is empty')
  if (lines.length > 1) throw unparsable(`${lines.length} lines where one is expected`)
  const { type, blob } = splitKeyLine(line)
  const keyType = plainTypeOf(type) ?? ''
  if (!isKeyType(keyType)) throw unparsable(`${quote(type)} is not a certificate type that is supported`)
  if (blob === null) throw unparsable('its base64 is incomplete or damaged')
  try {
    // Our reading comes first, for its reasons are the clearer ones; both must agree that it is a certificate.
    const certificate = readFields(blob, type, keyType)
    if (isSshpkType(keyType) && isSshpkType(certificate.ca.type))
      sshpk.parseCertificate(`${type} ${blob.toString('base64')}`, 'openssh')
    return certificate
  } catch (error) {
    throw unparsable(messageOf(error), error)
  }
}

function readFields(blob: Buffer, type: string, keyType: KeyType): Certificate {
  const reader = new WireReader(blob)
  const inner = reader.text()
  if (inner !== type)
    throw new Error(`the line names the type ${quote(type)}, the certificate in it is ${quote(inner)}`)
  reader.string() // nonce
  const keyStart = reader.offset
  readKeyParts(reader, keyType)
  const publicKey = publicKeyOf(plainKeyBlob(keyType, blob.subarray(keyStart, reader.offset)))
  const serial = reader.uint64()
  const kind = KINDS[reader.uint32()]
  if (kind === undefined) throw new Error('it is neither a user nor a host certificate')
  const keyId = nameIn(reader)
  const principals = readPrincipals(reader.string())
  const validAfter = reader.uint64()
  const validBefore = reader.uint64()
  const criticalOptions = readOptions(reader.string(), 'critical options')
  const extensions = readOptions(reader.string(), 'extensions')
  reader.string() // reserved
  const caBlob = Buffer.from(reader.string())
  const signedBytes = blob.subarray(0, reader.offset)
  const signature = reader.string()
  reader.end('the certificate')
  const signatureAlgorithm = new WireReader(signature).text()
  const ca = caOf(caBlob, signatureAlgorithm)
  return {
    kind,
    keyType,
    publicKey,
    serial,
    keyId,
    principals,
    validAfter,
    validBefore,
    criticalOptions,
    extensions,
    ca,
    signatureAlgorithm,
    signedBytes,
    signature,
    blob,
  }
}

/**
 * The CA's key. One of a type that came after this program is taken as it is, where the signature is of the same type: a
 * type that only one of them names is damage.
 */
function caOf(blob: Buffer, signatureAlgorithm: string): PublicKey {
  const type = new WireReader(blob).text()
  const isNewType = !isKeyType(type) && plainTypeOf(type) === null && certificateTypeOf(type) === null
  return isNewType && type === signatureAlgorithm
    ? { type, blob, fingerprint: fingerprintOf(blob) }
    : publicKeyOf(blob)
}

/** A certificate is judged several times in one pass; its signature is verified once. */
const verifiedSignatures = new WeakMap<Certificate, boolean | null>()

/**
 * Whether the CA's key made this signature over the bytes as received, by an algorithm that fits that key.
 *
 * @returns null when that cannot be known here, which is no yes
 */
export function isSignatureValid(cert: Certificate): boolean | null {
  const known = verifiedSignatures.get(cert)
  if (known !== undefined) return known
  const isValid = verifySignature(cert.ca, cert.signature, cert.signedBytes)
  verifiedSignatures.set(cert, isValid)
  return isValid
}

/** From when on the certificate is valid, for arithmetic; exact up to the year 285 million. */
export function validAfterOf(cert: Certificate): UnixSeconds {
  return Number(cert.validAfter)
}

/** When the certificate ends, for arithmetic; `Infinity` for forever. */
export function validBeforeOf(cert: Certificate): UnixSeconds {
  return secondsOf(cert.validBefore)
}

/** By which certificates are compared: what sshd presents may be one that cannot be parsed. SHA-256, hexadecimal. */
export function digestOf(blob: Uint8Array): string {
  return createHash('sha256').update(blob).digest('hex')
}

/** The line that goes into a `-cert.pub` file, without a newline. */
export function certificateLine(cert: Certificate, comment: string): string {
  const line = `${certificateTypeOf(cert.keyType)} ${cert.blob.toString('base64')}`
  return comment === '' ? line : `${line} ${comment}`
}

function plainKeyBlob(type: KeyType, parts: Buffer): Buffer {
  return Buffer.concat([lengthPrefixed(Buffer.from(type)), parts])
}

function readPrincipals(bytes: Buffer): string[] {
  const reader = new WireReader(bytes)
  const principals: string[] = []
  while (!reader.atEnd()) principals.push(nameIn(reader))
  if (principals.length > MAX_PRINCIPALS)
    throw new Error(`it has ${principals.length} principals, and OpenSSH refuses more than ${MAX_PRINCIPALS}`)
  return principals
}

/**
 * Names and data in pairs, none twice; the data of an option is itself a string, or empty for a flag. Data of another
 * make, which OpenSSH does not define, reads as hexadecimal.
 */
function readOptions(bytes: Buffer, what: string): Map<string, string> {
  const reader = new WireReader(bytes)
  const options = new Map<string, string>()
  while (!reader.atEnd()) {
    const name = nameIn(reader)
    if (options.has(name)) throw new Error(`${quote(name)} stands twice in the ${what}`)
    const data = reader.string()
    options.set(name, data.length === 0 ? '' : optionValue(data))
  }
  return options
}

function optionValue(data: Buffer): string {
  try {
    const reader = new WireReader(data)
    const value = reader.text()
    reader.end('an option')
    return value
  } catch {
    return data.toString('hex')
  }
}

/** A text without NUL: C programs, sshd among them, would read it as a shorter one. */
function nameIn(reader: WireReader): string {
  const text = reader.text()
  if (text.includes('\0')) throw new Error('a name contains a NUL byte')
  return text
}

function unparsable(why: string, cause?: unknown): AgentError {
  return new AgentError('CERT_UNPARSABLE', `not an OpenSSH certificate: ${why}`, { cause })
}

/** How the file of a certificate ends. */
export const CERTIFICATE_SUFFIX = '-cert.pub'

/** `ssh_host_ed25519_key-cert.pub`: the file of a host key's certificate, as ssh-keygen(1) calls it. */
export function certificateFileOf(hostKeyName: string): string {
  return hostKeyName + CERTIFICATE_SUFFIX
}
