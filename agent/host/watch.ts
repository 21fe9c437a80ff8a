import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { watch, type FSWatcher } from 'chokidar'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import type { Log } from '../renewal/ports.ts'
import { isTemporaryFile } from './files.ts'

interface FileWatcherOptions {
  /** Watched without what is below them; those that are missing are looked for at each {@link FileWatcher.rewatch}. */
  readonly folders: readonly string[]
  /** Which files matter; public keys and certificates without. Called with absolute paths, never for our temporary files. */
  readonly filter?: (path: string) => boolean
  /** Something changed; what, has to be looked at. Never called twice within the quiet time. */
  readonly onChange: () => void
  readonly log: Pick<Log, 'debug' | 'warn'>
  /** That nothing must happen for, before `onChange`. */
  readonly quietMilliseconds?: number
  /** After the first event `onChange` comes at the latest, quiet or not. */
  readonly longestMilliseconds?: number
}

export interface FileWatcher {
  /**
   * Watch what is not watched: all folders at first, later those that appeared or were replaced since (then `onChange`
   * follows). Cheap when there is nothing to do; never rejects. To be called each tick: a folder deleted and made
   * again is a new one, and the kernel still watches the old one.
   */
  rewatch(): Promise<void>
  /** Nothing is called after it. */
  close(): Promise<void>
}

const QUIET_MILLISECONDS = 150
const LONGEST_MILLISECONDS = 1000

/** A folder as it was when we began to watch it; the identity is null while there is nothing sound to watch. */
interface Watched {
  readonly identity: string | null
  readonly watcher: FSWatcher | null
}

/**
 * The folders in which files appear that patterns name: the parts before the first `*`, `?` or `[`.
 *
 * @param patterns as `host_keys` has them
 */
export function foldersOf(patterns: readonly string[]): string[] {
  const folders = patterns.map((pattern) => {
    const [literal = ''] = pattern.split(/[*?[]/, 1)
    return dirname(resolve(literal.endsWith('/') ? `${literal}x` : literal))
  })
  return [...new Set(folders)]
}

/** Says when something changed in folders. Events are hints: one may be lost, and the tick sees to that. */
export function createFileWatcher(options: FileWatcherOptions): FileWatcher {
  const { filter = isPublic, log, onChange } = options
  const folders = [...new Set(options.folders.map((folder) => resolve(folder)))]
  const watched = new Map<string, Watched>()
  const complainedOf = new Set<string>()
  const debounce = createDebounce(onChange, options)
  let closed = false
  let running: Promise<void> | null = null

  const complain = (folder: string, error: unknown): void => {
    if (complainedOf.has(folder)) return
    complainedOf.add(folder)
    log.warn(
      { folder },
      `cannot watch ${folder}, changes in it are seen at the next tick: ${reasonOf(error)}`,
    )
  }

  const begin = async (folder: string): Promise<FSWatcher> => {
    const ignored = (path: string, stats?: { isDirectory(): boolean }): boolean =>
      path.startsWith(`${folder}/`) &&
      (stats?.isDirectory() === true || isTemporaryFile(path) || !filter(path))
    // Not `awaitWriteFinish`: it polls each file. What is half-written is seen again when it is whole.
    const watcher = watch(folder, { depth: 0, ignoreInitial: true, atomic: false, ignored })
    let flawed = false
    await new Promise<void>((done) => {
      watcher.once('ready', done)
      watcher.on('error', (error) => {
        complain(folder, error)
        flawed = true
        if (watched.get(folder)?.watcher === watcher) watched.set(folder, { identity: null, watcher })
        done()
      })
    })
    if (flawed) {
      await watcher.close()
      throw new Error('the watcher failed')
    }
    watcher.on('all', (event, path) => {
      log.debug({ file: path, event }, `${path} changed`)
      debounce.event()
      if (path === folder) void rewatch()
    })
    return watcher
  }

  const look = async (folder: string): Promise<void> => {
    const before = watched.get(folder)
    const identity = await identityOf(folder)
    if (before !== undefined && before.identity === identity) return
    if (identity === null) {
      // The old watcher stays, to notice when the folder comes back.
      watched.set(folder, { identity, watcher: before?.watcher ?? null })
      if (before !== undefined) debounce.event()
      return
    }
    watched.set(folder, { identity: null, watcher: null })
    await before?.watcher?.close()
    watched.set(folder, { identity, watcher: await begin(folder) })
    complainedOf.delete(folder)
    // Changes until now were not seen.
    if (before !== undefined) debounce.event()
  }

  const lookAtAll = async (): Promise<void> => {
    for (const folder of folders) {
      try {
        if (!closed) await look(folder)
      } catch (error) {
        complain(folder, error)
      }
    }
    running = null
  }

  const rewatch = async (): Promise<void> => {
    if (closed) return
    running ??= lookAtAll()
    await running
  }

  const close = async (): Promise<void> => {
    closed = true
    debounce.cancel()
    await running
    for (const { watcher } of watched.values()) await watcher?.close()
    debounce.cancel()
  }

  return { rewatch, close }
}

/** What matters by default. Private halves are beside the public ones and need not wake the loop. */
function isPublic(path: string): boolean {
  return path.endsWith('.pub')
}

/** Another when the folder was made anew, even if its number was given out again; null when it is missing. */
async function identityOf(folder: string): Promise<string | null> {
  try {
    const { dev, ino, birthtimeNs } = await stat(folder, { bigint: true })
    return `${dev} ${ino} ${birthtimeNs}`
  } catch (error) {
    const code = systemCodeOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw error
  }
}

/** Calls back once for events in quick succession, when they are over or have gone on for long. */
function createDebounce(
  callback: () => void,
  options: FileWatcherOptions,
): { event(): void; cancel(): void } {
  const { quietMilliseconds = QUIET_MILLISECONDS, longestMilliseconds = LONGEST_MILLISECONDS } = options
  let quiet: NodeJS.Timeout | undefined
  let longest: NodeJS.Timeout | undefined
  const cancel = (): void => {
    clearTimeout(quiet)
    clearTimeout(longest)
    longest = undefined
  }
  const fire = (): void => {
    cancel()
    callback()
  }
  const event = (): void => {
    clearTimeout(quiet)
    quiet = setTimeout(fire, quietMilliseconds)
    longest ??= setTimeout(fire, longestMilliseconds)
  }
  return { event, cancel }
}
