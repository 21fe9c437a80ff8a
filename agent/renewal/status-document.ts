import type { ErrorCode } from '../cert/errors.ts'
import { formatDuration, parseTime, type UnixSeconds } from '../cert/time.ts'
import { CERTIFICATE_STATES, type CertificateState } from './certificate-state.ts'

/** A clock skew above this is reported. */
export const SKEW_WARNING_SECONDS = 60

/** Whether the issuer's clock and ours differ by more than is well; `skew` is null while that is not known. */
export function isSkewed(skew: number | null): skew is number {
  return skew !== null && Math.abs(skew) > SKEW_WARNING_SECONDS
}

/** What `GET /status` and `status --json` print. Times are RFC 3339 UTC or null; serials are strings. */
export interface StatusDocument {
  readonly version: string
  /** False without a configuration, and where {@link isStopped}. */
  readonly enrolled: boolean
  readonly issuer: {
    readonly url: string | null
    /** Whether the last exchange brought an answer; null before the first. */
    readonly reachable: boolean | null
    readonly last_success: string | null
    readonly clock_skew_seconds: number | null
  }
  readonly certificates: readonly CertificateStatus[]
  /** What is not tried before its time: `issuer`, `login`, `administrator`, `install`, `reload`, or a host key's name. */
  readonly waits: readonly {
    readonly for: string
    readonly code: ErrorCode
    readonly until: string
    /** The issuer itself asked for it: 429, or 503, with `Retry-After`. Left out: hostcertd waits by its own schedule. */
    readonly later?: boolean
  }[]
  /** What the root helper left out or found, for people. */
  readonly notes: readonly string[]
  readonly sshd: {
    /** As the last question showed: `down` when nothing accepts connections; null when it is not asked, or was not yet. */
    readonly state: 'up' | 'down' | 'unknown' | null
    /** Since when; null with the state. */
    readonly since: string | null
  }
  readonly machine: {
    /** Whether this is a copy of the machine that was enrolled; null when that is not known. */
    readonly copied: boolean | null
  }
  readonly login: {
    /** `auth.method`; null where a program takes the issuer's place, or without a configuration. */
    readonly method: string | null
  }
}

export interface CertificateStatus {
  readonly host_key: string
  readonly key_type: string | null
  /** Path of the certificate. */
  readonly certificate: string
  readonly state: CertificateState
  readonly reason: string | null
  readonly serial: string | null
  readonly key_id: string | null
  readonly principals: readonly string[]
  readonly ca_fingerprint: string | null
  readonly valid_after: string | null
  /** Null with a serial: forever. */
  readonly valid_before: string | null
  readonly renewal_due: string | null
  readonly served: ServedStatus | null
  readonly last_attempt: string | null
  readonly last_success: string | null
  /** In a row. */
  readonly failures: number
  readonly last_error: { readonly code: ErrorCode; readonly message: string; readonly at: string } | null
}

/** What is known of what sshd presents for a host key. Null in its place: sshd is not asked, or there is no key to ask about. */
export interface ServedStatus {
  /** Of what sshd presents; null when that is no certificate, or one that cannot be read, or nothing is known. */
  readonly serial: string | null
  /** Whether that is the certificate on disk; null while there is no evidence since it was installed. */
  readonly matches: boolean | null
  /** The end of what sshd presents; null with a serial: forever. */
  readonly valid_before: string | null
  /** When this was seen; null: never. */
  readonly checked_at: string | null
  /** Why the last question brought no answer for this key; null when it did. */
  readonly unknown: string | null
}

/** Evidence older than this no longer proves that all is well: two probes of sshd in a row failed. Seconds. */
const EVIDENCE_OLD_SECONDS = 30 * 60

/**
 * What the evidence of what sshd presents amounts to.
 *
 * - `not-asked`: sshd is not asked, or not about this key
 * - `unseen`: sshd was not seen to present anything since the certificate was installed
 * - `refuted`: it presents something else
 * - `served`: it presents the certificate on disk
 * - `served-before`: it did, but that was half an hour ago or longer
 */
type Serving = 'not-asked' | 'unseen' | 'refuted' | 'served' | 'served-before'

/** Whether evidence is too old to say that all is well. So it is under a clock that was set back: its age is not known. */
export function isOld({ checked_at }: ServedStatus, now: UnixSeconds): boolean {
  const age = checked_at === null ? NaN : now - parseTime(checked_at)
  return !(Math.abs(age) < EVIDENCE_OLD_SECONDS)
}

/** What is known of what sshd presents, judged by its age. */
export function servingOf(served: ServedStatus | null, now: UnixSeconds): Serving {
  if (served === null) return 'not-asked'
  if (served.matches === null) return 'unseen'
  if (!served.matches) return 'refuted'
  return isOld(served, now) ? 'served-before' : 'served'
}

/** Whether the host has a configuration, but renews nothing, as it is a copy of the machine that was enrolled. */
export function isStopped({ enrolled, machine }: StatusDocument): boolean {
  return !enrolled && machine.copied === true
}

/** What `GET /readyz` prints. */
interface ReadinessDocument {
  readonly status: 'pass' | 'warn' | 'fail'
  /** The reason, where no single check gives it. */
  readonly reason?:
    | 'not-enrolled'
    | 'not-enrolled: this machine was copied'
    | 'starting'
    | 'no-host-key'
    | 'evidence-old'
    | 'machine-copied'
    | 'clock-skew'
  readonly checks: readonly ReadinessCheck[]
}

interface ReadinessCheck {
  readonly host_key: string
  readonly state: CertificateState
  readonly reason: string | null
}

const FAILING: readonly CertificateState[] = ['absent', 'expired', 'invalid', 'overdue', 'unconfirmed']

/**
 * Whether this host's certificates are as they should be. That takes evidence of sshd for each host key that is not
 * ignored, unless sshd is not asked.
 *
 * @param status null before the first look is done
 * @param hostKey restrict the answer to this host key
 * @returns null when there is no such host key
 */
export function readinessOf(
  status: StatusDocument | null,
  hostKey: string | null,
  now: UnixSeconds,
): ReadinessDocument | null {
  if (status === null) return { status: 'fail', reason: 'starting', checks: [] }
  if (!status.enrolled && !isStopped(status)) return { status: 'fail', reason: 'not-enrolled', checks: [] }
  const certificates = status.certificates.filter(({ host_key }) => hostKey === null || host_key === hostKey)
  if (hostKey !== null && certificates.length === 0) return null
  const checks = certificates.map(({ host_key, state, reason }) => ({ host_key, state, reason }))
  if (isStopped(status)) return { status: 'fail', reason: 'not-enrolled: this machine was copied', checks }
  // An ignored key is no failure of its own; a host that serves none is one.
  const counted = certificates.filter(({ state }) => state !== 'ignored')
  if (hostKey === null && counted.length === 0) return { status: 'fail', reason: 'no-host-key', checks }
  const evidence = counted.map(({ served }) => servingOf(served, now))
  const isFailing = counted.some(({ state }) => FAILING.includes(state))
  if (isFailing || evidence.includes('unseen') || evidence.includes('refuted')) {
    return { status: 'fail', checks }
  }
  if (evidence.includes('served-before')) return { status: 'warn', reason: 'evidence-old', checks }
  if (counted.some(({ state, failures }) => state === 'due' && failures > 0)) {
    return { status: 'warn', checks }
  }
  if (status.machine.copied === true) return { status: 'warn', reason: 'machine-copied', checks }
  if (isSkewed(status.issuer.clock_skew_seconds)) return { status: 'warn', reason: 'clock-skew', checks }
  return { status: 'pass', checks }
}

/**
 * A wait of the status document for people.
 *
 * @param login of the same document
 */
export function waitText(
  { for: what, code, until }: StatusDocument['waits'][number],
  { method }: StatusDocument['login'],
  now: UnixSeconds,
): string {
  const when = `in ${formatDuration(Math.max(0, parseTime(until) - now))} (${code})`
  switch (what) {
    case 'login':
      return `next ${method === null ? 'request to the issuer' : `login with ${method}`} ${when}`
    case 'issuer':
    case 'administrator':
      return `next request to the issuer ${when}`
    case 'install':
      return `next attempt to copy certificates for sshd ${when}`
    case 'reload':
      return `next reload of sshd ${when}`
    default:
      return `${what}: next request ${when}`
  }
}

/** One line for people, `systemctl status` among them. */
export function summarize(status: StatusDocument, now: UnixSeconds): string {
  if (!status.enrolled && !isStopped(status)) return 'not enrolled: no configuration file'
  return `${copyTrouble(status)}${summarizeKeys(status, now)}`
}

function copyTrouble(status: StatusDocument): string {
  if (isStopped(status)) return 'not enrolled: this machine was copied; '
  return status.machine.copied === true ? 'this machine was copied; ' : ''
}

function summarizeKeys(status: StatusDocument, now: UnixSeconds): string {
  const { certificates } = status
  if (certificates.length === 0) return 'no host keys found'
  const counts = CERTIFICATE_STATES.toReversed().flatMap((state) => {
    const count = certificates.filter((certificate) => certificate.state === state).length
    return count === 0 ? [] : [`${count} ${state}`]
  })
  // Those of ignored keys too: they are renewed all the same.
  const due = certificates.flatMap(({ renewal_due }) =>
    renewal_due === null ? [] : [parseTime(renewal_due)],
  )
  const next = due.length === 0 ? '' : `; next renewal ${whenIn(Math.min(...due) - now)}`
  const keys = certificates.length === 1 ? '1 host key' : `${certificates.length} host keys`
  return `${sshdTrouble(status, now)}${keys}: ${counts.join(', ')}${next}`
}

/** First in the line: in `systemctl status` it may be cut off. Empty where sshd answers, is not asked, or did a moment ago. */
function sshdTrouble({ sshd, certificates }: StatusDocument, now: UnixSeconds): string {
  if (sshd.state === 'down') return 'sshd is down; '
  const counted = certificates.filter(({ state }) => state !== 'ignored')
  const evidence = counted.map(({ served }) => servingOf(served, now))
  const isUnknown = evidence.includes('served-before') || evidence.includes('unseen')
  return isUnknown ? 'sshd could not be checked; ' : ''
}

function whenIn(seconds: number): string {
  return seconds <= 0 ? 'is due' : `in ${formatDuration(seconds)}`
}

/** One of the last things that happened, as the status page shows it. Holds no secrets. */
export interface RecentEvent {
  /** RFC 3339 UTC. */
  readonly at: string
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  /** Names; empty when it is about none. */
  readonly hostKeys: readonly string[]
  readonly code: string | null
  readonly serial: string | null
  readonly requestId: string | null
  /** Until what failed is tried again, counted from `at`. */
  readonly retryInSeconds: number | null
}
