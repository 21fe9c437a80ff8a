import { errors } from 'undici'
import { AgentError, messageOf } from '../cert/errors.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { localFailure, plainWords } from './failures.ts'
import type { Secrets } from './secrets.ts'

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
const TLS_REASONS: readonly (readonly [reason: RegExp, words: string])[] = [
  [/alert no application protocol/, 'the server accepts HTTP/2 only, and HTTP/1.1 is needed'],
  [/alert certificate required/, 'the server requires a client certificate'],
  [
    /alert handshake failure/,
    'the server requires a client certificate, or has no cipher in common with this host',
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
  const words = plainWords(secrets.redact(describe(error)))
  if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError) {
    const data = 'data' in error ? String(error.data) : ''
    const what = HTTP2_FRAME.test(data)
      ? 'uses HTTP/2 only, and HTTP/1.1 is needed'
      : `sent something that is not HTTP: ${words}`
    return localFailure('ISSUER_INVALID_RESPONSE', 'issuer-backoff', `${host} ${what}`)
  }
  const code = SILENT.has(codeOf(error)) ? 'ISSUER_TIMEOUT' : 'ISSUER_UNREACHABLE'
  return localFailure(code, 'issuer-backoff', `cannot reach ${host}: ${words}`)
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
  const words = TLS_REASONS.find(([pattern]) => pattern.test(reason))?.[1]
  return words === undefined ? reason : `${words} (${reason})`
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
