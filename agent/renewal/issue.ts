import type { Failure } from '../cert/errors.ts'
import { publicKeyText, type PublicKey } from '../cert/public-key.ts'
import { verifyIssued, type VerifiedCertificate } from '../cert/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import { repairWaitOf } from './backoff.ts'
import { hasKey, judgeNow, type CertifiableView, type HostKeyView } from './judge.ts'
import { withKeyFile, type Facts } from './observe.ts'
import type { Host, HostKeyFile, IssuerFailure } from './ports.ts'
import {
  noteIssuerFailure,
  noteKeyFailure,
  noteNotAsked,
  noteRefusal,
  secondsLeft,
  serialInPlace,
  type IssueResult,
  type Wanted,
} from './report.ts'
import { swap } from './swap.ts'
import { askHostCa, trustedCas } from './trusted-cas.ts'

/** When to end asking. */
export interface IssuingSignals {
  /** The program ends, or the turn is over: the attempt counts for nothing. */
  readonly stop: AbortSignal
  /** The issuer had its time: it failed. */
  readonly deadline: AbortSignal
}

/** So often a host key may change under a request before the next turn has to go on. */
const MAX_KEY_CHANGES = 3

/** The issuer had its part of the turn. */
export const TOO_LATE: IssuerFailure = {
  code: 'ISSUER_TIMEOUT',
  message: 'the issuer took longer than the 60 s that a pass allows',
  next: 'issuer-backoff',
  retryAfterSeconds: null,
  requestId: null,
}

/**
 * Steps "issued", "verified" and "swapped" for one host key. What comes of it is in the attempt record when this
 * returns. When the key changes under the request, the answer is dropped and the new key is taken up at once.
 *
 * @param alsoWanting other host keys that wait for the same issuer: its failure is theirs too
 * @throws the reason of `stop` when it fires; the record is then as it was before
 */
export async function issue(
  host: Host,
  attempts: Attempts,
  before: Facts,
  wanted: Wanted,
  alsoWanting: readonly CertifiableView[],
  dryRun: boolean,
  signals: IssuingSignals,
): Promise<IssueResult> {
  const { reason } = wanted
  const hostKey = wanted.view.name
  host.log.info({ host_key: hostKey, serial: serialInPlace(wanted.view), reason }, 'requesting a certificate')
  let facts = before
  let view: CertifiableView | null = wanted.view
  for (let change = 0; change < MAX_KEY_CHANGES && view !== null; change++) {
    const answer = await recordedAttempt(host, attempts, facts, view, signals)
    switch (answer.kind) {
      case 'verified':
        attempts.issuerAnswered()
        if (dryRun) {
          const outcome = { kind: 'would-renew', hostKey, reason, certificate: answer.value } as const
          return { outcome, facts }
        }
        return swap(host, attempts, facts, { view, reason }, answer.value, answer.requestId)
      case 'issuer-failed': {
        const { failure } = answer
        noteIssuerFailure(
          host,
          attempts,
          [view, ...alsoWanting],
          judgeNow(host, attempts.record, facts),
          failure,
        )
        await attempts.save()
        return {
          outcome: {
            kind: 'failed',
            hostKey,
            failure,
            issuerFailure: failure,
            isLocal: failure.next === 'local',
          },
          facts,
        }
      }
      case 'rejected': {
        const { failure } = answer
        attempts.issuerAnswered()
        if (view.unproven !== null && isRefusal(failure, attempts.of(view.subject.identity).refusals)) {
          noteRefusal(host, attempts, view, failure, answer.requestId)
          await attempts.save()
          return { outcome: { kind: 'ignored', hostKey, failure }, facts }
        }
        noteKeyFailure(host, attempts, view, failure, answer)
        await attempts.save()
        return { outcome: { kind: 'failed', hostKey, failure, issuerFailure: null, isLocal: false }, facts }
      }
      case 'not-asked': {
        const { failure } = answer
        noteNotAsked(host, attempts, view, failure)
        return { outcome: { kind: 'failed', hostKey, failure, issuerFailure: null, isLocal: true }, facts }
      }
      case 'key-changed': {
        attempts.dropped(view.subject.identity)
        const fields = { host_key: hostKey, serial: answer.serial, request_id: answer.requestId }
        host.log.info(fields, 'the host key changed during the request: the response was dropped')
        view = null
        if (answer.file === null) break
        facts = withKeyFile(facts, answer.file)
        view =
          judgeNow(host, attempts.record, facts)
            .filter(hasKey)
            .find(({ name }) => name === hostKey) ?? null
        if (view !== null && repairWaitOf(attempts, view.subject.identity) !== null) view = null
      }
    }
  }
  await attempts.save()
  return { outcome: { kind: 'waiting', hostKey, reason, until: null }, facts }
}

/** A program in the issuer's place may fail on a key type that it does not know in any way, and every time. */
const MOST_FAILURES = 3

/** @param failures earlier ones in a row */
function isRefusal({ code }: Failure, failures: number): boolean {
  return code === 'ISSUER_REJECTED' || failures + 1 >= MOST_FAILURES
}

/** What one request brought. */
type Answer =
  | { readonly kind: 'verified'; readonly value: VerifiedCertificate; readonly requestId: string | null }
  /** The issuer as a whole refused, or could not be asked. */
  | { readonly kind: 'issuer-failed'; readonly failure: IssuerFailure }
  /** Something is wrong that concerns this key only. */
  | {
      readonly kind: 'rejected'
      readonly failure: Failure
      readonly requestId: string | null
      /** Of the certificate in the answer; null when none could be read. */
      readonly serial: string | null
    }
  /** The attempt could not be put on record. */
  | { readonly kind: 'not-asked'; readonly failure: Failure }
  /** The host key is no longer the one that was posted; the answer was dropped. */
  | {
      readonly kind: 'key-changed'
      readonly requestId: string | null
      readonly serial: string | null
      /** As it is now; null when it is gone. */
      readonly file: HostKeyFile | null
    }

/**
 * Ask, with the attempt on disk before it starts: a crash half-way must not repeat it at once. Where it cannot be put
 * there nothing is asked: the certificate would have no place either.
 */
async function recordedAttempt(
  host: Host,
  attempts: Attempts,
  facts: Facts,
  view: CertifiableView,
  { stop, deadline }: IssuingSignals,
): Promise<Answer> {
  const before = attempts.record
  attempts.begin(view.subject.identity, secondsLeft(host, [view]))
  const unsaved = await attempts.save()
  if (unsaved !== null) {
    attempts.replace(before)
    return { kind: 'not-asked', failure: unsaved }
  }
  try {
    return await attempt(host, attempts, facts, view, AbortSignal.any([stop, deadline]))
  } catch (error) {
    if (deadline.aborted && !stop.aborted) return { kind: 'issuer-failed', failure: TOO_LATE }
    // A mistake of ours must not ask again at each tick: the wait of `begin` holds.
    if (!stop.aborted) throw error
    // Cut short by us, so it counts for nothing.
    attempts.replace({ ...attempts.record, hostKeys: before.hostKeys })
    await attempts.save()
    throw error
  }
}

/** One request and the verification of its answer. Writes nothing and notes nothing but a CA that it had to ask for. */
export async function attempt(
  host: Host,
  attempts: Attempts,
  facts: Facts,
  view: CertifiableView,
  signal: AbortSignal,
): Promise<Exclude<Answer, { kind: 'not-asked' }>> {
  const { key, comment } = view.subject
  const sentComment = comment === '' ? view.name : comment
  const publicKey = `${publicKeyText(key)} ${sentComment}`
  const principals = host.settings.wantedPrincipals ?? []
  const answer = await host.issuer.issue({ publicKey, hostKey: view.name, principals }, signal)
  if (!answer.ok) {
    const { failure } = answer
    const { requestId } = failure
    // It answered, and the answer concerns this key only.
    return failure.next === 'key-backoff'
      ? { kind: 'rejected', failure, requestId, serial: null }
      : { kind: 'issuer-failed', failure }
  }
  const { requestId } = answer
  const inPlace = view.onDisk.kind === 'usable' ? view.onDisk.certificate : null
  const check = (cas: readonly PublicKey[] | null): ReturnType<typeof verifyIssued> => {
    const requirements = { hostKey: key, trustedCas: cas, wantedPrincipals: host.settings.wantedPrincipals }
    return verifyIssued(answer.signedKey, requirements, inPlace, sentComment, host.clock.now())
  }
  const trusted = trustedCas(facts.pinned, attempts.record)
  let verification = check(trusted?.current ?? casInPlace(judgeNow(host, attempts.record, facts)))
  const isOtherCa = !verification.ok && verification.failure.code === 'CERT_CA_MISMATCH'
  if (isOtherCa && facts.pinned === null) {
    const asked = await askHostCa(host, attempts, signal)
    if (asked.ok) verification = check(asked.keys)
  }
  // Last of all, for asking for the CA takes its time too.
  const file = await host.hostKeys.read(view.file.path)
  if (file?.content.kind !== 'key' || !file.content.key.blob.equals(key.blob))
    return { kind: 'key-changed', requestId, serial: answer.serialNumber, file }
  if (!verification.ok) {
    const { failure, certificate } = verification
    const serial = certificate && String(certificate.serial)
    return { kind: 'rejected', failure, requestId, serial }
  }
  const { value } = verification
  const { serial } = value.certificate
  if (answer.serialNumber === null || String(serial) === answer.serialNumber)
    return { kind: 'verified', value, requestId }
  // The certificate is what counts, and it was verified.
  const warning = `the response names serial ${answer.serialNumber}, the certificate in it has ${serial}`
  return { kind: 'verified', value: { ...value, warnings: [...value.warnings, warning] }, requestId }
}

/** The CAs of the usable certificates in place: what is trusted where the issuer cannot be asked. Null when there is none. */
function casInPlace(views: readonly HostKeyView[]): readonly PublicKey[] | null {
  const cas = new Map<string, PublicKey>()
  for (const { onDisk } of views) {
    if (onDisk.kind === 'usable') cas.set(onDisk.certificate.ca.fingerprint, onDisk.certificate.ca)
  }
  return cas.size === 0 ? null : [...cas.values()]
}
