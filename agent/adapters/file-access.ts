import { access, constants, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { reasonOf, systemCodeOf } from '../system/one-line.ts'
import { runProgram } from '../system/run-program.ts'

/** Who a process is, as the kernel compares it; the daemon is in no other group (see `become-owner.ts`). */
export interface User {
  readonly uid: number
  readonly gid: number
}

/** What is said of a file without opening it. */
export interface FileFacts extends User {
  /** The permission bits. */
  readonly mode: number
  readonly isFolder: boolean
  readonly isExecutable: boolean
}

/** @throws Error of the system call, ENOENT for one */
export async function factsOf(path: string): Promise<FileFacts> {
  const stats = await stat(path)
  const mode = stats.mode & 0o7777
  const { uid, gid } = stats
  return {
    uid,
    gid,
    mode,
    isFolder: stats.isDirectory(),
    isExecutable: stats.isFile() && (mode & 0o111) !== 0,
  }
}

/** The owner of a file or folder; null when it cannot be looked at. */
export async function ownerOf(path: string): Promise<User | null> {
  const facts = await factsOf(path).catch(() => null)
  return facts === null ? null : { uid: facts.uid, gid: facts.gid }
}

/**
 * Why a user may not do something with a file, by owners and modes; access lists and the like are not looked at.
 *
 * @param wanted `read`, or for a folder `write`: to make files in it
 * @returns null when the user may
 */
export async function whyDenied(path: string, user: User, wanted: 'read' | 'write'): Promise<string | null> {
  if (user.uid === 0) return null
  for (const folder of foldersAbove(path)) {
    const problem = await lacks(folder, user, 0o1)
    if (problem !== null) return problem
  }
  return lacks(path, user, wanted === 'read' ? 0o4 : 0o3)
}

const MAY_WRITE = 'test -w "$1" && test -x "$1"'
const TIMEOUT_MILLISECONDS = 5_000

/**
 * Why a user may not make files in a folder. The kernel is asked where it can be, so access lists count, and a file
 * system that nobody may write to.
 *
 * @param signal stops what is run as that user
 * @returns null when the user may
 */
export async function whyNotWritable(
  folder: string,
  user: User,
  signal: AbortSignal,
): Promise<{ readonly kind: 'denied' | 'read-only'; readonly why: string } | null> {
  const own = await access(folder, constants.W_OK | constants.X_OK).catch((error: unknown) => error)
  // So says the kernel to anybody, root among them, before it looks at owners and modes.
  if (systemCodeOf(own) === 'EROFS')
    return { kind: 'read-only', why: `the file system of ${folder} is mounted read-only` }
  const self = process.geteuid?.()
  const isDenied =
    self === user.uid ? own !== undefined : self === 0 ? await isDeniedTo(folder, user, signal) : null
  if (isDenied === false) return null
  const byMode = await whyDenied(folder, user, 'write')
  if (byMode !== null) return { kind: 'denied', why: byMode }
  return isDenied === true
    ? { kind: 'denied', why: `${folder}: ${own instanceof Error ? reasonOf(own) : 'permission denied'}` }
    : null
}

/** As that user itself; null when that cannot be tried. */
async function isDeniedTo(folder: string, user: User, signal: AbortSignal): Promise<boolean | null> {
  const argv = ['/bin/sh', '-c', MAY_WRITE, 'sh', folder]
  const { status } = await runProgram(argv, { user, signal, timeoutMilliseconds: TIMEOUT_MILLISECONDS })
  return status === 0 ? false : status === 1 ? true : null
}

/** From the root on. */
function foldersAbove(path: string): string[] {
  const above = dirname(path)
  return above === path ? [] : [...foldersAbove(above), above]
}

/** @param bits of read 4, write 2, search 1 */
async function lacks(path: string, user: User, bits: number): Promise<string | null> {
  try {
    const { mode, uid, gid } = await factsOf(path)
    const granted = uid === user.uid ? mode >> 6 : gid === user.gid ? mode >> 3 : mode
    if ((granted & bits) === bits) return null
    return `${path} is of user ${uid} and group ${gid}, mode 0${mode.toString(8)}`
  } catch (error) {
    return `${path}: ${reasonOf(error)}`
  }
}
