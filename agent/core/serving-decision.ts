/** What is known when it is decided what to do about sshd. */
export interface ServingFacts {
  /** A certificate was put in place in this pass. */
  readonly swapped: boolean
  /** Somebody asked: no wait counts. */
  readonly byHand: boolean
  /** The root helper has something to copy, or to take away. */
  readonly copiesDiffer: boolean
  /** It failed at that, and its wait is not over. */
  readonly installWaits: boolean
  /** sshd was to be reloaded and was not, where what it serves does not tell. */
  readonly reloadOwed: boolean
  /** A usable certificate is known not to be served, or was never seen to be. */
  readonly unserved: boolean
  /** sshd did not answer when it was asked last. */
  readonly silent: boolean
  /** A reload failed or did not help, and its wait is not over. */
  readonly reloadWaits: boolean
  /** There is a way to reload, and it is not switched off. */
  readonly mayReload: boolean
}

/**
 * - `leave`: all is served, or nothing can be said or done now
 * - `cannot-reload`: it is not served, and there is no way to reload
 */
export type ServingDecision = 'leave' | 'install' | 'reload' | 'cannot-reload'

/** The next thing to do so that sshd serves what lies on disk. Copies come before the reload that makes sshd read them. */
export function decideServing(facts: ServingFacts): ServingDecision {
  const { swapped, byHand, copiesDiffer, installWaits, reloadOwed, unserved, silent, reloadWaits } = facts
  const endsWaits = swapped || byHand
  if (copiesDiffer) return installWaits && !endsWaits ? 'leave' : 'install'
  if (reloadWaits && !endsWaits) return 'leave'
  // An sshd that is down reads everything when it starts.
  const isWanted = reloadOwed || (unserved && (swapped || !silent))
  if (!isWanted) return 'leave'
  return facts.mayReload ? 'reload' : 'cannot-reload'
}
