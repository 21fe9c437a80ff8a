import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { generateKey, signCertificate, type KeyType } from '../ssh-keygen.ts'
import { Refusal } from './error-rows.ts'
import type { RegisteredHost } from './registry.ts'

/** A CA key on disk. Another key is another object, so that what is being signed ends with the key it began with. */
export interface CertificateAuthority {
  /** Of the private half. */
  readonly keyPath: string
  /** `TYPE BASE64 COMMENT`, without newline. */
  readonly publicKey: string
}

/** One certificate that the issuer has made. */
export interface IssuedCertificate {
  readonly hostId: string
  /** Decimal. */
  readonly serial: string
  /** As answered, with its newline; before any tampering. */
  readonly line: string
}

/** Of the keys that the real server signs. */
export const SIGNED_TYPES = ['ssh-rsa', 'ssh-ed25519', 'ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384']
/** ssh-keygen's words for a public key that it cannot read. */
const UNREADABLE_KEY = /load pubkey|unable to open/
/** The server dates its certificates back by this, then to the full minute. */
const BACKDATE_SECONDS = 59
/** A longer ttl overflows a 32-bit column of the server. */
const LONGEST_TTL_SECONDS = 2 ** 31

export async function makeCertificateAuthority(folder: string, name: string, type: KeyType) {
  const keyPath = join(folder, name)
  const ca: CertificateAuthority = { keyPath, publicKey: await generateKey(keyPath, type, name) }
  return ca
}

/**
 * Sign a host's public key as the issuer does: with ssh-keygen, so that its ways with comments and second lines are the
 * real ones.
 *
 * @param signedTypes of the keys that are accepted, compared with the start of the line, as the real server does
 * @param now milliseconds since the epoch
 * @throws Refusal 400 for a key that is not accepted, 500 for a ttl too long
 */
export async function issueCertificate(
  ca: CertificateAuthority,
  host: RegisteredHost,
  publicKey: string,
  signedTypes: ReadonlySet<string>,
  now: number,
): Promise<IssuedCertificate> {
  if (![...signedTypes].some((type) => publicKey.startsWith(`${type} `))) throw new Refusal('unsupported-key')
  if (host.ttlSeconds > LONGEST_TTL_SECONDS) throw new Refusal('server-error')
  const seconds = Math.floor(now / 1000)
  const validAfter = seconds - BACKDATE_SECONDS - ((seconds - BACKDATE_SECONDS) % 60)
  const serial = randomSerial()
  try {
    const line = await signCertificate({
      ca: ca.keyPath,
      publicKey,
      keyId: `host-${host.id}`,
      principals: [host.hostname],
      validity: `${compact(validAfter)}:${compact(seconds + host.ttlSeconds)}`,
      serial,
    })
    return { hostId: host.id, serial: serial.toString(), line: `${line}\n` }
  } catch (error) {
    // Only what ssh-keygen says of the key is the caller's fault.
    if (UNREADABLE_KEY.test(String(error))) throw new Refusal('unparsable-key')
    throw error
  }
}

/** 63 bits, the highest always set, so that no JavaScript number can hold it. */
function randomSerial(): bigint {
  return (randomBytes(8).readBigUInt64BE() >> 1n) | (1n << 62n)
}

/** The form of `ssh-keygen -V`: YYYYMMDDHHMMSS. */
function compact(unixSeconds: number): string {
  return new Date(unixSeconds * 1000)
    .toISOString()
    .replace(/\.\d+Z$/, '')
    .replace(/[-:T]/g, '')
}
