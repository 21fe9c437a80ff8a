import { quote } from './text.ts'

export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string }

/** RFC 1035, section 2.3.4. */
const LONGEST_NAME = 253
const LONGEST_LABEL = 63

/**
 * The name under which a host is registered, and which its certificates are for: in lower case, as OpenSSH clients ask
 * for it. Stricter than the server, which takes `localhost.localdomain`, a name that every host has.
 *
 * @returns `why` goes on after the name of the option
 */
export function readHostName(text: string): Reading<string> {
  const name = text.toLowerCase()
  const why = flawOf(name)
  return why === null ? { ok: true, value: name } : { ok: false, why: `${quote(text)} ${why}` }
}

function flawOf(name: string): string | null {
  if (name === '') return 'is empty'
  if (name.length > LONGEST_NAME) return `is longer than ${LONGEST_NAME} characters`
  if (name.includes(':') || /^\d+(?:\.\d+){3}$/.test(name)) return 'is an IP address, not a host name'
  if (name.includes('*')) return 'is a wildcard, not the name of one host'
  if (name.endsWith('.')) return 'ends in a dot: leave that out'
  const labels = name.split('.')
  if (labels[0] === 'localhost') return 'is the name that every host has for itself'
  if (labels.length === 1) return 'is a short name: give the name with its domain, as clients connect to it'
  const wrong = labels.find((label) => labelFlaw(label) !== null)
  if (wrong !== undefined) return `has a label ${quote(wrong)} that ${labelFlaw(wrong)}`
  return /^(?:[a-z]{2,}|xn--[a-z0-9-]+)$/.test(labels.at(-1) ?? '')
    ? null
    : 'does not end in a top-level domain'
}

function labelFlaw(label: string): string | null {
  if (label === '') return 'is empty'
  if (label.length > LONGEST_LABEL) return `is longer than ${LONGEST_LABEL} characters`
  if (label.includes('_')) return 'has an underscore, which host names do not have'
  if (/[^a-z0-9-]/.test(label)) return 'has a character other than a letter, a digit or a hyphen'
  return /^-|-$/.test(label) ? 'begins or ends with a hyphen' : null
}

/** As the server counts them: a year is 365.25 days. */
const UNIT_SECONDS: Readonly<Record<string, number>> = {
  s: 1,
  m: 60,
  h: 3600,
  d: 86_400,
  w: 604_800,
  y: 31_557_600,
}
/** The server answers with an error of its own from 2^31 seconds on: 68 years. */
const LONGEST_SECONDS = 2 ** 31 - 1
const SHORTEST_SECONDS = 60

/** @returns seconds; null when it is not a whole number and one of s, m, h, d, w, y */
export function certificateTtlSeconds(text: string): number | null {
  const [, count, unit = ''] = /^(\d{1,10})([smhdwy])$/.exec(text) ?? []
  const seconds = UNIT_SECONDS[unit]
  return count === undefined || seconds === undefined ? null : Number(count) * seconds
}

/**
 * The lifetime of a host's certificates at the server: one whole number and one of s, m, h, d, w, y.
 *
 * @returns the text, for the server. `why` goes on after the name of the option
 */
export function readCertificateTtl(text: string): Reading<string> {
  const refuse = (why: string): Reading<string> => ({ ok: false, why: `${quote(text)} ${why}` })
  const seconds = certificateTtlSeconds(text)
  if (seconds === null)
    return refuse('is not a lifetime: write a whole number and s, m, h, d, w or y, such as 30d')
  if (seconds < SHORTEST_SECONDS) return refuse('is shorter than a minute')
  return seconds > LONGEST_SECONDS ? refuse('is longer than 68 years') : { ok: true, value: text }
}
