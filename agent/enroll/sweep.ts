import * as fs from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type FileOperations, isGone, removeLeftovers } from '../host/files.ts'
import { removeEmptyFolders } from './files.ts'

/** Remove temporary files that an interrupted call left beside a file. Only the holder of the lock may. */
export async function sweepBeside(path: string): Promise<void> {
  const wanted = new RegExp(`^${basename(path).replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}\\.hostcertd-`)
  try {
    await removeLeftovers(dirname(path), 0, wanted)
  } catch (error) {
    if (!isGone(error)) throw error
  }
}

/** `mktemp -d` gives six such characters. */
const WORK_FOLDER = /^\.install\.[A-Za-z0-9]{6}$/
/** All that the helper makes in such a folder. */
const WORK_FILES = ['certificate', 'drop-in', 'kept', 'public']

/**
 * Remove what a root helper that was killed left beside the files that it writes: `work` and `kept` of
 * systemd/reload-helper. It has ended. What has such a name and is not root's, or not of its kind, stays.
 *
 * @param pattern of the files
 * @throws Error of the system call
 */
export async function sweepAfterHelper(pattern: string, operations: FileOperations): Promise<void> {
  const folder = dirname(pattern)
  const names = await fs.readdir(folder).catch((error: unknown) => {
    if (isGone(error)) return []
    throw error
  })
  // It works beside the copies, and keeps the drop-in beside itself.
  if (!basename(pattern).includes('*')) {
    const kept = join(folder, `.${basename(pattern)}.before`)
    if ((await ownKindOf(kept)) === 'file') await operations.unlink(kept)
    return
  }
  for (const work of names.filter((name) => WORK_FOLDER.test(name)).map((name) => join(folder, name))) {
    if ((await ownKindOf(work)) !== 'folder') continue
    for (const file of WORK_FILES.map((name) => join(work, name)))
      if ((await ownKindOf(file)) === 'file') await operations.unlink(file)
    await removeEmptyFolders([work], operations)
  }
}

/** What is at a path, if it is ours; null: another's, neither a file nor a folder, or nothing. */
async function ownKindOf(path: string): Promise<'file' | 'folder' | null> {
  const stats = await fs.lstat(path).catch((error: unknown) => {
    if (isGone(error)) return null
    throw error
  })
  if (stats === null || (stats.uid !== 0 && stats.uid !== process.geteuid?.())) return null
  if (stats.isDirectory()) return 'folder'
  return stats.isFile() ? 'file' : null
}
