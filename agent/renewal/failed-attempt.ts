import type { Failure } from '../core/errors.ts'
import { validBeforeOf } from '../core/host-certificate.ts'
import type { Attempts } from './attempts.ts'
import { levelOfFailure } from './failure-level.ts'
import type { KeyOutcome, KeyRequest } from './key-request.ts'
import type { HostKeyView } from './observe.ts'
import type { IssuerFailure } from './ports.ts'
import type { Host } from './settings.ts'

export interface FailedAttempt {
  readonly failure: Failure
  /** Set when the issuer as a whole failed, which concerns all who want a certificate; else only this host key. */
  readonly issuerFailure: IssuerFailure | null
  /** Of the certificate that was no good; null when there was none: then the one in place is named. */
  readonly serial: string | null
  readonly requestId: string | null
}

/** Note and tell a failed attempt, and who waits for how long. */
export async function noteFailure(
  host: Host,
  attempts: Attempts,
  { view, views, alsoWanting }: KeyRequest,
  { failure, issuerFailure, serial, requestId }: FailedAttempt,
): Promise<KeyOutcome> {
  const { identity } = view.subject
  const concerned = issuerFailure === null ? [view] : [view, ...alsoWanting]
  const wait =
    issuerFailure === null
      ? attempts.keyFailed(identity, failure, secondsLeft(host, [view]))
      : attempts.issuerFailed(
          concerned.map(({ subject }) => subject.identity),
          issuerFailure,
          secondsLeft(host, views),
        )
  await attempts.save()
  for (const { name } of concerned) host.metrics.renewal(name, failure.code)
  const { failures } = attempts.of(identity)
  const fields = {
    host_key: view.name,
    // An event is one line, however many host keys it concerns.
    host_keys: concerned.length === 1 ? undefined : concerned.map(({ name }) => name),
    serial: serial ?? serialInPlace(view),
    code: failure.code,
    request_id: requestId,
    failures,
    retry_in_seconds: Math.max(0, Math.round(wait.until - host.clock.now())),
  }
  const next = issuerFailure?.next ?? 'key-backoff'
  host.log[levelOfFailure({ failure, next, failures, views: concerned })](fields, failure.message)
  return { kind: 'failed', hostKey: view.name, failure, issuerFailure }
}

/** The least of all usable certificates; null when there is none. */
export function secondsLeft(host: Host, views: readonly HostKeyView[]): number | null {
  const ends = views.flatMap(({ onDisk }) =>
    onDisk.kind === 'usable' ? [validBeforeOf(onDisk.certificate)] : [],
  )
  return ends.length === 0 ? null : Math.min(...ends) - host.clock.now()
}

/** Undefined when nothing usable is in place: then a log line has no serial. */
export function serialInPlace({ onDisk }: HostKeyView): string | undefined {
  return onDisk.kind === 'usable' ? String(onDisk.certificate.serial) : undefined
}
