import type { Failure } from '../core/errors.ts'
import { decideServing, type ServingDecision } from '../core/serving-decision.ts'
import type { UnixSeconds } from '../core/time.ts'
import { askSshd, confirm, notServed } from './ask-sshd.ts'
import type { Attempts } from './attempts.ts'
import { isCertifiable, observe, type CertifiableView, type HostKeyView } from './observe.ts'
import type { ServedKnowledge } from './served-knowledge.ts'
import { serialInPlace } from './failed-attempt.ts'
import type { SshdOutcome } from './ports.ts'
import type { Host } from './settings.ts'
import { knownCas } from './trusted-cas.ts'
import { installWait, reloadWait } from './waits.ts'

/** After a reload sshd may answer with the old certificate at first. Few questions: it punishes whoever asks too much. */
const CONFIRM_WAITS = [
  { milliseconds: 400, bareKeys: false },
  { milliseconds: 4600, bareKeys: true },
]

/** Why certificates in place are not served, and which. */
export interface ServingTrouble {
  readonly failure: Failure
  /** Names of host keys. */
  readonly hostKeys: readonly string[]
}

export interface ServingResult {
  /** What is known of sshd afterwards. */
  readonly knowledge: ServedKnowledge
  /** All host keys afterwards. */
  readonly views: readonly HostKeyView[]
  /** A copy or a reload that failed or did not help in this pass; null when none did. */
  readonly trouble: ServingTrouble | null
}

export interface ServeRequest {
  /** Names of the host keys whose certificate was swapped in this pass. */
  readonly swapped: readonly string[]
  /** Somebody asked: no wait counts. */
  readonly byHand: boolean
}

/**
 * Steps "reloaded" and "confirmed" of the path, for all host keys at once: see to it that sshd serves what lies on
 * disk. Also mends what an earlier pass could not: a failed copy, a failed reload. Does nothing when there is nothing
 * to do.
 *
 * @param all host keys as they are now
 */
export async function bringIntoService(
  host: Host,
  attempts: Attempts,
  before: ServedKnowledge,
  all: readonly HostKeyView[],
  request: ServeRequest,
  signal: AbortSignal,
): Promise<ServingResult> {
  let knowledge = before
  const look = async (): Promise<HostKeyView[]> =>
    observe(host, attempts, knowledge, await knownCas(host, attempts))
  const ask = async (about: readonly CertifiableView[], bareKeys: boolean): Promise<CertifiableView[]> => {
    knowledge = await askSshd(host, attempts, about, knowledge, bareKeys, signal)
    return (await look()).filter(isCertifiable)
  }

  const { record } = attempts
  const copiesDiffer = await needsInstall(host, all)
  // What the helper could not copy was put right, or taken away, by somebody else.
  if (!copiesDiffer) attempts.installed()
  const first = decide(host, attempts, all, knowledge, request, copiesDiffer)
  if (first === 'leave' && request.swapped.length === 0) {
    // Mostly there is nothing to do: then nothing is looked at once more either.
    return { knowledge, views: attempts.record === record ? all : await look(), trouble: null }
  }
  let views = all.filter(isCertifiable)
  if (first === 'install') {
    const installed = await install(host, attempts, signal)
    if (!installed.ok) {
      const { until } = attempts.notInstalled(identitiesOf(views), installed.failure)
      const trouble = tell(host, views, installed.failure, until)
      return { knowledge, views: await look(), trouble }
    }
    knowledge = { ...knowledge, listen: installed.listen }
  }

  views = await ask(views, false)
  const decision = decide(host, attempts, views, knowledge, request, false)
  let problem: Failure | null = null
  if (decision === 'reload') {
    const reloaded = await host.sshd.reload(signal)
    host.metrics.reload(reloaded.ok ? 'ok' : reloaded.failure.code)
    if (reloaded.ok) {
      host.log.info({ host_keys: request.swapped }, 'reloaded sshd')
      if (reloaded.listen.length > 0) knowledge = { ...knowledge, listen: reloaded.listen }
      attempts.reloaded()
      for (const { milliseconds, bareKeys } of CONFIRM_WAITS) {
        if (notServed(views).length === 0) break
        await host.clock.sleep(milliseconds, signal)
        views = await ask(notServed(views), bareKeys)
      }
    } else {
      problem = reloaded.failure
    }
  }
  if (decision !== 'leave' && problem === null && notServed(views).length > 0) {
    if (decision === 'cannot-reload') views = await ask(notServed(views), true)
    markNotOffered(host, attempts, views)
    views = (await look()).filter(isCertifiable)
  }
  confirm(host, attempts, views)
  const concerned = notServed(views)
  if (decision === 'leave' || (problem === null && concerned.length === 0))
    return { knowledge, views: await look(), trouble: null }
  const affected = concerned.length > 0 ? concerned : views.filter(({ onDisk }) => onDisk.kind === 'usable')
  const failure = problem ?? notServing(knowledge, decision)
  const { until } = attempts.notServed(identitiesOf(affected), failure)
  const trouble = tell(host, affected, failure, until)
  return { knowledge, views: await look(), trouble }
}

function decide(
  { settings, sshd }: Host,
  attempts: Attempts,
  views: readonly HostKeyView[],
  { silence }: ServedKnowledge,
  { swapped, byHand }: ServeRequest,
  copiesDiffer: boolean,
): ServingDecision {
  return decideServing({
    swapped: swapped.length > 0,
    byHand,
    copiesDiffer,
    installWaits: installWait(attempts) !== null,
    reloadOwed: attempts.record.reloadOwed,
    unserved: notServed(views).length > 0,
    silent: silence !== null,
    reloadWaits: reloadWait(attempts) !== null,
    mayReload: settings.reload !== 'never' && sshd.canReload,
  })
}

/** Whether the root helper has something to copy, or to take away. */
async function needsInstall(host: Host, views: readonly HostKeyView[]): Promise<boolean> {
  const usable = views.filter(({ onDisk }) => onDisk.kind === 'usable').map(({ name }) => name)
  const present = views.map(({ name }) => name)
  return host.sshd.installNeeded(usable, present)
}

async function install(host: Host, attempts: Attempts, signal: AbortSignal): Promise<SshdOutcome> {
  const outcome = await host.sshd.install(signal)
  if (!outcome.ok) {
    host.metrics.reload(outcome.failure.code)
    return outcome
  }
  attempts.installed()
  if (outcome.remark !== null) host.log.warn({}, `the root helper remarks: ${outcome.remark}`)
  if (outcome.reloadNeeded && !host.served.enabled) attempts.oweReload()
  return outcome
}

function notServing({ silence }: ServedKnowledge, decision: ServingDecision): Failure {
  if (silence !== null) {
    return { code: 'SSHD_UNREACHABLE', message: `sshd cannot be asked what it serves: ${silence}` }
  }
  const why = decision === 'reload' ? 'even after a reload' : 'and there is no way to reload it'
  return { code: 'SSHD_NOT_SERVING', message: `sshd serves another certificate or none, ${why}` }
}

function tell(
  host: Host,
  views: readonly CertifiableView[],
  failure: Failure,
  until: UnixSeconds,
): ServingTrouble {
  const hostKeys = views.map(({ name }) => name)
  const fields = {
    code: failure.code,
    host_keys: hostKeys,
    serials: views.map((view) => serialInPlace(view) ?? null),
    retry_in_seconds: Math.round(until - host.clock.now()),
  }
  host.log.error(fields, failure.message)
  return { failure, hostKeys }
}

function identitiesOf(views: readonly CertifiableView[]): CertifiableView['subject']['identity'][] {
  return views.map(({ subject }) => subject.identity)
}

/** After a reload what sshd does not offer it is not configured to offer; that key is left alone, and says so. */
function markNotOffered(host: Host, attempts: Attempts, views: readonly CertifiableView[]): void {
  for (const view of views) {
    const { name, subject, offerProblem, state } = view
    if (typeof offerProblem !== 'string' || state.state === 'ignored') continue
    attempts.notOffered(subject.identity, { why: offerProblem, pairVersion: subject.pairVersion })
    host.log.warn(
      { host_key: name, serial: serialInPlace(view), code: 'SSHD_NOT_SERVING' },
      `${offerProblem}; it is left alone until that changes`,
    )
  }
}
