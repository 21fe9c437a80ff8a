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
