import { AgentError, messageOf } from '../cert/errors.ts'
import type { Change } from './change.ts'
import type { Deletion } from './delete-host.ts'
import type { Left } from './perform.ts'
import type { EnrollTools } from './wanted.ts'

type Mode = 'ask' | 'yes' | 'dry-run' | 'check'

export interface UnenrollOptions {
  readonly mode: Mode
  /** Of the host at the issuer, in the end. */
  readonly deletion: Deletion | null
}

export interface Unenrolled {
  readonly changed: boolean
  readonly isDone: boolean
  readonly steps: readonly { readonly step: string; readonly changed: boolean; readonly detail: string }[]
  readonly left: readonly Left[]
}

/**
 * Take back what `enroll` did, the newest first; what others changed since stays, and is named. Once begun it goes on
 * whatever signal comes, and after a crash the next call goes on.
 *
 * @throws AgentError; the signal's reason
 */
export async function unenroll(
  { mode, deletion }: UnenrollOptions,
  { journal, person }: EnrollTools,
  signal: AbortSignal,
): Promise<Unenrolled> {
  const isKept = (change: Change): boolean => change.kind === 'registration'
  const changes = journal.runs
    .flatMap((run) => run.changes)
    .filter((change) => !isKept(change))
    .toReversed()
  const steps = changes.map((change) => ({
    step: stepOf(change),
    changed: true,
    detail: change.kind === 'file' ? change.path : change.kind,
  }))
  const deletes = await willDelete(deletion, mode, signal)
  if (deletes !== null) steps.push(stepOfDeletion(deletes))
  const result = { changed: steps.length > 0, steps, left: [] }
  if (steps.length === 0) return { ...result, isDone: true }
  if (mode !== 'yes' || person.isThere) person.show(changes.map(reversed))
  if (mode === 'dry-run' || mode === 'check') return { ...result, isDone: false }
  const also = deletes === null ? '' : `, and ${questionOf(deletes)}`
  if (mode === 'ask' && !(await person.agrees(`Take all of this back${also}?`, signal)))
    return { ...result, isDone: false }
  signal.throwIfAborted()
  const { left } = await journal.undoAll(isKept)
  for (const { path, why } of left) person.tell(`not taken back: ${path}: ${why}`)
  if (deletes === null) return { ...result, left, isDone: true }

  if (journal.runs.some((run) => run.changes.some((change) => !isKept(change)))) {
    person.tell(`the host ${deletes.hostId} is not deleted: first the rest has to be taken back`)
    return { ...result, left, isDone: true }
  }
  person.tell(await deleteAtLast(deletes, signal))
  await journal.undoAll((change) => !(change.kind === 'registration' && change.hostId === deletes.hostId))
  return { ...result, left, isDone: true }
}

/**
 * Only delete a host at the issuer, from whatever machine.
 *
 * @throws AgentError; the signal's reason
 */
export async function deleteHost(
  { mode, deletion }: { readonly mode: Mode; readonly deletion: Deletion },
  person: EnrollTools['person'],
  signal: AbortSignal,
): Promise<Unenrolled> {
  const deletes = await willDelete(deletion, mode, signal)
  const steps = deletes === null ? [] : [stepOfDeletion(deletes)]
  const result = { changed: steps.length > 0, steps, left: [] }
  if (deletes === null || mode === 'dry-run' || mode === 'check')
    return { ...result, isDone: deletes === null }
  const question = questionOf(deletes)
  if (mode === 'ask' && !(await person.agrees(`${question[0]?.toUpperCase()}${question.slice(1)}?`, signal)))
    throw new AgentError('CONFIG_INVALID', 'nothing was changed')
  person.tell(await deletes.run(signal))
  return { ...result, isDone: true }
}

/** @returns null when there is nothing to delete, which only matters while nothing may be changed */
async function willDelete(
  deletion: Deletion | null,
  mode: Mode,
  signal: AbortSignal,
): Promise<Deletion | null> {
  const isLooking = mode === 'dry-run' || mode === 'check'
  return isLooking && deletion !== null && !(await deletion.isThere(signal)) ? null : deletion
}

function stepOfDeletion({ hostId, url }: Deletion): Unenrolled['steps'][number] {
  return { step: `delete the host at ${url}`, changed: true, detail: hostId }
}

function questionOf({ hostId, url }: Deletion): string {
  return `delete the host ${hostId} at ${url}`
}

/** This host has forgotten by now how to log in. */
async function deleteAtLast(deletion: Deletion, signal: AbortSignal): Promise<string> {
  try {
    return await deletion.run(signal)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const again = `hostcertd unenroll --delete-host --host-id ${deletion.hostId} --url ${deletion.url} --admin-token-file FILE`
    throw new AgentError(
      error.code,
      `${messageOf(error)}; on this host all was taken back, but the host is still at the issuer: ${again}`,
      { cause: error },
    )
  }
}

function stepOf({ kind, step }: Change): string {
  return kind === 'sshd' ? step : `take back: ${step}`
}

function reversed(change: Change): Change {
  return change.kind === 'file'
    ? { ...change, step: stepOf(change), before: change.after, after: change.before }
    : { ...change, step: stepOf(change) }
}
