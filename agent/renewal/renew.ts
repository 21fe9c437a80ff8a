import { isRoutine, type DueReason } from '../core/renewal-decision.ts'
import type { UnixSeconds } from '../core/time.ts'
import type { Attempts } from './attempts.ts'
import { levelOfFailure } from './failure-level.ts'
import {
  isCertifiable,
  observe,
  type CertifiableView,
  type HostKeyView,
  type ServedKnowledge,
} from './observe.ts'
import type { IssuerFailure } from './ports.ts'
import { renewKey, type KeyOutcome } from './renew-key.ts'
import { askSshd, confirm, notServed } from './ask-sshd.ts'
import { bringIntoService } from './serve.ts'
import type { Host } from './settings.ts'
import { askIssuer, knownCas, mustAskIssuer } from './trusted-cas.ts'

/** sshd is asked what it serves at least this often, not more: each question is a log line of sshd's. */
export const ASK_EVERY_SECONDS = 900

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
 * @throws AgentError CONFIG_INVALID (the pinned CAs), STORE_FAILED (the record); the signal's reason when it fires
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
  await learnCa(host, attempts, signal)
  let views = await look()
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
    const outcome = await renewKey(host, attempts, keyRequest, signal)
    outcomes.push(outcome)
    if (outcome.kind === 'failed') issuerFailure = outcome.issuerFailure
  }

  // reloaded, confirmed
  const swapped = outcomes.filter(({ kind }) => kind === 'renewed').map(({ hostKey }) => hostKey)
  views = await look()
  if (
    !request.dryRun &&
    (swapped.length > 0 || (await wantsService(host, attempts, knowledge, views, request)))
  ) {
    const impatient = request.byHand
    knowledge = await bringIntoService(host, attempts, knowledge, { swapped, impatient }, signal)
    views = await look()
  }
  await attempts.save()
  return { views, knowledge, outcomes }
}

/** Ask the issuer once for its CA, so that what lies on disk can be judged. No answer is no failure of any host key. */
async function learnCa(host: Host, attempts: Attempts, signal: AbortSignal): Promise<void> {
  if (attempts.issuerWait() !== null || !(await mustAskIssuer(host, attempts))) return
  const answer = await askIssuer(host, attempts, signal)
  if (answer.ok || answer.noSuchRoute) return
  const { code, message, requestId } = answer.failure
  const { failures } = attempts.issuerFailed([], answer.failure, null)
  const level = levelOfFailure({ failure: answer.failure, next: answer.failure.next, failures, views: [] })
  host.log[level](
    { code, request_id: requestId, failures },
    `the issuer was asked for its host CA: ${message}`,
  )
}

function isTimeToAsk({ askedAt, silence }: ServedKnowledge, now: UnixSeconds): boolean {
  return askedAt === null || silence !== null || now >= askedAt + ASK_EVERY_SECONDS || now < askedAt
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
  const wait = attempts.waitOf(subject.identity, !byHand)
  if (wait !== null) return wait.until
  if (byHand) return null
  const now = host.clock.now()
  if (isRoutine(reason)) return host.settings.maintenance.contains(now) ? null : Math.floor(now / 60 + 1) * 60
  return reason === 'overdue' ? null : attempts.repairWaitOf(subject.identity)
}

async function wantsService(
  host: Host,
  attempts: Attempts,
  knowledge: ServedKnowledge,
  views: readonly HostKeyView[],
  { byHand }: PassRequest,
): Promise<boolean> {
  const names = views.filter(({ onDisk }) => onDisk.kind === 'usable').map(({ name }) => name)
  if (attempts.reloadWait() !== null && !byHand) return false
  if (await host.sshd.installNeeded(names)) return true
  return notServed(views).length > 0 && knowledge.silence === null
}
