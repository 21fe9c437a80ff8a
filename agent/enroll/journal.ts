import { createHash } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as v from 'valibot'
import { AgentError, messageOf } from '../cert/errors.ts'
import { CERTIFICATE_SUFFIX } from '../cert/host-certificate.ts'
import { oneLine, quote, reasonOf, systemCodeOf } from '../cert/text.ts'
import { type FileOperations, makeFolder, pathsMatching, replaceFile } from '../host/files.ts'
import { createPassLock } from '../host/lock.ts'
import { type ProgramResult, runProgram } from '../host/programs.ts'
import type { Change, CopiesChange, FileState, RegistrationChange, ServiceChange } from './change.ts'
import {
  isSameState,
  makeFileChange,
  missingFolders,
  Obstacle,
  putFileState,
  readFileState,
  removeEmptyFolders,
  sweepBeside,
  undoingOf,
} from './files.ts'

/*
 * Root's journal of what `enroll` changed on this host. A change is written here before it is made, with all that is
 * needed to undo it; whether it was made is seen on the host itself, so an interruption at any instant, of an undoing
 * too, leaves a state that the next call knows. One process at a time has the journal open.
 */

/** What a change needs besides files. */
export interface Performers {
  /** `systemctl` with these arguments; left out: the real one. */
  readonly systemctl?: (
    args: readonly string[],
  ) => Promise<Pick<ProgramResult, 'status' | 'failure' | 'stderr'>>
  /** `sshd -t`, then a reload. @returns why sshd did not read its configuration; null when it did */
  readonly reloadSshd?: () => Promise<string | null>
  /** Delete a host at the issuer that this run registered. It is bounded in time, and content if the host is gone. */
  deleteHost(registration: RegistrationChange): Promise<void>
}

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

/** Something that could not be undone, or not wholly. Not an error of ours if others edited it. */
export interface Left {
  /** Of a file; or the unit, or the host name at the issuer. */
  readonly path: string
  readonly why: string
}

export interface Undone {
  /** What was undone, the newest first; those too of which something is left. */
  readonly changes: readonly Change[]
  readonly left: readonly Left[]
}

export interface JournalRun {
  readonly isFinished: boolean
  readonly changes: readonly Change[]
}

/** One call of `enroll`. What it made stays once it is finished, and is undone by the next call when it is not. */
export interface OpenRun {
  /**
   * Write a change into the journal, then make it. Copies are made by the root helper, and a registration by the caller,
   * both around this call.
   *
   * @throws AgentError STORE_FAILED: it may be half made; the caller undoes the run
   */
  make(change: Change): Promise<void>
  finish(): Promise<void>
}

/** `await using` gives it free for the next call. */
export interface Journal extends AsyncDisposable {
  /** The oldest first. */
  readonly runs: readonly JournalRun[]
  /** @throws AgentError STORE_FAILED while an earlier run is unfinished */
  begin(): OpenRun
  /** Undo what an interrupted or failed run left. May be called again, and is a no-op when there is nothing. */
  undoUnfinished(): Promise<Undone>
  /** Undo all runs. @param keep of those changes nothing is undone, and they stay in the journal */
  undoAll(keep?: (change: Change) => boolean): Promise<Undone>
}

const FOLDER_MODE = 0o755
/** Contents of secret files are in it. */
const JOURNAL_MODE = 0o600
const LARGEST_JOURNAL_BYTES = 16 * 1024 * 1024
/** `systemctl enable --now` waits for the start of the service, which has a minute and a half. */
const SYSTEMCTL_MILLISECONDS = 120_000

const id = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(2 ** 32 - 2))
const absolutePath = v.pipe(v.string(), v.regex(/^\/[^\0]*$/))
const fileState = v.strictObject({
  content: v.pipe(
    v.string(),
    v.check((text) => Buffer.from(text, 'base64').toString('base64') === text, 'not base64'),
    v.transform((text) => Buffer.from(text, 'base64')),
  ),
  mode: v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(0o7777)),
  uid: id,
  gid: id,
})
const maybeState = v.nullable(fileState)
const change = v.variant('kind', [
  v.strictObject({
    kind: v.literal('file'),
    step: v.string(),
    path: absolutePath,
    before: maybeState,
    after: maybeState,
    isSecret: v.boolean(),
  }),
  v.strictObject({
    kind: v.literal('service'),
    step: v.string(),
    unit: v.pipe(v.string(), v.regex(/^[A-Za-z0-9@_.:][A-Za-z0-9@_.:\\-]*$/)),
    before: v.strictObject({ isEnabled: v.boolean(), isActive: v.boolean() }),
  }),
  v.strictObject({
    kind: v.literal('copies'),
    step: v.string(),
    paths: v.array(absolutePath),
    before: v.array(v.strictObject({ path: absolutePath, state: maybeState })),
  }),
  v.strictObject({
    kind: v.literal('registration'),
    step: v.string(),
    hostId: v.string(),
    hostname: v.string(),
  }),
  v.strictObject({ kind: v.literal('sshd'), step: v.string() }),
])
const entry = v.object({
  change,
  /** Folders that were missing before, the deepest first. */
  folders: v.array(absolutePath),
  /**
   * Set before a file that others edited is taken back: only the file tells whether that was done, and lines must not be
   * taken out twice.
   */
  merge: v.nullable(v.strictObject({ from: fileState, target: maybeState })),
})
const runs = v.array(v.object({ isFinished: v.boolean(), entries: v.array(entry) }))
const document = v.object({ version: v.number(), sha256: v.string(), runs: v.unknown() })

interface Entry {
  readonly change: Change
  folders: readonly string[]
  merge: { readonly from: FileState; readonly target: FileState | null } | null
}

interface Run {
  isFinished: boolean
  entries: Entry[]
}

/**
 * Read the journal, without a lock: what `--check` and `--dry-run` need.
 *
 * @throws AgentError STORE_FAILED when it is there and cannot be used
 */
export async function readJournal(folder: string): Promise<readonly JournalRun[]> {
  return viewOf(await load(join(folder, 'journal.json')))
}

/**
 * Open the journal for one call of `enroll` or `unenroll`.
 *
 * @throws AgentError STORE_FAILED when it cannot be used, or another process has it open
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { folder, performers, operations = fs, lockMilliseconds = 0 } = options
  const { systemctl = runSystemctl } = performers
  const path = join(folder, 'journal.json')
  const signal = options.signal ?? new AbortController().signal
  const release = await createPassLock({ stateDirectory: folder }).acquire(lockMilliseconds, signal)
  let all: Run[]
  try {
    await sweepBeside(path)
    all = await load(path)
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
    const text = textOf(all)
    if (text.length > LARGEST_JOURNAL_BYTES)
      throw new Error(`it would be larger than ${LARGEST_JOURNAL_BYTES / 1024 / 1024} MiB`)
    await makeFolder(folder, FOLDER_MODE, operations)
    await replaceFile(path, text, JOURNAL_MODE, operations)
  }

  const perform = async (args: readonly string[]): Promise<void> => {
    const { status, failure, stderr } = await systemctl(args)
    if (status === 0) return
    throw new Error(oneLine(failure ?? `systemctl ${args.join(' ')} ended with status ${status}: ${stderr}`))
  }

  const make = async (run: Run, wanted: Change): Promise<void> => {
    const place = placeOf(wanted)
    try {
      if (wanted.kind === 'file' && !isSameState(await readFileState(wanted.path), wanted.before))
        throw new Error('somebody changed it just now')
      const folders = await foldersFor(wanted)
      run.entries.push({ change: wanted, folders, merge: null })
    } catch (error) {
      throw failed(`cannot change ${place}`, error)
    }
    try {
      await save()
    } catch (error) {
      throw failed(`cannot write ${path}`, error)
    }
    try {
      if (wanted.kind === 'file') await makeFileChange(wanted, operations)
      if (wanted.kind === 'service') for (const args of callsToMake(wanted)) await perform(args)
    } catch (error) {
      throw failed(wanted.kind === 'file' ? `cannot write ${place}` : `cannot start ${place}`, error)
    }
  }

  const undoFile = async (undone: Entry): Promise<readonly Left[]> => {
    if (undone.change.kind !== 'file') return []
    const { path: file } = undone.change
    await sweepBeside(file)
    const now = await readFileState(file)
    if (undone.merge !== null) {
      // The undoing was interrupted. What was left then was named to nobody.
      const { from, target: wanted } = undone.merge
      if (isSameState(now, from)) await putFileState(file, wanted, operations)
      else if (!isSameState(now, wanted))
        return [{ path: file, why: 'it was changed after its undoing was interrupted' }]
      const { left } = undoingOf(undone.change, from)
      return left.map((why) => ({ path: file, why }))
    }
    const { target, isMerged, left } = undoingOf(undone.change, now)
    if (!isSameState(target, now)) {
      if (isMerged && now !== null) {
        undone.merge = { from: now, target }
        await save()
      }
      await putFileState(file, target, operations)
    }
    return left.map((why) => ({ path: file, why }))
  }

  const undoCopies = async ({ paths, before }: CopiesChange): Promise<readonly Left[]> => {
    const left: Left[] = []
    const earlier = new Map(before.map(({ path: copy, state }) => [copy, state]))
    const found = await Promise.all(paths.map(pathsOf))
    let failure: unknown = null
    for (const copy of new Set([...found.flat(), ...earlier.keys()])) {
      try {
        const state = earlier.get(copy) ?? null
        const now = await readFileState(copy)
        // What was renewed since is newer than what was there before.
        const isRenewed = state !== null && now !== null && copy.endsWith(CERTIFICATE_SUFFIX)
        if (!isRenewed && !isSameState(now, state)) await putFileState(copy, state, operations)
      } catch (error) {
        if (error instanceof Obstacle) left.push({ path: copy, why: error.message })
        else failure ??= new Error(`${copy}: ${reasonOf(error)}`, { cause: error })
      }
    }
    if (failure !== null) throw failure
    return left
  }

  const undoSshd = async (): Promise<readonly Left[]> => {
    const why = (await performers.reloadSshd?.()) ?? null
    if (why !== null) throw new Error(why)
    return []
  }

  const undoEntry = async (undone: Entry): Promise<readonly Left[]> => {
    const left = await (async (): Promise<readonly Left[]> => {
      try {
        switch (undone.change.kind) {
          case 'file':
            return await undoFile(undone)
          case 'copies':
            return await undoCopies(undone.change)
          case 'registration':
            await performers.deleteHost(undone.change)
            return []
          case 'service':
          case 'sshd':
            return []
        }
      } catch (error) {
        if (!(error instanceof Obstacle)) throw error
        return [{ path: placeOf(undone.change), why: error.message }]
      }
    })()
    await removeEmptyFolders(undone.folders, operations)
    // What is kept, or failed, in one of the folders removes it when it is undone.
    for (const other of all.flatMap(({ entries }) => entries)) {
      if (other === undone) continue
      const above = undone.folders.filter((made) =>
        filesOf(other.change).some((file) => file.startsWith(`${made}/`)),
      )
      other.folders = [...new Set([...other.folders, ...above])]
    }
    return left
  }

  const undo = async (entries: readonly Entry[]): Promise<Undone> => {
    const changes: Change[] = []
    const left: Left[] = []
    /** What failed: older changes to the same file have to wait. */
    const blocked = new Set<string>()
    let unsaved: unknown = null

    const trySave = async (): Promise<boolean> => {
      try {
        await save()
        unsaved = null
      } catch (error) {
        unsaved = error
      }
      return unsaved === null
    }
    /** Undo one thing, and forget the entries that were about it. */
    const attempt = async (
      about: readonly Entry[],
      place: string,
      undoing: () => Promise<readonly Left[]>,
    ): Promise<void> => {
      try {
        left.push(...(await undoing()))
      } catch (error) {
        left.push({ path: place, why: reasonOf(error) })
        blocked.add(place)
        return
      }
      changes.push(...about.map((one) => one.change))
      for (const run of all) run.entries = run.entries.filter((one) => !about.includes(one))
      all = all.filter((run) => run.entries.length > 0)
      if (!(await trySave())) blocked.add(place)
    }

    const services = Map.groupBy(entries, ({ change: { kind, ...about } }) =>
      kind === 'service' && 'unit' in about ? about.unit : null,
    )
    const undoServices = async (thoseActiveBefore: boolean): Promise<void> => {
      for (const [unit, about] of services) {
        // As it was before the oldest of the changes.
        const oldest = about.at(-1)?.change
        if (unit === null || oldest?.kind !== 'service' || oldest.before.isActive !== thoseActiveBefore)
          continue
        await attempt(about, unit, async () => {
          for (const args of callsToUndo(oldest)) await perform(args)
          return []
        })
      }
    }

    // A service that goes on would bring back copies that are removed; one that was there reads what is restored.
    for (const unit of services.keys())
      if (unit !== null) await perform(['stop', unit]).catch(() => undefined)
    await undoServices(false)
    for (const one of entries) {
      const place = placeOf(one.change)
      if (one.change.kind === 'service' || one.change.kind === 'sshd') continue
      if (blocked.has(place)) continue
      await attempt([one], place, () => undoEntry(one))
    }
    const aboutSshd = entries.filter(({ change: { kind } }) => kind === 'sshd')
    if (aboutSshd.length > 0) await attempt(aboutSshd, 'sshd', undoSshd)
    await undoServices(true)
    if (unsaved !== null && !(await trySave()))
      left.push({ path, why: `what was undone cannot be noted: ${reasonOf(unsaved)}` })
    return { changes, left }
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
        make: (wanted) => make(run, wanted),
        async finish() {
          run.isFinished = true
          all = all.filter(({ entries }) => entries.length > 0)
          try {
            await save()
          } catch (error) {
            run.isFinished = false
            throw failed(`cannot write ${path}`, error)
          }
        },
      }
    },
    async undoUnfinished() {
      const undone = await undo(newestFirst(all.filter(({ isFinished }) => !isFinished)))
      all = all.filter(({ entries }) => entries.length > 0)
      return undone
    },
    async undoAll(keep = () => false) {
      const undone = await undo(newestFirst(all).filter((one) => !keep(one.change)))
      all = all.filter(({ entries }) => entries.length > 0)
      return undone
    },
    [Symbol.asyncDispose]: release,
  }
}

/** Ids of hosts that this host registered, the newest last. */
export function registeredIn(all: readonly JournalRun[]): readonly string[] {
  const changes = all.flatMap((run) => run.changes)
  return changes.flatMap((one) => (one.kind === 'registration' ? [one.hostId] : []))
}

function viewOf(all: readonly Run[]): readonly JournalRun[] {
  return all.map(({ isFinished, entries }) => ({ isFinished, changes: entries.map((one) => one.change) }))
}

/** @throws AgentError STORE_FAILED */
async function load(path: string): Promise<Run[]> {
  try {
    const state = await readFileState(path, LARGEST_JOURNAL_BYTES)
    if (state === null) return []
    if ((state.mode & 0o022) !== 0) throw new Error('others may write to it')
    return runsOf(state.content.toString('utf8'))
  } catch (error) {
    const why = `${reasonOf(error)}; enroll and unenroll change nothing until it is restored, or removed to forget what enroll did`
    throw new AgentError('STORE_FAILED', `cannot use the journal ${path}: ${why}`, { cause: error })
  }
}

function runsOf(text: string): Run[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw new Error('it is damaged')
  }
  const outer = v.safeParse(document, parsed)
  if (!outer.success) throw new Error('it is damaged')
  const { version, sha256, runs: written } = outer.output
  if (version !== VERSION) throw new Error(`its version is ${version}, and this hostcertd knows ${VERSION}`)
  if (sha256 !== digestOf(JSON.stringify(written))) throw new Error('it is damaged')
  const inner = v.safeParse(runs, written)
  if (inner.success) return inner.output
  const [issue] = inner.issues
  throw new Error(`it is damaged at ${quote(v.getDotPath(issue) ?? '')}`)
}

const VERSION = 1

function textOf(all: readonly Run[]): string {
  const written = JSON.stringify(
    all.map(({ isFinished, entries }) => ({
      isFinished,
      entries: entries.map((one) => ({
        change: documentOf(one.change),
        folders: one.folders,
        merge: one.merge && { from: stateDocument(one.merge.from), target: stateDocument(one.merge.target) },
      })),
    })),
  )
  return `{"version":${VERSION},"sha256":"${digestOf(written)}","runs":${written}}\n`
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function documentOf(written: Change): unknown {
  switch (written.kind) {
    case 'file':
      return { ...written, before: stateDocument(written.before), after: stateDocument(written.after) }
    case 'copies': {
      const before = written.before.map(({ path, state }) => ({ path, state: stateDocument(state) }))
      return { ...written, before }
    }
    case 'service':
    case 'registration':
    case 'sshd':
      return written
  }
}

function stateDocument(state: FileState | null): unknown {
  return state && { ...state, content: state.content.toString('base64') }
}

/** What a change is about, for people. */
function placeOf(about: Change): string {
  switch (about.kind) {
    case 'file':
      return about.path
    case 'copies':
      return about.paths.join(', ')
    case 'registration':
      return about.hostname
    case 'service':
      return about.unit
    case 'sshd':
      return 'sshd'
  }
}

function filesOf(about: Change): readonly string[] {
  if (about.kind === 'file') return [about.path]
  return about.kind === 'copies' ? about.paths : []
}

async function foldersFor(wanted: Change): Promise<readonly string[]> {
  if (wanted.kind === 'file') return wanted.after === null ? [] : missingFolders(wanted.path)
  if (wanted.kind !== 'copies') return []
  const missing = new Set((await Promise.all(wanted.paths.map(missingFolders))).flat())
  return [...missing].toSorted((one, other) => other.length - one.length)
}

/** @throws Error of the system call when the folder cannot be listed: then it is not known what is in it */
async function pathsOf(pattern: string): Promise<readonly string[]> {
  try {
    await fs.readdir(dirname(pattern))
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return []
    throw error
  }
  return pathsMatching(pattern)
}

function callsToMake({ unit, before }: ServiceChange): readonly (readonly string[])[] {
  if (!before.isActive) return [['enable', '--now', unit]]
  return [...(before.isEnabled ? [] : [['enable', unit]]), ['reload', unit]]
}

function callsToUndo({ unit, before }: ServiceChange): readonly (readonly string[])[] {
  if (!before.isActive) return [before.isEnabled ? ['stop', unit] : ['disable', '--now', unit]]
  return [...(before.isEnabled ? [] : [['disable', unit]]), ['reload-or-restart', unit]]
}

async function runSystemctl(args: readonly string[]): Promise<ProgramResult> {
  return runProgram(['systemctl', ...args], {
    timeoutMilliseconds: SYSTEMCTL_MILLISECONDS,
    environment: { LC_ALL: 'C' },
  })
}

function failed(what: string, error: unknown): AgentError {
  const why = error instanceof AgentError ? messageOf(error) : reasonOf(error)
  return new AgentError('STORE_FAILED', `${what}: ${why}`, { cause: error })
}
