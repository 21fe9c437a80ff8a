import { close, constants, fstat, open } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { AgentError } from '../cert/errors.ts'
import { oneLine, reasonOf, systemCodeOf } from '../cert/text.ts'
import type { PassLock } from '../renewal/ports.ts'
import { makeFolder, refuseUnlessFile, removeLeftovers } from './files.ts'
import { runProgram } from './programs.ts'

interface PassLockOptions {
  /** Made when it is missing. */
  readonly stateDirectory: string
  /** Folders that only the holder of the lock writes to: what a crash left there is removed at the first hold. */
  readonly sweep?: readonly string[]
  /** flock(1) of util-linux, looked up in PATH. */
  readonly program?: string
}

/** The exit status that flock(1) is told to use when another process holds the lock. */
const BUSY = 75
/** Certificates are usually below it, and the root helper and others read them. */
const STATE_FOLDER_MODE = 0o755
/** `metrics write`, for one, may be at work in the same folder. */
const WRITTEN_UNDER_LOCK = /^(?:attempts\.json|.+-cert\.pub)\.hostcertd-/
/** What flock(1) may take besides waiting, on a busy machine. */
const SLACK_MILLISECONDS = 10_000

// Numbers, not FileHandles: a FileHandle is closed when it is garbage-collected, and the lock would be lost.
const openFile = promisify(open)
const closeFile = promisify(close)
const statFile = promisify(fstat)

/**
 * The kernel's lock, flock(2), on `lock` in the state directory. Node cannot ask for it; flock(1) can, on our open file:
 * the lock belongs to that and stays when flock(1) ends, until we close it or die, however we die. Two calls in one
 * process keep each other out too.
 */
export function createPassLock({ stateDirectory, sweep = [], program = 'flock' }: PassLockOptions): PassLock {
  const path = join(stateDirectory, 'lock')
  let unswept = sweep

  /** @returns whether the lock is now held by this open file */
  const lock = async (fd: number, milliseconds: number, signal: AbortSignal): Promise<boolean> => {
    const patience = milliseconds > 0 ? ['-w', (milliseconds / 1000).toFixed(3)] : ['-n']
    const result = await runProgram([program, '-x', '-E', String(BUSY), ...patience, '3'], {
      timeoutMilliseconds: milliseconds + SLACK_MILLISECONDS,
      signal,
      files: [fd],
      environment: { LC_ALL: 'C' },
    })
    if (result.status === 0 || result.status === BUSY) return result.status === 0
    const why = result.failure ?? `${program} ended with status ${result.status}: ${result.stderr}`
    throw new AgentError('STORE_FAILED', `cannot lock ${path}: ${oneLine(why)}`)
  }

  const attempt = async (milliseconds: number, signal: AbortSignal): Promise<number | null> => {
    const fd = await openLock(path)
    let held = false
    try {
      // Free as a rule, and then there is nothing to wait for.
      held = (await lock(fd, 0, signal)) || (milliseconds > 0 && (await lock(fd, milliseconds, signal)))
      // The lock of a deleted file excludes no other process: the next one creates a new file.
      held &&= await isAt(path, fd)
      signal.throwIfAborted()
    } catch (error) {
      await closeFile(fd)
      throw error
    }
    if (held) return fd
    await closeFile(fd)
    return null
  }

  const acquire: PassLock['acquire'] = async (milliseconds, signal) => {
    const deadline = performance.now() + milliseconds
    do {
      signal.throwIfAborted()
      const fd = await attempt(deadline - performance.now(), signal)
      if (fd !== null) {
        const folders = unswept
        unswept = []
        // A folder that is missing, or cannot be listed, has nothing to remove.
        await Promise.allSettled(
          folders.map(async (folder) => removeLeftovers(folder, 0, WRITTEN_UNDER_LOCK)),
        )
        return releaseOf(fd)
      }
    } while (performance.now() < deadline)
    const seconds = milliseconds / 1000
    throw new AgentError('STORE_FAILED', `another process holds ${path}; it was not free after ${seconds} s`)
  }
  return { acquire }
}

async function openLock(path: string): Promise<number> {
  try {
    await makeFolder(dirname(path), STATE_FOLDER_MODE)
    return await openRegularFile(path)
  } catch (error) {
    throw new AgentError('STORE_FAILED', `cannot open ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND

/** A FIFO would block open(2) for good, hence stat first, and O_NONBLOCK. */
async function openRegularFile(path: string): Promise<number> {
  const there = await stat(path).catch((error: unknown) => {
    if (systemCodeOf(error) !== 'ENOENT') throw error
    return null
  })
  if (there !== null) refuseUnlessFile(there)
  const fd = await openFile(path, FLAGS | constants.O_NONBLOCK | constants.O_NOCTTY, 0o600)
  try {
    refuseUnlessFile(await statFile(fd))
    return fd
  } catch (error) {
    await closeFile(fd)
    throw error
  }
}

async function isAt(path: string, fd: number): Promise<boolean> {
  try {
    const [ours, there] = await Promise.all([statFile(fd), stat(path)])
    return ours.ino === there.ino && ours.dev === there.dev
  } catch {
    return false
  }
}

/** Closing twice would close whatever file has that number by then. */
function releaseOf(fd: number): () => Promise<void> {
  let released = false
  return async () => {
    if (released) return
    released = true
    await closeFile(fd)
  }
}
