import type { Failure } from '../core/errors.ts'
import type { Attempts } from './attempts.ts'
import {
  isCertifiable,
  learn,
  observe,
  type CertifiableView,
  type HostKeyView,
  type ServedKnowledge,
} from './observe.ts'
import type { SshdOutcome } from './ports.ts'
import type { Host } from './settings.ts'
import { knownCas } from './trusted-cas.ts'

/** sshd is asked again this long after a reload; it may answer with the old certificate at first. */
const CONFIRM_WAITS_MILLISECONDS = [100, 200, 400, 800, 1500]

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
  const ask = async (): Promise<CertifiableView[]> => {
    knowledge = await askSshd(host, await look(), knowledge, signal)
    return look()
  }
  const failed = (views: readonly HostKeyView[], failure: Failure): ServedKnowledge => {
    const keys = notServed(views).map(({ subject }) => subject.identity)
    const wait = attempts.notServed(keys, failure)
    const seconds = Math.round(wait.until - host.clock.now())
    host.log.error({ ...failure, retry_in_seconds: seconds }, 'sshd does not serve the new certificates')
    return knowledge
  }

  const installed = await install(host, await look(), impatient, attempts, signal)
  if (installed !== null && !installed.ok) {
    host.metrics.reload(installed.failure.code)
    return failed(await look(), installed.failure)
  }
  if (installed !== null) knowledge = { ...knowledge, listen: installed.listen }

  const mode = host.settings.reload
  const mustReload = swapped.length > 0 && (mode === 'always' || !host.served.enabled)
  let views = await ask()
  if (!mustReload && notServed(views).length === 0) {
    confirm(host, attempts, views)
    return knowledge
  }
  const silent = knowledge.silence
  if (silent !== null && swapped.length === 0) return knowledge
  const wait = attempts.reloadWait()
  if (wait !== null && swapped.length === 0 && !impatient) return knowledge
  if (mode === 'never' || (!host.sshd.canReload && !host.served.enabled)) {
    if (host.served.enabled) failed(views, notServingFailure(silent, 'and reloading is switched off'))
    return knowledge
  }

  const reloaded = await host.sshd.reload(signal)
  host.metrics.reload(reloaded.ok ? 'ok' : reloaded.failure.code)
  if (!reloaded.ok) {
    return failed(
      views,
      silent === null ? reloaded.failure : notServingFailure(silent, reloaded.failure.message),
    )
  }
  host.log.info({ host_keys: swapped }, 'reloaded sshd')
  if (reloaded.listen.length > 0) knowledge = { ...knowledge, listen: reloaded.listen }
  for (const milliseconds of host.served.enabled ? CONFIRM_WAITS_MILLISECONDS : []) {
    await host.clock.sleep(milliseconds, signal)
    views = await ask()
    if (notServed(views).length === 0) break
  }
  markNotOffered(host, attempts, views)
  views = await look()
  confirm(host, attempts, views)
  if (notServed(views).length === 0) return knowledge
  return failed(views, notServingFailure(knowledge.silence, 'even after a reload'))
}

/** Ask sshd about all these host keys. */
export async function askSshd(
  host: Host,
  views: readonly CertifiableView[],
  knowledge: ServedKnowledge,
  signal: AbortSignal,
): Promise<ServedKnowledge> {
  const keyTypes = [...new Set(views.map(({ subject }) => subject.key.type))]
  if (!host.served.enabled || keyTypes.length === 0) return knowledge
  const observation = await host.served.observe(keyTypes, knowledge.listen, signal)
  return learn(knowledge, observation, host.clock.now())
}

/** Note in the record what sshd was seen to serve. */
export function confirm(host: Host, attempts: Attempts, views: readonly CertifiableView[]): void {
  for (const { name, subject, served, onDisk, offerProblem } of views) {
    if (offerProblem === null && attempts.of(subject.identity).notOffered !== null) {
      attempts.notOffered(subject.identity, null)
    }
    if (served.kind !== 'certificate' || !served.matches || onDisk.kind !== 'usable') continue
    const { serial } = onDisk.certificate
    if (attempts.of(subject.identity).confirmedSerial === String(serial)) continue
    attempts.confirmed(subject.identity, serial)
    host.log.info({ host_key: name, serial: String(serial) }, 'sshd serves the certificate')
  }
  if (notServed(views).length === 0) attempts.allServed()
}

/** Host keys with a usable certificate that sshd is known not to serve, or was never seen to. */
export function notServed(views: readonly HostKeyView[]): CertifiableView[] {
  return views.filter(isCertifiable).filter(({ onDisk, served, state }) => {
    if (onDisk.kind !== 'usable' || state.state === 'ignored') return false
    return (
      served.kind === 'none' ||
      served.kind === 'never-seen' ||
      (served.kind === 'certificate' && !served.matches)
    )
  })
}

async function install(
  host: Host,
  views: readonly HostKeyView[],
  impatient: boolean,
  attempts: Attempts,
  signal: AbortSignal,
): Promise<SshdOutcome | null> {
  const names = views.filter(({ onDisk }) => onDisk.kind === 'usable').map(({ name }) => name)
  if (!(await host.sshd.installNeeded(names))) return null
  if (attempts.reloadWait()?.code === 'STORE_FAILED' && !impatient) return null
  return host.sshd.install(signal)
}

/** After a reload what sshd does not offer it is not configured to offer; that key is left alone, and says so. */
function markNotOffered(host: Host, attempts: Attempts, views: readonly CertifiableView[]): void {
  for (const { name, subject, offerProblem } of views) {
    if (typeof offerProblem !== 'string') continue
    attempts.notOffered(subject.identity, offerProblem)
    host.log.warn(
      { host_key: name, code: 'SSHD_NOT_SERVING' },
      `${offerProblem}; it is left alone until that changes`,
    )
  }
}

function notServingFailure(silence: string | null, detail: string): Failure {
  return silence === null
    ? { code: 'SSHD_NOT_SERVING', message: `sshd serves another certificate or none, ${detail}` }
    : { code: 'SSHD_UNREACHABLE', message: `sshd cannot be asked what it serves: ${silence}; ${detail}` }
}
