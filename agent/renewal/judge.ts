import { digestOf, validAfterOf, validBeforeOf, type Certificate } from '../cert/host-certificate.ts'
import { isIssuedKeyType, type PublicKey } from '../cert/public-key.ts'
import { secondsOf, type UnixSeconds } from '../cert/time.ts'
import { findFlaw } from '../cert/verify-issued.ts'
import { askAgainAt } from './backoff.ts'
import {
  dueReasonOf,
  stateOf,
  type OnDisk,
  type Served,
  type StateAndReason,
  decideRenewal,
  jitterOf,
  renewalTimes,
  type DueReason,
  type RenewalTimes,
} from './certificate-state.ts'
import type { Facts, KeyFacts } from './observe.ts'
import type { Host, RenewalSettings, HostKeyFile } from './ports.ts'
import { recordOf, type AttemptRecord, type HostKeyRecord, type KeyIdentity } from './record.ts'
import { trustedCas, type TrustedCas } from './trusted-cas.ts'

/** What is made of everything that is known of one host key. */
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
  /**
   * Set for a key of a type that not every issuer signs, until the issuer has signed this one: such a key is ignored, and
   * asked for all the same. `why`: what is known of it; `askAt`: when, 0 for now.
   */
  readonly unproven: { readonly why: string; readonly askAt: UnixSeconds } | null
  readonly certificatePath: string
  readonly onDisk: OnDisk
  /** The file's text, when what is on disk is usable. */
  readonly text: string | null
  /** Of what is on disk when it is usable, or would be if it had not ended; else null. */
  readonly times: RenewalTimes | null
  readonly served: Served
  readonly state: StateAndReason
  /** Why a new certificate is wanted; null when none is. */
  readonly due: DueReason | null
}

/** A {@link HostKeyView} with a key that can be certified. */
export type CertifiableView = HostKeyView & { readonly subject: NonNullable<HostKeyView['subject']> }

export interface Policy extends Pick<RenewalSettings, 'policy' | 'wantedPrincipals'> {
  /** Whether sshd is asked what it presents: not with `address: none`. */
  readonly asksSshd: boolean
}

/** Step "due" of the path, for every host key: a pure decision from what was observed, the record and the clock. */
export function judge(
  { keys, pinned }: Facts,
  record: AttemptRecord,
  policy: Policy,
  now: UnixSeconds,
): HostKeyView[] {
  const trusted = trustedCas(pinned, record)
  return keys.map((key) => judgeKey(key, record, trusted, policy, now))
}

function judgeKey(
  { file, certificatePath, stored }: KeyFacts,
  attempts: AttemptRecord,
  trusted: TrustedCas | null,
  policy: Policy,
  now: UnixSeconds,
): HostKeyView {
  const { name, content } = file
  if (content.kind !== 'key') {
    const onDisk: OnDisk =
      content.kind === 'unreadable'
        ? { kind: 'unusable', failure: content.failure, certificate: null }
        : { kind: 'absent' }
    const served: Served = { kind: 'not-asked' }
    const ignored = ignoredBecause(content)
    const state = stateOf({ ignored, onDisk, times: null, served, lastErrorCode: null }, now)
    return {
      file,
      name,
      subject: null,
      unproven: null,
      certificatePath,
      onDisk,
      text: null,
      times: null,
      served,
      state,
      due: null,
    }
  }
  const { key, comment, pairVersion } = content
  const identity: KeyIdentity = { name, fingerprint: key.fingerprint }
  const record = recordOf(attempts, identity)
  const onDisk = onDiskOf(stored, key, trusted, policy, now)
  const certificate = onDisk.kind === 'absent' ? null : onDisk.certificate
  const times = hasTimes(onDisk) ? timesOf(onDisk.certificate, policy, record.issued, now) : null
  // sshd serves also what is not usable, an expired certificate above all, and then it serves what is on disk.
  const unproven = unprovenOf(key, onDisk, record, now)
  const isAsked = policy.asksSshd && unproven === null
  const served: Served = isAsked ? servedOf(record, certificate, pairVersion) : { kind: 'not-asked' }
  const isOffered = served.kind !== 'not-offered' && served.kind !== 'other-key'
  const ignored = unproven?.why ?? (isOffered ? null : served.why)
  const state = stateOf(
    { ignored, onDisk, times, served, lastErrorCode: record.lastError?.code ?? null },
    now,
  )
  const isFormer =
    onDisk.kind === 'usable' &&
    trusted?.former.some((ca) => onDisk.certificate.ca.blob.equals(ca.blob)) === true
  return {
    file,
    name,
    subject: { key, comment, pairVersion, identity },
    unproven,
    certificatePath,
    onDisk,
    text: onDisk.kind === 'usable' && stored.kind === 'certificate' ? stored.text : null,
    times,
    served,
    state,
    due:
      unproven !== null && now < unproven.askAt
        ? null
        : (dueReasonOf(onDisk, now) ?? windowReason(times, now) ?? (isFormer ? 'ca-changed' : null)),
  }
}

/** Why no certificate can be issued for it; null when that is not known. */
function ignoredBecause(content: Exclude<HostKeyFile['content'], { kind: 'key' }>): string | null {
  switch (content.kind) {
    case 'unsupported':
      return content.failure.message
    case 'shadowed':
      return `${content.by} has the same file name`
    case 'unreadable':
      return null
  }
}

/** Once the issuer has signed the key, whatever fails later is a failure. */
function unprovenOf(
  { type }: PublicKey,
  onDisk: OnDisk,
  record: HostKeyRecord,
  now: UnixSeconds,
): HostKeyView['unproven'] {
  const { refused, issued, lastError } = record
  if (isIssuedKeyType(type) || onDisk.kind !== 'absent' || issued !== null) return null
  const why =
    refused === null || lastError !== null
      ? `no key of type ${type} has been signed yet${lastError === null ? '' : `: ${lastError.message}`}`
      : `the issuer does not sign keys of type ${type}: ${refused.why}`
  return { why, askAt: askAgainAt(record, now) }
}

function onDiskOf(
  stored: KeyFacts['stored'],
  hostKey: PublicKey,
  trusted: TrustedCas | null,
  { wantedPrincipals }: Policy,
  now: UnixSeconds,
): OnDisk {
  if (stored.kind === 'absent') return { kind: 'absent' }
  if (stored.kind === 'unreadable') return { kind: 'unusable', failure: stored.failure, certificate: null }
  const { certificate } = stored
  const trustedCaKeys = trusted === null ? null : [...trusted.current, ...trusted.former]
  const flaw = findFlaw(certificate, { hostKey, trustedCas: trustedCaKeys, wantedPrincipals }, now)
  if (flaw === null) return { kind: 'usable', certificate }
  // With no CA to compare with, it is no fault of the certificate's.
  const failure = flaw.code === 'CERT_CA_MISMATCH' ? (trusted?.failure ?? flaw) : flaw
  return { kind: 'unusable', failure, certificate }
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
  certificate: Certificate,
  { policy }: Policy,
  issued: HostKeyRecord['issued'],
  now: UnixSeconds,
): RenewalTimes {
  const validity = { validAfter: validAfterOf(certificate), validBefore: validBeforeOf(certificate) }
  // What was noted under a clock that was ahead is no measure of how long this one lasted.
  const isKnown = issued?.serial === String(certificate.serial) && issued.at <= now
  const issuedAt = isKnown ? issued.at : null
  const jitter = jitterOf(certificate.publicKey.fingerprint, certificate.serial)
  return renewalTimes(validity, policy, jitter, issuedAt)
}

function windowReason(times: RenewalTimes | null, now: UnixSeconds): DueReason | null {
  if (times === null) return null
  const decision = decideRenewal(times, now)
  return decision.kind === 'due' ? decision.reason : null
}

/** What the evidence on record shows about the certificate on disk. */
function servedOf(
  { evidence, unknown: unanswered }: HostKeyRecord,
  certificate: Certificate | null,
  pairVersion: string,
): Served {
  const unknown = unanswered?.reason ?? null
  if (evidence === null) return { kind: 'nothing-known', unknown }
  const { at } = evidence
  switch (evidence.kind) {
    case 'none':
      return { kind: 'none', at, unknown }
    case 'not-offered':
    case 'other-key':
      if (evidence.pairVersion !== pairVersion) return { kind: 'nothing-known', unknown }
      return { kind: evidence.kind, at, why: evidence.why, isSettled: evidence.isSettled, unknown }
    case 'certificate': {
      const { digest, serial, validBefore } = evidence
      const matches =
        certificate !== null &&
        (digest === null ? serial === String(certificate.serial) : digest === digestOf(certificate.blob))
      return {
        kind: 'certificate',
        at,
        serial,
        matches,
        validBefore: validBefore === null ? null : secondsOf(BigInt(validBefore)),
        unknown,
      }
    }
  }
}

/** Whether a certificate can be asked for. */
export function hasKey(view: HostKeyView): view is CertifiableView {
  return view.subject !== null
}

/** Whether a certificate is expected for it. */
export function isCertifiable(view: HostKeyView): view is CertifiableView {
  return hasKey(view) && view.unproven === null
}

interface Unserved {
  readonly view: CertifiableView
  /**
   * - `proven`: sshd was seen to present something else
   * - `unseen`: nothing is known since this certificate was put in place
   */
  readonly how: 'proven' | 'unseen'
}

/** Host keys with a usable certificate that sshd is not seen to serve. */
export function unserved(views: readonly HostKeyView[]): readonly Unserved[] {
  return views.filter(isCertifiable).flatMap((view): Unserved[] => {
    const { onDisk, served } = view
    if (onDisk.kind !== 'usable') return []
    switch (served.kind) {
      case 'not-asked':
        return []
      case 'nothing-known':
        return [{ view, how: 'unseen' }]
      case 'none':
        return [{ view, how: 'proven' }]
      case 'certificate':
        return served.matches ? [] : [{ view, how: 'proven' }]
      case 'not-offered':
      case 'other-key':
        return served.isSettled ? [] : [{ view, how: 'proven' }]
    }
  })
}

/** {@link judge} of this host as it is now. */
export function judgeNow(
  { settings, served, clock }: Host,
  record: AttemptRecord,
  facts: Facts,
): HostKeyView[] {
  return judge(facts, record, { ...settings, asksSshd: served.enabled }, clock.now())
}
