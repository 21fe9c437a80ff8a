import { errors } from 'undici'
import { AgentError, messageOf } from '../cert/errors.ts'
import type { Clock, IssuerFailure, Log, Metrics } from '../renewal/ports.ts'
import { type Answer, parseErrorBody, parseObject, parseRetryAfter, type Route } from './answer.ts'
import { localFailure, plainText, refusedByTls } from './failures.ts'
import { authorityOf, type RawReply, send } from './http.ts'
import type { HealthRecord } from './issuer-health.ts'
import { LONGEST_TOKEN } from './logins/credential-file.ts'
import type { Secrets } from './secrets.ts'
import type { TlsRoots } from './tls-roots.ts'

/** Where a login goes instead of the issuer's URL, and the certificate that TLS shows there. */
export interface MutualTls {
  /** No slash at the end. */
  readonly url: string
  /** In PEM form, with those between it and the root. */
  readonly certificate: string
  /** In PEM form. */
  readonly key: string
}

/** What is asked of the issuer. A credential has no place but those named here. */
type HttpQuestion =
  | {
      readonly route: 'login'
      readonly path: string
      readonly body: object
      readonly mutualTls: MutualTls | null
    }
  /** On the public routes and on login no token is sent: even a bad one would be refused. */
  | { readonly route: 'issue'; readonly path: string; readonly body: object; readonly token: string }
  | { readonly route: 'host-ca'; readonly path: string }
  | HostsQuestion

/** What only `enroll` asks. */
export interface HostsQuestion {
  readonly route: 'hosts'
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly body?: object
  /** Null on a public route. */
  readonly token: string | null
  /** Of the answer; left out: as for the other routes. */
  readonly limitBytes?: number
}

export type Outcome =
  | { readonly ok: true; readonly answer: Answer }
  /** `mayBeDone`: false when the request was surely not carried out, for it was not sent, or refused. */
  | { readonly ok: false; readonly failure: IssuerFailure; readonly mayBeDone: boolean }

interface HttpSettings {
  /** No slash at the end. */
  readonly url: string
  /** For one exchange, from connecting to the last byte. */
  readonly timeoutMilliseconds: number
  /** Of this program, for `User-Agent`. */
  readonly version: string
}

/** Asks the issuer one thing at a time, and keeps the books: log, metrics, health. */
export class HttpExchange {
  readonly #settings: HttpSettings
  readonly #roots: TlsRoots
  readonly #health: HealthRecord
  readonly #secrets: Secrets
  readonly #clock: Clock
  readonly #log: Log
  readonly #metrics: Pick<Metrics, 'issuerRequest'>

  constructor(
    settings: HttpSettings,
    roots: TlsRoots,
    health: HealthRecord,
    secrets: Secrets,
    ports: { readonly clock: Clock; readonly log: Log; readonly metrics: Pick<Metrics, 'issuerRequest'> },
  ) {
    this.#settings = settings
    this.#roots = roots
    this.#health = health
    this.#secrets = secrets
    this.#clock = ports.clock
    this.#log = ports.log
    this.#metrics = ports.metrics
  }

  /** Rejects only when `signal` fires, with its reason. */
  async ask(question: HttpQuestion, signal: AbortSignal): Promise<Outcome> {
    const { url, timeoutMilliseconds } = this.#settings
    const mutualTls = question.route === 'login' ? question.mutualTls : null
    const address = new URL((mutualTls?.url ?? url) + question.path)
    const timeout = AbortSignal.timeout(timeoutMilliseconds)
    const began = this.#clock.now()
    const start = performance.now()
    const asked = { ...this.#compose(question, address), mutualTls }
    let reply: RawReply
    let mayBeDone = false
    const onSend = (): void => {
      mayBeDone = true
    }
    try {
      reply = await send({ ...asked, onSend }, this.#roots, AbortSignal.any([signal, timeout]))
    } catch (error) {
      signal.throwIfAborted()
      const timedOut = timeout.aborted ? { milliseconds: timeoutMilliseconds } : null
      const refused = mutualTls === null ? null : refusedByTls(authorityOf(address), codeOf(error))
      if (refused !== null) {
        this.#note(question.route, refused.code, start, { error: refused.message })
        return { ok: false, failure: refused, mayBeDone: false }
      }
      const why = transportFailure(error, authorityOf(address), timedOut, this.#secrets)
      const failure = mutualTls !== null && isCut(error) ? withCertificateHint(why) : why
      this.#health.unreached()
      this.#note(question.route, failure.code, start, { error: failure.message })
      return { ok: false, failure, mayBeDone }
    }
    this.#health.answered(reply.status, dateOf(reply), { began, ended: this.#clock.now() })
    const setting = mutualTls === null ? 'issuer.url' : 'auth.login_url'
    const asking = { route: question.route, setting, address } as const
    const answer = answerOf(asking, reply, this.#secrets, this.#clock.now())
    this.#note(question.route, String(reply.status), start, { request_id: answer.body.requestId })
    return { ok: true, answer }
  }

  #compose(question: HttpQuestion, url: URL) {
    const headers: Record<string, string> = {
      accept: isPublic(question) ? 'text/plain, application/json' : 'application/json',
      'user-agent': `hostcertd/${this.#settings.version}`,
    }
    if (question.route === 'issue') headers['authorization'] = `Bearer ${question.token}`
    if (question.route === 'host-ca') return { url, method: 'GET', headers, body: null } as const
    if (question.route === 'hosts') {
      const { method, body, token, limitBytes } = question
      if (token !== null) headers['authorization'] = `Bearer ${token}`
      if (body === undefined) return { url, method, headers, body: null, limitBytes } as const
      headers['content-type'] = 'application/json'
      return { url, method, headers, body: JSON.stringify(body), limitBytes } as const
    }
    headers['content-type'] = 'application/json'
    return { url, method: 'POST', headers, body: JSON.stringify(question.body) } as const
  }

  /** @param code HTTP status or error code */
  #note(route: Route, code: string, start: number, data: Readonly<Record<string, unknown>>): void {
    const milliseconds = performance.now() - start
    if (route !== 'hosts') this.#metrics.issuerRequest(route, code, milliseconds / 1000)
    this.#log.debug(
      { route, status: code, milliseconds: Math.round(milliseconds), ...data },
      'asked the issuer',
    )
  }
}

/**
 * An answer from its HTTP reply, without secrets; a token that a login brought is one from now on.
 *
 * @param now for `Retry-After`
 */
export function answerOf(
  { route, setting, address }: Pick<Answer, 'route' | 'setting'> & { readonly address: URL },
  reply: RawReply,
  secrets: Secrets,
  now: number,
): Answer {
  const { status, text, complete } = reply
  const token = route === 'login' ? parseObject(text)?.['accessToken'] : null
  // A longer one is refused.
  if (typeof token === 'string' && token.length <= LONGEST_TOKEN) secrets.add(token)
  const isOfHosts = route === 'hosts' && status === 200
  const location = reply.header('location')
  return {
    route,
    setting,
    host: authorityOf(address),
    path: address.pathname,
    status,
    // A login brings a token, and that may be one that it brought before. A list of hosts can be long, and who asked for
    // it takes little of it.
    text: route === 'login' || isOfHosts ? text : secrets.redact(text),
    complete,
    isHtml: reply.header('content-type')?.includes('html') ?? false,
    body: parseErrorBody(isOfHosts ? '' : text, secrets),
    location: location === null ? null : secrets.redact(location),
    retryAfterSeconds: parseRetryAfter(reply.header('retry-after'), reply.header('date'), now),
  }
}

/** The public keys of CAs, which come as text. */
function isPublic(question: HttpQuestion): boolean {
  return question.route === 'host-ca' || (question.route === 'hosts' && question.token === null)
}

/** The connection ended before there was an answer, and TLS did not say why. */
function isCut(error: unknown): boolean {
  return error instanceof errors.SocketError || codeOf(error) === 'ECONNRESET'
}

/** Some servers close the connection, without an alert, when they do not accept a client certificate. */
function withCertificateHint(failure: IssuerFailure): IssuerFailure {
  const message = `${failure.message}; the server may have refused the client certificate of this host`
  return { ...failure, message }
}

/** Null for an answer from a cache: its time is an old one. */
function dateOf(reply: RawReply): string | null {
  return reply.header('age') === null ? reply.header('date') : null
}

/** Node's codes for a certificate that no trusted CA has signed. */
const UNTRUSTED = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
])
const WRONG_TIME = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])
/** OpenSSL's reasons that need other words; an alert is the server's. */
const TLS_REASONS: readonly (readonly [reason: RegExp, text: string])[] = [
  [/alert no application protocol/, 'the server accepts HTTP/2 only, and HTTP/1.1 is needed'],
  [/alert certificate required/, 'the server requires a client certificate'],
  [
    /alert handshake failure/,
    'the server requires a client certificate, or has no cipher in common with this host',
  ],
  [
    /alert (?:unknown ca|bad certificate|unsupported certificate|certificate (?:expired|revoked|unknown)|access denied)/,
    'the server refused the client certificate of this host',
  ],
  [/alert protocol version|unsupported protocol/, 'the server offers neither TLS 1.2 nor TLS 1.3'],
  [/wrong version number/, 'the server does not use TLS on this port'],
]
/** RFC 9113, section 3.4: a server begins with a SETTINGS frame, of stream 0. */
// eslint-disable-next-line no-control-regex
const HTTP2_FRAME = /^[^]{3}\x04[^]\0{4}/

/** Addresses that never answered, by the system's time limit rather than ours. */
const SILENT = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT'])

/**
 * Why there is no whole HTTP answer.
 *
 * @param host `HOST:PORT`
 * @param timedOut the time for the exchange ran out, whatever was thrown then
 * @param secrets must not be in the message
 */
export function transportFailure(
  error: unknown,
  host: string,
  timedOut: { readonly milliseconds: number } | null,
  secrets: Secrets,
): IssuerFailure {
  if (timedOut !== null) {
    return localFailure(
      'ISSUER_TIMEOUT',
      'issuer-backoff',
      `${host} did not answer in full within ${timedOut.milliseconds / 1000} s`,
    )
  }
  if (error instanceof AgentError) return localFailure(error.code, 'local', error.message)
  const reason = plainText(secrets.redact(describe(error)))
  if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError) {
    const data = 'data' in error ? String(error.data) : ''
    const what = HTTP2_FRAME.test(data)
      ? 'uses HTTP/2 only, and HTTP/1.1 is needed'
      : `sent something that is not HTTP: ${reason}`
    return localFailure('ISSUER_INVALID_RESPONSE', 'issuer-backoff', `${host} ${what}`)
  }
  const code = SILENT.has(codeOf(error)) ? 'ISSUER_TIMEOUT' : 'ISSUER_UNREACHABLE'
  return localFailure(code, 'issuer-backoff', `cannot reach ${host}: ${reason}`)
}

function describe(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [...new Set(error.errors.map(describe))].join('; ')
  }
  const code = codeOf(error)
  // Node adds advice about its own options behind a semicolon.
  const message = messageOf(error).replace(/; if the root CA is installed locally.*$/s, '')
  if (UNTRUSTED.has(code))
    return `${message}; no root CA above it is in the system's store or in issuer.ca_file`
  if (WRONG_TIME.has(code)) return `${message}; is the clock right?`
  if (error instanceof errors.SocketError) return `${message} before the answer was complete`
  const refusedByProxy = /^Proxy response \((\d+)\)/.exec(message)
  if (refusedByProxy !== null) return `the proxy answered CONNECT with ${refusedByProxy[1]}`
  const reason = tlsReason(message)
  return reason === null ? message : `TLS failed: ${reason}`
}

/** Of a message of OpenSSL's, `…:error:0A00010B:SSL routines:FUNCTION:REASON:FILE:LINE:`; null for any other. */
export function tlsReason(message: string): string | null {
  const reason = /:error:[^:]*:[^:]*:[^:]*:([^:]+):/.exec(message)?.[1]
  if (reason === undefined) return null
  const text = TLS_REASONS.find(([pattern]) => pattern.test(reason))?.[1]
  return text === undefined ? reason : `${text} (${reason})`
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
