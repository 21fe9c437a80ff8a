import { escapeControls } from '../cert/text.ts'
import { formatDuration } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import type { StatusDocument } from '../renewal/status-document.ts'
import {
  CHECK_STATUS,
  type CheckStatus,
  judge,
  type Judgement,
  type Threshold,
  worst,
} from './check-judgement.ts'
import { type CliContext, type ConfigOption, linesOf, lookOnce, requireConfig } from './context.ts'
import { askDaemon, remarkLine, remarksOn, sshdDown } from './daemon-client.ts'

export interface CheckOptions extends ConfigOption {
  readonly warning?: Threshold
  readonly critical?: Threshold
  readonly json?: boolean
}

/** Monitors end a plugin that takes longer than they like, 60 s as a rule, and then nobody learns why. */
const LIMIT_MILLISECONDS = 45_000

/**
 * `check`: a monitoring plugin. Asks the daemon, or looks itself when it does not answer. Whatever is wrong is told on
 * stdout, which is what a monitor reads.
 */
export async function check(
  context: CliContext,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<number> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MILLISECONDS)])
  try {
    const config = await requireConfig(context, options)
    await context.becomeOwnerOf(config.stateDirectory)
    const answer = await askDaemon(config.health.listen, limit)
    const fromDaemon = answer.kind === 'runs' ? answer.status : null
    const document = fromDaemon ?? (await lookOnce(context, config, true, limit)).status
    return report(context, options, config, document, remarksOn(document, answer, config).map(remarkLine))
  } catch (error) {
    const isLate = limit.aborted && !signal.aborted
    const late = `nothing could be found out within ${LIMIT_MILLISECONDS / 1000} s`
    return unknown(context, options, isLate ? [late] : linesOf(error, signal))
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
  if (!document.enrolled) {
    return unknown(context, options, ['the daemon says that this host is not enrolled'])
  }
  const rules = { policy: config.renewal, warning, critical }
  const judgements = document.certificates.map((one) => judge(one, rules, Date.now() / 1000))
  if (judgements.every(({ state }) => state === 'ignored')) {
    const why = judgements.length === 0 ? 'none was found' : 'all are ignored'
    const summary = `there is no host key whose certificate could be checked: ${why}`
    return tell(context, options, 'CRITICAL', summary, judgements, remarks)
  }
  const down = sshdDown(document)
  const ofKeys = judgements.map((one) => one.status)
  const status = worst(down === null ? ofKeys : [...ofKeys, 'WARNING'])
  return tell(context, options, status, summaryOf(status, down, judgements), judgements, remarks)
}

function unknown(context: CliContext, options: CheckOptions, lines: readonly string[]): number {
  const [first = '', ...rest] = lines
  return tell(context, options, 'UNKNOWN', first, [], rest)
}

function tell(
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
 * What a monitor reads, by the Monitoring Plugins Development Guidelines: one line of text, `|`, the performance data,
 * then lines that only a person opens.
 *
 * @param remarks further lines
 */
function formatCheck(
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
function summaryOf(status: CheckStatus, warning: string | null, judgements: readonly Judgement[]): string {
  if (status !== 'OK') {
    const matching = judgements.filter((one) => one.status === status)
    const keys = matching.map(({ hostKey, message }) => `${hostKey}: ${message}`)
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
