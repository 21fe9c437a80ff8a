import { execFile } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { makeTemporaryFolder } from './temporary-folder.ts'

const run = promisify(execFile)

/** `ecdsa` is P-256; `rsa` has 2048 bits, for more would make tests slow. */
export type KeyType = 'ed25519' | 'ecdsa' | 'rsa' | 'ecdsa-384' | 'ecdsa-521'

const TYPE_OPTIONS: Readonly<Record<KeyType, readonly string[]>> = {
  ed25519: ['-t', 'ed25519'],
  ecdsa: ['-t', 'ecdsa', '-b', '256'],
  'ecdsa-384': ['-t', 'ecdsa', '-b', '384'],
  'ecdsa-521': ['-t', 'ecdsa', '-b', '521'],
  rsa: ['-t', 'rsa', '-b', '2048'],
}

/** How to sign; what is left out is as `ssh-keygen -s` has it. */
export interface SignOptions {
  /** Path of the CA's private key. */
  readonly ca: string
  /** A public key line, or the absolute path of a file with one. */
  readonly publicKey: string
  /** Default `host`. */
  readonly kind?: 'host' | 'user'
  /** Default `test`. */
  readonly keyId?: string
  /** Default: none, and then the certificate is good for any name. */
  readonly principals?: readonly string[]
  /** As `-V`, in UTC: `+1h`, `-5m:+30d`, `20260101000000:20270101000000`, `always:forever`. Default: forever. */
  readonly validity?: string
  /** Default 0. */
  readonly serial?: bigint | string
  /** Each as one `-O`: `clear`, `critical:NAME=VALUE`, `extension:NAME`. */
  readonly options?: readonly string[]
  /** Signature algorithm of an RSA CA: `rsa-sha2-256`, `rsa-sha2-512`, `ssh-rsa`. */
  readonly algorithm?: string
}

/**
 * Make a key without a passphrase, in place of any that is there: the private half at `path`, the public half at
 * `path.pub`.
 *
 * @param comment default: `user@host`, ssh-keygen's own; may be empty
 * @returns the public key line, without newline
 */
export async function generateKey(path: string, type: KeyType, comment?: string): Promise<string> {
  await Promise.all([rm(path, { force: true }), rm(`${path}.pub`, { force: true })])
  const commentOption = comment === undefined ? [] : ['-C', comment]
  await run('ssh-keygen', ['-q', '-N', '', '-f', path, ...TYPE_OPTIONS[type], ...commentOption])
  return (await readFile(`${path}.pub`, 'utf8')).trimEnd()
}

/**
 * Sign a public key with `ssh-keygen -s`, in a folder of its own, so that the caller's files stay as they are.
 *
 * @returns the certificate line with its comment, without newline
 * @throws when ssh-keygen refuses, with its stderr in the message
 */
export async function signCertificate(wish: SignOptions): Promise<string> {
  await using folder = await makeTemporaryFolder()
  const file = join(folder.path, 'key.pub')
  await writeFile(file, isPath(wish.publicKey) ? await readFile(wish.publicKey) : `${wish.publicKey}\n`)
  const options = ['-q', '-s', wish.ca, '-I', wish.keyId ?? 'test', '-z', String(wish.serial ?? 0)]
  if (wish.kind !== 'user') options.push('-h')
  if (wish.principals !== undefined && wish.principals.length > 0)
    options.push('-n', wish.principals.join(','))
  if (wish.validity !== undefined) options.push('-V', wish.validity)
  if (wish.algorithm !== undefined) options.push('-t', wish.algorithm)
  for (const option of wish.options ?? []) options.push('-O', option)
  await run('ssh-keygen', [...options, file], { env: inUtc() })
  return (await readFile(join(folder.path, 'key-cert.pub'), 'utf8')).trimEnd()
}

/**
 * What `ssh-keygen -L` says of a certificate, times in UTC.
 *
 * @param certificate a line, or the absolute path of a file
 * @throws when it is no certificate, or its signature does not hold
 */
export async function listCertificate(certificate: string): Promise<string> {
  if (isPath(certificate)) return await list(certificate)
  await using folder = await makeTemporaryFolder()
  const file = join(folder.path, 'listed-cert.pub')
  await writeFile(file, `${certificate.trimEnd()}\n`)
  return await list(file)
}

async function list(file: string): Promise<string> {
  return (await run('ssh-keygen', ['-L', '-f', file], { env: inUtc() })).stdout
}

function isPath(pathOrLine: string): boolean {
  return pathOrLine.startsWith('/')
}

/** ssh-keygen reads and prints times in the local zone. */
function inUtc(): NodeJS.ProcessEnv {
  return { ...process.env, TZ: 'UTC' }
}
