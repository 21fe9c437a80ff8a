import { AgentError, type Failure } from '../core/errors.ts'
import { validBeforeOf } from '../core/host-certificate.ts'
import type { DueReason } from '../core/renewal-decision.ts'
import { formatCertificateTime, type UnixSeconds } from '../core/time.ts'
import type { VerifiedCertificate } from '../core/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import { levelOfFailure } from './failure-level.ts'
import { issueVerified, type IssueResult } from './issue-verified.ts'
import type { CertifiableView, HostKeyView } from './observe.ts'
import type { IssuerFailure } from './ports.ts'
import type { Host } from './settings.ts'

export type KeyOutcome =
  | {
      /** `would-renew`: issued and verified, but nothing was written. */
      readonly kind: 'renewed' | 'would-renew'
      readonly hostKey: string
      readonly reason: DueReason
      readonly certificate: VerifiedCertificate
    }
  | {
      readonly kind: 'failed'
      readonly hostKey: string
      readonly failure: Failure
      /** Set when the failure is the issuer's as a whole: other keys need not ask now. */
      readonly issuerFailure: IssuerFailure | null
    }
  /** Due, but a wait holds; `until` is null when the host key kept changing. */
  | {
      readonly kind: 'waiting'
      readonly hostKey: string
      readonly reason: DueReason
      readonly until: UnixSeconds | null
    }

/** So often a host key may change under a request before the next turn has to go on. */
const MAX_KEY_CHANGES = 3

/** One host key that is to get a certificate in this pass. */
export interface KeyRequest {
  readonly view: CertifiableView
  readonly reason: DueReason
  /** All host keys, for the CAs in place. */
  readonly views: readonly HostKeyView[]
  /** Other host keys that wait for the same issuer; its failure is theirs too. */
  readonly alsoWanting: readonly CertifiableView[]
  readonly dryRun: boolean
  /** The host key as it is now; null when it is gone. */
  readonly lookAgain: (name: string) => Promise<CertifiableView | null>
}

/**
 * Steps "issued", "verified" and "swapped" for one host key. What comes of it is in the attempt record when this
 * returns. When the key changes under the request, the answer is dropped and the new key is taken up at once.
 *
 * @throws AgentError STORE_FAILED when the attempt cannot be recorded; the signal's reason when it fires, and then
 *   the record says what it said before
 */
export async function renewKey(
  host: Host,
  attempts: Attempts,
  request: KeyRequest,
  signal: AbortSignal,
): Promise<KeyOutcome> {
  const { reason } = request
  const { name } = request.view
  host.log.info({ host_key: name, reason }, 'asking for a certificate')
  let view: CertifiableView | null = request.view
  for (let change = 0; change < MAX_KEY_CHANGES && view !== null; change++) {
    const result = await recordedAttempt(host, attempts, view, request.views, signal)
    if (result.kind !== 'key-changed') return conclude(host, attempts, { ...request, view }, result)
    const fields = { host_key: name, serial: result.serial, request_id: result.requestId }
    host.log.info(fields, 'the host key changed during the request: the answer is dropped')
    view = await request.lookAgain(name)
  }
  return { kind: 'waiting', hostKey: name, reason, until: null }
}

/** Ask, with the attempt on disk before it starts: a crash half-way must not repeat it at once. */
async function recordedAttempt(
  host: Host,
  attempts: Attempts,
  view: CertifiableView,
  views: readonly HostKeyView[],
  signal: AbortSignal,
): Promise<IssueResult> {
  const before = attempts.record
  attempts.begin(view.subject.identity)
  await attempts.save()
  const undo = (): void => attempts.restore({ ...attempts.record, hostKeys: before.hostKeys })
  try {
    const result = await issueVerified(host, attempts, view, views, signal)
    undo()
    return result
  } catch (error) {
    undo()
    await attempts.save()
    throw error
  }
}

async function conclude(
  host: Host,
  attempts: Attempts,
  { view, reason, alsoWanting, dryRun }: KeyRequest,
  result: Exclude<IssueResult, { kind: 'key-changed' }>,
): Promise<KeyOutcome> {
  const { identity } = view.subject
  const left = secondsLeft(host, view)
  switch (result.kind) {
    case 'issuer-failed': {
      const { failure } = result
      const isOwn = failure.next === 'key-backoff'
      if (isOwn) attempts.issuerAnswered()
      const identities = [view, ...alsoWanting].map(({ subject }) => subject.identity)
      const wait = isOwn
        ? attempts.keyFailed(identity, failure, left)
        : attempts.issuerFailed(identities, failure, left)
      const views: FailedAttempt['views'] = isOwn ? [view] : [view, ...alsoWanting]
      const failed = { failure, views, until: wait.until, serial: null, requestId: failure.requestId }
      return fail(host, attempts, failed, isOwn ? null : failure)
    }
    case 'rejected': {
      attempts.issuerAnswered()
      const wait = attempts.keyFailed(identity, result.failure, left)
      const { failure, requestId, serial } = result
      return fail(host, attempts, { failure, views: [view], until: wait.until, serial, requestId }, null)
    }
    case 'verified': {
      attempts.issuerAnswered()
      const { value: certificate, requestId } = result
      if (dryRun) return { kind: 'would-renew', hostKey: view.name, reason, certificate }
      try {
        await host.store.swap(view.name, certificate)
      } catch (error) {
        if (!(error instanceof AgentError)) throw error
        const failure = { code: error.code, message: error.message }
        const wait = attempts.keyFailed(identity, failure, left)
        const serial = String(certificate.certificate.serial)
        return fail(host, attempts, { failure, views: [view], until: wait.until, serial, requestId }, null)
      }
      const isRepair = reason !== 'window-open' && reason !== 'overdue' && reason !== 'forced'
      attempts.swapped(identity, certificate.certificate.serial, isRepair)
      await attempts.save()
      host.metrics.renewal(view.name, 'ok')
      report(host, view, certificate, reason, requestId)
      return { kind: 'renewed', hostKey: view.name, reason, certificate }
    }
  }
}

function report(
  host: Host,
  { name }: CertifiableView,
  { certificate, warnings }: VerifiedCertificate,
  reason: DueReason,
  requestId: string | null,
): void {
  const fields = { host_key: name, serial: String(certificate.serial), request_id: requestId }
  for (const warning of warnings) host.log.warn(fields, warning)
  const validity = {
    principals: certificate.principals,
    valid_after: formatCertificateTime(certificate.validAfter),
    valid_before: formatCertificateTime(certificate.validBefore) ?? 'forever',
    ca: certificate.ca.fingerprint,
  }
  host.log.info({ ...fields, reason, ...validity }, 'a new certificate is in place')
}

interface FailedAttempt {
  readonly failure: Failure
  /** The host key that was asked for, then those that lack a certificate for the same reason. */
  readonly views: readonly [CertifiableView, ...CertifiableView[]]
  readonly until: UnixSeconds
  /** Of the certificate that was no good; null when there was none. */
  readonly serial: string | null
  readonly requestId: string | null
}

async function fail(
  host: Host,
  attempts: Attempts,
  { failure, views, until, serial, requestId }: FailedAttempt,
  issuerFailure: IssuerFailure | null,
): Promise<KeyOutcome> {
  const [{ name, subject }, ...others] = views
  await attempts.save()
  host.metrics.renewal(name, failure.code)
  const { failures } = attempts.of(subject.identity)
  const fields = {
    host_key: name,
    // An event is one line, however many host keys it concerns.
    host_keys: others.length === 0 ? undefined : views.map((view) => view.name),
    serial: serial ?? undefined,
    code: failure.code,
    request_id: requestId,
    failures,
    retry_in_seconds: Math.max(0, Math.round(until - host.clock.now())),
  }
  const level = levelOfFailure({ failure, next: issuerFailure?.next ?? null, failures, views })
  host.log[level](fields, failure.message)
  return { kind: 'failed', hostKey: name, failure, issuerFailure }
}

function secondsLeft(host: Host, { onDisk }: CertifiableView): number | null {
  return onDisk.kind === 'usable' ? validBeforeOf(onDisk.certificate) - host.clock.now() : null
}
