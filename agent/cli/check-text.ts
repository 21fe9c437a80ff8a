import { formatDuration } from '../core/time.ts'
import { escapeControls } from '../log/line-format.ts'
import type { CheckStatus, Judgement } from './check-judgement.ts'

/**
 * What a monitor reads, by the Monitoring Plugins Development Guidelines: one line of text, `|`, the performance data,
 * then lines that only a person opens.
 *
 * @param remarks further lines
 */
export function formatCheck(
  status: CheckStatus,
  summary: string,
  judgements: readonly Judgement[],
  remarks: readonly string[] = [],
): string {
  const performance = judgements.flatMap(performanceData).join(' ')
  const first = `HOSTCERTD ${status} - ${plain(summary)}${performance === '' ? '' : ` | ${performance}`}`
  const lines = judgements.map((one) => plain(`[${one.status}] ${one.hostKey}: ${one.message}`))
  return [first, ...lines, ...remarks.map(plain)].map((line) => `${line}\n`).join('')
}

/**
 * The line for all host keys: those that are worst, or when the first certificate ends.
 *
 * @param warning what is a warning of the host as a whole; null when nothing is
 */
export function summaryOf(
  status: CheckStatus,
  warning: string | null,
  judgements: readonly Judgement[],
): string {
  if (status !== 'OK') {
    const worst = judgements.filter((one) => one.status === status)
    const keys = worst.map(({ hostKey, message }) => `${hostKey}: ${message}`)
    return [...(warning === null || status !== 'WARNING' ? [] : [warning]), ...keys].join(', ')
  }
  const cared = judgements.filter(({ state }) => state !== 'ignored')
  const ends = cared.flatMap(({ secondsLeft }) => (secondsLeft === null ? [] : [secondsLeft]))
  const count =
    cared.length === 1
      ? '1 host key has its certificate'
      : `${cared.length} host keys have their certificates`
  return ends.length === 0 ? count : `${count}, the first ends in ${formatDuration(Math.min(...ends))}`
}

/** `'label'=value[UOM];[warn];[crit];[min];[max]`; `N:` means that less than N is an alert. */
function performanceData({ hostKey, secondsLeft, limits, lifetimeSeconds }: Judgement): string[] {
  if (secondsLeft === null || limits === null) return []
  const value = Math.max(0, Math.floor(secondsLeft))
  const range = (limit: number): string => `${Math.floor(limit)}:`
  const longest = lifetimeSeconds === null ? '' : String(Math.floor(lifetimeSeconds))
  const bounds = [range(limits.warning), range(limits.critical), '0', longest]
  return [`'${labelOf(hostKey)}'=${value}s;${bounds.join(';')}`]
}

/** Any file name; an equals sign may not be in a label, a quote is doubled. */
function labelOf(hostKey: string): string {
  return plain(hostKey).replaceAll('=', '_').replaceAll("'", "''")
}

/** A `|` would begin the performance data. */
function plain(text: string): string {
  return escapeControls(text).replaceAll('|', '/')
}
