import type { Failure } from '../cert/errors.ts'
import { validBeforeOf } from '../cert/host-certificate.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { VerifiedCertificate } from '../cert/verify-issued.ts'
import type { Attempts } from './attempts.ts'
import { needsAdministrator, type NextStep, type Wait } from './backoff.ts'
import type { DueReason, CertificateState } from './certificate-state.ts'
import type { CertifiableView, HostKeyView } from './judge.ts'
import type { Facts, MachineFacts } from './observe.ts'
import type { Host, IssuerFailure, Log, LogFields } from './ports.ts'
import type { SshdRecord } from './record.ts'
import { isSkewed } from './status-document.ts'

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
  /** The issuer does not sign keys of this type. */
  | { readonly kind: 'ignored'; readonly hostKey: string; readonly failure: Failure }
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
  const isLacking = wanting.some(isWithoutCertificate)
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

/** The issuer does not sign keys of this type, or fails on each of them, which is no failure. */
export function noteRefusal(
  host: Host,
  attempts: Attempts,
  { name, subject }: CertifiableView,
  failure: Failure,
  requestId: string | null,
): void {
  attempts.refused(subject.identity, failure)
  const fields = { host_key: name, code: failure.code, request_id: requestId }
  const message = `host key ignored: no certificate for a key of type ${subject.key.type}; the issuer is asked again in about a week: ${failure.message}`
  host.log.info(fields, message)
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
  if (views.some((view) => isWithoutCertificate(view) || view.state.state === 'overdue')) return 'error'
  return needsAdministrator(code, next) || failures >= WARN_FROM_FAILURE ? 'warn' : 'info'
}

/** A key that the issuer may not sign lacks nothing. */
function isWithoutCertificate({ onDisk, unproven }: HostKeyView): boolean {
  return onDisk.kind !== 'usable' && unproven === null
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

/** What was reported of a host, so that it is reported once. */
export interface Reported {
  /** By host key name. */
  readonly states: ReadonlyMap<string, CertificateState>
  readonly skewed: boolean
  readonly sshd: SshdRecord['state']
  readonly machine: MachineFacts
}

/** Nothing is known of it. */
const UNKNOWN_MACHINE: MachineFacts = { copied: null, stopped: null }

export const NOTHING_REPORTED: Reported = {
  states: new Map(),
  skewed: false,
  sshd: null,
  machine: UNKNOWN_MACHINE,
}

/**
 * Log changes that no attempt caused: a certificate became overdue or expired, a host key cannot be read or is ignored,
 * sshd is down, the clocks differ, the machine was copied. What an attempt or a reload leads to is logged there.
 *
 * @param skewSeconds the issuer's clock minus ours; null when unknown
 * @returns for the next call
 */
export function reportChanges(
  log: Log,
  before: Reported,
  views: readonly HostKeyView[],
  sshd: SshdRecord,
  skewSeconds: number | null,
  machine: MachineFacts,
): Reported {
  for (const view of views) {
    if (before.states.get(view.name) !== view.state.state) reportState(log, view)
  }
  // With `address: none` what is on record of it is old.
  const isAsked = views.some(({ served }) => served.kind !== 'not-asked')
  const sshdState = isAsked ? sshd.state : null
  if (before.sshd !== sshdState) reportSshd(log, before.sshd, sshdState, views)
  const skewed = isSkewed(skewSeconds)
  if (skewed && !before.skewed) {
    log.warn({ clock_skew_seconds: skewSeconds }, "the clock of this host and the issuer's differ")
  }
  return {
    states: new Map(views.map(({ name, state }) => [name, state.state])),
    skewed,
    sshd: sshdState,
    machine: reportMachine(log, before.machine, machine),
  }
}

/** What is not known now is no news. */
function reportMachine(log: Log, before: MachineFacts, machine: MachineFacts): MachineFacts {
  const { copied, stopped } = machine
  if (copied === null) return before
  const was = before.copied === null || before.copied === false ? null : before.copied
  if (copied === false) {
    if (was !== null) log.info({}, 'this machine is the one that was enrolled')
    return machine
  }
  const { code, message } = copied
  if (was?.message === message && (before.stopped === null) === (stopped === null)) return machine
  if (stopped === null) log.warn({ code }, message)
  else log.error({ code }, `${message}; nothing is renewed here (enrollment.on_copy: stop)`)
  return machine
}

function reportSshd(
  log: Log,
  before: SshdRecord['state'],
  state: SshdRecord['state'],
  views: readonly HostKeyView[],
): void {
  const reason = views.map(({ served }) => (served.kind === 'not-asked' ? null : served.unknown)).find(isText)
  if (state === 'down') {
    log.warn({ code: 'SSHD_UNREACHABLE' }, `sshd accepts no connections: ${reason ?? 'no reason given'}`)
  } else if (state === 'unknown') {
    const why = reason ?? 'no reason given'
    log.warn({ code: 'SSHD_UNREACHABLE' }, `what sshd presents is unknown: ${why}`)
  } else if (state === 'up' && before !== null) {
    log.info({}, 'sshd answers again')
  }
}

function isText(reason: string | null): reason is string {
  return reason !== null
}

function reportState(log: Log, { name, subject, onDisk, state }: HostKeyView): void {
  const certificate = onDisk.kind === 'absent' ? null : onDisk.certificate
  const fields: LogFields = {
    host_key: name,
    serial: certificate === null ? null : String(certificate.serial),
  }
  switch (state.state) {
    case 'expired':
      log.error({ ...fields, code: 'CERT_EXPIRED' }, 'the certificate has expired')
      return
    case 'overdue':
      log.error({ ...fields, code: state.reason }, 'the renewal is overdue')
      return
    case 'invalid':
      // Of a key that can be certified another certificate is asked for, and what comes of that is logged.
      if (subject === null && onDisk.kind === 'unusable')
        log.error({ host_key: name, code: onDisk.failure.code }, onDisk.failure.message)
      return
    case 'ignored':
      // One that sshd does not offer was logged when that was found out.
      if (subject === null) log.info({ host_key: name }, `host key ignored: ${state.reason}`)
      return
    case 'absent':
    case 'unconfirmed':
    case 'due':
    case 'valid':
  }
}
