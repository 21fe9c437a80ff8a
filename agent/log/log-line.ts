import { cutTo, escapeControls } from '../cert/text.ts'

/** Replaces a secret in a line. */
const REDACTED = '[redacted]'

/** Keys whose values are never logged, at any depth: compared in lower case without `_` and `-`. */
const SECRET_KEY = /(?:secret|token|password|passphrase|authorization|cookie|apikey|privatekey|jwt)s?$/

/** Secrets inside texts, the issuer's messages among them: what stays of the match, then what is cut. */
const SECRETS_IN_TEXT: readonly RegExp[] = [
  /(\bauthorization["']?\s*[:=]\s*["']?)(?:\w+\s+)?[^\s"',;}]+/gi,
  /(\bbearer\s+)[^\s"',;}]+/gi,
  /((?:client_?secret|(?:access|refresh)_?token|password)["']?\s*[:=]\s*["']?)[^\s"'&,;}]+/gi,
  // User and password in a URL.
  /(:\/\/)[^/\s@]+(?=@)/g,
  // JSON in base64url: the parts of a JWT begin so.
  /()eyJ[\w-]{10,}(?:\.[\w-]*)*/g,
  // A whole JWT, with a space or a line end behind the first brace.
  /()\be(?:y[A-D]|w[k-r0-3])[\w-]{6,}\.[\w-]{8,}\.[\w-]+/g,
]

/** Longer texts are cut: journald splits a line of more than 48 KiB. */
const LONGEST_TEXT = 4096
const DEEPEST = 5
/** A line is about a handful of things; more is a mistake and is left out. */
const MOST_VALUES = 500

type Scrubbed = string | number | boolean | null | readonly Scrubbed[] | ScrubbedFields
export interface ScrubbedFields {
  readonly [key: string]: Scrubbed
}

/** A text without anything that looks like a credential, and not too long. */
export function scrubText(text: string): string {
  let scrubbed = text
  for (const pattern of SECRETS_IN_TEXT) scrubbed = scrubbed.replace(pattern, `$1${REDACTED}`)
  return scrubbed.length > LONGEST_TEXT ? `${scrubbed.slice(0, LONGEST_TEXT)}…` : scrubbed
}

/**
 * The fields of a line as plain JSON values, without secrets. Errors become their code, message and cause; what JSON
 * cannot express becomes text or is left out. Never throws.
 *
 * @param withStack keep the stacks of errors
 */
export function scrubFields(fields: Readonly<Record<string, unknown>>, withStack: boolean): ScrubbedFields {
  const above = new Set<object>()
  let left = MOST_VALUES

  function scrub(value: unknown): Scrubbed | undefined {
    left -= 1
    if (left < 0) return undefined
    switch (typeof value) {
      case 'string':
        return scrubText(value)
      case 'number':
        return Number.isFinite(value) ? value : String(value)
      case 'bigint':
        return String(value)
      case 'boolean':
        return value
      case 'object':
        return value === null ? null : scrubObject(value)
      case 'undefined':
      case 'function':
      case 'symbol':
        return undefined
    }
  }

  function scrubObject(value: object): Scrubbed {
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'invalid date' : value.toISOString()
    if (value instanceof URL) return scrubText(value.href)
    if (value instanceof Uint8Array) return `${value.length} bytes`
    if (above.has(value) || above.size >= DEEPEST) return '…'
    above.add(value)
    try {
      if (Array.isArray(value) || value instanceof Set) return scrubList([...value])
      if (value instanceof Error) return scrubEntries(Object.entries(partsOf(value)))
      if (value instanceof Map) return scrubEntries([...value].map(([key, entry]) => [String(key), entry]))
      return scrubEntries(Object.entries(value))
    } finally {
      above.delete(value)
    }
  }

  function scrubList(entries: readonly unknown[]): Scrubbed[] {
    return entries.map((entry) => scrub(entry)).filter((entry) => entry !== undefined)
  }

  function scrubEntries(entries: readonly (readonly [string, unknown])[]): ScrubbedFields {
    const scrubbed: Record<string, Scrubbed> = {}
    for (const [key, value] of entries) {
      const kept = isSecret(key, value) ? REDACTED : scrub(value)
      if (kept !== undefined) scrubbed[key] = kept
    }
    return scrubbed
  }

  function partsOf(error: Error): Record<string, unknown> {
    const code = 'code' in error ? error.code : undefined
    const stack = withStack ? error.stack : undefined
    return { code, message: error.message, cause: error.cause, stack }
  }

  try {
    return scrubEntries(Object.entries(fields))
  } catch {
    return { log_error: 'the fields of this line could not be read' }
  }
}

/** Whether a secret is set may be logged; its value may not. */
function isSecret(key: string, value: unknown): boolean {
  if (value === null || value === undefined || typeof value === 'boolean') return false
  return SECRET_KEY.test(key.toLowerCase().replace(/[-_]/g, ''))
}

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
