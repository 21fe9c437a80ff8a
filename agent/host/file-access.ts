import { randomBytes } from 'node:crypto'
import { access, constants, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { oneLine, reasonOf, systemCodeOf } from '../cert/text.ts'
import { runProgram } from './programs.ts'

/** Who a process is, as the kernel compares it; the daemon is in no other group (see `dropPrivileges`). */
export interface User {
  readonly uid: number
  readonly gid: number
  /** Besides. */
  readonly groups?: readonly number[]
}

/** Facts about a file, without opening it. */
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

/** The user of `hostcertd-exchange@.service`. */
export const EXCHANGE_USER = 'hostcertd-exchange'

/** The user of that name, by id(1); null when there is none. */
export async function userNamed(name: string, signal: AbortSignal): Promise<User | null> {
  const idsOf = async (option: string): Promise<readonly number[]> => {
    const limits = { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal }
    const { status, stdout } = await runProgram(['id', option, '--', name], limits)
    return status === 0 ? stdout.trim().split(' ').map(Number) : []
  }
  const [uid] = await idsOf('-u')
  const [gid, ...groups] = await idsOf('-G')
  return uid === undefined || gid === undefined ? null : { uid, gid, groups }
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

/** For root: try as a user, with all groups and access lists that count for it, whether a file can be read. */
export async function canRead(userName: string, file: string, signal: AbortSignal): Promise<boolean> {
  const asUser = ['runuser', '-u', userName, '--', 'test', '-r', file]
  const { status } = await runProgram(asUser, { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal })
  return status === 0
}

/** Why no file can be written in a folder. */
export interface WriteProblem {
  /**
   * - `denied`: by owner, mode or the like
   * - `read-only`: the file system is mounted so
   * - `full`: no space that this user may use
   * - `no-inodes`: no more files, though there is space
   * - `quota`: the user's own limit
   * - `other`: see `why`
   */
  readonly kind: 'denied' | 'read-only' | 'full' | 'no-inodes' | 'quota' | 'other'
  readonly why: string
}

/**
 * Write a file in a folder as a user, and remove it: O_EXCL first, then the bytes, on the disk. 41: that failed, and the
 * last line says why; anything else but 0: it could not be tried.
 */
const WRITE_AND_REMOVE = `f=$1/$2
set -C
true >"$f" || exit 41
dd if=/dev/zero of="$f" bs="$3" count=1 conv=notrunc,fsync
case $? in 0) s=0 ;; 126 | 127) s=$? ;; *) s=41 ;; esac
rm -f "$f" || exit 41
exit "$s"`
const WRITE_FAILED = 41
const TIMEOUT_MILLISECONDS = 15_000

/**
 * Whether a user can write a file in a folder, or why not. It is tried, as that user, where that can be: then access
 * lists count, and what a file system keeps for root only. What was written is removed again.
 *
 * @param bytes how large
 * @param signal stops what is run as that user
 * @returns `untried` when it cannot be tried, and there is no evidence against it
 */
export async function tryWriting(
  folder: string,
  user: User,
  bytes: number,
  signal: AbortSignal,
): Promise<'written' | 'untried' | WriteProblem> {
  const own = await access(folder, constants.W_OK | constants.X_OK).catch((error: unknown) => error)
  // The kernel returns this to every user, root included, before it checks owners and modes.
  if (systemCodeOf(own) === 'EROFS')
    return { kind: 'read-only', why: `the file system of ${folder} is mounted read-only` }
  const self = process.geteuid?.()
  const tried = self === user.uid || self === 0 ? await writeAs(user, folder, bytes, signal) : 'untried'
  if (tried === 'written') return 'written'
  const byMode = await whyDenied(folder, user, 'write')
  if (byMode !== null) return { kind: 'denied', why: byMode }
  const space = await spaceProblem(folder, user, bytes)
  if (space !== null) return space
  return tried === 'untried' ? 'untried' : { kind: kindOf(tried.message), why: `${folder}: ${tried.message}` }
}

async function writeAs(
  user: User,
  folder: string,
  bytes: number,
  signal: AbortSignal,
): Promise<'written' | 'untried' | { readonly message: string }> {
  // The name of a temporary file of ours: the daemon does not take it for a change, and removes one that was left.
  const name = `.doctor.hostcertd-${randomBytes(6).toString('hex')}.tmp`
  const { status, failure, stderr } = await runProgram(
    ['/bin/sh', '-c', WRITE_AND_REMOVE, 'sh', folder, name, String(bytes)],
    {
      ...(process.geteuid?.() === user.uid ? {} : { user }),
      environment: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' },
      timeoutMilliseconds: TIMEOUT_MILLISECONDS,
      signal,
    },
  )
  if (status === 0) return 'written'
  if (status !== WRITE_FAILED || failure !== null) return 'untried'
  const line = stderr.split('\n').find((text) => text.includes(name)) ?? stderr
  return { message: oneLine(line.replace(/^.*: /, '')) }
}

/** From statfs(2); some file systems have no fixed number of files. */
async function spaceProblem(folder: string, user: User, bytes: number): Promise<WriteProblem | null> {
  const stats = await statfs(folder).catch(() => null)
  if (stats === null) return null
  const { bavail, bfree, bsize, files, ffree } = stats
  const isFor = user.uid === 0 ? bfree : bavail
  if (isFor * bsize < bytes) {
    const reserved = bfree > bavail ? `; ${Math.floor((bfree * bsize) / 1024)} KiB are reserved for root` : ''
    return { kind: 'full', why: `no space left in the file system of ${folder}${reserved}` }
  }
  return files > 0 && ffree === 0
    ? { kind: 'no-inodes', why: `no inodes left in the file system of ${folder}` }
    : null
}

/** This only selects the advice; the message is shown in any case. */
function kindOf(message: string): WriteProblem['kind'] {
  if (/no space left/i.test(message)) return 'full'
  if (/quota/i.test(message)) return 'quota'
  if (/read-only/i.test(message)) return 'read-only'
  return /denied|not permitted/i.test(message) ? 'denied' : 'other'
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
    const isOfGroup = gid === user.gid || user.groups?.includes(gid) === true
    const granted = uid === user.uid ? mode >> 6 : isOfGroup ? mode >> 3 : mode
    if ((granted & bits) === bits) return null
    return `${path} is of user ${uid} and group ${gid}, mode 0${mode.toString(8)}`
  } catch (error) {
    return `${path}: ${reasonOf(error)}`
  }
}
