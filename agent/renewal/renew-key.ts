import { AgentError, type Failure } from '../core/errors.ts'
import { validBeforeOf } from '../core/host-certificate.ts'
import { isRoutine, type DueReason } from '../core/renewal-decision.ts'
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

const TOO_LATE: IssuerFailure = {
  code: 'ISSUER_TIMEOUT',
  message: 'the issuer took longer than a turn has time for',
  next: 'issuer-backoff',
  retryAfterSeconds: null,
  requestId: null,
}
/** So often a host key may change under a request before the next turn has to go on. */
const MAX_KEY_CHANGES = 3

type AttemptResult = IssueResult | { readonly kind: 'not-recorded'; readonly failure: Failure }

/** When to end asking. */
export interface IssuingSignals {
  /** The program ends, or the turn is over: the attempt counts for nothing. */
  readonly stop: AbortSignal
  /** The issuer had its time: it failed. */
  readonly deadline: AbortSignal
}

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
 * @throws the reason of `stop` when it fires, and then the record says what it said before
 */
export async function renewKey(
  host: Host,
  attempts: Attempts,
  request: KeyRequest,
  signals: IssuingSignals,
): Promise<KeyOutcome> {
  const { reason } = request
  const { name } = request.view
  host.log.info({ host_key: name, reason }, 'asking for a certificate')
  let view: CertifiableView | null = request.view
  for (let change = 0; change < MAX_KEY_CHANGES && view !== null; change++) {
    const result = await recordedAttempt(host, attempts, view, request.views, signals)
    if (result.kind !== 'key-changed') return conclude(host, attempts, { ...request, view }, result)
    attempts.dropped(view.subject.identity)
    const fields = { host_key: name, serial: result.serial, request_id: result.requestId }
    host.log.info(fields, 'the host key changed during the request: the answer is dropped')
    view = await request.lookAgain(name)
    if (view !== null && attempts.repairWaitOf(view.subject.identity) !== null) break
  }
  await attempts.save()
  return { kind: 'waiting', hostKey: name, reason, until: null }
}

/**
 * Ask, with the attempt on disk before it starts: a crash half-way must not repeat it at once. Where it cannot be put
 * there nothing is asked: the certificate would have no place either.
 */
async function recordedAttempt(
  host: Host,
  attempts: Attempts,
  view: CertifiableView,
  views: readonly HostKeyView[],
  { stop, deadline }: IssuingSignals,
): Promise<AttemptResult> {
  const before = attempts.record
  attempts.begin(view.subject.identity)
  const unsaved = await attempts.save()
  if (unsaved !== null) return { kind: 'not-recorded', failure: unsaved }
  try {
    return await issueVerified(host, attempts, view, views, AbortSignal.any([stop, deadline]))
  } catch (error) {
    if (deadline.aborted && !stop.aborted) return { kind: 'issuer-failed', failure: TOO_LATE }
    // Cut short by us, so it counts for nothing.
    attempts.restore({ ...attempts.record, hostKeys: before.hostKeys })
    await attempts.save()
    throw error
  }
}

async function conclude(
  host: Host,
  attempts: Attempts,
  { view, views, reason, alsoWanting, dryRun }: KeyRequest,
  result: Exclude<AttemptResult, { kind: 'key-changed' }>,
): Promise<KeyOutcome> {
  const { identity } = view.subject
  const left = secondsLeft(host, [view])
  switch (result.kind) {
    case 'issuer-failed': {
      const { failure } = result
      const isOwn = failure.next === 'key-backoff'
      if (isOwn) attempts.issuerAnswered()
      const identities = [view, ...alsoWanting].map(({ subject }) => subject.identity)
      const wait = isOwn
        ? attempts.keyFailed(identity, failure, left)
        : attempts.issuerFailed(identities, failure, secondsLeft(host, views))
      const concerned: FailedAttempt['views'] = isOwn ? [view] : [view, ...alsoWanting]
      const failed = {
        failure,
        views: concerned,
        until: wait.until,
        serial: null,
        requestId: failure.requestId,
      }
      return fail(host, attempts, failed, isOwn ? null : failure)
    }
    case 'not-recorded': {
      const { failure } = result
      const { until } = attempts.keyFailed(identity, failure, left)
      return fail(host, attempts, { failure, views: [view], until, serial: null, requestId: null }, null)
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
      attempts.swapped(identity, certificate.certificate.serial, isRepair(reason))
      if (isBlind(host, view)) attempts.oweReload()
      await attempts.save()
      host.metrics.renewal(view.name, 'ok')
      report(host, view, certificate, reason, requestId)
      return { kind: 'renewed', hostKey: view.name, reason, certificate }
    }
  }
}

/** Whether a reload is due after a swap whatever sshd shows, or because it shows nothing of this key. */
function isBlind({ settings, sshd }: Host, { served }: CertifiableView): boolean {
  if (!sshd.canReload || settings.reload === 'never') return false
  return settings.reload === 'always' || served.kind === 'not-asked'
}

function isRepair(reason: DueReason): boolean {
  return !isRoutine(reason) && reason !== 'overdue' && reason !== 'forced'
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

/** The least of all usable certificates; null when there is none. */
export function secondsLeft(host: Host, views: readonly HostKeyView[]): number | null {
  const ends = views.flatMap(({ onDisk }) =>
    onDisk.kind === 'usable' ? [validBeforeOf(onDisk.certificate)] : [],
  )
  return ends.length === 0 ? null : Math.min(...ends) - host.clock.now()
}
