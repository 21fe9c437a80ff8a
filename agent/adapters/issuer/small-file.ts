import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

/**
 * Read a regular file, anew at each call. Anything else (a FIFO, say) would hang the reader, so it is refused.
 *
 * @param limitBytes a larger file is refused
 * @throws Error in words for a person, without the path
 */
export async function readSmallFile(path: string, limitBytes: number): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(rethrowInWords)
  try {
    if (!(await file.stat()).isFile()) throw new Error('not a regular file')
    const buffer = Buffer.alloc(limitBytes + 1)
    let size = 0
    while (size < buffer.length) {
      const { bytesRead } = await file.read(buffer, size, buffer.length - size, null).catch(rethrowInWords)
      if (bytesRead === 0) break
      size += bytesRead
    }
    if (size > limitBytes) throw new Error(`larger than ${limitBytes} bytes`)
    return buffer.subarray(0, size)
  } finally {
    await file.close()
  }
}

/** `ENOENT: no such file or directory, open '/x'` → `no such file or directory`. */
function rethrowInWords(error: NodeJS.ErrnoException): never {
  throw new Error(error.message.replace(/^[A-Z0-9]+: /, '').replace(/, \w+( '.*')?$/s, ''), { cause: error })
}
