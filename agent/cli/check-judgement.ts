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
 * Judge one host key. Absent, invalid, expired: critical. `unconfirmed` is critical when sshd presents no certificate,
 * for then clients are refused or asked now, and a warning when it presents another one or does not answer. A failed
 * attempt alone is nothing yet: there is time.
 */
export function judge(certificate: CertificateStatus, rules: JudgementRules, now: UnixSeconds): Judgement {
  const { host_key: hostKey, state } = certificate
  const life = lifeOf(certificate, rules, now)
  const [status, words] = verdict(certificate, life?.limits ?? null, life?.secondsLeft ?? null)
  return {
    hostKey,
    status,
    state,
    message: [words, errorOf(certificate)].filter((text) => text !== '').join('; '),
    secondsLeft: life?.secondsLeft ?? null,
    limits: life?.limits ?? null,
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

function verdict(
  { state, reason, served, serial, valid_before }: CertificateStatus,
  limits: Limits | null,
  secondsLeft: number | null,
): readonly [CheckStatus, string] {
  const why = reason === null ? '' : ` (${reason})`
  switch (state) {
    case 'ignored':
      return ['OK', `ignored${why}`]
    case 'absent':
      return ['CRITICAL', 'there is no certificate']
    case 'invalid':
      return ['CRITICAL', `what is on disk cannot be used${why}`]
    case 'expired':
      return ['CRITICAL', `the certificate ended ${formatDuration(-(secondsLeft ?? 0))} ago`]
    case 'overdue':
    case 'unconfirmed':
    case 'due':
    case 'valid':
      break
  }
  const left =
    serial !== null && valid_before === null ? 'never ends' : `${formatDuration(secondsLeft ?? 0)} left`
  const words = state === 'valid' ? left : `${state}, ${left}`
  const byTime = statusByTime(limits, secondsLeft)
  if (state !== 'unconfirmed') return [byTime, words]
  if (served === null) return [worst([byTime, 'WARNING']), `${words}; sshd does not answer`]
  return served.serial === null
    ? ['CRITICAL', `${words}; sshd presents no certificate`]
    : [worst([byTime, 'WARNING']), `${words}; sshd presents another certificate, serial ${served.serial}`]
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
