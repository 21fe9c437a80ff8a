import {
  dueReasonOf,
  stateOf,
  type OnDisk,
  type Served,
  type StateAndReason,
} from '../core/certificate-state.ts'
import { validAfterOf, validBeforeOf, type Certificate } from '../core/host-certificate.ts'
import { isIssuedKeyType, type PublicKey } from '../core/public-key.ts'
import {
  decideRenewal,
  jitterOf,
  renewalTimes,
  type DueReason,
  type RenewalTimes,
} from '../core/renewal-decision.ts'
import type { UnixSeconds } from '../core/time.ts'
import { findFlaw, tryParse } from '../core/verify-issued.ts'
import type { KeyIdentity } from './attempt-record.ts'
import type { Attempts } from './attempts.ts'
import type { HostKeyFile, TrustedCas } from './ports.ts'
import { offerProblemOf, servedOf, type ServedKnowledge } from './served-knowledge.ts'
import type { Host } from './settings.ts'

/** Everything that one turn sees of one host key. */
export interface HostKeyView {
  readonly file: HostKeyFile
  readonly name: string
  /** Null when there is no key that could be certified. */
  readonly subject: {
    readonly key: PublicKey
    readonly comment: string
    readonly pairVersion: string
    readonly identity: KeyIdentity
  } | null
  readonly certificatePath: string
  readonly onDisk: OnDisk
  /** Of what is on disk when it is usable, or would be if it had not ended; else null. */
  readonly times: RenewalTimes | null
  readonly served: Served
  /** Why sshd will not serve this key whatever we do, as it was seen; null when it will, undefined when unknown. */
  readonly offerProblem: string | null | undefined
  readonly state: StateAndReason
  /** Why a new certificate is wanted; null when none is. */
  readonly due: DueReason | null
}

/** A {@link HostKeyView} of a key that can be certified. */
export type CertifiableView = HostKeyView & { readonly subject: NonNullable<HostKeyView['subject']> }

/**
 * Step "observed" of the path: host keys, the certificates on disk, and what is known of sshd. Writes nothing.
 *
 * @param trusted null while no CA is known, and then any passes
 */
export async function observe(
  host: Host,
  attempts: Attempts,
  knowledge: ServedKnowledge,
  trusted: TrustedCas | null,
): Promise<HostKeyView[]> {
  const views: HostKeyView[] = []
  for (const file of await host.hostKeys.list()) {
    views.push(await observeKey(host, attempts, knowledge, trusted, file))
  }
  return views
}

async function observeKey(
  host: Host,
  attempts: Attempts,
  knowledge: ServedKnowledge,
  trusted: TrustedCas | null,
  file: HostKeyFile,
): Promise<HostKeyView> {
  const { name, content } = file
  const certificatePath = host.store.pathOf(name)
  const now = host.clock.now()
  if (content.kind !== 'key' || !isIssuedKeyType(content.key.type)) {
    const nothing = {
      file,
      name,
      subject: null,
      certificatePath,
      times: null,
      offerProblem: undefined,
      due: null,
    }
    const served: Served = { kind: 'not-asked' }
    const onDisk: OnDisk =
      content.kind === 'unreadable'
        ? { kind: 'unusable', failure: content.failure, certificate: null }
        : { kind: 'absent' }
    const facts = { ignored: ignoredBecause(content), onDisk, times: null, served, lastErrorCode: null }
    return { ...nothing, onDisk, served, state: stateOf(facts, now) }
  }
  const { key, comment, pairVersion } = content
  const identity: KeyIdentity = { name, fingerprint: key.fingerprint }
  const record = attempts.of(identity)
  const trustedCas = trusted === null ? null : [...trusted.current, ...trusted.former]
  const requirements = { hostKey: key, trustedCas, wantedPrincipals: host.settings.wantedPrincipals }
  const onDisk = await lookOnDisk(host, name, (found) => {
    const flaw = findFlaw(found, requirements, now)
    // With no CA to compare with, it is no fault of the certificate's.
    return flaw?.code === 'CERT_CA_MISMATCH' ? (trusted?.failure ?? flaw) : flaw
  })
  // sshd serves also what is not usable, an expired certificate above all, and then it serves what is on disk.
  const certificate = onDisk.kind === 'absent' ? null : onDisk.certificate
  const times = hasTimes(onDisk) ? timesOf(host, onDisk.certificate, record.issued, now) : null
  const offerProblem = offerProblemOf(key, knowledge)
  const served = host.served.enabled
    ? servedOf(key, certificate, knowledge, record.confirmedSerial)
    : ({ kind: 'not-asked' } as const)
  const isLeftAlone = offerProblem !== null && record.notOffered?.pairVersion === pairVersion
  const ignored = isLeftAlone ? record.notOffered.why : null
  const facts = { ignored, onDisk, times, served, lastErrorCode: record.lastError?.code ?? null }
  const state = stateOf(facts, now)
  const isFormer =
    onDisk.kind === 'usable' &&
    trusted?.former.some((ca) => onDisk.certificate.ca.blob.equals(ca.blob)) === true
  const wanted = dueReasonOf(onDisk, now) ?? windowReason(times, now) ?? (isFormer ? 'ca-changed' : null)
  const due = ignored === null ? wanted : null
  return {
    file,
    name,
    subject: { key, comment, pairVersion, identity },
    certificatePath,
    onDisk,
    times,
    served,
    offerProblem,
    state,
    due,
  }
}

function ignoredBecause(content: HostKeyFile['content']): string | null {
  switch (content.kind) {
    case 'unsupported':
      return content.failure.message
    case 'key':
      return `the issuer does not sign keys of type ${content.key.type}`
    case 'shadowed':
      return `${content.by} has the same file name`
    case 'unreadable':
      return null
  }
}

async function lookOnDisk(
  host: Host,
  name: string,
  flawOf: (certificate: Certificate) => ReturnType<typeof findFlaw>,
): Promise<OnDisk> {
  const stored = await host.store.read(name)
  if (stored.kind === 'absent') return { kind: 'absent' }
  if (stored.kind === 'unreadable') return { kind: 'unusable', failure: stored.failure, certificate: null }
  const parsed = tryParse(stored.text)
  if (!parsed.ok) return { kind: 'unusable', failure: parsed.failure, certificate: null }
  const { certificate } = parsed
  const failure = flawOf(certificate)
  return failure === null ? { kind: 'usable', certificate } : { kind: 'unusable', failure, certificate }
}

/** One that ended and has no other flaw was due once. */
function hasTimes(onDisk: OnDisk): onDisk is OnDisk & { readonly certificate: Certificate } {
  if (onDisk.kind !== 'unusable') return onDisk.kind === 'usable'
  const { certificate, failure } = onDisk
  return (
    certificate !== null &&
    failure.code === 'CERT_EXPIRED' &&
    certificate.validAfter < certificate.validBefore
  )
}

function timesOf(
  host: Host,
  certificate: Certificate,
  issued: { serial: string; at: UnixSeconds } | null,
  now: UnixSeconds,
): RenewalTimes {
  const validity = { validAfter: validAfterOf(certificate), validBefore: validBeforeOf(certificate) }
  // What was noted under a clock that was ahead is no measure of how long this one lasted.
  const isKnown = issued?.serial === String(certificate.serial) && issued.at <= now
  const issuedAt = isKnown ? issued.at : null
  const jitter = jitterOf(certificate.publicKey.fingerprint, certificate.serial)
  return renewalTimes(validity, host.settings.policy, jitter, issuedAt)
}

function windowReason(times: RenewalTimes | null, now: UnixSeconds): DueReason | null {
  if (times === null) return null
  const decision = decideRenewal(times, now)
  return decision.kind === 'due' ? decision.reason : null
}

export function isCertifiable(view: HostKeyView): view is CertifiableView {
  return view.subject !== null
}
