import { formatDuration, parseDuration, parseTime, type UnixSeconds } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { type RenewalPolicy, renewalTimes, type Validity } from '../renewal/certificate-state.ts'
import { type CertificateStatus, isOld, type ServedStatus, servingOf } from '../renewal/status-document.ts'
import { failureLine } from './context.ts'
import { lastSeen } from './status-text.ts'

/** The exit statuses of the Monitoring Plugins Development Guidelines, with their names there. */
export const CHECK_STATUS = { OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3 } as const
export type CheckStatus = keyof typeof CHECK_STATUS

/** The result for one host key. */
export interface Judgement {
  readonly hostKey: string
  readonly status: CheckStatus
  readonly state: CertificateStatus['state']
  readonly message: string
  /** Negative once it has expired; null without a certificate, and for one that never expires. */
  readonly secondsLeft: number | null
  /** Null without a certificate, for one that never expires, and for an ignored host key. */
  readonly limits: Limits | null
  readonly lifetimeSeconds: number | null
}

interface JudgementRules {
  readonly policy: Config['renewal']
  /** Null: the default. */
  readonly warning: Threshold | null
  readonly critical: Threshold | null
}

/**
 * Judge one host key.
 *
 * - CRITICAL: the certificate is absent, invalid or expired, or almost expired; or sshd presents none, or another one that
 *   has expired or almost has. Clients then refuse the host or prompt for its key.
 * - WARNING: the renewal is overdue; or sshd presents another certificate that is still valid; or what it presents is not
 *   known, or has not been confirmed recently.
 *
 * A failed renewal attempt, or a query that sshd did not answer, does not change the status by itself.
 */
export function judge(certificate: CertificateStatus, rules: JudgementRules, now: UnixSeconds): Judgement {
  const { host_key: hostKey, state } = certificate
  const life = lifeOf(certificate, rules, now)
  const [status, summary] = verdict(certificate, life, rules, now)
  return {
    hostKey,
    status,
    state,
    message: [summary, errorOf(certificate)].filter((text) => text !== '').join('; '),
    secondsLeft: life?.secondsLeft ?? null,
    // Without limits an ignored key has no performance data, so no graph shows it below a limit.
    limits: state === 'ignored' ? null : (life?.limits ?? null),
    lifetimeSeconds: life?.lifetimeSeconds ?? null,
  }
}

/** How much of it is left, and how little may be; of the certificate on disk. */
interface Lifetime {
  readonly secondsLeft: number
  readonly limits: Limits
  readonly lifetimeSeconds: number
}

/** @returns null without a certificate, and for one that never expires */
function lifeOf(
  { valid_after, valid_before, last_success }: CertificateStatus,
  { policy, warning, critical }: JudgementRules,
  now: UnixSeconds,
): Lifetime | null {
  if (valid_after === null || valid_before === null) return null
  const validity = { validAfter: parseTime(valid_after), validBefore: parseTime(valid_before) }
  const issuedAt = last_success === null ? null : parseTime(last_success)
  return {
    secondsLeft: validity.validBefore - now,
    limits: limitsFor(validity, policy, issuedAt, warning, critical),
    lifetimeSeconds: validity.validBefore - validity.validAfter,
  }
}

type Verdict = readonly [CheckStatus, string]

function verdict(
  certificate: CertificateStatus,
  life: Lifetime | null,
  rules: JudgementRules,
  now: UnixSeconds,
): Verdict {
  const { state, reason, serial, valid_before } = certificate
  const why = reason === null ? '' : ` (${reason})`
  const left = life?.secondsLeft ?? 0
  switch (state) {
    case 'ignored':
      return ['OK', `ignored${why}`]
    case 'absent':
      return ['CRITICAL', 'no certificate']
    case 'invalid':
      return ['CRITICAL', `the certificate on disk cannot be used${why}`]
    case 'expired':
      return ['CRITICAL', `the certificate expired ${formatDuration(-left)} ago`]
    case 'overdue':
    case 'unconfirmed':
    case 'due':
    case 'valid':
      break
  }
  const onDisk = serial !== null && valid_before === null ? 'never expires' : `${formatDuration(left)} left`
  const byDisk: Verdict = [statusByTime(life), state === 'valid' ? onDisk : `${state}, ${onDisk}`]
  const byServed = servedVerdict(certificate, life?.limits.critical ?? criticalWithoutLifetime(rules), now)
  if (byServed === null) return byDisk
  return [worst([byDisk[0], byServed[0]]), `${byDisk[1]}; ${byServed[1]}`]
}

const NOT_SEEN = 'sshd was not seen to present it'

/**
 * The status by what sshd presents; null if that is the certificate on disk, or sshd is not asked.
 *
 * @param critical a certificate with fewer seconds left is critical
 */
function servedVerdict(
  { state, served }: CertificateStatus,
  critical: number,
  now: UnixSeconds,
): Verdict | null {
  if (served === null) return state === 'unconfirmed' ? ['WARNING', NOT_SEEN] : null
  const because = served.unknown === null ? '' : `: ${served.unknown}`
  switch (servingOf(served, now)) {
    case 'not-asked':
      return null
    case 'unseen':
      return ['WARNING', `${NOT_SEEN}${because}`]
    case 'served':
      return because === '' ? null : ['OK', `sshd could not be checked now${because}`]
    case 'served-before':
      return ['WARNING', `sshd was last seen to present it ${lastSeen(served, now)}${because}`]
    case 'refuted': {
      const [status, summary] = refutedVerdict(served, critical, now)
      return [status, isOld(served, now) ? `${summary} (seen ${lastSeen(served, now)}${because})` : summary]
    }
  }
}

function refutedVerdict({ serial, valid_before }: ServedStatus, critical: number, now: UnixSeconds): Verdict {
  // Either none at all, or one that cannot be parsed.
  if (serial === null) return ['CRITICAL', 'sshd presents no usable certificate']
  const another = `sshd presents another certificate, serial ${serial}`
  if (valid_before === null) return ['WARNING', another]
  const left = parseTime(valid_before) - now
  if (left <= 0) return ['CRITICAL', `${another}, which expired ${formatDuration(-left)} ago`]
  return [left < critical ? 'CRITICAL' : 'WARNING', `${another}, which expires in ${formatDuration(left)}`]
}

/** Without a lifetime, for a certificate that never expires, a share of it means nothing. */
function criticalWithoutLifetime({ critical }: JudgementRules): number {
  return critical?.kind === 'duration' ? critical.seconds : 0
}

function statusByTime(life: Lifetime | null): CheckStatus {
  if (life === null) return 'OK'
  const { secondsLeft, limits } = life
  if (secondsLeft < limits.critical) return 'CRITICAL'
  return secondsLeft < limits.warning ? 'WARNING' : 'OK'
}

function errorOf({ last_error: error, failures }: CertificateStatus): string {
  if (error === null) return ''
  return `${failureLine(error)}${failures > 1 ? ` (${failures} times in a row)` : ''}`
}

/** The overall status; `OK` if there are none. */
export function worst(statuses: readonly CheckStatus[]): CheckStatus {
  return (['CRITICAL', 'WARNING', 'UNKNOWN'] as const).find((status) => statuses.includes(status)) ?? 'OK'
}

/** How much of a certificate must be left: a share of its lifetime, or a duration. */
export type Threshold =
  | { readonly kind: 'share'; readonly ratio: number }
  | { readonly kind: 'duration'; readonly seconds: number }

/** Seconds; a certificate with less left is WARNING or CRITICAL. */
interface Limits {
  readonly warning: number
  readonly critical: number
}

/** The default: WARNING at `overdue`, CRITICAL below one third of the overdue threshold. */
const CRITICAL_SHARE = 1 / 3

/** @returns null when the text is neither 0% to 100% (`15%`, `2.5%`) nor a duration (`3d`) */
export function parseThreshold(text: string): Threshold | null {
  const percent = /^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(text)?.[1]
  if (percent !== undefined) {
    return Number(percent) <= 100 ? { kind: 'share', ratio: Number(percent) / 100 } : null
  }
  const seconds = parseDuration(text)
  return seconds === null ? null : { kind: 'duration', seconds }
}

/** Whether the warning threshold is below the critical one. False if that depends on the lifetime. */
export function isBelowCritical(warning: Threshold, critical: Threshold): boolean {
  if (warning.kind === 'share') return critical.kind === 'share' && warning.ratio < critical.ratio
  return critical.kind === 'duration' && warning.seconds < critical.seconds
}

/**
 * The limits for one certificate that expires.
 *
 * @param issuedAt when it was installed; null if that is not known
 * @param warning null: the overdue threshold
 * @param critical null: one third of the overdue threshold
 */
function limitsFor(
  validity: Validity,
  policy: RenewalPolicy,
  issuedAt: UnixSeconds | null,
  warning: Threshold | null,
  critical: Threshold | null,
): Limits {
  const lifetime = validity.validBefore - validity.validAfter
  // The jitter moves when a certificate is due, not when it is overdue.
  const overdueLeft = validity.validBefore - renewalTimes(validity, policy, 0, issuedAt).overdueAt
  return {
    warning: warning === null ? overdueLeft : secondsOf(warning, lifetime),
    critical: critical === null ? overdueLeft * CRITICAL_SHARE : secondsOf(critical, lifetime),
  }
}

function secondsOf(threshold: Threshold, lifetime: number): number {
  return threshold.kind === 'share' ? threshold.ratio * lifetime : threshold.seconds
}
