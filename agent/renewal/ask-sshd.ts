import { digestOf } from '../cert/host-certificate.ts'
import { fingerprintOf, type PublicKey } from '../cert/public-key.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { outlineOf } from '../cert/wire.ts'
import type { Attempts } from './attempts.ts'
import { isCertifiable, type CertifiableView, type HostKeyView } from './judge.ts'
import type { Host, Presented } from './ports.ts'
import type { Evidence } from './record.ts'
import { serialInPlace } from './report.ts'
import type { Finding } from './sshd-attempts.ts'

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
  attempts.sshd.answered(state)
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
    attempts.sshd.found(identity, finding)
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

/** What one question showed for certain of one host key. */
type Shown =
  /** These exact bytes, which certify this key, or cannot be read: then they are at least another certificate. */
  | { readonly kind: 'certificate'; readonly blob: Buffer }
  /** This very key came, without a certificate. */
  | { readonly kind: 'none' }
  | { readonly kind: 'not-offered'; readonly why: string }
  | { readonly kind: 'other-key'; readonly why: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/**
 * Judge what one question showed. That a key is not offered, or that another came in its place, counts only from a
 * server that presented another key of this host in the same round: otherwise another server may have answered, or the
 * public half on disk may not be that of the private half.
 *
 * @param keys the host keys asked about
 * @param presented by fingerprint of the key asked about, all from one server
 * @returns an entry for each key, by fingerprint
 */
export function evidenceOf(
  keys: readonly PublicKey[],
  presented: ReadonlyMap<string, Presented>,
): ReadonlyMap<string, Shown> {
  const isThisHost = showsOneOf(keys, presented)
  return new Map(
    keys.map((key) => [key.fingerprint, shownOf(key, presented.get(key.fingerprint), isThisHost)]),
  )
}

/** Whether what was presented has one of these keys in it, plain or certified. */
export function showsOneOf(keys: readonly PublicKey[], presented: ReadonlyMap<string, Presented>): boolean {
  return [...presented.values()].some((one) => keys.some(({ blob }) => presentedKeyOf(one)?.equals(blob)))
}

function shownOf(key: PublicKey, presented: Presented | undefined, isThisHost: boolean): Shown {
  if (presented === undefined) return { kind: 'unknown', reason: 'sshd was not asked about this key' }
  if (presented.kind === 'unknown') return presented
  if (presented.kind === 'not-offered') {
    const why = `sshd does not offer a host key of type ${key.type}`
    return isThisHost ? { kind: 'not-offered', why } : { kind: 'unknown', reason: notOfferedElsewhere(key) }
  }
  const shownKey = presentedKeyOf(presented)
  if (shownKey === null || shownKey.equals(key.blob))
    return presented.kind === 'certificate' ? { kind: 'certificate', blob: presented.blob } : { kind: 'none' }
  const other = fingerprintOf(shownKey)
  const why = `sshd offers another host key of type ${key.type}, ${other}`
  return isThisHost ? { kind: 'other-key', why } : { kind: 'unknown', reason: otherKeyElsewhere(key, other) }
}

/** The plain key that came, in a certificate or by itself; null for none, or when the certificate cannot be read. */
function presentedKeyOf(presented: Presented): Buffer | null {
  switch (presented.kind) {
    case 'plain':
      return presented.blob
    case 'certificate':
      return outlineOf(presented.blob)?.keyBlob ?? null
    case 'not-offered':
    case 'unknown':
      return null
  }
}

function notOfferedElsewhere({ type, fingerprint }: PublicKey): string {
  return `the server that answered offers no ${type} key and showed no other key of this host: it may be another server (asked about ${fingerprint})`
}

function otherKeyElsewhere({ type, fingerprint }: PublicKey, other: string): string {
  return `another server answered, or the public half of the ${type} key (${fingerprint}) is not that of the key in use: the server presents ${other}`
}
