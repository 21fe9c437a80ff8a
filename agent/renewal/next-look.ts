import { validBeforeOf } from '../core/host-certificate.ts'
import type { UnixSeconds } from '../core/time.ts'
import type { Attempts } from './attempts.ts'
import { notServed } from './ask-sshd.ts'
import type { PassResult } from './renew.ts'

/**
 * When something falls due before anybody asks: a renewal, the end of a wait, a change of state.
 *
 * @returns a time after `now`; null when only the tick remains
 */
export function nextLook(
  { views, outcomes }: PassResult,
  attempts: Attempts,
  now: UnixSeconds,
): UnixSeconds | null {
  const times: UnixSeconds[] = []
  for (const { onDisk, times: renewal } of views) {
    if (renewal !== null) times.push(renewal.dueAt, renewal.overdueAt)
    if (onDisk.kind === 'usable') times.push(validBeforeOf(onDisk.certificate))
  }
  for (const outcome of outcomes) {
    if (outcome.kind === 'waiting' && outcome.until !== null) times.push(outcome.until)
  }
  for (const { name, due, state, subject } of views) {
    // It fell due while the turn was busy with something else.
    const isNew = due !== null && subject !== null && !outcomes.some(({ hostKey }) => hostKey === name)
    if (isNew && state.state !== 'ignored') times.push(now + 1)
    const wait = subject === null ? null : attempts.waitOf(subject.identity, true)
    if (wait !== null) times.push(wait.until)
  }
  const reload = attempts.reloadWait()
  if (reload !== null && (attempts.record.reloadOwed || notServed(views).length > 0)) times.push(reload.until)
  const next = Math.min(...times.filter((at) => at > now && Number.isFinite(at)))
  return Number.isFinite(next) ? next : null
}
