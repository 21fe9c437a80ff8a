/** What is known when it is decided what to do about sshd, and what this pass did so far. */
export interface ServingFacts {
  /** A certificate was put in place in this pass. */
  readonly swapped: boolean
  /** Somebody asked: no wait counts. */
  readonly byHand: boolean
  /** It is time to ask sshd what it presents, or somebody wants it. */
  readonly askDue: boolean
  /** There is a root helper, which copies, and it is to say where sshd listens. */
  readonly hasHelper: boolean
  readonly helperUnasked: boolean
  /** The root helper has something to copy, to take away, or to write anew. */
  readonly copiesDiffer: boolean
  /** It failed at that, and its wait is not over. */
  readonly installWaits: boolean
  /** sshd is to be reloaded, and what it presents will not show whether it was. */
  readonly reloadOwed: boolean
  /**
   * Of the usable certificates: `proven`: one is seen not to be served; `unseen`: of one nothing is known since it was
   * put in place; `none`: all are served, or sshd is not asked.
   */
  readonly unserved: 'proven' | 'unseen' | 'none'
  /** Nothing accepted connections when sshd was asked last. */
  readonly isDown: boolean
  /** A reload failed, did not help or came too soon, and its wait is not over. */
  readonly reloadWaits: boolean
  /** There is a way to reload, and it is not switched off. */
  readonly mayReload: boolean
  /** What was done in this pass. `asked`: since the last thing that could change the answer. */
  readonly installed: boolean
  readonly asked: boolean
}

/** `cannot-reload`: something is not served, and there is no way to reload. After this and `reload` there is no other step. */
export type ServingStep = 'install' | 'ask' | 'reload' | 'cannot-reload' | 'end'

/**
 * The next thing to do so that sshd serves what lies on disk. Copies come before the reload that makes sshd read them;
 * sshd is asked before it is reloaded, for the answer may be that it need not be.
 */
export function decideServing(facts: ServingFacts): ServingStep {
  const { swapped, byHand, asked, installed, unserved } = facts
  const endsWaits = swapped || byHand
  const mayInstall = facts.hasHelper && !installed && (endsWaits || !facts.installWaits)
  if (mayInstall && (facts.copiesDiffer || facts.helperUnasked)) return 'install'
  // A reload before the copies are there would be of no use.
  if (facts.copiesDiffer && !installed) return facts.askDue && !asked ? 'ask' : 'end'
  if (!asked && (facts.askDue || swapped || installed)) return 'ask'
  if (facts.reloadWaits && !endsWaits) return 'end'
  // An sshd that is down reads everything when it starts.
  if (facts.isDown && !swapped) return 'end'
  const isProven = unserved === 'proven'
  if (!isProven && !facts.reloadOwed && !(unserved === 'unseen' && (swapped || installed))) return 'end'
  if (!asked) return 'ask'
  // The lines by which sshd finds the copies may be what is missing.
  if (mayInstall && isProven) return 'install'
  return facts.mayReload ? 'reload' : 'cannot-reload'
}
