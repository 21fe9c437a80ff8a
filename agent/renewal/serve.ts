import type { Failure } from '../core/errors.ts'
import { askSshd, confirm, notServed } from './ask-sshd.ts'
import type { Attempts } from './attempts.ts'
import {
  isCertifiable,
  observe,
  type CertifiableView,
  type HostKeyView,
  type ServedKnowledge,
} from './observe.ts'
import type { Host } from './settings.ts'
import { knownCas } from './trusted-cas.ts'

/** After a reload sshd may answer with the old certificate at first. Few questions: it punishes whoever asks too much. */
const CONFIRM_WAITS = [
  { milliseconds: 400, bareKeys: false },
  { milliseconds: 4600, bareKeys: true },
]

export interface ServeRequest {
  /** Names of the host keys whose certificate was swapped in this pass. */
  readonly swapped: readonly string[]
  /** Reload even while reloads back off: somebody asked. */
  readonly impatient: boolean
}

/**
 * Steps "reloaded" and "confirmed" of the path, for all host keys at once: see to it that sshd serves what lies on
 * disk. Also mends what an earlier pass could not: a failed copy, a failed reload.
 *
 * @returns what is known of sshd afterwards
 */
export async function bringIntoService(
  host: Host,
  attempts: Attempts,
  before: ServedKnowledge,
  { swapped, impatient }: ServeRequest,
  signal: AbortSignal,
): Promise<ServedKnowledge> {
  let knowledge = before
  const look = async (): Promise<CertifiableView[]> =>
    (await observe(host, attempts, knowledge, await knownCas(host, attempts))).filter(isCertifiable)
  const ask = async (about: readonly CertifiableView[], bareKeys: boolean): Promise<CertifiableView[]> => {
    knowledge = await askSshd(host, attempts, about, knowledge, bareKeys, signal)
    return look()
  }

  let views = await look()
  const mayInstall = impatient || swapped.length > 0 || attempts.reloadWait() === null
  const installed = mayInstall && (await needsInstall(host, views)) ? await host.sshd.install(signal) : null
  if (installed?.ok === false) {
    host.metrics.reload(installed.failure.code)
    tell(host, attempts, views, installed.failure)
    return knowledge
  }
  if (installed !== null) {
    knowledge = { ...knowledge, listen: installed.listen }
    if (installed.remark !== null) host.log.warn({}, `the root helper remarks: ${installed.remark}`)
    if (installed.reloadNeeded && !host.served.enabled) attempts.oweReload()
  }

  views = await ask(views, false)
  const decision = decideReload(host, attempts, views, knowledge, { swapped, impatient })
  if (decision === 'leave') {
    confirm(host, attempts, views)
    return knowledge
  }
  let problem: Failure | null = null
  if (decision === 'reload') {
    const reloaded = await host.sshd.reload(signal)
    host.metrics.reload(reloaded.ok ? 'ok' : reloaded.failure.code)
    if (reloaded.ok) {
      host.log.info({ host_keys: swapped }, 'reloaded sshd')
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
  if (problem === null && notServed(views).length > 0) {
    if (decision === 'cannot') views = await ask(notServed(views), true)
    markNotOffered(host, attempts, views)
    views = await look()
  }
  confirm(host, attempts, views)
  if (problem !== null || notServed(views).length > 0) {
    const concerned = notServed(views)
    const affected = concerned.length > 0 ? concerned : views.filter(({ onDisk }) => onDisk.kind === 'usable')
    tell(host, attempts, affected, problem ?? notServing(knowledge, decision))
  }
  return knowledge
}

/** Whether the root helper has something to copy, or to take away. */
export async function needsInstall(host: Host, views: readonly HostKeyView[]): Promise<boolean> {
  const usable = views.filter(({ onDisk }) => onDisk.kind === 'usable').map(({ name }) => name)
  const present = views.map(({ name }) => name)
  return host.sshd.installNeeded(usable, present)
}

/**
 * - `leave`: all is served, or nothing can be said or done now
 * - `cannot`: it is not served, and reloading is switched off or there is no way
 */
function decideReload(
  host: Host,
  attempts: Attempts,
  views: readonly CertifiableView[],
  { silence }: ServedKnowledge,
  { swapped, impatient }: ServeRequest,
): 'leave' | 'reload' | 'cannot' {
  const isOwed = attempts.record.reloadOwed
  if (!isOwed && notServed(views).length === 0) return 'leave'
  if (swapped.length === 0) {
    // An sshd that is down reads everything when it starts.
    if (silence !== null && !isOwed) return 'leave'
    if (attempts.reloadWait() !== null && !impatient) return 'leave'
  }
  return host.settings.reload === 'never' || !host.sshd.canReload ? 'cannot' : 'reload'
}

function notServing({ silence }: ServedKnowledge, decision: 'reload' | 'cannot'): Failure {
  if (silence !== null) {
    return { code: 'SSHD_UNREACHABLE', message: `sshd cannot be asked what it serves: ${silence}` }
  }
  const why = decision === 'reload' ? 'even after a reload' : 'and there is no way to reload it'
  return { code: 'SSHD_NOT_SERVING', message: `sshd serves another certificate or none, ${why}` }
}

function tell(host: Host, attempts: Attempts, views: readonly CertifiableView[], failure: Failure): void {
  const wait = attempts.notServed(
    views.map(({ subject }) => subject.identity),
    failure,
  )
  const fields = {
    code: failure.code,
    host_keys: views.map(({ name }) => name),
    serials: views.map(serialOf),
    retry_in_seconds: Math.round(wait.until - host.clock.now()),
  }
  host.log.error(fields, failure.message)
}

/** After a reload what sshd does not offer it is not configured to offer; that key is left alone, and says so. */
function markNotOffered(host: Host, attempts: Attempts, views: readonly CertifiableView[]): void {
  for (const view of views) {
    const { name, subject, offerProblem, state } = view
    if (typeof offerProblem !== 'string' || state.state === 'ignored') continue
    attempts.notOffered(subject.identity, { why: offerProblem, pairVersion: subject.pairVersion })
    host.log.warn(
      { host_key: name, serial: serialOf(view), code: 'SSHD_NOT_SERVING' },
      `${offerProblem}; it is left alone until that changes`,
    )
  }
}

/** Of the certificate on disk. */
function serialOf({ onDisk }: CertifiableView): string | null {
  return onDisk.kind === 'usable' ? String(onDisk.certificate.serial) : null
}
