import type { Secrets } from './secrets.ts'

/** `hosts`: what only `enroll` asks, which is not counted. */
export type Route = 'login' | 'issue' | 'host-ca' | 'hosts'

/** A setting that names an address of the issuer's. */
export type AddressSetting = 'issuer.url' | 'auth.login_url'

/** An HTTP answer of any status. No text in it holds a secret, but for `text` of a login, and of status 200 to `hosts`. */
export interface Answer {
  readonly route: Route
  /** Which setting named the address. */
  readonly setting: AddressSetting
  /** `HOST:PORT` that was asked. */
  readonly host: string
  readonly path: string
  readonly status: number
  readonly text: string
  /** False when the text was cut off for its length. */
  readonly complete: boolean
  readonly isHtml: boolean
  readonly body: ErrorBody
  readonly location: string | null
  readonly retryAfterSeconds: number | null
}

/** What an answer's body says about a failure: `{reqId, error, message, details}`, as far as it has them. Each part null when it is absent. */
export interface ErrorBody {
  readonly requestId: string | null
  /** The class of the error, `TokenError` for one: what to decide by. */
  readonly error: string | null
  /** For people only; several parts are joined. Not yet made safe to print. */
  readonly message: string | null
  /** For people only, of a 403: what the identity is permitted of what it asked for. Not yet made safe to print. */
  readonly details: string | null
}

/** `req-…`; anything that is not one printable word is no id. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/

/** Of a part of it: more than is ever shown. */
const LONGEST_PART = 4096

/** Any text may come here: a proxy answers with HTML, a broken server with nothing. */
export function parseErrorBody(text: string, secrets: Secrets): ErrorBody {
  const body = parseObject(text)
  const requestId = body?.['reqId']
  const error = body?.['error']
  const clean = (part: string | null): string | null => (part === null ? null : secrets.redact(cutPart(part)))
  return {
    requestId: clean(typeof requestId === 'string' && REQUEST_ID.test(requestId) ? requestId : null),
    error: clean(typeof error === 'string' ? error : null),
    message: clean(readMessage(body?.['message'])),
    details: clean(readDetails(body?.['details'])),
  }
}

/** Ends with a whole word: half of a secret would not be recognized as one. */
function cutPart(part: string): string {
  return part.length > LONGEST_PART ? `${part.slice(0, LONGEST_PART).replace(/\S*$/, '')}…` : part
}

/** A JSON object; null for anything else. */
export function parseObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

/** A text, or with status 422 a list of `{path, message}`. */
function readMessage(message: unknown): string | null {
  if (typeof message === 'string') return message
  if (!Array.isArray(message)) return null
  const parts = message.map(readPart).filter((part) => part !== '')
  return parts.length > 0 ? parts.join('; ') : null
}

function readPart(part: unknown): string {
  if (typeof part === 'string') return part
  if (!isObject(part)) return ''
  const path = Array.isArray(part['path']) ? part['path'].map(String).join('.') : ''
  const message = typeof part['message'] === 'string' ? part['message'] : ''
  return [path, message].filter((word) => word !== '').join(': ')
}

/**
 * The `details` of a 403 for a missing permission: the rules that the identity has for the same action and subject, none
 * of which covers this host. Anything else is quoted as it is.
 */
function readDetails(details: unknown): string | null {
  if (details === undefined || details === null) return null
  if (!Array.isArray(details) || !details.every(isObject)) return `details: ${JSON.stringify(details)}`
  return `the identity's permissions for this: ${details.map(readRule).join('; ') || 'none'}`
}

/** `issue-host-cert on ssh-hosts where {"hostname":{"$eq":"web2.example.com"}}`. */
function readRule({ action, subject, inverted, conditions }: Readonly<Record<string, unknown>>): string {
  const where =
    isObject(conditions) && Object.keys(conditions).length > 0 ? ` where ${JSON.stringify(conditions)}` : ''
  return `${inverted === true ? 'not ' : ''}${namesIn(action)} on ${namesIn(subject)}${where}`
}

function namesIn(value: unknown): string {
  const names = (Array.isArray(value) ? value : [value]).filter((name) => typeof name === 'string')
  return names.join(', ') || 'anything'
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** RFC 9110, section 5.6.7: the form of today and the two of old, all of them UTC. */
const HTTP_DATES = [
  /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/,
]

/**
 * An HTTP-date as seconds since the epoch; null when the text is none.
 * Stricter than `Date.parse`, which takes `-5` for a day in May.
 */
export function parseHttpDate(text: string): number | null {
  const value = text.trim()
  if (!HTTP_DATES.some((form) => form.test(value))) return null
  const milliseconds = Date.parse(value.endsWith('GMT') ? value : `${value} GMT`)
  return Number.isNaN(milliseconds) ? null : milliseconds / 1000
}

/**
 * `Retry-After` (RFC 9110, section 10.2.3), either form, in seconds from now on.
 *
 * @param date the `Date` header of the same answer: a time is counted from it, so that a skewed clock does not matter
 * @param now by our clock, for an answer without `Date`
 * @returns without an upper bound; null when the header is absent, garbage, or asks for no wait at all
 */
export function parseRetryAfter(value: string | null, date: string | null, now: number): number | null {
  if (value === null) return null
  const seconds = /^\s*\d+\s*$/.test(value) ? Number(value) : secondsUntil(value, date, now)
  // "At once" is not an order to skip our own backoff.
  return seconds !== null && seconds > 0 ? Math.min(seconds, Number.MAX_SAFE_INTEGER) : null
}

function secondsUntil(value: string, date: string | null, now: number): number | null {
  const at = parseHttpDate(value)
  if (at === null) return null
  return at - (parseHttpDate(date ?? '') ?? now)
}
