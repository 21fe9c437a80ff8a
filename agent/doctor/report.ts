import { escapeControls } from '../cert/text.ts'
import { type Terminal, wrap } from '../cli/status-text.ts'
import type { Finding, FindingStatus } from './finding.ts'

const STATUS_WIDTH = 8
const STEP_WIDTH = 14
/** Below the step. */
const INDENT = ' '.repeat(STATUS_WIDTH + 1)
const ARROW = `${INDENT}-> `
/** SGR codes. */
const COLOURS: Readonly<Record<FindingStatus, number>> = {
  ok: 32,
  warning: 33,
  failure: 31,
  skipped: 2,
  unknown: 33,
}

/** A line for each finding, its remedy below it, and a line that sums up. */
export function formatFindings(findings: readonly Finding[], { colour, columns }: Terminal): string {
  const lines = findings.flatMap(({ status, step, message, remedy }) => {
    const head = `${status.padEnd(STATUS_WIDTH)} ${step.padEnd(STEP_WIDTH)} `
    const [first = '', ...more] = wrap(escapeControls(message), columns, head, INDENT)
    const line = colour ? `\u001B[${COLOURS[status]}m${status}\u001B[0m${first.slice(status.length)}` : first
    const advice = remedy === null ? [] : wrap(escapeControls(remedy), columns, ARROW)
    return [line, ...more, ...advice]
  })
  return [...lines, summaryOf(findings)].map((line) => `${line}\n`).join('')
}

/** That nothing is wrong is said only when everything could be seen. */
function summaryOf(findings: readonly Finding[]): string {
  const of = (status: FindingStatus): readonly Finding[] =>
    findings.filter((finding) => finding.status === status)
  const count = (status: FindingStatus, one: string, many: string): string[] => {
    const { length } = of(status)
    return length === 0 ? [] : [`${length} ${length === 1 ? one : many}`]
  }
  const parts = [...count('failure', 'failure', 'failures'), ...count('warning', 'warning', 'warnings')]
  const unseen = [...new Set(of('unknown').map(({ step }) => step))].join(', ')
  if (parts.length > 0)
    return `${parts.join(', ')}${unseen === '' ? '' : `; could not be found out: ${unseen}`}`
  return unseen === ''
    ? 'nothing is wrong'
    : `nothing wrong was found, but this could not be found out: ${unseen}`
}
