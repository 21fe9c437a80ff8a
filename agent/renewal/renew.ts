import { isRoutine, type DueReason } from '../core/renewal-decision.ts'
import type { UnixSeconds } from '../core/time.ts'
import type { Attempts } from './attempts.ts'
import { levelOfFailure } from './failure-level.ts'
import { isCertifiable, observe, type CertifiableView, type HostKeyView } from './observe.ts'
import type { ServedKnowledge } from './served-knowledge.ts'
import type { HostCaAnswer, IssuerFailure } from './ports.ts'
import { secondsLeft } from './failed-attempt.ts'
import type { KeyOutcome } from './key-request.ts'
import { renewKey, TOO_LATE, type IssuingSignals } from './renew-key.ts'
import { askSshd, confirm } from './ask-sshd.ts'
import { bringIntoService, type ServingTrouble } from './serve.ts'
import type { Host } from './settings.ts'
import { Deadline } from './bounded-work.ts'
import { askIssuer, knownCas, mustAskIssuer } from './trusted-cas.ts'
import { issuerWait, pauseAfterIssuance, repairWaitOf, waitOf } from './waits.ts'

/** sshd is asked what it serves at least this often, not more: each question is a log line of sshd's. */
export const ASK_EVERY_SECONDS = 900
/** And while it does not answer, this often, for each file event and tick would ask it else. */
const ASK_SILENT_SECONDS = 30
/** The part of a turn that is the issuer's, all host keys together; the rest is for sshd. */
const ISSUING_MILLISECONDS = 60_000

export interface PassRequest {
  /** Issue for every host key, due or not. */
  readonly force: boolean
  /** Issue and verify, but write no certificate and reload nothing. */
  readonly dryRun: boolean
  /** Only this host key, by name; null for all. */
  readonly only: string | null
  /** A person asked: no backoff and no maintenance window, only what the server asked for with `Retry-After`. */
  readonly byHand: boolean
  /** Ask sshd what it serves, whether it is time or not. */
  readonly ask: boolean
}

export const ROUTINE_PASS: PassRequest = {
  force: false,
  dryRun: false,
  only: null,
  byHand: false,
  ask: false,
}

export interface PassResult {
  readonly views: readonly HostKeyView[]
  readonly knowledge: ServedKnowledge
  readonly outcomes: readonly KeyOutcome[]
  /** What kept certificates from being served in this pass; null when nothing did, or nothing was to be done. */
  readonly trouble: ServingTrouble | null
}

/** A host key that wants a certificate, and why. */
interface Wanted {
  readonly view: CertifiableView
  readonly reason: DueReason
}

/**
 * One pass over all host keys: observed → due → issued → verified → swapped → reloaded → confirmed.
 * Call it with the lock held and the record loaded; it saves the record wherever a crash must not lose it.
 *
 * @param before what is known of sshd from the last pass
 * @throws AgentError CONFIG_INVALID (the pinned CAs); the signal's reason when it fires
 */
export async function renewHost(
  host: Host,
  attempts: Attempts,
  before: ServedKnowledge,
  request: PassRequest,
  signal: AbortSignal,
): Promise<PassResult> {
  let knowledge = before
  const look = async (): Promise<HostKeyView[]> =>
    observe(host, attempts, knowledge, await knownCas(host, attempts))

  // observed
  let views = await look()
  using issuing = new Deadline(host.clock, ISSUING_MILLISECONDS)
  const signals: IssuingSignals = { stop: signal, deadline: issuing.signal }
  if (await learnCa(host, attempts, views, signals)) views = await look()
  attempts.keepOnly(views.map(({ name }) => name))
  if (request.ask || isTimeToAsk(knowledge, host.clock.now())) {
    knowledge = await askSshd(host, attempts, views.filter(isCertifiable), knowledge, false, signal)
    views = await look()
    confirm(host, attempts, views.filter(isCertifiable))
  }

  // due
  const wanted = views.filter(isCertifiable).flatMap((view) => wantedOf(view, request))

  // issued, verified, swapped
  const outcomes: KeyOutcome[] = []
  let issuerFailure: IssuerFailure | null = null
  for (const [index, { view, reason }] of wanted.entries()) {
    const hostKey = view.name
    if (issuerFailure !== null) {
      outcomes.push({ kind: 'failed', hostKey, failure: issuerFailure, issuerFailure })
      continue
    }
    const until = mayStartAt(host, attempts, view, reason, request)
    if (until !== null) {
      outcomes.push({ kind: 'waiting', hostKey, reason, until })
      continue
    }
    const lookAgain = async (name: string): Promise<CertifiableView | null> =>
      (await look()).filter(isCertifiable).find((other) => other.name === name) ?? null
    const alsoWanting = wanted.slice(index + 1).map((other) => other.view)
    const keyRequest = { view, reason, views: await look(), alsoWanting, dryRun: request.dryRun, lookAgain }
    const outcome = await renewKey(host, attempts, keyRequest, signals)
    outcomes.push(outcome)
    if (outcome.kind === 'failed') issuerFailure = outcome.issuerFailure
  }

  // reloaded, confirmed
  const swapped = outcomes.filter(({ kind }) => kind === 'renewed').map(({ hostKey }) => hostKey)
  views = await look()
  if (request.dryRun) return { views, knowledge, outcomes, trouble: null }
  const serve = { swapped, byHand: request.byHand }
  const serving = await bringIntoService(host, attempts, knowledge, views, serve, signal)
  const unsaved = await attempts.save()
  if (unsaved !== null)
    host.log.error({ code: unsaved.code }, `the attempt record is kept in memory: ${unsaved.message}`)
  return { ...serving, outcomes }
}

/**
 * Ask the issuer once for its CA, so that what lies on disk can be judged.
 *
 * @returns whether there is news
 */
async function learnCa(
  host: Host,
  attempts: Attempts,
  views: readonly HostKeyView[],
  { stop, deadline }: IssuingSignals,
): Promise<boolean> {
  if (issuerWait(attempts) !== null || !(await mustAskIssuer(host, attempts))) return false
  const answer = await askIssuer(host, attempts, AbortSignal.any([stop, deadline])).catch(
    (error: unknown): HostCaAnswer => {
      if (stop.aborted || !deadline.aborted) throw error
      return { ok: false, failure: TOO_LATE, noSuchRoute: false }
    },
  )
  if (answer.ok || answer.noSuchRoute) return true
  const { code, message, requestId } = answer.failure
  // Keys that want a certificate do not get one for it; for the others it is no failure.
  const lacking = views
    .filter(isCertifiable)
    .filter(({ due, state }) => due !== null && state.state !== 'ignored')
  const identities = lacking.map(({ subject }) => subject.identity)
  const { failures } = attempts.issuerFailed(identities, answer.failure, secondsLeft(host, views))
  for (const { name } of lacking) host.metrics.renewal(name, code)
  const level = levelOfFailure({
    failure: answer.failure,
    next: answer.failure.next,
    failures,
    views: lacking,
  })
  host.log[level](
    { code, request_id: requestId, failures },
    `the issuer was asked for its host CA: ${message}`,
  )
  return false
}

function isTimeToAsk({ askedAt, silence }: ServedKnowledge, now: UnixSeconds): boolean {
  const every = silence === null ? ASK_EVERY_SECONDS : ASK_SILENT_SECONDS
  return askedAt === null || now >= askedAt + every || now < askedAt
}

function wantedOf(view: CertifiableView, { force, only }: PassRequest): Wanted[] {
  if (view.state.state === 'ignored' || (only !== null && view.name !== only)) return []
  const reason = view.due ?? (force ? 'forced' : null)
  return reason === null ? [] : [{ view, reason }]
}

/** When this key may be issued for; null for now, `Infinity`-free: a closed maintenance window says the next minute. */
function mayStartAt(
  host: Host,
  attempts: Attempts,
  { subject }: CertifiableView,
  reason: DueReason,
  { byHand }: PassRequest,
): UnixSeconds | null {
  const wait = waitOf(attempts, subject.identity, !byHand)
  if (wait !== null) return wait.until
  if (byHand) return null
  const now = host.clock.now()
  if (isRoutine(reason) && !host.settings.maintenance.contains(now)) return Math.floor(now / 60 + 1) * 60
  if (isRoutine(reason) || reason === 'overdue') return pauseAfterIssuance(attempts, subject.identity)
  return repairWaitOf(attempts, subject.identity)
}
