import { createPrivateKey, type KeyObject } from 'node:crypto'
import { AgentError, messageOf } from '../../cert/errors.ts'
import { oneLine } from '../../cert/text.ts'
import { readCredential } from './credential-file.ts'
import type { LoginTools } from './login.ts'

/** RFC 7518, section 3.3; NIST SP 800-131A allows no shorter key either. */
export const LEAST_RSA_BITS = 2048

/** Shorter lines of a PEM file would also be found where there is no key. */
const SHORTEST_LINE = 16

/** A private key, and the text that it was read from. */
interface PrivateKey {
  readonly pem: string
  readonly key: KeyObject
}

/**
 * A private key in PEM form, not encrypted. Nothing that leaves the process may hold it from now on.
 *
 * @param what its name in messages: `signing key`
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export async function readPrivateKey(
  path: string,
  what: string,
  { readFile, secrets }: Pick<LoginTools, 'readFile' | 'secrets'>,
): Promise<PrivateKey> {
  const pem = await readCredential(path, what, readFile)
  return privateKeyOf(pem, path, what, { secrets })
}

/** As {@link readPrivateKey}, of a text that has been read from a file. */
export function privateKeyOf(
  pem: string,
  path: string,
  what: string,
  { secrets }: Pick<LoginTools, 'secrets'>,
): PrivateKey {
  for (const line of pem.split(/\r?\n/)) {
    if (line.length >= SHORTEST_LINE && !line.startsWith('-----')) secrets.add(line)
  }
  try {
    return { pem, key: createPrivateKey(pem) }
  } catch (error) {
    const message = `the ${what} in ${path} is not a private key in PEM form: ${flawOf(pem, error)}`
    throw new AgentError('CREDENTIAL_UNREADABLE', message, { cause: error })
  }
}

/**
 * For platforms that take RSA keys only.
 *
 * @param which `the API signing key in FILE`
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export function refuseOtherThanRsa(
  { asymmetricKeyType: type, asymmetricKeyDetails }: KeyObject,
  which: string,
): void {
  const bits = asymmetricKeyDetails?.modulusLength ?? 0
  if (type === 'rsa' && bits >= LEAST_RSA_BITS) return
  const flaw = type === 'rsa' ? `has ${bits} bits` : `is not an RSA key (${type ?? 'unknown'})`
  const message = `${which} ${flaw}; it must be RSA with at least ${LEAST_RSA_BITS} bits`
  throw new AgentError('CREDENTIAL_UNREADABLE', message)
}

function flawOf(pem: string, error: unknown): string {
  if (/BEGIN ENCRYPTED|^Proc-Type: 4,ENCRYPTED/m.test(pem)) {
    return 'it is encrypted with a passphrase; write it without a passphrase (`openssl pkey` removes it)'
  }
  if (pem.includes('BEGIN OPENSSH PRIVATE KEY')) {
    return "it is in OpenSSH's own form; `ssh-keygen -p -m PEM` converts it"
  }
  if (pem.includes('BEGIN CERTIFICATE') || pem.includes('BEGIN PUBLIC KEY')) return 'it is a public one'
  return pem.includes('PRIVATE KEY-----')
    ? oneLine(messageOf(error))
    : 'there is no BEGIN PRIVATE KEY line in it'
}
