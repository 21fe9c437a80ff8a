import { errorOf } from '../cert/errors.ts'
import { escapeControls } from '../cert/text.ts'
import { formatDuration, parseTime, type UnixSeconds } from '../cert/time.ts'
import type { CertificateState } from '../renewal/certificate-state.ts'
import {
  type CertificateStatus,
  isOld,
  isStopped,
  type ServedStatus,
  servingOf,
  type StatusDocument,
  waitText,
} from '../renewal/status-document.ts'
import { notEnrolledStatus } from '../renewal/status.ts'
import {
  failureLine,
  type CliContext,
  configForVerb,
  type ConfigOption,
  EXIT,
  observeOnce,
} from './context.ts'
import { type Remark, askDaemon, remarksOn } from './daemon-client.ts'
import { type Terminal, wrap } from './terminal.ts'

/** Length of a bar on the line of its host key, and at most on a line of its own. */
const BAR_CELLS = 20
const LONGEST_BAR_CELLS = 60
/** Length of the longest name of a state. */
const STATE_WIDTH = 11
const INDENT = '    '
/** Reasons for a state that need no action. */
const NO_PROBLEM: readonly string[] = ['window-open']
const ARROW = `${INDENT}-> `

/** SGR codes: red for what clients notice or soon will, yellow for a warning. */
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
 * Format the status document as text: a line per host key with a bar for its lifetime, followed by its problems and their
 * remedies; at the end, what concerns the whole host. On a narrow terminal the bar is on a separate line; on a very narrow
 * one, so is the rest.
 */
export function formatStatus(
  status: StatusDocument,
  now: UnixSeconds,
  terminal: Terminal,
  remarks: readonly Remark[] = [],
): string {
  const { columns } = terminal
  const lines =
    status.enrolled || isStopped(status)
      ? hostKeyLines(isStopped(status) ? withoutRenewal(status) : status, now, terminal)
      : ['not enrolled: no configuration file', `${ARROW}as root: \`hostcertd enroll\``]
  const waits = status.waits.flatMap((wait) =>
    wrap(escapeControls(waitText(wait, status.login, now)), columns, ''),
  )
  const last = remarks.flatMap(({ text, remedy }) => [
    ...wrap(escapeControls(text), columns, ''),
    ...(remedy === null ? [] : wrap(escapeControls(remedy), columns, ARROW)),
  ])
  return [...lines, ...waits, ...last].map((line) => `${line}\n`).join('')
}

/** On a copied machine that has stopped renewing, no renewal is due. */
function withoutRenewal(status: StatusDocument): StatusDocument {
  return { ...status, certificates: status.certificates.map((one) => ({ ...one, renewal_due: null })) }
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
    const problems = problemsOf(certificate, columns, explained)
    if (isWide) {
      const inLine = (bar ?? '').padEnd(BAR_CELLS + 2)
      const line = summary === '' ? start(0) : `${start(STATE_WIDTH)} ${inLine} ${summary}`
      return [line, ...problems]
    }
    const ownLine = bar === null ? [] : [`${INDENT}${bar}`]
    if (summary === '') return [start(0), ...problems]
    if (hasRoom) return [`${start(STATE_WIDTH)} ${summary}`, ...ownLine, ...problems]
    return [start(0), ...ownLine, ...wrap(summary, columns, INDENT), ...problems]
  })
}

/** @param width minimum width; the padding is coloured too */
function painted(state: CertificateState, width: number, { colour }: Terminal): string {
  const padded = state.padEnd(width)
  return colour ? `\u001B[${COLOURS[state]}m${padded}\u001B[0m` : padded
}

/** The rest of a host key's line: how long the certificate is valid, its renewal, whether it is served. Empty without one. */
function summaryOf(certificate: CertificateStatus, isDown: boolean, now: UnixSeconds): string {
  const parts = [left(certificate, now), dueIn(certificate, now), servedText(certificate, isDown, now)]
  return parts.filter((text) => text !== '').join(', ')
}

/**
 * The problems of a host key, one per line, with their remedies: the reason for its state, why sshd could not be checked,
 * and the last error. For an ignored key, only the reason.
 *
 * @param explained error codes, and reasons why sshd could not be checked, that another host key has printed already
 */
function problemsOf(certificate: CertificateStatus, columns: number, explained: Set<string>): string[] {
  const { state, reason, last_error: error, failures, serial, served } = certificate
  const linesFor = (text: string): string[] => wrap(escapeControls(text), columns, INDENT, `${INDENT}  `)
  if (state === 'ignored') return reason === null ? [] : linesFor(reason)
  const remedyFor = (code: string): string[] => {
    const remedy = errorOf(code)?.remedy ?? null
    if (remedy === null || explained.has(code)) return []
    explained.add(code)
    return wrap(remedy, columns, ARROW)
  }
  const lines: string[] = []
  if (reason !== null && !NO_PROBLEM.includes(reason) && reason !== error?.code) {
    const cause = errorOf(reason)?.cause
    lines.push(...linesFor(cause === undefined ? reason : failureLine({ code: reason, message: cause })))
  }
  if (serial !== null && served?.matches === false && served.serial !== null)
    lines.push(...linesFor(`sshd presents serial ${served.serial}, but ${serial} is on disk`))
  if (served !== null) lines.push(...unknownOf(served, explained).flatMap(linesFor))
  if (reason !== null && reason !== error?.code) lines.push(...remedyFor(reason))
  if (error !== null) {
    const count = failures > 1 ? ` (${failures} times in a row)` : ''
    lines.push(...linesFor(`${failureLine(error)}${count}`), ...remedyFor(error.code))
  }
  return lines
}

function left({ serial, valid_before }: CertificateStatus, now: UnixSeconds): string {
  if (serial === null) return ''
  if (valid_before === null) return 'never expires'
  const rest = parseTime(valid_before) - now
  return rest > 0 ? `${formatDuration(rest)} left` : `expired ${formatDuration(-rest)} ago`
}

function dueIn({ renewal_due }: CertificateStatus, now: UnixSeconds): string {
  if (renewal_due === null) return ''
  const rest = parseTime(renewal_due) - now
  return rest > 0 ? `renewal in ${formatDuration(rest)}` : 'renewal due'
}

/** Why the last query of sshd failed; a reason that several host keys share is printed once. */
function unknownOf({ unknown }: ServedStatus, explained: Set<string>): string[] {
  if (unknown === null || explained.has(unknown)) return []
  explained.add(unknown)
  return [`sshd could not be checked: ${unknown}`]
}

/** Whether sshd presents the certificate; with the age of the evidence if that is old, or if sshd has gone down since. */
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

/**
 * `[=====>----!---]`: `>` is now, `!` is when renewal is due. If both fall into the same cell, they get two adjacent ones,
 * in order.
 *
 * @param cells between the brackets, 2 at least
 * @returns null if there is no certificate, or if it never expires
 */
export function lifetimeBar(
  { valid_after, valid_before, renewal_due }: CertificateStatus,
  now: UnixSeconds,
  cells: number,
): string | null {
  if (valid_after === null || valid_before === null) return null
  const start = parseTime(valid_after)
  const cellOf = (at: UnixSeconds): number => {
    const share = (at - start) / (parseTime(valid_before) - start)
    return Math.min(cells - 1, Math.max(0, Math.floor(share * cells)))
  }
  const dueAt = renewal_due === null ? null : parseTime(renewal_due)
  const [nowCell, dueCell] =
    dueAt === null ? [cellOf(now), null] : apart(cellOf(now), cellOf(dueAt), now < dueAt, cells)
  const bar: string[] = Array.from({ length: cells }, (_, cell) => (cell < nowCell ? '=' : '-'))
  if (dueCell !== null) bar[dueCell] = '!'
  bar[nowCell] = '>'
  return `[${bar.join('')}]`
}

function apart(now: number, due: number, isNowFirst: boolean, cells: number): readonly [number, number] {
  if (now !== due) return [now, due]
  const first = Math.min(now, cells - 2)
  return isNowFirst ? [first, first + 1] : [first + 1, first]
}

/** When sshd was last seen to present something: `45m ago`. */
export function lastSeen({ checked_at }: ServedStatus, now: UnixSeconds): string {
  const age = checked_at === null ? NaN : now - parseTime(checked_at)
  return age >= 0 ? `${formatDuration(age)} ago` : 'an unknown time ago'
}

interface StatusOptions extends ConfigOption {
  readonly json?: boolean
}

/** `status`: from the daemon or, if it does not answer, by observing the host. */
export async function showStatus(
  context: CliContext,
  options: StatusOptions,
  signal: AbortSignal,
): Promise<number> {
  const config = await configForVerb(context, options)
  if (config === null) {
    print(context, options, notEnrolledStatus(context.version.version), [])
    return EXIT.ok
  }
  await context.dropPrivileges(config.stateDirectory)
  const answer = await askDaemon(config.health.listen, signal)
  const fromDaemon = answer.kind === 'runs' ? answer.status : null
  const document = fromDaemon ?? (await observeOnce(context, config, true, signal)).status
  print(context, options, document, remarksOn(document, answer, config))
  return EXIT.ok
}

function print(
  context: CliContext,
  { json }: StatusOptions,
  document: StatusDocument,
  remarks: readonly Remark[],
): void {
  if (json === true) context.out(`${JSON.stringify(document, null, 2)}\n`)
  else context.out(formatStatus(document, Date.now() / 1000, context.terminal, remarks))
}
