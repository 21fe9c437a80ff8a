import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { oneLine, systemCodeOf } from '../cert/text.ts'
import { type FileOperations, isGone, makeFolder, readUpTo, replaceFile, syncFolder } from '../host/files.ts'
import { runProgram } from '../host/programs.ts'
import type { Access, FileChange, FileState, FolderChange } from './change.ts'
import { linesNotPutBack, takeOutOwnLines } from './own-lines.ts'

/** Something is in a file's place that enroll neither follows, nor replaces, nor removes: an administrator has to. */
export class Obstacle extends Error {}

/** Far more than any configuration of sshd or hostcertd. */
const LARGEST_FILE_BYTES = 1024 * 1024
const FOLDER_MODE = 0o755
const SECRET_FOLDER_MODE = 0o700

/**
 * A file with its mode and owner, for {@link FileChange.before}.
 *
 * @param isFolderCorrected whether the owner and mode of its folder are set before it is written
 * @returns null when there is none
 * @throws Obstacle when something else is in its place, or another user could change what is in its place meanwhile
 * @throws Error of the system call
 */
export async function readFileState(
  path: string,
  limit = LARGEST_FILE_BYTES,
  isFolderCorrected = false,
): Promise<FileState | null> {
  try {
    if (!isFolderCorrected) await refuseShared(dirname(path))
    // Opening a device can have effects, hence lstat first.
    refuseUnlessFile(await fs.lstat(path))
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants
    const handle = await fs.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    try {
      const stats = await handle.stat()
      refuseUnlessFile(stats)
      if (stats.size > limit) throw new Obstacle(`it is larger than ${limit / 1024} KiB`)
      const content = await readUpTo(handle, limit)
      return { content, mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid }
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isGone(error)) return null
    throw error
  }
}

type Stats = Awaited<ReturnType<typeof fs.lstat>>

function refuseUnlessFile(stats: Stats): void {
  if (stats.isFile()) return
  let what = 'a device, a FIFO or a socket'
  if (stats.isSymbolicLink()) what = 'a symbolic link'
  else if (stats.isDirectory()) what = 'a folder'
  throw new Obstacle(`it is ${what}, not a regular file`)
}

/** What is in such a folder may be of anybody. */
export class SharedFolder extends Obstacle {}

/**
 * Whoever else may write to a folder could put a link in the place of a file in it.
 *
 * @param path of a file or folder
 * @throws SharedFolder; Error of the system call
 */
export async function refuseShared(path: string): Promise<void> {
  const { uid, gid, mode } = await fs.stat(path)
  const isForeign = uid !== 0 && uid !== process.geteuid?.()
  const isShared = (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && gid !== 0 && gid !== process.getegid?.())
  if (isForeign || isShared) throw new SharedFolder(`other users than root may write to ${path}`)
}

export function isSameState(one: FileState | null, other: FileState | null): boolean {
  if (one === null || other === null) return one === other
  return (
    one.mode === other.mode &&
    one.uid === other.uid &&
    one.gid === other.gid &&
    one.content.equals(other.content)
  )
}

/** With the SHA-256 of its content in place of it. */
export function digested(state: FileState): FileState {
  return { ...state, content: createHash('sha256').update(state.content).digest() }
}

/** The folders above a path that are not there, the deepest first. */
export async function missingFolders(path: string): Promise<readonly string[]> {
  const missing: string[] = []
  for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
    try {
      await fs.lstat(folder)
      break
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT') throw error
      missing.push(folder)
    }
  }
  return missing
}

/** Make a change; the folders that it needs are made too. @returns as {@link putFileState} */
export async function makeFileChange(
  { path, after, isCredential = false }: FileChange,
  operations: FileOperations,
): Promise<string | null> {
  if (after !== null) {
    const folder = dirname(path)
    await makeFolder(isCredential ? dirname(folder) : folder, FOLDER_MODE, operations)
    if (isCredential) await makeFolder(folder, SECRET_FOLDER_MODE, operations)
  }
  return putFileState(path, after, operations)
}

/**
 * Set the owner and mode of a folder. What somebody else changed meanwhile stays.
 */
export async function setFolderAccess(
  { path, before, after }: Pick<FolderChange, 'path' | 'before' | 'after'>,
  operations: FileOperations,
): Promise<void> {
  const handle = await operations.open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const { mode, uid, gid } = await handle.stat()
    const pick = (now: number, from: number, to: number): number => (now === from ? to : now)
    await handle.chown(pick(uid, before.uid, after.uid), pick(gid, before.gid, after.gid))
    await handle.chmod(pick(mode & 0o7777, before.mode, after.mode))
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Put a file in place, durably, or remove it. Who calls this has seen that a regular file or nothing is there. A file that
 * keeps its mode and owner keeps its ACL, other extended attributes and security label as well; one that gets another mode
 * is to be accessible as that says, and loses them.
 *
 * @returns why it may have lost them although it was to keep them; null when nothing says so
 * @throws Error of the system call
 */
export async function putFileState(
  path: string,
  state: FileState | null,
  operations: FileOperations,
): Promise<string | null> {
  if (state !== null) {
    let lost: string | null = null
    await replaceFile(path, state.content, state.mode, operations, state, async (temporary) => {
      lost = await copyAttributes(path, temporary, state)
    })
    return lost
  }
  try {
    await operations.unlink(path)
    await syncFolder(dirname(path), operations)
  } catch (error) {
    if (!isGone(error)) throw error
  }
  return null
}

const CP_MILLISECONDS = 10_000

/**
 * Node cannot read them. Mode and owner are copied too, for an ACL is part of the mode; they are the same. A cp other than
 * GNU's may copy nothing.
 *
 * @param to has the content already, which only those may read who may read the old file
 * @returns as {@link putFileState}
 */
async function copyAttributes(from: string, to: string, { mode, uid, gid }: Access): Promise<string | null> {
  const old = await fs.lstat(from).catch(() => null)
  if (old?.isFile() !== true || (old.mode & 0o7777) !== mode || old.uid !== uid || old.gid !== gid)
    return null
  const argv = ['cp', '--attributes-only', '--preserve=all', '--no-preserve=timestamps,links', '--', from, to]
  const { status, failure, stderr } = await runProgram(argv, { timeoutMilliseconds: CP_MILLISECONDS })
  // For an attribute that it cannot set, it ends with 0 and a message.
  if (status === 0 && stderr === '') return null
  return oneLine(failure ?? (stderr === '' ? `cp ended with status ${status}` : stderr))
}

const NOT_EMPTY: readonly (string | null)[] = ['ENOTEMPTY', 'EEXIST']

/** Remove folders that enroll made, as far as they are empty. */
export async function removeEmptyFolders(
  folders: readonly string[],
  operations: FileOperations,
): Promise<void> {
  for (const folder of folders) {
    try {
      await operations.rmdir(folder)
      await syncFolder(dirname(folder), operations)
    } catch (error) {
      if (!isGone(error) && !NOT_EMPTY.includes(systemCodeOf(error))) throw error
    }
  }
}

/** What a file is to become when a change to it is undone. */
export interface FileUndoing {
  readonly target: FileState | null
  /** Others edited it since: the target is neither what was before nor what is there. */
  readonly isMerged: boolean
  /** What cannot be undone, and why. */
  readonly left: readonly string[]
}

/**
 * Decide how a change is undone. Content, mode and owner each go back to what was before if they still are as enroll
 * left them, and stay if somebody else changed them since.
 *
 * @param now what is there
 */
export function undoingOf(change: FileChange, now: FileState | null): FileUndoing {
  const { target, isMerged, left } = decideUndoing(change, now)
  return { target, isMerged, left: left.length === 0 ? [] : [...left, ...notPutBack(change, target)] }
}

/** Lines that enroll removed and that are not in the file: after the undoing nothing else keeps them. */
export function notPutBack(
  { before, after, isSecret }: FileChange,
  now: FileState | null,
): readonly string[] {
  if (before === null || isSecret) return []
  const contentOf = (state: FileState | null): Buffer => state?.content ?? Buffer.alloc(0)
  return linesNotPutBack(before.content, contentOf(after), contentOf(now))
}

function decideUndoing(change: FileChange, now: FileState | null): FileUndoing {
  const { before, after } = change
  const leave = (...left: string[]): FileUndoing => ({ target: now, isMerged: false, left })
  if (isSameState(now, before)) return leave()
  if (change.isOwn === true) return { target: before, isMerged: false, left: [] }
  if (isSameState(comparable(change, now), after)) return { target: before, isMerged: false, left: [] }
  if (now === null) return leave('it was removed since')
  if (after === null) {
    const isBack = before?.content.equals(now.content) === true
    return isBack ? leave() : leave('enroll removed it, and somebody has made another one since')
  }

  const { content, left } = contentWithout(change, after, now)
  if (before === null) {
    if (content.length === 0) return { target: null, isMerged: true, left }
    const added = left.length > 0 ? [] : ['it has lines that were added since']
    return { target: { ...now, content }, isMerged: true, left: [...left, ...added] }
  }
  const restored = (name: 'mode' | 'uid' | 'gid'): number =>
    now[name] === after[name] ? before[name] : now[name]
  const target = { content, mode: restored('mode'), uid: restored('uid'), gid: restored('gid') }
  return { target, isMerged: true, left }
}

/** What is there, as far as it can be compared with what enroll left. */
function comparable({ isForgotten }: FileChange, now: FileState | null): FileState | null {
  return isForgotten === true && now !== null ? digested(now) : now
}

function contentWithout(
  change: FileChange,
  after: FileState,
  now: FileState,
): { readonly content: Buffer; readonly left: readonly string[] } {
  const before = change.before?.content ?? Buffer.alloc(0)
  if (comparable(change, now)?.content.equals(after.content) === true) return { content: before, left: [] }
  if (now.content.equals(before)) return { content: before, left: [] }
  if (change.isForgotten === true) return { content: now.content, left: ['it was replaced since'] }
  return takeOutOwnLines(before, after.content, now.content, change.isSecret)
}
