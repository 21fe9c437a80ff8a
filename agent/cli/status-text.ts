import type { CertificateState } from '../core/certificate-state.ts'
import type { CertificateStatus, StatusDocument } from '../core/status-document.ts'
import { formatDuration, type UnixSeconds } from '../core/time.ts'

export interface Terminal {
  readonly colour: boolean
  readonly columns: number
}

const BAR_CELLS = 20

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

/** The status document for people: a line per host key, and one more for what went wrong. */
export function formatStatus(status: StatusDocument, now: UnixSeconds, terminal: Terminal): string {
  if (!status.enrolled) return 'not enrolled: there is no configuration\n'
  if (status.certificates.length === 0) return 'no host keys found\n'
  const width = Math.max(...status.certificates.map(({ host_key }) => host_key.length))
  return status.certificates.map((certificate) => lineOf(certificate, width, now, terminal)).join('')
}

function lineOf(certificate: CertificateStatus, width: number, now: UnixSeconds, terminal: Terminal): string {
  const { state, reason, last_error: error, failures } = certificate
  const painted = terminal.colour ? `\u001B[${COLOURS[state]}m${state.padEnd(11)}\u001B[0m` : state.padEnd(11)
  const bar = terminal.columns >= 100 ? ` ${lifetimeBar(certificate, now)}` : ''
  const parts = [left(certificate, now), due(certificate, now), servedText(certificate)].filter(
    (text) => text !== '',
  )
  const why = reason !== null && state !== 'valid' && reason !== error?.code ? `  ${reason}` : ''
  const line = `${certificate.host_key.padEnd(width)}  ${painted}${bar} ${parts.join(', ')}${why}`.trimEnd()
  const trouble =
    error === null
      ? ''
      : `\n    ${error.code}: ${error.message}${failures > 1 ? ` (${failures} times in a row)` : ''}`
  return `${line}${trouble}\n`
}

/** `[=====>----!---]`: `>` is now, `!` is where renewal falls due. */
export function lifetimeBar(
  { valid_after, valid_before, renewal_due }: CertificateStatus,
  now: UnixSeconds,
): string {
  if (valid_after === null || valid_before === null) return `[${' '.repeat(BAR_CELLS)}]`
  const start = seconds(valid_after)
  const cellOf = (at: UnixSeconds): number => {
    const share = (at - start) / (seconds(valid_before) - start)
    return Math.min(BAR_CELLS - 1, Math.max(0, Math.floor(share * BAR_CELLS)))
  }
  const cells: string[] = Array.from({ length: BAR_CELLS }, (_, cell) => (cell < cellOf(now) ? '=' : '-'))
  if (renewal_due !== null) cells[cellOf(seconds(renewal_due))] = '!'
  cells[cellOf(now)] = '>'
  return `[${cells.join('')}]`
}

function left({ serial, valid_before }: CertificateStatus, now: UnixSeconds): string {
  if (serial === null) return ''
  if (valid_before === null) return 'never ends'
  const rest = seconds(valid_before) - now
  return rest > 0 ? `${formatDuration(rest)} left` : `ended ${formatDuration(-rest)} ago`
}

function due({ renewal_due }: CertificateStatus, now: UnixSeconds): string {
  if (renewal_due === null) return ''
  const rest = seconds(renewal_due) - now
  return rest > 0 ? `renewal in ${formatDuration(rest)}` : 'renewal due'
}

function servedText({ served, serial }: CertificateStatus): string {
  if (serial === null || served === null) return ''
  if (served.matches) return 'served'
  return served.serial === null ? 'not served' : `sshd serves serial ${served.serial}`
}

function seconds(time: string): UnixSeconds {
  return Date.parse(time) / 1000
}
