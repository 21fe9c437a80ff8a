import type { ErrorCode } from '../cert/errors.ts'
import { quoteUpTo } from '../cert/text.ts'
import type { NextStep } from '../renewal/backoff.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import type { Answer } from './answer.ts'

/** A failure that was found out locally, without an answer from the issuer. */
export function localFailure(code: ErrorCode, next: NextStep, message: string): IssuerFailure {
  return { code, message, next, retryAfterSeconds: null, requestId: null }
}

/** 401, or the 403 that is about the token: log in again, once. */
export function isTokenRefused(answer: Answer): boolean {
  return answer.status === 401 || isTokenError(answer)
}

/** What the issuer's library says about any JWT: its own access token, or the proof of a login. */
function isTokenError({ status, body }: Answer): boolean {
  return status === 403 && body.error === 'TokenError'
}

/**
 * Whether the issuer itself says that it has no such route. That answer has no request id, like those of a proxy in front
 * of the issuer, so this is the one place that also goes by the message.
 */
export function saysNoSuchRoute({ status, isHtml, body }: Answer): boolean {
  return (
    status === 404 &&
    !isHtml &&
    body.requestId === null &&
    body.error === 'Not Found' &&
    /^Route [A-Z]+:\S+ not found$/.test(body.message ?? '')
  )
}

/**
 * An answer of status 200 with unusable content.
 *
 * @param flaw goes on after "HOST answered"
 */
export function invalidAnswer(answer: Answer, flaw: string): IssuerFailure {
  // What is wrong with one key's certificate concerns that key; a login concerns all of them.
  const next = answer.route === 'issue' ? 'key-backoff' : 'issuer-backoff'
  return of(answer, 'ISSUER_INVALID_RESPONSE', next, `${answer.host} answered ${flaw}`)
}

/**
 * What an answer other than 200 means; by status and the `error` field, never by the message.
 * The answers are recorded in `test/support/local-issuer/error-rows.ts`, as a real server gave them.
 */
export function answerFailure(answer: Answer): IssuerFailure {
  const general = generalFailure(answer)
  if (general !== null) return general
  return answer.route === 'host-ca' ? hostCaFailure(answer) : issueFailure(answer)
}

/** What means the same on every route; null for a refusal whose meaning depends on the route. */
function generalFailure(answer: Answer): IssuerFailure | null {
  const { status } = answer
  if (status === 408 || status === 429 || status >= 500) return busy(answer)
  if (status === 404 && answer.body.requestId === null) return noRoute(answer)
  if (status === 400 && answer.isHtml && /SSL certificate/.test(answer.text))
    return noClientCertificate(answer)
  return status < 400 ? redirectOrOdd(answer) : null
}

/** Only the message distinguishes this from a wrong secret. */
function isLocked({ status, body }: Answer): boolean {
  return status === 401 && /\btemporarily locked\b/i.test(body.message ?? '')
}

/** What a refused login means, which depends on the method. */
export interface LoginWords {
  /** What is refused: `the client id or secret`. */
  readonly what: string
  /**
   * The status of the issuer when it could not check the proof, which somebody else checks or has the key for, and what
   * that most likely means.
   */
  readonly platform: { readonly status: number; readonly likely: string } | null
  /** What a status, or a JWT that a library of the issuer's refuses, most likely means, for people. */
  readonly hints: Readonly<Partial<Record<number | 'TokenError', string>>>
}

/**
 * What an answer other than 200 to a login means.
 *
 * @param organization that the login named
 */
export function loginFailure(answer: Answer, words: LoginWords, organization: string | null): IssuerFailure {
  const failure = refusedLogin(answer, words, organization)
  const { status, body } = answer
  // The issuer's own answers have a request id.
  const isOwn = body.requestId !== null && failure.code !== 'LOGIN_LOCKED'
  const hint = isOwn ? words.hints[isTokenError(answer) ? 'TokenError' : status] : undefined
  return hint === undefined ? failure : { ...failure, message: `${failure.message}; ${hint}` }
}

function refusedLogin(
  answer: Answer,
  { what, platform }: LoginWords,
  organization: string | null,
): IssuerFailure {
  if (isLocked(answer)) {
    return of(answer, 'LOGIN_LOCKED', 'login-backoff', said(answer, 'has locked the login of this identity'))
  }
  const { status, body } = answer
  // The issuer's own answers have a request id.
  if (platform?.status === status && body.requestId !== null) {
    const message = `${said(answer, `could not check ${what}`)}; ${platform.likely}`
    return of(answer, 'LOGIN_PLATFORM', 'login-backoff', message)
  }
  const general = generalFailure(answer)
  if (general !== null) return general
  const refused = (words: string): IssuerFailure =>
    of(answer, 'ISSUER_UNAUTHORIZED', 'login-backoff', said(answer, `refused ${words}`))
  switch (status) {
    case 400:
    case 401:
    case 422:
      return refused(what)
    case 403:
      if (isTokenError(answer)) return refused(what)
      return of(answer, 'ISSUER_FORBIDDEN', 'login-backoff', said(answer, 'does not permit the login'))
    case 404: {
      const otherwise = organization === null ? '' : ', or auth.organization is wrong'
      return refused(`${what}; the identity is unknown, or does not have this method${otherwise}`)
    }
    default:
      return of(answer, 'ISSUER_REJECTED', 'administrator', said(answer, 'rejected the login'))
  }
}

function issueFailure(answer: Answer): IssuerFailure {
  if (isTokenRefused(answer)) {
    return of(answer, 'ISSUER_UNAUTHORIZED', 'login-backoff', said(answer, 'refused the access token'))
  }
  switch (answer.status) {
    case 400:
    case 422:
      return of(answer, 'ISSUER_REJECTED', 'key-backoff', said(answer, 'rejected the request'))
    case 403:
      return of(answer, 'ISSUER_FORBIDDEN', 'administrator', said(answer, 'does not permit it'))
    case 404:
      return of(answer, 'ISSUER_NOT_FOUND', 'administrator', said(answer, 'has no such host'))
    default:
      return of(answer, 'ISSUER_REJECTED', 'administrator', said(answer, 'rejected the request'))
  }
}

function hostCaFailure(answer: Answer): IssuerFailure {
  switch (answer.status) {
    case 401:
      return of(
        answer,
        'ISSUER_UNAUTHORIZED',
        'administrator',
        said(answer, 'requires a login for its host CA'),
      )
    case 403:
      return of(
        answer,
        'ISSUER_FORBIDDEN',
        'administrator',
        said(answer, 'does not permit reading its host CA'),
      )
    case 404:
      return of(answer, 'ISSUER_NOT_FOUND', 'administrator', said(answer, 'has no such host'))
    default:
      return of(
        answer,
        'ISSUER_REJECTED',
        'administrator',
        said(answer, 'rejected the request for its host CA'),
      )
  }
}

/**
 * A refusal whose meaning depends on what was asked.
 *
 * @param what goes on after "HOST"
 */
export function refusal(answer: Answer, code: ErrorCode, next: NextStep, what: string): IssuerFailure {
  return of(answer, code, next, said(answer, what))
}

/** The answers for which `Retry-After` says when to ask again: RFC 6585, section 4, and RFC 9110, section 15.6.4. */
const LATER: readonly number[] = [429, 503]

function busy(answer: Answer): IssuerFailure {
  const { status } = answer
  return {
    ...of(answer, 'ISSUER_BUSY', 'issuer-backoff', said(answer, busyText(status))),
    retryAfterSeconds: LATER.includes(status) ? answer.retryAfterSeconds : null,
  }
}

function busyText(status: number): string {
  switch (status) {
    case 408:
      return 'did not receive the request in time'
    case 429:
      return 'limits the rate of requests'
    default:
      return 'has an internal error'
  }
}

/** The issuer itself gives each of its answers an id. */
function noRoute(answer: Answer): IssuerFailure {
  const message = `${answer.host} has nothing at ${answer.path}: ${answer.setting} is wrong, or a proxy answered (404)`
  return of(answer, 'ISSUER_NOT_FOUND', 'administrator', message)
}

/** A login by client certificate is refused as any other is, whoever checks the certificate. */
const REFUSED_CERTIFICATE = ['ISSUER_UNAUTHORIZED', 'login-backoff'] as const

/** nginx completes the handshake without one, or with one that it does not trust, and then answers with a page. */
function noClientCertificate(answer: Answer): IssuerFailure {
  const verb = /SSL certificate error/.test(answer.text) ? 'refused the' : 'requires a'
  const message = `${answer.host} ${verb} client certificate (400, with a web page)`
  if (answer.setting === 'auth.login_url') return of(answer, ...REFUSED_CERTIFICATE, message)
  return of(answer, 'ISSUER_FORBIDDEN', 'administrator', message)
}

/** The alerts of TLS about a client certificate (RFC 8446, section 6.2), in Node's code: OpenSSL's name behind a prefix. */
const CERTIFICATE_ALERT =
  /^ERR_SSL_.*_ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_(?:REVOKED|EXPIRED|UNKNOWN|REQUIRED)|UNKNOWN_CA|ACCESS_DENIED)$/

/**
 * A login for which TLS itself refused the client certificate.
 *
 * @param host `HOST:PORT`
 * @param code Node's
 * @returns null when the code is no alert about a client certificate
 */
export function refusedByTls(host: string, code: string): IssuerFailure | null {
  const alert = CERTIFICATE_ALERT.exec(code)?.[1]
  if (alert === undefined) return null
  const verb = alert === 'CERTIFICATE_REQUIRED' ? 'requires a' : 'refused the'
  const words = alert.toLowerCase().replaceAll('_', ' ')
  return localFailure(...REFUSED_CERTIFICATE, `${host} ${verb} client certificate (TLS alert: ${words})`)
}

/** Whether a failed handshake may mean that the server wants a client certificate: in TLS 1.2 there is no alert for it. */
export function mayWantCertificate(code: string): boolean {
  return CERTIFICATE_ALERT.test(code) || /^ERR_SSL_.*_ALERT_HANDSHAKE_FAILURE$/.test(code)
}

function redirectOrOdd(answer: Answer): IssuerFailure {
  const { status, location } = answer
  if (status < 300 || location === null) return invalidAnswer(answer, `with status ${status}, expected 200`)
  const to = quoteText(location)
  return invalidAnswer(
    answer,
    `with a redirect to ${to}, which is not followed; is ${answer.setting} right? (${status})`,
  )
}

/** `HOST refused the access token: "invalid signature" (403 TokenError)`. */
function said({ host, status, body, isHtml }: Answer, what: string): string {
  const quoted = body.message === null ? '' : `: ${quoteText(body.message)}`
  const kind =
    body.error === null ? (isHtml ? ', with a web page' : '') : ` ${quoteText(body.error).slice(1, -1)}`
  const details = status !== 403 || body.details === null ? '' : `; ${plainText(body.details)}`
  return `${host} ${what}${quoted} (${status}${kind})${details}`
}

function of({ body }: Answer, code: ErrorCode, next: NextStep, message: string): IssuerFailure {
  return { code, message, next, retryAfterSeconds: null, requestId: body.requestId }
}

/** Of a server's message; enough for a person. */
const LONGEST_CHARACTERS = 300

/** A server's message, safe in a log line and on a terminal: one line, cut, quoted, controls escaped. */
function quoteText(text: string): string {
  return quoteUpTo(LONGEST_CHARACTERS, text)
}

/** As {@link quoteText} for a library's message: no quotes around it. */
export function plainText(text: string): string {
  return quoteText(text.trim().replace(/\s+/g, ' ')).slice(1, -1).replaceAll('\\"', '"')
}
