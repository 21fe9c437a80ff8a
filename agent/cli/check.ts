import type { Config } from '../config/config.ts'
import type { StatusDocument } from '../core/status-document.ts'
import { askDaemon } from './ask-daemon.ts'
import { CHECK_STATUS, judge, worst, type CheckStatus, type Judgement } from './check-judgement.ts'
import { formatCheck, summaryOf } from './check-text.ts'
import type { Threshold } from './check-thresholds.ts'
import type { CliContext } from './context.ts'
import { requireConfig, type ConfigOption } from './load.ts'
import { lookOnce } from './look.ts'
import { remarkLine, remarksOn, sshdDown } from './remarks.ts'
import { linesOf } from './verb-error.ts'

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
