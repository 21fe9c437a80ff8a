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

/** Monitoring systems kill a plugin that exceeds their timeout, usually 60 s, and then show no reason. */
const LIMIT_MILLISECONDS = 45_000

/**
 * `check`: a monitoring plugin. Asks the daemon; if it does not answer, examines the host itself. Errors go to stdout
 * too, because monitoring systems read nothing else.
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
    const isLate = limit.aborted && !signal.aborted
    const late = `no result within ${LIMIT_MILLISECONDS / 1000} s`
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
  const down = sshdDown(document)
  const ofKeys = judgements.map((one) => one.status)
  const status = worst(down === null ? ofKeys : [...ofKeys, 'WARNING'])
  return print(context, options, status, summaryOf(status, down, judgements), judgements, remarks)
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
 * Output as the Monitoring Plugins Development Guidelines define it: one line of text, `|` and the performance data; then
 * one line per host key.
 *
 * @param remarks lines that follow those of the host keys
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
 * The text of the first line: the host keys with the worst status or, if that is OK, when the first certificate expires.
 *
 * @param warning a warning about the host as a whole; null if there is none
 */
function summaryOf(status: CheckStatus, warning: string | null, judgements: readonly Judgement[]): string {
  if (status !== 'OK') {
    const worstOnes = judgements.filter((one) => one.status === status)
    const keys = worstOnes.map(({ hostKey, message }) => `${hostKey}: ${message}`)
    return [...(warning === null || status !== 'WARNING' ? [] : [warning]), ...keys].join(', ')
  }
  const counted = judgements.filter(({ state }) => state !== 'ignored')
  const ends = counted.flatMap(({ secondsLeft }) => (secondsLeft === null ? [] : [secondsLeft]))
  const isOne = counted.length === 1
  const count = isOne
    ? '1 host key has a valid certificate'
    : `${counted.length} host keys have valid certificates`
  if (ends.length === 0) return count
  return `${count}, ${isOne ? 'which' : 'the first'} expires in ${formatDuration(Math.min(...ends))}`
}

/** `'label'=value[UOM];[warn];[crit];[min];[max]`; The range `N:` raises an alert below N. */
function performanceData({ hostKey, secondsLeft, limits, lifetimeSeconds }: Judgement): string[] {
  if (secondsLeft === null || limits === null) return []
  const value = Math.max(0, Math.floor(secondsLeft))
  const range = (limit: number): string => `${Math.floor(limit)}:`
  const longest = lifetimeSeconds === null ? '' : String(Math.floor(lifetimeSeconds))
  const bounds = [range(limits.warning), range(limits.critical), '0', longest]
  return [`'${labelOf(hostKey)}'=${value}s;${bounds.join(';')}`]
}

/** A label must not contain an equals sign; quotes in it are doubled. */
function labelOf(hostKey: string): string {
  return plain(hostKey).replaceAll('=', '_').replaceAll("'", "''")
}

/** Without controls, and without `|`, after which the performance data starts. */
function plain(text: string): string {
  return escapeControls(text).replaceAll('|', '/')
}
