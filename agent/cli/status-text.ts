import type { CertificateState } from '../core/certificate-state.ts'
import { remedyOf } from '../core/remedies.ts'
import {
  servingOf,
  isOld,
  type CertificateStatus,
  type ServedStatus,
  type StatusDocument,
} from '../core/status-document.ts'
import { formatDuration, parseTime, type UnixSeconds } from '../core/time.ts'
import { escapeControls } from '../log/line-format.ts'
import { lastSeen } from './last-seen.ts'
import { lifetimeBar } from './lifetime-bar.ts'
import type { Remark } from './remarks.ts'
import { failureLine } from './verb-error.ts'
import { wrap } from './wrap.ts'

export interface Terminal {
  readonly colour: boolean
  /** `Infinity` where lines may have any length: in a file, in a pipe. */
  readonly columns: number
}

/** Of a bar in the line of its host key; one in a line of its own is as long as fits, and this at most. */
const BAR_CELLS = 20
const LONGEST_BAR_CELLS = 60
/** The longest name of a state. */
const STATE_WIDTH = 11
const INDENT = '    '
/** Reasons for a state in which all is as it should be. */
const NO_TROUBLE: readonly string[] = ['window-open']
const ARROW = `${INDENT}-> `

/** SGR codes; red for what endangers the host, yellow for what will. */
const COLOURS: Readonly<Record<CertificateState, number>> = {
  ignored: 2,
  absent: 31,
  expired: 31,
  invalid: 31,
  overdue: 31,
  unconfirmed: 33,
  due: 33,
  valid: 32,
}

/**
 * The status document for people: a line per host key with its lifetime as a bar, below it what is wrong and what to do
 * about it, and last what concerns the host as a whole. Where a line has no room the bar stands in one of its own, then
 * the rest as well.
 */
export function formatStatus(
  status: StatusDocument,
  now: UnixSeconds,
  terminal: Terminal,
  remarks: readonly Remark[] = [],
): string {
  const { columns } = terminal
  const lines = status.enrolled
    ? hostKeyLines(status, now, terminal)
    : ['not enrolled: there is no configuration']
  const last = remarks.flatMap(({ text, remedy }) => [
    ...wrap(escapeControls(text), columns, ''),
    ...(remedy === null ? [] : wrap(escapeControls(remedy), columns, ARROW)),
  ])
  return [...lines, ...last].map((line) => `${line}\n`).join('')
}

function hostKeyLines(
  { certificates, sshd }: StatusDocument,
  now: UnixSeconds,
  terminal: Terminal,
): string[] {
  if (certificates.length === 0) return ['no host keys found']
  const { columns } = terminal
  const names = certificates.map(({ host_key }) => escapeControls(host_key))
  const summaries = certificates.map((certificate) => summaryOf(certificate, sshd.state === 'down', now))
  const nameWidth = Math.max(...names.map(({ length }) => length))
  const startWidth = nameWidth + 2 + STATE_WIDTH + 1
  const textWidth = Math.max(...summaries.map(({ length }) => length))
  const isWide = columns >= startWidth + BAR_CELLS + 2 + 1 + textWidth
  const hasRoom = columns >= startWidth + textWidth
  const ownCells = Math.min(LONGEST_BAR_CELLS, Math.max(BAR_CELLS / 2, columns - INDENT.length - 2))
  const explained = new Set<string>()

  return certificates.flatMap((certificate, index) => {
    const bar = lifetimeBar(certificate, now, isWide ? BAR_CELLS : ownCells)
    const summary = summaries[index] ?? ''
    const start = (width: number): string =>
      `${(names[index] ?? '').padEnd(nameWidth)}  ${painted(certificate.state, width, terminal)}`
    const troubles = troublesOf(certificate, columns, explained)
    if (isWide) {
      const inLine = (bar ?? '').padEnd(BAR_CELLS + 2)
      const line = summary === '' ? start(0) : `${start(STATE_WIDTH)} ${inLine} ${summary}`
      return [line, ...troubles]
    }
    const ownLine = bar === null ? [] : [`${INDENT}${bar}`]
    if (summary === '') return [start(0), ...troubles]
    if (hasRoom) return [`${start(STATE_WIDTH)} ${summary}`, ...ownLine, ...troubles]
    return [start(0), ...ownLine, ...wrap(summary, columns, INDENT), ...troubles]
  })
}

/** @param width filled up with blanks, which are painted too */
function painted(state: CertificateState, width: number, { colour }: Terminal): string {
  const padded = state.padEnd(width)
  return colour ? `\u001B[${COLOURS[state]}m${padded}\u001B[0m` : padded
}

/** What remains to be said in the line of a host key; empty without a certificate. */
function summaryOf(certificate: CertificateStatus, isDown: boolean, now: UnixSeconds): string {
  const parts = [left(certificate, now), due(certificate, now), servedText(certificate, isDown, now)]
  return parts.filter((text) => text !== '').join(', ')
}

/**
 * What is wrong with a host key, each in a line of its own, with what to do about it: the reason for the state, why sshd
 * could not be asked, and the last error. Of an ignored key only the reason is shown.
 *
 * @param explained what was said already of another host key, codes whose remedy is the same and answers of sshd
 */
function troublesOf(certificate: CertificateStatus, columns: number, explained: Set<string>): string[] {
  const { state, reason, last_error: error, failures, serial, served } = certificate
  const say = (text: string): string[] => wrap(escapeControls(text), columns, INDENT, `${INDENT}  `)
  if (state === 'ignored') return reason === null ? [] : say(reason)
  const advise = (code: string): string[] => {
    const remedy = remedyOf(code)?.remedy ?? null
    if (remedy === null || explained.has(code)) return []
    explained.add(code)
    return wrap(remedy, columns, ARROW)
  }
  const lines: string[] = []
  if (reason !== null && !NO_TROUBLE.includes(reason) && reason !== error?.code) {
    const cause = remedyOf(reason)?.cause
    lines.push(...say(cause === undefined ? reason : failureLine({ code: reason, message: cause })))
  }
  if (serial !== null && served?.matches === false && served.serial !== null)
    lines.push(...say(`sshd presents serial ${served.serial}, on disk is ${serial}`))
  if (served !== null) lines.push(...unknownOf(served, explained).flatMap(say))
  if (reason !== null && reason !== error?.code) lines.push(...advise(reason))
  if (error !== null) {
    const often = failures > 1 ? ` (${failures} times in a row)` : ''
    lines.push(...say(`${failureLine(error)}${often}`), ...advise(error.code))
  }
  return lines
}

function left({ serial, valid_before }: CertificateStatus, now: UnixSeconds): string {
  if (serial === null) return ''
  if (valid_before === null) return 'never ends'
  const rest = parseTime(valid_before) - now
  return rest > 0 ? `${formatDuration(rest)} left` : `ended ${formatDuration(-rest)} ago`
}

function due({ renewal_due }: CertificateStatus, now: UnixSeconds): string {
  if (renewal_due === null) return ''
  const rest = parseTime(renewal_due) - now
  return rest > 0 ? `renewal in ${formatDuration(rest)}` : 'renewal due'
}

/** Why the last question to sshd brought no answer: one that does not answer has one reason for all host keys. */
function unknownOf({ unknown }: ServedStatus, explained: Set<string>): string[] {
  if (unknown === null || explained.has(unknown)) return []
  explained.add(unknown)
  return [`sshd could not be asked: ${unknown}`]
}

/** With the age of the evidence where it is old, or sshd went down since. */
function servedText({ served, serial }: CertificateStatus, isDown: boolean, now: UnixSeconds): string {
  if (serial === null || served === null) return ''
  const seen = isDown || isOld(served, now) ? ` as of ${lastSeen(served, now)}` : ''
  switch (servingOf(served, now)) {
    case 'not-asked':
      return ''
    case 'unseen':
      return 'not known to be served'
    case 'refuted':
      return `not served${seen}`
    case 'served':
    case 'served-before':
      return `served${seen}`
  }
}
