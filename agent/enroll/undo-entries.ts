import { reasonOf } from '../cert/text.ts'
import type { FileOperations } from '../host/files.ts'
import type { Change } from './change.ts'
import { removeEmptyFolders } from './files.ts'
import type { Entry, Run } from './journal-format.ts'
import { BY_HAND, filesOf, isOfSshd, type Left, type Performer, placeOf, SSHD } from './perform.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'

export interface Undone {
  /** What was undone, the newest first; those too of which something is left. */
  readonly changes: readonly Change[]
  readonly left: readonly Left[]
  /** sshd has to read its configuration again, and nothing but a person makes it. */
  readonly isReloadedByHand: boolean
}

/** What an undoing works on. */
export interface Undoing {
  /** All of the journal; what is undone is taken out of them. */
  readonly runs: readonly Run[]
  readonly performer: Performer
  /** Writes the journal. @throws Error of the system call */
  readonly save: () => Promise<void>
  /** Of the journal. */
  readonly path: string
  readonly operations: FileOperations
}

/**
 * Undo entries of the journal: services are stopped first, then files, the newest first; sshd reads its configuration when
 * all that is its own is undone, and services that ran before are started again. What fails stays in the journal, and
 * stops nothing but what depends on it. Never throws.
 *
 * @param entries the newest first
 */
export async function undoEntries(entries: readonly Entry[], undoing: Undoing): Promise<Undone> {
  const { runs, performer, save, path } = undoing
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
    work: () => Promise<readonly Left[] | void>,
  ): Promise<void> => {
    try {
      left.push(...((await work()) ?? []))
    } catch (error) {
      left.push({ path: place, why: reasonOf(error) })
      blocked.add(place)
      return
    }
    changes.push(...about.map((one) => one.change))
    for (const run of runs) run.entries = run.entries.filter((one) => !about.includes(one))
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
      const founds = about.map(({ found }) => found)
      // The newest; but an interrupted enroll may have stopped it.
      const found = founds.includes(undefined) ? null : (founds[0] ?? null)
      await attempt(about, unit, async () => performer.undoService(oldest, found))
    }
  }

  // A service that goes on would bring back copies that are removed; one that was there reads what is restored.
  for (const unit of services.keys()) if (unit !== null) await performer.stop(unit).catch(() => undefined)
  await undoServices(false)
  const undoFiles = async (isWanted: (place: string) => boolean): Promise<void> => {
    for (const one of entries) {
      const place = placeOf(one.change)
      if (one.change.kind === 'service' || one.change.kind === 'sshd') continue
      if (blocked.has(place) || !isWanted(place)) continue
      await attempt([one], place, () => undoEntry(one, undoing))
    }
  }
  await undoFiles((place) => !IN_THE_END.includes(place))
  let isReloadedByHand = false
  for (const last of IN_THE_END) {
    const about = entries.filter(({ change }) => placeOf(change) === last)
    if (about.length === 0) continue
    const stuck = [...blocked].filter(isOfSshd)
    if (stuck.length > 0) left.push({ path: last, why: `this is to be undone first: ${stuck.join(', ')}` })
    else if (last === USER_CA_FILE && isReloadedByHand) left.push({ path: last, why: UNTIL_RELOADED })
    else if (last !== SSHD) await undoFiles((place) => place === last)
    else
      // What failed elsewhere may be sshd's as well, which is to read it when it is undone.
      await attempt(blocked.size === 0 ? about : [], SSHD, async () => {
        isReloadedByHand = (await performer.undoSshd()) === BY_HAND
      })
  }
  await undoServices(true)
  if (unsaved !== null && !(await trySave()))
    left.push({ path, why: `what was undone cannot be noted: ${reasonOf(unsaved)}` })
  const done = changes.filter(({ kind }) => kind !== 'sshd' || !isReloadedByHand)
  return { changes: done, left, isReloadedByHand }
}

async function undoEntry(
  undone: Entry,
  { runs, performer, save, operations }: Undoing,
): Promise<readonly Left[]> {
  const left = await performer.undo(undone, save)
  await removeEmptyFolders(undone.folders, operations)
  // What is kept, or failed, in one of the folders removes it when it is undone.
  for (const other of runs.flatMap(({ entries }) => entries)) {
    if (other === undone) continue
    const above = undone.folders.filter((made) =>
      filesOf(other.change).some((file) => file.startsWith(`${made}/`)),
    )
    other.folders = [...new Set([...other.folders, ...above])]
  }
  return left
}

/**
 * What is undone last, in this order, each only when everything of sshd's before it is: the old line of the user CAs is
 * back before the drop-in goes, and sshd reads the file of the CAs at each login until it has read its configuration again.
 */
const IN_THE_END: readonly string[] = [USER_CA_DROP_IN, SSHD, USER_CA_FILE]

/** Only the next call shows that the person who was told to reload sshd has done it. */
const UNTIL_RELOADED =
  'sshd reads it at each login until it is reloaded: reload sshd first, for the next enroll or unenroll removes it'
