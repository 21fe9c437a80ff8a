import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { CERTIFICATE_SUFFIX } from '../cert/host-certificate.ts'
import { oneLine, reasonOf, systemCodeOf } from '../cert/text.ts'
import { type FileOperations, isGone, pathsMatching } from '../host/files.ts'
import { type ProgramResult, runProgram } from '../host/programs.ts'
import type { Change, CopiesChange, FileChange, FileState, FolderChange, ServiceChange } from './change.ts'
import {
  isSameState,
  makeFileChange,
  missingFolders,
  notPutBack,
  putFileState,
  readFileState,
  setFolderAccess,
  undoingOf,
} from './files.ts'
import type { Entry } from './journal-format.ts'
import { removeServiceFiles, removeServiceState, writeServiceFiles } from './service-state.ts'
import { sweepAfterHelper, sweepBeside } from './sweep.ts'

/** A person has to reload sshd: `sshd.reload` is `never`. */
export const BY_HAND = Symbol('reloaded by hand')

/** Why sshd did not read its configuration; null when it did. */
export type Reloaded = string | null | typeof BY_HAND

/** What a change needs besides files. */
export interface Performers {
  /** `systemctl` with these arguments; left out: the real one. */
  readonly systemctl?: (
    args: readonly string[],
  ) => Promise<Pick<ProgramResult, 'status' | 'failure' | 'stderr'> & { readonly stdout?: string }>
  /** `sshd -t`, then a reload. */
  readonly reloadSshd?: () => Promise<Reloaded>
  /** Something that did not work as it should, for people; it fails nothing. */
  readonly note?: (text: string) => void
  /**
   * The root helper neither tests nor reloads sshd until what this returns is called.
   *
   * @param signal ends the wait for it; null: an undoing waits whatever signal comes
   * @throws Error when it is busy; the signal's reason
   */
  readonly lockSshd?: (signal: AbortSignal | null) => Promise<() => Promise<void>>
}

/** Something that could not be undone, or not wholly. Not an error of ours if others edited it. */
export interface Left {
  /** Of a file; or the unit. */
  readonly path: string
  readonly why: string
}

/** Makes single changes to this host, and undoes them. */
export interface Performer {
  /** @throws Error of the system call; it may be half made */
  make(change: Change, signal: AbortSignal): Promise<void>
  /**
   * Undo everything but a service and sshd, which are undone together with others of their kind.
   *
   * @param save writes the journal with {@link Entry.merge}, which is set before
   * @throws Error of the system call, or an Obstacle: it is undone by the next call
   */
  undo(entry: Entry, save: () => Promise<void>): Promise<readonly Left[]>
  /** @throws Error with why sshd did not read its configuration */
  undoSshd(): Promise<Exclude<Reloaded, string>>
  stop(unit: string): Promise<void>
  /** What of a unit can be taken back: null when that is not known. */
  stateOf(unit: string): Promise<ServiceChange['before'] | null>
  /**
   * @param found when the undoing began; null: whatever it is, it goes back to what it was before
   * @throws Error with what systemctl said
   */
  undoService(change: ServiceChange, found: ServiceChange['before'] | null): Promise<void>
}

/** One for each request of the service; `systemctl stop` is content when there is none. */
const ROOT_HELPERS = 'hostcertd-reload@*.service'

/** `systemctl enable --now` waits for the start of the service, which has a minute and a half. */
const SYSTEMCTL_MILLISECONDS = 120_000

export function createPerformer(performers: Performers, operations: FileOperations): Performer {
  const { systemctl = runSystemctl } = performers

  const call = async (args: readonly string[]): Promise<void> => {
    const { status, failure, stderr } = await systemctl(args)
    if (status === 0) return
    throw new Error(oneLine(failure ?? `systemctl ${args.join(' ')} ended with status ${status}: ${stderr}`))
  }

  const noteLost = (path: string, why: string | null): void => {
    if (why !== null)
      performers.note?.(`note: ${path} may have lost its ACL and other extended attributes: ${why}`)
  }
  const put = async (path: string, state: FileState | null): Promise<void> =>
    noteLost(path, await putFileState(path, state, operations))
  /** For what is written alone: the service, whose start is one of the changes, waits for the helper. */
  const whileLocked = async <Result>(
    path: string,
    signal: AbortSignal | null,
    work: () => Promise<Result>,
  ): Promise<Result> => {
    const release = isOfSshd(path) ? await performers.lockSshd?.(signal) : undefined
    try {
      return await work()
    } finally {
      await release?.()
    }
  }

  const undoFile = async (
    undone: Entry,
    file: FileChange,
    save: () => Promise<void>,
  ): Promise<readonly Left[]> => {
    const { path } = file
    const named = (whys: readonly string[]): readonly Left[] => whys.map((why) => ({ path, why }))
    await sweepBeside(path)
    const now = await readFileState(path)
    if (undone.merge !== null) {
      // The undoing was interrupted. What was left then was named to nobody.
      const { from, target: wanted } = undone.merge
      if (isSameState(now, from)) await put(path, wanted)
      else if (!isSameState(now, wanted))
        return named(['it was changed after undoing it was interrupted', ...notPutBack(file, now)])
      return named(undoingOf(file, from).left)
    }
    const { target, isMerged, left } = undoingOf(file, now)
    if (!isSameState(target, now)) {
      if (isMerged && now !== null) {
        undone.merge = { from: now, target }
        await save()
      }
      await put(path, target)
    }
    return named(left)
  }

  const undoFolder = async ({ path, before, after }: FolderChange): Promise<void> => {
    await setFolderAccess({ path, before: after, after: before }, operations).catch((error: unknown) => {
      if (!isGone(error)) throw error
    })
  }

  const undoCopies = async ({ paths, before, state: service }: CopiesChange): Promise<void> => {
    const earlier = new Map(before.map(({ path: copy, state }) => [copy, state]))
    let failure: unknown = null
    const found = await Promise.all(paths.map(pathsOf))
    for (const copy of new Set([...found.flat(), ...earlier.keys()])) {
      try {
        await sweepBeside(copy)
        const state = earlier.get(copy) ?? null
        const now = await readFileState(copy)
        // What was renewed since is newer than what was there before.
        const isRenewed = state !== null && now !== null && copy.endsWith(CERTIFICATE_SUFFIX)
        if (!isRenewed && !isSameState(now, state)) await put(copy, state)
      } catch (error) {
        failure ??= new Error(`${copy}: ${reasonOf(error)}`, { cause: error })
      }
    }
    // Last, for the helper's next run restores from these files what sshd has accepted.
    for (const pattern of paths)
      await sweepAfterHelper(pattern, operations).catch((error: unknown) => {
        failure ??= error
      })
    if (service !== null)
      await removeServiceState(service).catch((error: unknown) => {
        failure ??= error
      })
    if (failure !== null) throw failure
  }

  return {
    async make(wanted, signal) {
      if (wanted.kind === 'file')
        noteLost(
          wanted.path,
          await whileLocked(wanted.path, signal, async () => makeFileChange(wanted, operations)),
        )
      if (wanted.kind === 'folder') await setFolderAccess(wanted, operations)
      if (wanted.kind !== 'service') return
      const { unit, replaced } = wanted
      if (replaced !== undefined) {
        // While it runs it would make them anew at once, by the configuration that it still has.
        await call(['stop', unit])
        await removeServiceFiles(replaced)
      }
      for (const args of callsToMake(wanted)) await call(args)
    },
    async undo(undone, save) {
      const { change } = undone
      switch (change.kind) {
        case 'file':
          return whileLocked(change.path, null, async () => undoFile(undone, change, save))
        case 'folder':
          await undoFolder(change)
          return []
        case 'copies':
          // It goes on without the service that asked it to, and would make copies again that are removed here.
          await call(['stop', ROOT_HELPERS])
          await whileLocked(SSHD, null, async () => undoCopies(change))
          return []
        case 'registration':
        case 'service':
        case 'sshd':
          return []
      }
    },
    async undoSshd() {
      const reloaded = (await performers.reloadSshd?.()) ?? null
      if (typeof reloaded === 'string') throw new Error(reloaded)
      return reloaded
    },
    async stop(unit) {
      if (!isTimer(unit)) return call(['stop', unit])
      // What it started may wait for the journal, and would go on once all is undone.
      const started = unit.replace('.timer', '.service')
      await call(['stop', unit, started])
      // Cut off is not failed.
      await call(['reset-failed', started]).catch(() => {})
    },
    async stateOf(unit) {
      const { status, stdout = '' } = await systemctl(['show', '--property=ActiveState,UnitFileState', unit])
      return status === 0 ? unitStateIn(stdout) : null
    },
    async undoService(change, found) {
      if (change.replaced !== undefined) await writeServiceFiles(change.replaced)
      for (const args of callsToUndo(change, found)) await call(args)
    },
  }
}

/** The {@link placeOf} of a reload. */
export const SSHD = 'sshd'

/** Whether a place is sshd's configuration, or a file that it names. */
export function isOfSshd(place: string): boolean {
  return place === SSHD || place.startsWith('/etc/ssh/')
}

/** What a change is about, for people. */
export function placeOf(about: Change): string {
  switch (about.kind) {
    case 'file':
    case 'folder':
      return about.path
    case 'copies':
      return about.paths.join(', ')
    case 'registration':
      return about.hostname
    case 'service':
      return about.unit
    case 'sshd':
      return SSHD
  }
}

/** Paths, or patterns of paths, that a change is about. */
export function filesOf(about: Change): readonly string[] {
  if (about.kind === 'file' || about.kind === 'folder') return [about.path]
  return about.kind === 'copies' ? about.paths : []
}

/** Folders that making a change will make, the deepest first. */
export async function foldersFor(wanted: Change): Promise<readonly string[]> {
  if (wanted.kind === 'file') return wanted.after === null ? [] : missingFolders(wanted.path)
  if (wanted.kind !== 'copies') return []
  const missing = new Set((await Promise.all(wanted.paths.map(missingFolders))).flat())
  return [...missing].toSorted((one, other) => other.length - one.length)
}

/** @throws Error of the system call when the folder cannot be listed: then it is not known what is in it */
export async function pathsOf(pattern: string): Promise<readonly string[]> {
  try {
    await fs.readdir(dirname(pattern))
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return []
    throw error
  }
  return pathsMatching(pattern)
}

function isTimer(unit: string): boolean {
  return unit.endsWith('.timer')
}

function callsToMake({ unit, before, replaced }: ServiceChange): readonly (readonly string[])[] {
  // A timer starts after time-sync.target, which without a time server may never be reached.
  if (!before.isActive) return [['enable', '--now', ...(isTimer(unit) ? ['--no-block'] : []), unit]]
  const start = replaced === undefined ? [] : [['start', unit]]
  // A reload ends what it waits for, which a start does not.
  return [...(before.isEnabled ? [] : [['enable', unit]]), ...start, ['reload-or-restart', unit]]
}

/** By the time of these calls it is stopped. */
function callsToUndo(
  { unit, before }: ServiceChange,
  found: ServiceChange['before'] | null,
): readonly (readonly string[])[] {
  // Masked, say, or disabled since: there is nothing to disable, and systemctl may refuse to.
  const disable = before.isEnabled || found?.isEnabled === false ? [] : [['disable', unit]]
  if (before.isActive)
    return [...disable, ...(found?.isActive === false ? [] : [['reload-or-restart', unit]])]
  return disable.length > 0 ? [['disable', '--now', unit]] : [['stop', unit]]
}

/**
 * The unit by two properties of org.freedesktop.systemd1(5): a line for each, in any order.
 *
 * @returns `isActive` is false when it was stopped; one that failed, or is being started again, counts as active, for
 * nobody stopped it
 */
function unitStateIn(text: string): ServiceChange['before'] | null {
  const { ActiveState: active = '', UnitFileState: file = '' } = Object.fromEntries(
    text.split('\n').map((line) => line.split('=', 2)),
  ) as Record<string, string | undefined>
  if (active === '' || file === '') return null
  return { isEnabled: file === 'enabled', isActive: !['inactive', 'deactivating'].includes(active) }
}

async function runSystemctl(args: readonly string[]): Promise<ProgramResult> {
  return runProgram(['systemctl', ...args], {
    timeoutMilliseconds: SYSTEMCTL_MILLISECONDS,
    environment: { LC_ALL: 'C' },
  })
}
