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
]

/** Longer texts are cut: journald splits a line of more than 48 KiB. */
const LONGEST_TEXT = 4096
const DEEPEST = 5
/** A line is about a handful of things; more is a mistake and is left out. */
const MOST_VALUES = 500

export type Scrubbed = string | number | boolean | null | readonly Scrubbed[] | ScrubbedFields
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
