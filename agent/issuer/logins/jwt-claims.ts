import { cutTo, escapeControls } from '../../cert/text.ts'
import { formatTime, type UnixSeconds } from '../../cert/time.ts'
import { parseObject } from '../answer.ts'

/** Of one claim; what is longer is cut, which then shows. */
const LONGEST_CLAIM = 100
/** A list of audiences is cut behind so many. */
const MOST_AUDIENCES = 5
/** Year 9999: what is later, or before 1970, is no expiry that a person could read. */
const LATEST_EXPIRY: UnixSeconds = 253_402_300_799

/** Servers refuse a longer HTTP header. */
const LONGEST_JWT = 16 * 1024
/** Three parts in base64url, none of them empty. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/

/** Whether a text has the form of a signed JWT (RFC 7515, compact serialization); nothing is verified. */
export function looksLikeJwt(text: string): boolean {
  return text.length <= LONGEST_JWT && JWT.test(text)
}

/**
 * What a JWT says, for people: issuer, subject, audience and expiry, as far as it has them. Nothing is verified.
 *
 * @returns parts such as `subject web1`; empty for what is no JWT
 */
export function claimsOf(jwt: string): readonly string[] {
  const payload = payloadOf(jwt)
  if (payload === null) return []
  const expiry = expiryIn(payload)
  const named = [
    ['issuer', textsOf(payload['iss'])],
    ['subject', textsOf(payload['sub'])],
    ['audience', textsOf(payload['aud'])],
    ['expires', expiry === null ? [] : [formatTime(expiry)]],
  ] as const
  return named.filter(([, texts]) => texts.length > 0).map(([name, texts]) => `${name} ${texts.join(', ')}`)
}

/** When a JWT expires, by its own words; null when it does not say, or cannot be read. */
export function expiryOf(jwt: string): UnixSeconds | null {
  const payload = payloadOf(jwt)
  return payload === null ? null : expiryIn(payload)
}

function payloadOf(jwt: string): Readonly<Record<string, unknown>> | null {
  if (!looksLikeJwt(jwt)) return null
  return parseObject(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8'))
}

function expiryIn({ exp }: Readonly<Record<string, unknown>>): UnixSeconds | null {
  return typeof exp === 'number' && exp >= 0 && exp <= LATEST_EXPIRY ? exp : null
}

/** A claim is a text or, an audience, a list of them (RFC 7519, section 4.1.3). */
function textsOf(claim: unknown): readonly string[] {
  const all = Array.isArray(claim) ? (claim as readonly unknown[]) : [claim]
  const texts = all.filter((one) => typeof one === 'string').filter((text) => text !== '')
  const shown = texts.slice(0, MOST_AUDIENCES).map((text) => escapeControls(cutTo(LONGEST_CLAIM, text)))
  return texts.length > shown.length ? [...shown, '…'] : shown
}
