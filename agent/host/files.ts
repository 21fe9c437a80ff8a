import { randomBytes } from 'node:crypto'
import { constants, statSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { lstat, open, readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { systemCodeOf } from '../cert/text.ts'

/** Of node:fs/promises, what can fail while something is written; a test passes one that does. */
export type FileOperations = Pick<typeof fs, 'open' | 'rename' | 'mkdir' | 'chmod' | 'unlink' | 'rmdir'>

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Without the pass lock, a younger one may belong to another process at work. */
const LEFTOVER_AGE_MILLISECONDS = 60_000
const TEMPORARY = /^\..+\.hostcertd-[0-9a-f]{12}\.tmp$/

/** Whether a path is that of a temporary file of {@link replaceFile}. */
export function isTemporaryFile(path: string): boolean {
  return TEMPORARY.test(basename(path))
}

/**
 * Put a file in place, durably: after it returns a power cut leaves the new one, before that the old one or the new
 * one, never a part. A symlink in its place is replaced, not followed. On failure its temporary file is removed; those
 * that a crash left in the folder are removed by the next call.
 *
 * @param mode of the file, whatever the umask
 * @param owner null: who runs this
 * @param prepare what else is done to the temporary file before it is put in place
 * @throws Error of the system call that failed; the old file is still in place unless that was the last one or two
 */
export async function replaceFile(
  path: string,
  content: string | Buffer,
  mode: number,
  operations: FileOperations = fs,
  owner: Owner | null = null,
  prepare: (temporary: string) => Promise<void> = async () => {},
): Promise<void> {
  const folder = dirname(path)
  await removeLeftovers(folder, LEFTOVER_AGE_MILLISECONDS)
  const temporary = join(folder, `.${basename(path)}.hostcertd-${randomBytes(6).toString('hex')}.tmp`)
  try {
    await writeThrough(temporary, content, mode, operations, owner, prepare)
    await operations.rename(temporary, path)
  } catch (error) {
    await fs.rm(temporary, { force: true }).catch(ignore)
    throw error
  }
  // The name is an entry of the folder, and only this makes it last.
  await syncFolder(folder, operations)
}

/**
 * Make a folder and those above it that are missing, durably, all with the mode given, whatever the umask.
 *
 * @throws Error of the system call
 */
export async function makeFolder(
  folder: string,
  mode: number,
  operations: FileOperations = fs,
): Promise<void> {
  const first = await operations.mkdir(folder, { recursive: true, mode })
  if (first === undefined) return
  for (let made = folder; made.length >= first.length; made = dirname(made)) {
    await operations.chmod(made, mode)
    // Each is an entry of the one above.
    await syncFolder(dirname(made), operations)
  }
}

/** `wx` is O_EXCL: an existing file, or a symlink, is not written to. */
async function writeThrough(
  path: string,
  content: string | Buffer,
  mode: number,
  operations: FileOperations,
  owner: Owner | null,
  prepare: (path: string) => Promise<void>,
): Promise<void> {
  const handle = await operations.open(path, 'wx', 0o600)
  try {
    await handle.writeFile(content)
    // Before the mode: chown(2) clears set-user-ID bits.
    if (owner !== null) await handle.chown(owner.uid, owner.gid)
    await handle.chmod(mode)
    await prepare(path)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Errors of file systems that cannot sync a folder (CIFS, VirtualBox, some FUSE): fsync(2), EINVAL. */
const CANNOT_SYNC: readonly (string | null)[] = ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

/** As far as the file system can: one that cannot sync a folder keeps names in its own way. */
export async function syncFolder(folder: string, operations: FileOperations): Promise<void> {
  const handle = await operations.open(folder, 'r')
  try {
    await handle.sync()
  } catch (error) {
    if (!CANNOT_SYNC.includes(systemCodeOf(error))) throw error
  } finally {
    await handle.close()
  }
}

/**
 * Remove temporary files that a crash left in a folder: regular files with names that only {@link replaceFile} gives.
 * What cannot be removed is left.
 *
 * @param milliseconds how old they must be
 * @param wanted the files that they were to become; left out: any
 * @throws Error of the system call when the folder cannot be listed
 */
export async function removeLeftovers(folder: string, milliseconds: number, wanted = /^/): Promise<void> {
  for (const name of await fs.readdir(folder)) {
    if (!TEMPORARY.test(name) || !wanted.test(name.slice(1))) continue
    const path = join(folder, name)
    const stats = await fs.lstat(path).catch(ignore)
    if (stats?.isFile() === true && Date.now() - stats.mtimeMs >= milliseconds) {
      await fs.rm(path, { force: true }).catch(ignore)
    }
  }
}

/** Cleaning up must not hide the error before it. */
function ignore(): undefined {
  return undefined
}

/** More than any public key, certificate or list of CA keys needs. */
export const SMALL_FILE_BYTES = 64 * 1024

/**
 * Read a small regular file whole. A FIFO, a device or a folder at the path is
 * refused without waiting for it. A symlink is followed: the folders read here are managed by an administrator.
 *
 * @param limit bytes; a longer file is refused, not cut
 * @throws Error of the system call (with `code`), or one that says what is wrong with the file
 */
export async function readBoundedFile(path: string, limit: number): Promise<string> {
  return (await readBoundedBytes(path, limit)).toString('utf8')
}

/** As {@link readBoundedFile}, for a file that need not be UTF-8. */
export async function readBoundedBytes(path: string, limit: number): Promise<Buffer> {
  // Opening a device can have effects (a tape rewinds), hence stat first; opening a FIFO that replaced it since must not block.
  refuseUnlessFile(await stat(path))
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    refuseUnlessFile(await handle.stat())
    return await readUpTo(handle, limit)
  } finally {
    await handle.close()
  }
}

/**
 * Read an open file from its beginning to its end.
 *
 * @param limit bytes; a longer file is refused, not cut
 */
export async function readUpTo(handle: fs.FileHandle, limit: number): Promise<Buffer> {
  const buffer = Buffer.alloc(limit + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  if (length > limit) throw new Error(`it is larger than ${limit / 1024} KiB`)
  return buffer.subarray(0, length)
}

export function refuseUnlessFile(stats: { isFile(): boolean }): void {
  if (!stats.isFile()) throw new Error('it is not a regular file')
}

/**
 * Differs when the file at this path was written to or replaced.
 *
 * @throws the system's error when it cannot be looked at
 */
export async function fileVersion(path: string): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
}

export function isPattern(path: string): boolean {
  return /[*?[]/.test(path)
}

/**
 * The absolute paths that a pattern matches now: `*`, `?` and `[…]` as in glob(7), one name at a time. Not by Node's
 * `glob`, which loads a whole library: 10 ms and half a MiB of the daemon.
 */
export async function pathsMatching(pattern: string): Promise<readonly string[]> {
  let paths = ['/']
  for (const name of resolve(pattern)
    .split('/')
    .filter((part) => part !== '')) {
    if (!isPattern(name)) {
      paths = paths.map((path) => join(path, name))
      continue
    }
    const matches = nameMatcher(name)
    const found = await Promise.all(
      paths.map(async (path) => (await namesIn(path)).filter(matches).map((one) => join(path, one))),
    )
    paths = found.flat()
  }
  const there = await Promise.all(paths.map(isThere))
  return paths.filter((_, index) => there[index])
}

/** Whether a pattern would match a path if it were there; both absolute. */
export function wouldMatch(pattern: string, path: string): boolean {
  const patterns = resolve(pattern).split('/')
  const names = resolve(path).split('/')
  return (
    patterns.length === names.length &&
    patterns.every((part, index) => {
      const name = names[index] ?? ''
      return isPattern(part) ? nameMatcher(part)(name) : part === name
    })
  )
}

/** What cannot be listed has nothing that matches. */
async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => [])
}

/** Whether a name matches one part of a pattern. A dot at the start has to be in the pattern. */
function nameMatcher(pattern: string): (name: string) => boolean {
  const source = pattern.replace(
    /\[([!^]?)(\]?(?:\[:[a-z]+:\]|[^\]])*)\]|[\\^$.*+?()[\]{}|]/g,
    (part: string, not: string | undefined, set: string | undefined) => {
      if (set !== undefined)
        return `[${not === undefined || not === '' ? '' : '^'}${set.replace(/\[:([a-z]+):\]|[\\\]^[]/g, inSet)}]`
      if (part === '*') return '.*'
      return part === '?' ? '.' : `\\${part}`
    },
  )
  try {
    const expression = new RegExp(`^${source}$`, 's')
    return (name) => expression.test(name) && (!name.startsWith('.') || pattern.startsWith('.'))
  } catch {
    // A range such as `[z-a]` names nothing.
    return (name) => name === pattern
  }
}

/** The classes of glob(7), in ASCII. */
const CLASSES: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  digit: '0-9',
  lower: 'a-z',
  punct: String.raw`!-\/:-@\[-\x60{-~`,
  upper: 'A-Z',
  xdigit: '0-9A-Fa-f',
}

/** An unknown class has no characters. */
function inSet(part: string, name: string | undefined): string {
  return name === undefined ? `\\${part}` : (CLASSES[name] ?? '')
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    // If stat fails for another reason, the path may exist, and reading it gives the error.
    return !isGone(error)
  }
}

/** Whether there is no such file. */
export function isGone(error: unknown): boolean {
  const code = systemCodeOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** Whether there is a socket, as far as this process can see. */
export function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket()
  } catch {
    return false
  }
}
