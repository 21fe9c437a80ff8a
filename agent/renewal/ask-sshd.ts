import { outlineOf } from '../cert/certificate-types.ts'
import { digestOf } from '../cert/host-certificate.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { Attempts, Finding } from './attempts.ts'
import { evidenceOf, type Shown } from './evidence.ts'
import type { Host } from './host.ts'
import { isCertifiable, type CertifiableView, type HostKeyView } from './judge.ts'
import { serialInPlace } from './note-failure.ts'
import type { Evidence } from './record.ts'

/** Ask sshd what it presents for each host key, and note what that shows; what it does not show stays as it was known. */
export async function askSshd(
  host: Host,
  attempts: Attempts,
  views: readonly HostKeyView[],
  signal: AbortSignal,
): Promise<void> {
  const certifiable = views.filter(isCertifiable)
  // sshd presents one key of each type: it is asked about one, and the answer concerns them all.
  const asked = new Map(certifiable.map(({ subject: { key } }) => [key.type, key]))
  if (!host.served.enabled || asked.size === 0) return
  const question = { keys: [...asked.values()], listen: attempts.record.sshd.listen }
  const { state, presented } = await host.served.ask(question, signal)
  attempts.sshdAnswered(state)
  const keys = certifiable.map(({ subject }) => subject.key)
  const answers = new Map(
    keys.flatMap(({ type, fingerprint }) => {
      const answer = presented.get(asked.get(type)?.fingerprint ?? '')
      return answer === undefined ? [] : [[fingerprint, answer] as const]
    }),
  )
  const shown = evidenceOf(keys, answers)
  for (const view of certifiable) {
    const { identity } = view.subject
    const before = attempts.of(identity).evidence
    const finding = findingOf(shown.get(identity.fingerprint), view, before, host.clock.now())
    if (isNews(before, finding, view)) {
      const fields = { host_key: view.name, serial: serialInPlace(view) }
      host.log.info(fields, 'sshd serves the certificate')
    }
    attempts.found(identity, finding)
  }
}

function findingOf(
  shown: Shown | undefined,
  { subject }: CertifiableView,
  before: Evidence | null,
  at: UnixSeconds,
): Finding {
  if (shown === undefined) return { unknown: 'sshd was not asked about this host key' }
  switch (shown.kind) {
    case 'unknown':
      return { unknown: shown.reason }
    case 'none':
      return { evidence: { kind: 'none', at } }
    case 'certificate': {
      const outline = outlineOf(shown.blob)
      const serial = outline === null ? null : String(outline.serial)
      const validBefore = outline === null ? null : String(outline.validBefore)
      return { evidence: { kind: 'certificate', at, digest: digestOf(shown.blob), serial, validBefore } }
    }
    case 'not-offered':
    case 'other-key': {
      const { kind, why } = shown
      const { pairVersion } = subject
      // The same as before a reload is what the reload did not change.
      const isSettled = before?.kind === kind && before.pairVersion === pairVersion && before.isSettled
      return { evidence: { kind, at, why, pairVersion, isSettled } }
    }
  }
}

/** Whether it is now seen to serve what is on disk, and was not before. */
function isNews(before: Evidence | null, finding: Finding, { onDisk }: CertifiableView): boolean {
  if (onDisk.kind !== 'usable' || !('evidence' in finding)) return false
  const digest = digestOf(onDisk.certificate.blob)
  const isServed = (evidence: Evidence | null): boolean =>
    evidence?.kind === 'certificate' && evidence.digest === digest
  return isServed(finding.evidence) && !isServed(before)
}
