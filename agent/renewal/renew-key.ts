import type { Attempts } from './attempts.ts'
import { noteFailure, serialInPlace } from './failed-attempt.ts'
import { issueVerified, type IssueResult } from './issue-verified.ts'
import type { KeyOutcome, KeyRequest } from './key-request.ts'
import type { CertifiableView, HostKeyView } from './observe.ts'
import type { Failure } from '../core/errors.ts'
import type { IssuerFailure } from './ports.ts'
import { putInPlace } from './put-in-place.ts'
import type { Host } from './settings.ts'
import { repairWaitOf } from './waits.ts'

/** The issuer had its part of the turn. */
export const TOO_LATE: IssuerFailure = {
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
  const serial = serialInPlace(request.view)
  host.log.info({ host_key: name, serial, reason }, 'asking for a certificate')
  let view: CertifiableView | null = request.view
  for (let change = 0; change < MAX_KEY_CHANGES && view !== null; change++) {
    const result = await recordedAttempt(host, attempts, view, request.views, signals)
    if (result.kind !== 'key-changed') return conclude(host, attempts, { ...request, view }, result)
    attempts.dropped(view.subject.identity)
    const fields = { host_key: name, serial: result.serial, request_id: result.requestId }
    host.log.info(fields, 'the host key changed during the request: the answer is dropped')
    view = await request.lookAgain(name)
    if (view !== null && repairWaitOf(attempts, view.subject.identity) !== null) break
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
  request: KeyRequest,
  result: Exclude<AttemptResult, { kind: 'key-changed' }>,
): Promise<KeyOutcome> {
  switch (result.kind) {
    case 'issuer-failed': {
      const { failure } = result
      // It answered, and what it says concerns this key.
      const isOwn = failure.next === 'key-backoff'
      if (isOwn) attempts.issuerAnswered()
      const issuerFailure = isOwn ? null : failure
      return noteFailure(host, attempts, request, {
        failure,
        issuerFailure,
        serial: null,
        requestId: failure.requestId,
      })
    }
    case 'not-recorded':
      return noteFailure(host, attempts, request, {
        ...result,
        issuerFailure: null,
        serial: null,
        requestId: null,
      })
    case 'rejected':
      attempts.issuerAnswered()
      return noteFailure(host, attempts, request, { ...result, issuerFailure: null })
    case 'verified':
      attempts.issuerAnswered()
      return request.dryRun
        ? {
            kind: 'would-renew',
            hostKey: request.view.name,
            reason: request.reason,
            certificate: result.value,
          }
        : putInPlace(host, attempts, request, result)
  }
}
