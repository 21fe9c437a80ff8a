import { AgentError, type Failure } from '../cert/errors.ts'
import { validBeforeOf } from '../cert/host-certificate.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { Attempts } from './attempts.ts'
import { issuerWaits, pauseAfterIssuance, repairWaitOf, waitOf, installWait, reloadWait } from './backoff.ts'
import { isRoutine, type DueReason } from './certificate-state.ts'
import { Deadline } from './deadline.ts'
import { issue, TOO_LATE, type IssuingSignals } from './issue.ts'
import { hasKey, judgeNow, type CertifiableView, type HostKeyView, unserved } from './judge.ts'
import { isUnreadable, observe, type Facts, type MachineFacts } from './observe.ts'
import type { Host, IssuerFailure } from './ports.ts'
import { noteIssuerFailure, type KeyOutcome, type Wanted } from './report.ts'
import { serve, type ServingTrouble } from './serve.ts'
import { askHostCa, mustAskHostCa } from './trusted-cas.ts'

/** The part of a turn that is the issuer's, all host keys together; the rest is for sshd. */
const ISSUING_MILLISECONDS = 60_000

export interface PassRequest {
  /** Issue for every host key, due or not. */
  readonly force: boolean
  /** Issue and verify, but write no certificate and reload nothing. */
  readonly dryRun: boolean
  /** Only this host key, by name; null for all. */
  readonly only: string | null
  /** A person asked: no maintenance window and no wait counts but that for a locked identity. */
  readonly byHand: boolean
  /** Ask sshd what it presents, whether it is time or not. */
  readonly ask: boolean
  /** Ask the root helper where sshd listens: the program has just started. */
  readonly askHelper: boolean
}

export const ROUTINE_PASS: PassRequest = {
  force: false,
  dryRun: false,
  only: null,
  byHand: false,
  ask: false,
  askHelper: false,
}

export interface PassResult {
  readonly views: readonly HostKeyView[]
  readonly outcomes: readonly KeyOutcome[]
  /** What kept certificates from being served in this pass; null when nothing did, or nothing was to be done. */
  readonly trouble: ServingTrouble | null
  readonly machine: MachineFacts
}

/**
 * One pass over all host keys: observed → due → issued → verified → swapped → reloaded → confirmed.
 * Call it with the lock held and the record loaded; it saves the record wherever a crash must not lose it.
 *
 * @throws AgentError CONFIG_INVALID (the pinned CAs), MACHINE_COPIED (by hand, where that stops renewal); the signal's reason when it fires
 */
export async function pass(
  host: Host,
  attempts: Attempts,
  request: PassRequest,
  signal: AbortSignal,
): Promise<PassResult> {
  // observed
  const observed = await observe(host)
  if (isUnreadable(observed.pinned)) throw new AgentError(observed.pinned.code, observed.pinned.message)
  const { machine } = observed
  if (machine.stopped !== null && request.byHand)
    throw new AgentError(machine.stopped.code, machine.stopped.message)
  attempts.keepOnly(observed.keys.map(({ file }) => file.name))
  attempts.endErrorsOfAnotherClock()

  // due, issued, verified, swapped
  const { facts, outcomes } =
    machine.stopped === null
      ? await issueWhatIsDue(host, attempts, observed, request, signal).finally(() => host.issuer.end())
      : { facts: observed, outcomes: stoppedOutcomes(host, attempts, observed, request, machine.stopped) }

  // reloaded, confirmed
  const swapped = outcomes.filter(({ kind }) => kind === 'renewed').map(({ hostKey }) => hostKey)
  const trouble = request.dryRun ? null : await serve(host, attempts, facts, { ...request, swapped }, signal)

  const views = judgeNow(host, attempts.record, facts)
  endPastErrors(attempts, views, outcomes)
  const unsaved = await attempts.save()
  if (unsaved !== null)
    host.log.error(
      { code: unsaved.code },
      `the attempt record could not be saved and is kept in memory: ${unsaved.message}`,
    )
  return { views: judgeNow(host, attempts.record, facts), outcomes, trouble, machine }
}

/** Of a machine that may renew nothing: the issuer is asked nothing, and what is in place stays and is served. */
function stoppedOutcomes(
  host: Host,
  attempts: Attempts,
  observed: Facts,
  request: PassRequest,
  failure: Failure,
): readonly KeyOutcome[] {
  return wantedNow(host, attempts, observed, request).map(({ view }) => ({
    kind: 'failed',
    hostKey: view.name,
    failure,
    issuerFailure: null,
    isLocal: true,
  }))
}

/** One host key after the other; a failure of the issuer's is the failure of all that still want a certificate. */
async function issueWhatIsDue(
  host: Host,
  attempts: Attempts,
  observed: Facts,
  request: PassRequest,
  stop: AbortSignal,
): Promise<{ readonly facts: Facts; readonly outcomes: readonly KeyOutcome[] }> {
  using issuing = new Deadline(host.clock, ISSUING_MILLISECONDS)
  const signals: IssuingSignals = { stop, deadline: issuing.signal }
  let facts = observed
  let issuerFailure = await learnHostCa(
    host,
    attempts,
    observed,
    wantedNow(host, attempts, observed, request),
    request,
    signals,
  )
  const outcomes: KeyOutcome[] = []
  // Judged anew: now that the CA is known, other certificates may be of no use.
  const wanted = wantedNow(host, attempts, observed, request)
  for (const [index, { view, reason }] of wanted.entries()) {
    const hostKey = view.name
    if (issuerFailure !== null) {
      const isLocal = issuerFailure.next === 'local'
      outcomes.push({ kind: 'failed', hostKey, failure: issuerFailure, issuerFailure, isLocal })
      continue
    }
    const until = mayStartAt(host, attempts, view, reason, request)
    if (until !== null) {
      outcomes.push({ kind: 'waiting', hostKey, reason, until })
      continue
    }
    const alsoWanting = wanted.slice(index + 1).map((other) => other.view)
    const result = await issue(host, attempts, facts, { view, reason }, alsoWanting, request.dryRun, signals)
    facts = result.facts
    outcomes.push(result.outcome)
    if (result.outcome.kind === 'failed') issuerFailure = result.outcome.issuerFailure
  }
  return { facts, outcomes }
}

/**
 * Ask the issuer for its CA where nothing else determines it, so that what is on disk, and what is issued, can be
 * judged. Once: later only when a CA does not match.
 *
 * @returns why it could not be asked; null when there is nothing to ask, or no more to be had
 */
async function learnHostCa(
  host: Host,
  attempts: Attempts,
  facts: Facts,
  wanted: readonly Wanted[],
  request: PassRequest,
  { stop, deadline }: IssuingSignals,
): Promise<IssuerFailure | null> {
  if (!mustAskHostCa(facts, attempts)) return null
  const startable = wanted.filter(
    ({ view, reason }) => mayStartAt(host, attempts, view, reason, request) === null,
  )
  if (issuerWaits(attempts).length > 0 && startable.length === 0) return null
  let failure: IssuerFailure
  try {
    const answer = await askHostCa(host, attempts, AbortSignal.any([stop, deadline]))
    if (answer.ok || answer.noSuchRoute) return null
    failure = answer.failure
  } catch (error) {
    if (stop.aborted || !deadline.aborted) throw error
    failure = TOO_LATE
  }
  const message = `could not get the host CA from the issuer: ${failure.message}`
  const views = wanted.map(({ view }) => view)
  const all = judgeNow(host, attempts.record, facts)
  noteIssuerFailure(host, attempts, views, all, { ...failure, message })
  return failure
}

/** Those that the issuer may not sign come last: whatever it makes of them, the others were asked for. */
function wantedNow(host: Host, attempts: Attempts, observed: Facts, request: PassRequest): Wanted[] {
  return judgeNow(host, attempts.record, observed)
    .filter(hasKey)
    .toSorted((a, b) => Number(a.unproven !== null) - Number(b.unproven !== null))
    .flatMap((view) => wantedOf(view, request))
}

function wantedOf(view: CertifiableView, { force, only }: PassRequest): Wanted[] {
  if (only !== null && view.name !== only) return []
  // Who names a refused key wants to know whether the issuer signs it now.
  const isForced = force || (only !== null && view.unproven !== null)
  const reason = view.due ?? (isForced ? 'forced' : null)
  return reason === null ? [] : [{ view, reason }]
}

/** When a certificate may be requested for this key; null: now. In a closed maintenance window that is the next minute. */
function mayStartAt(
  host: Host,
  attempts: Attempts,
  { subject }: CertifiableView,
  reason: DueReason,
  { byHand }: PassRequest,
): UnixSeconds | null {
  const wait = waitOf(attempts, subject.identity, byHand)
  if (wait !== null) return wait.until
  if (byHand) return null
  const now = host.clock.now()
  if (isRoutine(reason) && !host.settings.maintenance.contains(now)) return Math.floor(now / 60 + 1) * 60
  if (isRoutine(reason) || reason === 'overdue') return pauseAfterIssuance(attempts, subject.identity)
  return repairWaitOf(attempts, subject.identity)
}

/** A key that is no longer due has no failure left, unless this pass tried it. */
function endPastErrors(
  attempts: Attempts,
  views: readonly HostKeyView[],
  outcomes: readonly KeyOutcome[],
): void {
  for (const { name, due, onDisk, subject } of views) {
    const isTried = outcomes.some(({ hostKey }) => hostKey === name)
    if (subject !== null && due === null && onDisk.kind === 'usable' && !isTried)
      attempts.noLongerDue(subject.identity)
  }
}

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
    const { onDisk, times: renewal, unproven } = view
    times.push(unproven?.askAt ?? null)
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
