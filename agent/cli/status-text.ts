import type { CertificateState } from '../core/certificate-state.ts'
import type { CertificateStatus, StatusDocument } from '../core/status-document.ts'
import { formatDuration, parseTime, type UnixSeconds } from '../core/time.ts'
import { escapeControls } from '../log/line-format.ts'
import { failureLine } from './verb-error.ts'

export interface Terminal {
  readonly colour: boolean
  readonly columns: number
}

const BAR_CELLS = 20
const BAR_WIDTH = BAR_CELLS + 2
/** The longest name of a state. */
const STATE_WIDTH = 11
/** A narrower terminal has no room for the bar: a line of usual names then fits 80 columns. */
const COLUMNS_FOR_BAR = 100

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

/** The status document for people: a line per host key, and one more for each thing that is wrong. */
export function formatStatus(status: StatusDocument, now: UnixSeconds, terminal: Terminal): string {
  const { certificates } = status
  if (!status.enrolled) return 'not enrolled: there is no configuration\n'
  if (certificates.length === 0) return 'no host keys found\n'
  const rows = certificates.map((certificate) => rowOf(certificate, now))
  const nameWidth = Math.max(...rows.map(({ name }) => name.length))
  const longest = Math.max(...rows.map(({ summary }) => summary.length))
  const width = nameWidth + 2 + STATE_WIDTH + 1 + BAR_WIDTH + 1 + longest
  const hasBars = terminal.columns >= Math.max(width, COLUMNS_FOR_BAR)
  return rows
    .map(({ name, state, bar, summary, troubles }) => {
      const start = `${name.padEnd(nameWidth)}  ${painted(state, terminal)}`
      const line = `${start}${hasBars ? ` ${bar}` : ''} ${summary}`.trimEnd()
      return [line, ...troubles.map((trouble) => `    ${trouble}`)].map((text) => `${text}\n`).join('')
    })
    .join('')
}

function rowOf(
  certificate: CertificateStatus,
  now: UnixSeconds,
): {
  readonly name: string
  readonly state: CertificateState
  readonly bar: string
  readonly summary: string
  readonly troubles: readonly string[]
} {
  const parts = [left(certificate, now), due(certificate, now), servedText(certificate)]
  return {
    name: escapeControls(certificate.host_key),
    state: certificate.state,
    bar: lifetimeBar(certificate, now),
    summary: parts.filter((text) => text !== '').join(', '),
    troubles: troublesOf(certificate).map(escapeControls),
  }
}

function painted(state: CertificateState, { colour }: Terminal): string {
  const padded = state.padEnd(STATE_WIDTH)
  return colour ? `\u001B[${COLOURS[state]}m${padded}\u001B[0m` : padded
}

/** What is wrong, each in a line of its own: the reason for the state, and the last error. */
function troublesOf({
  state,
  reason,
  last_error: error,
  failures,
  serial,
  served,
}: CertificateStatus): string[] {
  const lines: string[] = []
  if (reason !== null && state !== 'valid' && reason !== error?.code) lines.push(reason)
  if (error !== null) {
    lines.push(`${failureLine(error)}${failures > 1 ? ` (${failures} times in a row)` : ''}`)
  }
  if (serial !== null && served !== null && !served.matches && served.serial !== null) {
    lines.push(`sshd serves serial ${served.serial}, on disk is ${serial}`)
  }
  return lines
}

/** `[=====>----!---]`: `>` is now, `!` is where renewal falls due. */
export function lifetimeBar(
  { valid_after, valid_before, renewal_due }: CertificateStatus,
  now: UnixSeconds,
): string {
  if (valid_after === null || valid_before === null) return `[${' '.repeat(BAR_CELLS)}]`
  const start = parseTime(valid_after)
  const cellOf = (at: UnixSeconds): number => {
    const share = (at - start) / (parseTime(valid_before) - start)
    return Math.min(BAR_CELLS - 1, Math.max(0, Math.floor(share * BAR_CELLS)))
  }
  const cells: string[] = Array.from({ length: BAR_CELLS }, (_, cell) => (cell < cellOf(now) ? '=' : '-'))
  if (renewal_due !== null) cells[cellOf(parseTime(renewal_due))] = '!'
  cells[cellOf(now)] = '>'
  return `[${cells.join('')}]`
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

function servedText({ served, serial }: CertificateStatus): string {
  if (serial === null || served === null) return ''
  return served.matches ? 'served' : 'not served'
}
