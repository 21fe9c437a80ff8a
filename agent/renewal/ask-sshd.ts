import type { Attempts } from './attempts.ts'
import { isCertifiable, type CertifiableView, type HostKeyView } from './observe.ts'
import { learn, type ServedKnowledge } from './served-knowledge.ts'
import type { Host } from './settings.ts'

/**
 * Ask sshd what it presents for these host keys.
 *
 * @param bareKeys also which keys it has without a certificate; else only where a key was found not offered before
 */
export async function askSshd(
  host: Host,
  attempts: Attempts,
  views: readonly CertifiableView[],
  knowledge: ServedKnowledge,
  bareKeys: boolean,
  signal: AbortSignal,
): Promise<ServedKnowledge> {
  const keyTypes = [...new Set(views.map(({ subject }) => subject.key.type))]
  if (!host.served.enabled || keyTypes.length === 0) return knowledge
  const wasNotOffered = views.some(({ subject }) => attempts.of(subject.identity).notOffered !== null)
  const question = { keyTypes, listen: knowledge.listen, bareKeys: bareKeys || wasNotOffered }
  return learn(knowledge, await host.served.observe(question, signal), host.clock.now())
}

/** Note in the record what sshd was seen to serve. */
export function confirm(host: Host, attempts: Attempts, views: readonly CertifiableView[]): void {
  for (const { name, subject, served, onDisk, offerProblem } of views) {
    const record = attempts.of(subject.identity)
    if (offerProblem === null && record.notOffered !== null) attempts.notOffered(subject.identity, null)
    if (onDisk.kind !== 'usable') continue
    const isOther = served.kind === 'none' || (served.kind === 'certificate' && !served.matches)
    if (isOther) attempts.refuted(subject.identity)
    if (served.kind !== 'certificate' || !served.matches) continue
    const { serial } = onDisk.certificate
    const isNews = record.confirmedSerial !== String(serial)
    const hasError = record.lastError?.code.startsWith('SSHD_') === true && !attempts.record.reloadOwed
    if (!isNews && !hasError) continue
    attempts.confirmed(subject.identity, serial)
    host.log.info({ host_key: name, serial: String(serial) }, 'sshd serves the certificate')
  }
  if (notServed(views).length === 0) attempts.allServed()
}

/** Host keys with a usable certificate that sshd is known not to serve, or was never seen to. */
export function notServed(views: readonly HostKeyView[]): CertifiableView[] {
  return views.filter(isCertifiable).filter(({ onDisk, served, state }) => {
    if (onDisk.kind !== 'usable' || state.state === 'ignored') return false
    if (served.kind === 'certificate') return !served.matches
    return served.kind === 'none' || served.kind === 'never-seen'
  })
}
