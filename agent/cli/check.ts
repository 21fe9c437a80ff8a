import { escapeControls } from '../cert/text.ts'
import { formatDuration } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { isStopped, type StatusDocument } from '../renewal/status-document.ts'
import {
  CHECK_STATUS,
  type CheckStatus,
  judge,
  type Judgement,
  type Threshold,
  worst,
} from './check-judgement.ts'
import { type CliContext, type ConfigOption, linesOf, observeOnce, requireConfig } from './context.ts'
import { askDaemon, remarkLine, remarksOn, sshdDown } from './daemon-client.ts'

export interface CheckOptions extends ConfigOption {
  readonly warning?: Threshold
  readonly critical?: Threshold
  readonly json?: boolean
}

/** Monitoring systems kill a plugin after their own timeout, usually 60 s, and then show no reason. */
const LIMIT_MILLISECONDS = 45_000

/**
 * `check`: a monitoring plugin. Uses the status of the daemon or, if it does not answer, observes the host itself. Errors
 * are printed on stdout too, because monitoring systems read nothing else.
 */
export async function check(
  context: CliContext,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<number> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MILLISECONDS)])
  try {
    const config = await requireConfig(context, options)
    await context.dropPrivileges(config.stateDirectory)
    const answer = await askDaemon(config.health.listen, limit)
    const fromDaemon = answer.kind === 'runs' ? answer.status : null
    const document = fromDaemon ?? (await observeOnce(context, config, true, limit)).status
    return report(context, options, config, document, remarksOn(document, answer, config).map(remarkLine))
  } catch (error) {
    const isTimeout = limit.aborted && !signal.aborted
    const lines = isTimeout ? [`no result within ${LIMIT_MILLISECONDS / 1000} s`] : linesOf(error, signal)
    return unknown(context, options, lines)
  }
}

function report(
  context: CliContext,
  options: CheckOptions,
  config: Config,
  document: StatusDocument,
  remarks: readonly string[],
): number {
  const { warning = null, critical = null } = options
  if (!document.enrolled && !isStopped(document)) {
    return unknown(context, options, ['the daemon reports that this host is not enrolled'])
  }
  const rules = { policy: config.renewal, warning, critical }
  const judgements = document.certificates.map((one) => judge(one, rules, Date.now() / 1000))
  if (judgements.every(({ state }) => state === 'ignored')) {
    const why = judgements.length === 0 ? 'no host key was found' : 'all host keys are ignored'
    const summary = `no certificate to check: ${why}`
    return print(context, options, 'CRITICAL', summary, judgements, remarks)
  }
  const hostWarning = sshdDown(document)
  const statuses = judgements.map((one) => one.status)
  const status = worst(hostWarning === null ? statuses : [...statuses, 'WARNING'])
  return print(context, options, status, summaryOf(status, hostWarning, judgements), judgements, remarks)
}

function unknown(context: CliContext, options: CheckOptions, lines: readonly string[]): number {
  const [first = '', ...rest] = lines
  return print(context, options, 'UNKNOWN', first, [], rest)
}

function print(
  context: CliContext,
  { json }: CheckOptions,
  status: CheckStatus,
  summary: string,
  judgements: readonly Judgement[],
  remarks: readonly string[],
): number {
  if (json === true) {
    const hostKeys = judgements.map(documentOf)
    context.out(`${JSON.stringify({ status, summary, host_keys: hostKeys, remarks }, null, 2)}\n`)
  } else context.out(formatCheck(status, summary, judgements, remarks))
  return CHECK_STATUS[status]
}

function documentOf({ hostKey, status, state, message, secondsLeft, limits }: Judgement): object {
  return {
    host_key: hostKey,
    status,
    state,
    message,
    seconds_left: secondsLeft === null ? null : Math.floor(secondsLeft),
    warning_below: limits === null ? null : Math.floor(limits.warning),
    critical_below: limits === null ? null : Math.floor(limits.critical),
  }
}

/**
 * Format the result according to the Monitoring Plugins Development Guidelines: one line of text, `|` and the performance
 * data; then one line per host key.
 *
 * @param remarks further lines, at the end
 */
function formatCheck(
  status: CheckStatus,
  summary: string,
  judgements: readonly Judgement[],
  remarks: readonly string[] = [],
): string {
  const performance = judgements.flatMap(performanceData).join(' ')
  const first = `HOSTCERTD ${status} - ${escapeOutput(summary)}${performance === '' ? '' : ` | ${performance}`}`
  const lines = judgements.map((one) => escapeOutput(`[${one.status}] ${one.hostKey}: ${one.message}`))
  return [first, ...lines, ...remarks.map(escapeOutput)].map((line) => `${line}\n`).join('')
}

/**
 * The text of the first line: the host keys with the worst status or, if that is OK, when the next certificate expires.
 *
 * @param hostWarning a warning that concerns the whole host; null if there is none
 */
function summaryOf(
  status: CheckStatus,
  hostWarning: string | null,
  judgements: readonly Judgement[],
): string {
  if (status !== 'OK') {
    const affected = judgements.filter((one) => one.status === status)
    const keys = affected.map(({ hostKey, message }) => `${hostKey}: ${message}`)
    return [...(hostWarning === null || status !== 'WARNING' ? [] : [hostWarning]), ...keys].join(', ')
  }
  const counted = judgements.filter(({ state }) => state !== 'ignored')
  const ends = counted.flatMap(({ secondsLeft }) => (secondsLeft === null ? [] : [secondsLeft]))
  const isOne = counted.length === 1
  const count = isOne
    ? '1 host key has a valid certificate'
    : `${counted.length} host keys have valid certificates`
  if (ends.length === 0) return count
  return `${count}, ${isOne ? 'which expires' : 'the first of which expires'} in ${formatDuration(Math.min(...ends))}`
}

/** `'label'=value[UOM];[warn];[crit];[min];[max]`; the range `N:` means: alert if the value is below N. */
function performanceData({ hostKey, secondsLeft, limits, lifetimeSeconds }: Judgement): string[] {
  if (secondsLeft === null || limits === null) return []
  const value = Math.max(0, Math.floor(secondsLeft))
  const range = (limit: number): string => `${Math.floor(limit)}:`
  const longest = lifetimeSeconds === null ? '' : String(Math.floor(lifetimeSeconds))
  const bounds = [range(limits.warning), range(limits.critical), '0', longest]
  return [`'${labelOf(hostKey)}'=${value}s;${bounds.join(';')}`]
}

/** A label must not contain an equals sign, and a single quote in it is doubled. */
function labelOf(hostKey: string): string {
  return escapeOutput(hostKey).replaceAll('=', '_').replaceAll("'", "''")
}

/** Escape control characters, and replace `|`, which would start the performance data. */
function escapeOutput(text: string): string {
  return escapeControls(text).replaceAll('|', '/')
}
