import { AgentError } from '../cert/errors.ts'
import type { Change } from './change.ts'
import type { Left } from './journal.ts'
import { isOfTemplate } from './template.ts'
import type { EnrollTools } from './wanted.ts'

export interface UnenrollOptions {
  readonly mode: 'ask' | 'yes' | 'dry-run' | 'check'
  /** Delete the host at the issuer, in the end. */
  readonly deleteHost: ((signal: AbortSignal) => Promise<string>) | null
}

export interface Unenrolled {
  readonly changed: boolean
  readonly isDone: boolean
  readonly steps: readonly { readonly step: string; readonly changed: boolean; readonly detail: string }[]
  readonly left: readonly Left[]
}

/**
 * Take back what `enroll` did, the newest first; what others changed since stays, and is named.
 *
 * @throws AgentError; the signal's reason
 */
export async function unenroll(
  { mode, deleteHost }: UnenrollOptions,
  { journal, person, testSshd, reloadSshd }: EnrollTools,
  signal: AbortSignal,
): Promise<Unenrolled> {
  const isKept = (change: Change): boolean => change.kind === 'registration'
  const changes = journal.runs
    .flatMap((run) => run.changes)
    .filter((change) => !isKept(change))
    .toReversed()
  const steps = changes.map((change) => ({
    step: `take back: ${change.step}`,
    changed: true,
    detail: change.kind === 'file' ? change.path : change.kind,
  }))
  if (deleteHost !== null)
    steps.push({ step: 'delete the host at the issuer', changed: true, detail: 'host' })
  const result = { changed: steps.length > 0, steps, left: [] }
  if (steps.length === 0) return { ...result, isDone: true }
  if (mode !== 'yes' || person.isThere) person.show(changes.map(reversed))
  if (mode === 'dry-run' || mode === 'check') return { ...result, isDone: false }
  if (mode === 'ask' && !(await person.agrees('Take all of this back?', signal)))
    throw new AgentError('CONFIG_INVALID', 'nothing was changed')
  const deleted = deleteHost === null ? null : await deleteHost(signal)
  const { left } = await journal.undoAll(isKept)
  // In an image that is being built there may be neither sshd nor systemd.
  if (!changes.every(isOfTemplate)) {
    const refused = await testSshd(signal)
    if (refused !== null)
      throw new AgentError('SSHD_CONFIG_INVALID', `sshd refuses its configuration: ${refused}`)
    const failed = await reloadSshd(signal)
    if (failed !== null) throw new AgentError('SSHD_RELOAD_FAILED', failed)
  }
  if (deleted !== null) person.tell(deleted)
  for (const { path, why } of left) person.tell(`left as it is: ${path}: ${why}`)
  return { ...result, left, isDone: true }
}

function reversed(change: Change): Change {
  return change.kind === 'file'
    ? { ...change, step: `take back: ${change.step}`, before: change.after, after: change.before }
    : { ...change, step: `take back: ${change.step}` }
}
