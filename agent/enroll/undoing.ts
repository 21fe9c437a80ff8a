import { messageOf } from '../cert/errors.ts'
import type { OpenRun } from './journal.ts'
import { reloadByHand, UNDONE_CONFIGURATION } from './reload.ts'
import { isReadOnly, type Mode, type Step } from './show.ts'
import type { EnrollTools } from './wanted.ts'

type Tools = Pick<EnrollTools, 'journal' | 'person'>

/** Undo what is not finished; what cannot be undone is said. */
export async function undo({ journal, person }: Tools, what: string): Promise<void> {
  const { changes, left, isReloadedByHand } = await journal.undoUnfinished()
  if (changes.length > 0) person.print(`undone: ${what} (${changes.map(({ step }) => step).join(', ')})`)
  for (const { path, why } of left) person.print(`not undone: ${path}: ${why}`)
  if (isReloadedByHand) person.print(reloadByHand(UNDONE_CONFIGURATION))
}

/** Whether a call was interrupted, or could not undo what it did. */
export function isUnfinished({ runs }: EnrollTools['journal']): boolean {
  return runs.some(({ isFinished }) => !isFinished)
}

/** Of a call that only looks, where {@link isUnfinished}. */
export const UNDO_STEP: Step = {
  step: 'undo an earlier call that was interrupted',
  changed: true,
  detail: 'journal.json',
}

/** Undo what an earlier call left; one that only looks says that it would. */
export async function undoEarlier(tools: Tools, mode: Mode): Promise<void> {
  if (!isReadOnly(mode)) await undo(tools, 'an earlier call that was interrupted')
  else if (isUnfinished(tools.journal))
    tools.person.print(
      'an earlier call was interrupted, or is still running: what it changed would be undone first',
    )
}

/**
 * Make changes in a run of the journal, and undo them when one fails.
 *
 * @throws what `make` threw
 */
export async function makeOrUndo(tools: Tools, make: (run: OpenRun) => Promise<void>): Promise<void> {
  const { journal, person } = tools
  const run = journal.begin()
  try {
    await make(run)
    await run.finish()
  } catch (error) {
    await undo(tools, 'what was changed').catch((other: unknown) =>
      person.print(`the next call undoes what was changed; it failed now: ${messageOf(other)}`),
    )
    throw error
  }
}
