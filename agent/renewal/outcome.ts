import type { Failure } from '../cert/errors.ts'
import { validBeforeOf } from '../cert/host-certificate.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { VerifiedCertificate } from '../cert/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import { needsAdministrator, type NextStep, type Wait } from './backoff.ts'
import type { DueReason } from './certificate-state.ts'
import type { Host } from './host.ts'
import type { CertifiableView, HostKeyView } from './judge.ts'
import type { Facts } from './observe.ts'
import type { IssuerFailure } from './ports.ts'

/** A host key that wants a certificate, and why. */
export interface Wanted {
  readonly view: CertifiableView
  readonly reason: DueReason
}

/** What came of it. */
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
      /** The issuer was not asked: no wait, the next pass tries again. */
      readonly isLocal: boolean
    }
  /** Due, but a wait holds; `until` is null when the host key kept changing. */
  | {
      readonly kind: 'waiting'
      readonly hostKey: string
      readonly reason: DueReason
      readonly until: UnixSeconds | null
    }

export interface IssueResult {
  readonly outcome: KeyOutcome
  /** With what changed: another key file, a new certificate in place. */
  readonly facts: Facts
}

/** A tenth of this is the longest wait where nothing valid is left, which is so for one of several keys. */
const AS_IF_NONE_SECONDS = 3000
/** From the third failure in a row on it is a warning. */
const WARN_FROM_FAILURE = 3

/** The issuer as a whole failed, which concerns every key that wants a certificate. Noted, counted and logged once. */
export function noteIssuerFailure(
  host: Host,
  attempts: Attempts,
  wanting: readonly CertifiableView[],
  all: readonly HostKeyView[],
  failure: IssuerFailure,
): void {
  const identities = wanting.map(({ subject }) => subject.identity)
  const left = secondsLeft(host, all)
  const isLacking = wanting.some(({ onDisk }) => onDisk.kind !== 'usable')
  const wait = attempts.issuerFailed(
    identities,
    failure,
    isLacking && left !== null ? Math.min(left, AS_IF_NONE_SECONDS) : left,
  )
  const more = { request_id: failure.requestId }
  report(host, attempts, wanting, failure, failure.next, wait, more)
}

/** An answer for this key was no good, or could not be put in place. */
export function noteKeyFailure(
  host: Host,
  attempts: Attempts,
  view: CertifiableView,
  failure: Failure,
  { serial, requestId }: { readonly serial: string | null; readonly requestId: string | null },
): void {
  const wait = attempts.keyFailed(view.subject.identity, failure, secondsLeft(host, [view]))
  const named = serial === null ? {} : { serial }
  report(host, attempts, [view], failure, 'key-backoff', wait, { ...named, request_id: requestId })
}

/** The issuer could not be asked for this key, for a reason of this host's. Logged when it is news. */
export function noteNotAsked(host: Host, attempts: Attempts, view: CertifiableView, failure: Failure): void {
  attempts.notAsked(view.subject.identity, failure)
  report(host, attempts, [view], failure, 'local', null, { request_id: null })
}

/** An event is one line, however many host keys it concerns. What fails on this host in each pass is logged once. */
function report(
  host: Host,
  attempts: Attempts,
  views: readonly CertifiableView[],
  failure: Failure,
  next: NextStep,
  wait: Wait | null,
  more: { readonly serial?: string; readonly request_id: string | null },
): void {
  if (next === 'local' && !attempts.isNews(failure)) {
    host.log.debug({ code: failure.code }, failure.message)
    return
  }
  const [first] = views
  for (const { name } of views) host.metrics.renewal(name, failure.code)
  const fields = {
    host_key: first?.name,
    host_keys: views.length > 1 ? views.map(({ name }) => name) : undefined,
    serial: first === undefined ? undefined : serialInPlace(first),
    code: failure.code,
    failures: wait?.failures,
    retry_in_seconds: wait === null ? undefined : Math.max(0, Math.round(wait.until - host.clock.now())),
    ...more,
  }
  host.log[levelOfFailure(views, failure, next, wait?.failures ?? 1)](fields, failure.message)
}

/**
 * How loud a failed attempt is: an error when a host key has nothing usable, or soon will not have; a warning when
 * somebody must act, or when it happens again and again; else it passes by itself, and is information.
 */
function levelOfFailure(
  views: readonly HostKeyView[],
  { code }: Failure,
  next: NextStep,
  failures: number,
): 'info' | 'warn' | 'error' {
  if (views.some(({ onDisk, state }) => onDisk.kind !== 'usable' || state.state === 'overdue')) return 'error'
  return needsAdministrator(code, next) || failures >= WARN_FROM_FAILURE ? 'warn' : 'info'
}

/** The validity left: the least of all usable certificates; null when there is none. */
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
