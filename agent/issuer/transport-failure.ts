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
    return localFailure(
      'ISSUER_INVALID_RESPONSE',
      'issuer-backoff',
      `${host} sent something that is not HTTP: ${words}`,
    )
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
  // OpenSSL's own line: `…:error:0A00010B:SSL routines:FUNCTION:REASON:FILE:LINE:`.
  const openssl = /:error:[^:]*:[^:]*:[^:]*:([^:]+):/.exec(message)
  return openssl === null ? message : `TLS failed: ${openssl[1]}`
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
