import type { Config } from '../config/config.ts'
import type { CertificateStatus } from '../core/status-document.ts'
import { formatDuration, parseTime, type UnixSeconds } from '../core/time.ts'
import { limitsFor, type Limits, type Threshold } from './check-thresholds.ts'
import { failureLine } from './verb-error.ts'

/** The exit statuses of the Monitoring Plugins Development Guidelines, by what they are called there. */
export const CHECK_STATUS = { OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3 } as const
export type CheckStatus = keyof typeof CHECK_STATUS

/** What a monitor is told of one host key. */
export interface Judgement {
  readonly hostKey: string
  readonly status: CheckStatus
  readonly state: CertificateStatus['state']
  readonly message: string
  /** Negative once it is over; null without a certificate, and for one that never ends. */
  readonly secondsLeft: number | null
  /** Null without a certificate, for one that never ends, and for a host key that is left alone. */
  readonly limits: Limits | null
  readonly lifetimeSeconds: number | null
}

export interface JudgementRules {
  readonly policy: Config['renewal']
  /** Null: by default. */
  readonly warning: Threshold | null
  readonly critical: Threshold | null
}

/**
 * Judge one host key. Absent, invalid, expired: critical. So is what sshd presents when it is no certificate, or another
 * that has ended or is about to: then clients are refused or asked, whatever lies on disk. Another one that holds, and an
 * sshd that does not answer, are a warning. A failed attempt alone is nothing yet: there is time.
 */
export function judge(certificate: CertificateStatus, rules: JudgementRules, now: UnixSeconds): Judgement {
  const { host_key: hostKey, state } = certificate
  const life = lifeOf(certificate, rules, now)
  const end = certificate.served?.valid_before ?? null
  const left = { disk: life?.secondsLeft ?? null, served: end === null ? null : parseTime(end) - now }
  const [status, words] = verdict(certificate, left, life?.limits ?? null, rules)
  return {
    hostKey,
    status,
    state,
    message: [words, errorOf(certificate)].filter((text) => text !== '').join('; '),
    secondsLeft: life?.secondsLeft ?? null,
    // Nobody renews what is left alone: without limits it has no performance data, and no graph sees one crossed.
    limits: state === 'ignored' ? null : (life?.limits ?? null),
    lifetimeSeconds: life?.lifetimeSeconds ?? null,
  }
}

function lifeOf(
  { valid_after, valid_before, last_success }: CertificateStatus,
  { policy, warning, critical }: JudgementRules,
  now: UnixSeconds,
): { readonly secondsLeft: number; readonly limits: Limits; readonly lifetimeSeconds: number } | null {
  if (valid_after === null || valid_before === null) return null
  const validity = { validAfter: parseTime(valid_after), validBefore: parseTime(valid_before) }
  const issuedAt = last_success === null ? null : parseTime(last_success)
  return {
    secondsLeft: validity.validBefore - now,
    limits: limitsFor(validity, policy, issuedAt, warning, critical),
    lifetimeSeconds: validity.validBefore - validity.validAfter,
  }
}

/** Seconds; null where it is not known, for what never ends, or without a certificate. */
interface Left {
  readonly disk: number | null
  readonly served: number | null
}

type Verdict = readonly [CheckStatus, string]

function verdict(
  certificate: CertificateStatus,
  left: Left,
  limits: Limits | null,
  rules: JudgementRules,
): Verdict {
  const { state, reason, serial, valid_before } = certificate
  const why = reason === null ? '' : ` (${reason})`
  switch (state) {
    case 'ignored':
      return ['OK', `ignored${why}`]
    case 'absent':
      return ['CRITICAL', 'there is no certificate']
    case 'invalid':
      return ['CRITICAL', `what is on disk cannot be used${why}`]
    case 'expired':
      return ['CRITICAL', `the certificate ended ${formatDuration(-(left.disk ?? 0))} ago`]
    case 'overdue':
    case 'unconfirmed':
    case 'due':
    case 'valid':
      break
  }
  const onDisk =
    serial !== null && valid_before === null ? 'never ends' : `${formatDuration(left.disk ?? 0)} left`
  const byDisk: Verdict = [
    statusByTime(limits, left.disk),
    state === 'valid' ? onDisk : `${state}, ${onDisk}`,
  ]
  const byServed = servedVerdict(certificate, left.served, limits?.critical ?? shortest(rules))
  if (byServed === null) return byDisk
  return [worst([byDisk[0], byServed[0]]), `${byDisk[1]}; ${byServed[1]}`]
}

/**
 * What is to be said of an sshd that does not present what is on disk; null when it does, or nothing is known.
 *
 * @param critical seconds: less than this left of what it presents is critical
 */
function servedVerdict(
  { state, served }: CertificateStatus,
  left: number | null,
  critical: number,
): Verdict | null {
  if (served === null) return state === 'unconfirmed' ? ['WARNING', 'sshd does not answer'] : null
  if (served.matches) return null
  if (served.serial === null) return ['CRITICAL', 'sshd presents no certificate']
  const another = `sshd presents another certificate, serial ${served.serial}`
  if (left === null) return ['WARNING', another]
  if (left <= 0) return ['CRITICAL', `${another}, which ended ${formatDuration(-left)} ago`]
  return [left < critical ? 'CRITICAL' : 'WARNING', `${another}, which ends in ${formatDuration(left)}`]
}

/** The limit where what is on disk never ends, and a share of its lifetime is nothing. */
function shortest({ critical }: JudgementRules): number {
  return critical?.kind === 'duration' ? critical.seconds : 0
}

function statusByTime(limits: Limits | null, secondsLeft: number | null): CheckStatus {
  if (limits === null || secondsLeft === null) return 'OK'
  if (secondsLeft < limits.critical) return 'CRITICAL'
  return secondsLeft < limits.warning ? 'WARNING' : 'OK'
}

function errorOf({ last_error: error, failures }: CertificateStatus): string {
  if (error === null) return ''
  return `${failureLine(error)}${failures > 1 ? ` (${failures} times in a row)` : ''}`
}

/** The one that a monitor shows for all of them; `OK` for none. */
export function worst(statuses: readonly CheckStatus[]): CheckStatus {
  return (['CRITICAL', 'WARNING', 'UNKNOWN'] as const).find((status) => statuses.includes(status)) ?? 'OK'
}
