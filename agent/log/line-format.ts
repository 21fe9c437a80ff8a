import { cutTo, escapeControls } from '../cert/text.ts'
import type { Scrubbed, ScrubbedFields } from './redact.ts'

/** One event, as a line is made from it. */
export interface LogEvent {
  readonly level: string
  readonly message: string
  readonly fields: ScrubbedFields
}

/** sd-daemon(3): the priorities that journald reads from `<N>` at the start of a line. */
const PRIORITIES: Readonly<Record<string, number>> = {
  fatal: 2,
  error: 3,
  warn: 4,
  info: 6,
  debug: 7,
  trace: 7,
}

const COLOURS: Readonly<Record<string, number>> = {
  fatal: 31,
  error: 31,
  warn: 33,
  info: 32,
  debug: 36,
  trace: 90,
}
const GREY = 90

/** In UTF-16 units, three bytes each at most: below the 48 KiB at which journald splits a line. */
const LONGEST_LINE = 16_000

/** `<N>message key=value …`: journald adds the time and takes the priority from the number. No newline at the end. */
export function journalLine({ level, message, fields }: LogEvent): string {
  return `<${PRIORITIES[level] ?? 6}>${cut([escapeControls(message), ...pairs(fields)].join(' '))}`
}

/**
 * `HH:MM:SS LEVEL message  key=value …` for a person at a terminal, local time. No newline at the end.
 *
 * @param time when it happened
 */
export function prettyLine({ level, message, fields }: LogEvent, time: Date, colour: boolean): string {
  const paint = (code: number, text: string): string => (colour ? `\u001B[${code}m${text}\u001B[0m` : text)
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()]
  const head = [
    paint(GREY, clock.map((part) => String(part).padStart(2, '0')).join(':')),
    paint(COLOURS[level] ?? 0, level.toUpperCase().padEnd(5)),
    cut(escapeControls(message)),
  ].join(' ')
  const tail = cut(pairs(fields).join(' '))
  return tail === '' ? head : `${head}  ${paint(GREY, tail)}`
}

/** `key=value`, objects taken apart: `error.code=…`; null values are left out. */
function pairs(fields: ScrubbedFields, prefix = ''): string[] {
  return Object.entries(fields).flatMap(([key, value]) => {
    if (value === null) return []
    const name = `${prefix}${key}`
    return isObject(value) ? pairs(value, `${name}.`) : [`${bareOrQuoted(name)}=${valueText(value)}`]
  })
}

function isObject(value: Scrubbed): value is ScrubbedFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function valueText(value: Scrubbed): string {
  return typeof value === 'string' ? bareOrQuoted(value) : escapeControls(JSON.stringify(value))
}

/** Quoted as JSON unless it can be read back without. */
function bareOrQuoted(text: string): string {
  const bare = text !== '' && !/[\s"=\\]/.test(text) && escapeControls(text) === text
  return bare ? text : escapeControls(JSON.stringify(text))
}

function cut(text: string): string {
  return cutTo(LONGEST_LINE, text)
}
