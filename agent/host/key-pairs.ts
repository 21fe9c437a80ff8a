import { access, constants, realpath, stat } from 'node:fs/promises'
import { parsePublicKeyLine } from '../cert/public-key.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { pathsMatching, readBoundedFile, SMALL_FILE_BYTES } from './files.ts'
import { findProgram, runProgram } from './programs.ts'

/** Which key a private half is. `ssh-keygen -y` reads it, and prints nothing but its public key. */
export type PrivateHalf =
  | { readonly kind: 'read'; readonly type: string; readonly blob: Buffer; readonly fingerprint: string }
  | { readonly kind: 'absent' }
  /** ssh-keygen refuses it, and so would sshd: a passphrase, modes, damage; its words. */
  | { readonly kind: 'refused'; readonly why: string }
  /** Only root may read it, or there is no ssh-keygen. */
  | { readonly kind: 'unknown'; readonly why: string }

/** A host key that sshd is configured to load. */
export interface LoadedKey {
  /** As sshd has it: of the private half, or of the public one when an agent holds the key. */
  readonly path: string
  /** What is at the path, taken for a private half. */
  readonly half: PrivateHalf
  /** Without symlinks; null when it is not there. */
  readonly real: string | null
  /** Of its public key, by the private half, else by the public one; null when neither can be read. */
  readonly blob: Buffer | null
}

const TIMEOUT_MILLISECONDS = 5_000

/** Where the private half of a public one is expected. */
export function privatePathOf(publicPath: string): string {
  return publicPath.replace(/\.pub$/, '')
}

/** The command that writes the public half of a private one anew. */
export function publicHalfRemedy(privatePath: string): string {
  return `\`ssh-keygen -y -f ${privatePath} > ${privatePath}.pub && chmod 644 ${privatePath}.pub\``
}

export async function readPrivateHalf(path: string, signal: AbortSignal): Promise<PrivateHalf> {
  try {
    if (!(await stat(path)).isFile()) return { kind: 'refused', why: 'it is not a regular file' }
    await access(path, constants.R_OK)
  } catch (error) {
    const code = systemCodeOf(error)
    return code === 'ENOENT' || code === 'ENOTDIR'
      ? { kind: 'absent' }
      : { kind: 'unknown', why: reasonOf(error) }
  }
  const program = await findProgram('ssh-keygen')
  if (program === null) return { kind: 'unknown', why: 'there is no ssh-keygen' }
  const limits = { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal }
  // The empty passphrase, or it would ask for one.
  const { status, failure, stdout, stderr } = await runProgram([program, '-y', '-P', '', '-f', path], limits)
  if (failure !== null) return { kind: 'unknown', why: failure }
  if (status === 0) {
    try {
      return { kind: 'read', ...parsePublicKeyLine(stdout) }
    } catch (error) {
      return { kind: 'unknown', why: reasonOf(error) }
    }
  }
  const [why = `ssh-keygen ended with status ${status}`] = stderr.trim().split('\n').slice(-1)
  return { kind: 'refused', why }
}

/** Private halves where `host_keys` expects public ones, by their patterns; in the order of their paths. */
export async function privatePathsOf(patterns: readonly string[]): Promise<string[]> {
  const found = new Set<string>()
  for (const pattern of patterns) {
    if (!pattern.endsWith('.pub')) continue
    for (const path of await pathsMatching(privatePathOf(pattern))) if (await isThere(path)) found.add(path)
  }
  return [...found].sort()
}

/** Whether there is a file, or we may not know that there is none. */
export async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    (error: unknown) => !['ENOENT', 'ENOTDIR'].includes(systemCodeOf(error) ?? ''),
  )
}

/** @param path of a HostKey that sshd names */
export async function readLoadedKey(path: string, signal: AbortSignal): Promise<LoadedKey> {
  const real = await realpath(path).catch(() => null)
  const half = await readPrivateHalf(path, signal)
  if (half.kind === 'read') return { path, half, real, blob: half.blob }
  return { path, half, real, blob: (await readPublicHalf(path)) ?? (await readPublicHalf(`${path}.pub`)) }
}

async function readPublicHalf(path: string): Promise<Buffer | null> {
  try {
    return parsePublicKeyLine(await readBoundedFile(path, SMALL_FILE_BYTES)).blob
  } catch {
    return null
  }
}
