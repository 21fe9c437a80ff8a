import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'

/** More than any public key, certificate or list of CA keys needs. */
export const SMALL_FILE_BYTES = 64 * 1024

/**
 * Read a small regular file whole. What lies at the path may be anything: a FIFO, a device or a folder is refused
 * without waiting for it. A symlink is followed: the folders read here are managed by an administrator.
 *
 * @param limit bytes; a longer file is refused, not cut
 * @throws Error of the system call (with `code`), or one that says what is wrong with the file
 */
export async function readBoundedFile(path: string, limit: number): Promise<string> {
  // Opening a device can do something (a tape rewinds), so look before; opening a FIFO put there since must not wait.
  refuseUnlessFile(await stat(path))
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    refuseUnlessFile(await handle.stat())
    const buffer = Buffer.alloc(limit + 1)
    let length = 0
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    if (length > limit) throw new Error(`it is larger than ${limit / 1024} KiB`)
    return buffer.toString('utf8', 0, length)
  } finally {
    await handle.close()
  }
}

function refuseUnlessFile(stats: { isFile(): boolean }): void {
  if (!stats.isFile()) throw new Error('it is not a regular file')
}
