import { validBeforeOf } from '../cert/host-certificate.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { Attempts } from './attempts.ts'
import { unserved, type HostKeyView } from './judge.ts'
import type { KeyOutcome } from './outcome.ts'
import type { PassResult } from './pass.ts'
import { installWait, pauseAfterIssuance, reloadWait, waitOf } from './waits.ts'

/**
 * When something falls due before anybody asks: a renewal, the end of a wait, a change of state.
 *
 * @returns a time after `now`; null when only the tick remains
 */
export function nextPass(
  { views, outcomes }: PassResult,
  attempts: Attempts,
  now: UnixSeconds,
): UnixSeconds | null {
  const times: (UnixSeconds | null)[] = []
  for (const view of views) {
    const { onDisk, times: renewal } = view
    if (renewal !== null) times.push(renewal.dueAt, renewal.overdueAt)
    if (onDisk.kind === 'usable') times.push(validBeforeOf(onDisk.certificate))
    const outcome = outcomes.find(({ hostKey }) => hostKey === view.name)
    times.push(nextAttempt(view, outcome, attempts, now))
  }
  times.push(installWait(attempts)?.until ?? null)
  if (attempts.record.reloadOwed || unserved(views).length > 0)
    times.push(reloadWait(attempts)?.until ?? null)
  const next = Math.min(...times.filter((at) => at !== null).filter((at) => at > now && Number.isFinite(at)))
  return Number.isFinite(next) ? next : null
}

/** When to try again for a key that is due; what ended while the turn was busy with something else has its turn at once. */
function nextAttempt(
  { due, subject }: HostKeyView,
  outcome: KeyOutcome | undefined,
  attempts: Attempts,
  now: UnixSeconds,
): UnixSeconds | null {
  if (subject === null || due === null) return null
  // The host key keeps changing, or nothing could be asked: a file event or the tick comes next.
  if (outcome?.kind === 'waiting' && outcome.until === null) return null
  const wait = waitOf(attempts, subject.identity, false)?.until
  if (outcome?.kind === 'failed' && outcome.isLocal) return null
  const until = outcome?.kind === 'waiting' ? outcome.until : pauseAfterIssuance(attempts, subject.identity)
  return Math.max(wait ?? 0, until ?? 0, now + 1)
}
