import type { UnixSeconds } from '../cert/time.ts'
import type { Attempts } from './attempts.ts'
import { installWait, reloadWait } from './backoff.ts'
import { type HostKeyView, unserved } from './judge.ts'
import type { Host } from './ports.ts'
import type { SshdRecord } from './record.ts'

/** sshd is asked what it presents at least this often, not more: each question is a log line of sshd's. */
const ASK_EVERY_SECONDS = 900
/** While something is not known, this often: nothing is logged by an sshd that is down, but a line by one that is not. */
const ASK_AGAIN_SECONDS = { down: 30, unknown: 300 } as const
/** While sshd does not answer, the root helper is asked this often where it listens. */
const HELPER_AGAIN_SECONDS = 300

export interface ServeRequest {
  /** Names of the host keys whose certificate was swapped in this pass. */
  readonly swapped: readonly string[]
  /** Somebody asked: no wait counts. */
  readonly byHand: boolean
  /** Ask sshd what it presents, whether it is time or not. */
  readonly ask: boolean
  /** Ask the root helper where sshd listens, whether it is known or not. */
  readonly askHelper: boolean
}

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

/** What {@link decideServing} goes by, but for what this pass did. */
export function knownOf(
  host: Host,
  attempts: Attempts,
  views: readonly HostKeyView[],
  request: ServeRequest,
  copiesDiffer: boolean,
): Omit<ServingFacts, 'installed' | 'asked'> {
  const { settings, sshd, clock } = host
  const { swapped, byHand, ask } = request
  const { record } = attempts
  const lacking = unserved(views)
  return {
    swapped: swapped.length > 0,
    byHand,
    askDue: ask || isTimeToAsk(record.sshd, views, clock.now()),
    hasHelper: sshd.hasHelper,
    helperUnasked: isHelperUnasked(host, attempts, request),
    copiesDiffer,
    installWaits: installWait(attempts) !== null,
    // What is seen to be served needs no reload, but for `always`, where that is not what counts.
    reloadOwed:
      record.reloadOwed && (lacking.length > 0 || !host.served.enabled || settings.reload === 'always'),
    unserved:
      lacking.length === 0 ? 'none' : lacking.some(({ how }) => how === 'proven') ? 'proven' : 'unseen',
    isDown: host.served.enabled && record.sshd.state === 'down',
    reloadWaits: reloadWait(attempts) !== null,
    mayReload: settings.reload !== 'never' && sshd.canReload,
  }
}

/**
 * Whether the root helper is to be asked though there is nothing to copy: where sshd listens, which may be elsewhere when
 * it does not answer; and what it could not do the last time, for only its own answer shows that it can now.
 */
function isHelperUnasked(host: Host, { record }: Attempts, { askHelper }: ServeRequest): boolean {
  if (!host.sshd.hasHelper) return false
  const { helperAt, state } = record.sshd
  if (askHelper || helperAt === null || record.install !== null) return true
  const age = host.clock.now() - helperAt
  return host.served.enabled && state !== 'up' && (age < 0 || age >= HELPER_AGAIN_SECONDS)
}

function isTimeToAsk(
  { askedAt, state }: SshdRecord,
  views: readonly HostKeyView[],
  now: UnixSeconds,
): boolean {
  // A key that is new, or whose files changed: what was seen before is no evidence for it.
  if (views.some(({ served }) => served.kind === 'nothing-known' && served.unknown === null)) return true
  // Below 0 under a clock that was set back since.
  const age = now - (askedAt ?? -Infinity)
  const isUnknown = views.some(({ served }) => served.kind !== 'not-asked' && served.unknown !== null)
  const every =
    state === 'down' ? ASK_AGAIN_SECONDS.down : isUnknown ? ASK_AGAIN_SECONDS.unknown : ASK_EVERY_SECONDS
  return age < 0 || age >= every
}

/** `cannot-reload`: something is not served, and there is no way to reload. After this and `reload` there is no other step. */
export type ServingStep = 'install' | 'ask' | 'reload' | 'cannot-reload' | 'end'

/**
 * The next thing to do so that sshd serves what is on disk. Copies come before the reload that makes sshd read them;
 * sshd is asked before it is reloaded, for the answer may be that it need not be.
 */
export function decideServing(facts: ServingFacts): ServingStep {
  const { swapped, byHand, asked, installed } = facts
  const endsWaits = swapped || byHand
  const mayInstall = facts.hasHelper && !installed && (endsWaits || !facts.installWaits)
  if (mayInstall && (facts.copiesDiffer || facts.helperUnasked)) return 'install'
  // A reload before the copies are there would be of no use.
  if (facts.copiesDiffer && !installed) return facts.askDue && !asked ? 'ask' : 'end'
  if (!asked && (facts.askDue || swapped || installed)) return 'ask'
  if (facts.reloadWaits && !endsWaits) return 'end'
  // An sshd that is down reads everything when it starts.
  if (facts.isDown && !swapped) return 'end'
  const isProven = facts.unserved === 'proven'
  if (!isProven && !facts.reloadOwed && !(facts.unserved === 'unseen' && (swapped || installed))) return 'end'
  if (!asked) return 'ask'
  // The lines by which sshd finds the copies may be what is missing.
  if (mayInstall && isProven) return 'install'
  return facts.mayReload ? 'reload' : 'cannot-reload'
}
