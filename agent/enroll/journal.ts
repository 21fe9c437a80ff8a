import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError, messageOf } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { type FileOperations, makeFolder, replaceFile } from '../host/files.ts'
import { createPassLock } from '../host/lock.ts'
import type { Change, RegistrationChange } from './change.ts'
import { isSameState, putFileState, readFileState } from './files.ts'
import { withoutSecrets } from './forget-secrets.ts'
import { type Entry, LARGEST_JOURNAL_BYTES, loadRuns, type Run, textOfRuns } from './journal-format.ts'
import { createPerformer, foldersFor, type Performers, placeOf } from './perform.ts'
import { sweepBeside } from './sweep.ts'
import { undoEntries, type Undone } from './undo-entries.ts'

/*
 * Root's journal of what `enroll` changed on this host. A change is written here before it is made, with all that is
 * needed to undo it; whether it was made is seen on the host itself, so an interruption at any instant, of an undoing
 * too, leaves a state that the next call knows. One process at a time has the journal open.
 */

export interface JournalOptions {
  /** `/var/lib/hostcertd-enroll`: made when it is missing. */
  readonly folder: string
  readonly performers: Performers
  /** How long to wait for another `enroll` or `unenroll`; 0 when left out. */
  readonly lockMilliseconds?: number
  readonly signal?: AbortSignal
  /** For tests of what a disk can do; node:fs/promises without. */
  readonly operations?: FileOperations
}

export interface JournalRun {
  readonly isFinished: boolean
  readonly changes: readonly Change[]
}

/** One call of `enroll`. What it made stays once it is finished, and is undone by the next call when it is not. */
export interface OpenRun {
  /**
   * Write changes into the journal that are made later, or that others may make by themselves before.
   *
   * @throws AgentError STORE_FAILED
   */
  note(changes: readonly Change[]): Promise<void>
  /**
   * Write a change into the journal, unless it is noted, then make it. Copies are made by the root helper, around this
   * call.
   *
   * @throws AgentError STORE_FAILED, the signal's reason: it may be half made; the caller undoes the run
   */
  make(change: Change): Promise<void>
  finish(): Promise<void>
}

/** `await using` releases it for the next call. */
export interface Journal extends AsyncDisposable {
  /** The oldest first. */
  readonly runs: readonly JournalRun[]
  /** @throws AgentError STORE_FAILED while an earlier run is unfinished */
  begin(): OpenRun
  /** Undo what an interrupted or failed run left. May be called again, and is a no-op when there is nothing. */
  undoUnfinished(): Promise<Undone>
  /**
   * Undo all runs, but for registrations at the issuer. What is undone is written into the journal as unfinished first, so
   * that the next call goes on if this one is interrupted.
   *
   * @param keep of those changes nothing is undone either, and they stay in the journal
   * @throws AgentError STORE_FAILED when that cannot be written: nothing is undone then
   */
  undoAll(keep?: (change: Change) => boolean): Promise<Undone>
  /**
   * Write down, as the oldest run, what hostcertd did on this host without this journal.
   *
   * @param folders of hostcertd's own, which go with the changes if they are empty then, the deepest first
   * @throws AgentError STORE_FAILED
   */
  adopt(changes: readonly Change[], folders: readonly string[]): Promise<void>
  /**
   * Put these in the place of all registrations, at once. Nothing else of the journal changes.
   *
   * @throws AgentError STORE_FAILED
   */
  setRegistrations(registrations: readonly RegistrationChange[]): Promise<void>
}

const FOLDER_MODE = 0o755
/** Contents of secret files are in it. */
const JOURNAL_MODE = 0o600

/**
 * Read the journal, without a lock: what `--check` and `--dry-run` need.
 *
 * @throws AgentError STORE_FAILED when it is there and cannot be used
 */
export async function readJournal(folder: string): Promise<readonly JournalRun[]> {
  return viewOf(await loadRuns(join(folder, 'journal.json')))
}

/**
 * Open the journal for one call of `enroll` or `unenroll`.
 *
 * @throws AgentError STORE_FAILED when it cannot be used, or another process has it open
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { folder, performers, operations = fs, lockMilliseconds = 0 } = options
  const performer = createPerformer(performers, operations)
  const path = join(folder, 'journal.json')
  const signal = options.signal ?? new AbortController().signal
  const release = await createPassLock({ stateDirectory: folder }).acquire(lockMilliseconds, signal)
  let all: Run[]
  try {
    await sweepBeside(path)
    all = await loadRuns(path)
  } catch (error) {
    await release()
    throw error
  }

  /** @throws Error of the system call */
  const save = async (): Promise<void> => {
    if (all.every(({ entries }) => entries.length === 0)) {
      await putFileState(path, null, operations)
      return
    }
    const text = textOfRuns(all)
    if (text.length > LARGEST_JOURNAL_BYTES)
      throw new Error(`it would be larger than ${LARGEST_JOURNAL_BYTES / 1024 / 1024} MiB`)
    await makeFolder(folder, FOLDER_MODE, operations)
    await replaceFile(path, text, JOURNAL_MODE, operations)
  }

  const note = async (run: Run, changes: readonly Change[]): Promise<void> => {
    for (const wanted of changes) {
      try {
        if (wanted.kind === 'file' && !isSameState(await readFileState(wanted.path), wanted.before))
          throw new Error('somebody changed it just now')
        const folders = await foldersFor(wanted)
        run.entries.push({ change: wanted, folders, merge: null })
      } catch (error) {
        throw failed(`cannot change ${placeOf(wanted)}`, error)
      }
    }
    try {
      await save()
    } catch (error) {
      throw failed(`cannot write ${path}`, error)
    }
  }

  const make = async (run: Run, wanted: Change): Promise<void> => {
    const place = placeOf(wanted)
    if (!run.entries.some(({ change }) => change === wanted)) await note(run, [wanted])
    try {
      await performer.make(wanted, signal)
    } catch (error) {
      signal.throwIfAborted()
      throw failed(`cannot ${FAILED[wanted.kind] ?? 'change'} ${place}`, error)
    }
  }

  const undo = async (entries: readonly Entry[]): Promise<Undone> => {
    const undone = await undoEntries(entries, { runs: all, performer, save, path, operations })
    // A run that noted nothing has nothing to undo either.
    all = all.filter((run) => run.entries.length > 0)
    return undone
  }

  /** Before anything is undone: separate it from what is kept, and mark it as unfinished. */
  const markUndoing = async (isUndone: (change: Change) => boolean): Promise<void> => {
    const marked: Run[] = []
    for (const run of all) {
      const undone = run.entries.filter(({ change }) => isUndone(change))
      const kept = run.entries.filter((one) => !undone.includes(one))
      if (undone.length === 0 ? run.isFinished : kept.length === 0 && !run.isFinished) {
        marked.push(run)
        continue
      }
      // What is kept, no later call takes back by itself.
      if (kept.length > 0) marked.push({ isFinished: true, entries: kept })
      // An interrupted enroll may have stopped a service.
      const entries = run.isFinished ? await Promise.all(undone.map(withFound)) : undone
      if (entries.length > 0) marked.push({ isFinished: false, entries })
    }
    if (marked.every((run) => all.includes(run))) return
    const before = all
    all = marked
    try {
      await save()
    } catch (error) {
      all = before
      throw failed(`cannot write ${path}`, error)
    }
  }
  const withFound = async (one: Entry): Promise<Entry> => {
    const found = one.change.kind === 'service' ? await performer.stateOf(one.change.unit) : null
    return found === null ? one : { ...one, found }
  }

  const newestFirst = (of: readonly Run[]): Entry[] => of.flatMap(({ entries }) => entries).toReversed()
  return {
    get runs() {
      return viewOf(all)
    },
    begin() {
      if (all.some(({ isFinished }) => !isFinished))
        throw new AgentError('STORE_FAILED', `an interrupted run in ${path} is not undone yet`)
      const run: Run = { isFinished: false, entries: [] }
      all = [...all, run]
      return {
        note: (changes) => note(run, changes),
        make: (wanted) => make(run, wanted),
        async finish() {
          const before = all
          run.isFinished = true
          all = withoutSecrets(all).filter(({ entries }) => entries.length > 0)
          try {
            await save()
          } catch (error) {
            run.isFinished = false
            all = before
            throw failed(`cannot write ${path}`, error)
          }
        },
      }
    },
    undoUnfinished: async () => undo(newestFirst(all.filter(({ isFinished }) => !isFinished))),
    async undoAll(keep = () => false) {
      const isUndone = (change: Change): boolean => change.kind !== 'registration' && !keep(change)
      await markUndoing(isUndone)
      return undo(newestFirst(all).filter(({ change }) => isUndone(change)))
    },
    async adopt(changes, folders) {
      const before = all
      const entries = changes.map((change) => ({ ...entryOf(change), folders }))
      all = [{ isFinished: true, entries }, ...all]
      try {
        await save()
      } catch (error) {
        all = before
        throw failed(`cannot write ${path}`, error)
      }
    },
    async setRegistrations(registrations) {
      for (const run of all) run.entries = run.entries.filter((one) => one.change.kind !== 'registration')
      all = [...all, { isFinished: true, entries: registrations.map(entryOf) }]
      all = all.filter((run) => run.entries.length > 0 || !run.isFinished)
      try {
        await save()
      } catch (error) {
        throw failed(`cannot write ${path}`, error)
      }
    },
    [Symbol.asyncDispose]: release,
  }
}

/** What could not be done. */
const FAILED: Partial<Record<Change['kind'], string>> = { file: 'write', service: 'start' }

function viewOf(all: readonly Run[]): readonly JournalRun[] {
  return all.map(({ isFinished, entries }) => ({ isFinished, changes: entries.map((one) => one.change) }))
}

function entryOf(change: Change): Entry {
  return { change, folders: [], merge: null }
}

function failed(what: string, error: unknown): AgentError {
  const why = error instanceof AgentError ? messageOf(error) : reasonOf(error)
  return new AgentError('STORE_FAILED', `${what}: ${why}`, { cause: error })
}
