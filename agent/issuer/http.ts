import { Agent, ProxyAgent, errors, request, type Dispatcher } from 'undici'
import { AgentError, messageOf } from '../cert/errors.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { localFailure, plainWords } from './failures.ts'
import { endpointOf, proxyFor } from './proxy.ts'
import type { Secrets } from './secrets.ts'
import type { TlsRoots } from './tls-roots.ts'

/** An answer of ours is below 2 KiB; more than this is not read. */
const BODY_LIMIT_BYTES = 64 * 1024

/** Node's default of 250 ms gives up on an address that is merely far away. */
const ADDRESS_ATTEMPT_MILLISECONDS = 2000

interface RawRequest {
  readonly url: URL
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
}

export interface RawReply {
  readonly status: number
  readonly text: string
  /** False when the body went on beyond 64 KiB. */
  readonly complete: boolean
  header(name: string): string | null
}

/**
 * One HTTP request and its whole answer, over a connection of its own that is closed afterwards: requests are hours
 * apart, so an idle connection would only cost memory and go stale. Redirects are not followed.
 *
 * Proxies are those of the environment, see {@link proxyFor}.
 *
 * @param signal ends it at any point, the connecting included; then this rejects with the signal's reason
 * @throws AgentError CONFIG_INVALID for `http://` beyond loopback, a bad `ca_file`, a bad proxy; else whatever undici
 *   and Node throw
 */
export async function send(asked: RawRequest, roots: TlsRoots, signal: AbortSignal): Promise<RawReply> {
  signal.throwIfAborted()
  const dispatcher = await openDispatcher(asked.url, roots, signal)
  try {
    return await untilAborted(exchange(asked, dispatcher, signal), signal)
  } finally {
    dispatcher.destroy(null, () => {})
  }
}

/** `HOST:PORT`, for messages. */
export function authorityOf(url: URL): string {
  return `${url.hostname}:${endpointOf(url).port}`
}

async function exchange(asked: RawRequest, dispatcher: Dispatcher, signal: AbortSignal): Promise<RawReply> {
  const { statusCode, headers, body } = await request(asked.url, {
    dispatcher,
    method: asked.method,
    headers: asked.headers,
    body: asked.body,
    signal,
    reset: true,
    // The signal bounds the whole exchange.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  // Leaving the loop early makes the body report that it was cut off.
  body.on('error', () => {})
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    size += chunk.length
    if (size > BODY_LIMIT_BYTES) break
  }
  return {
    status: statusCode,
    text: Buffer.concat(chunks).subarray(0, BODY_LIMIT_BYTES).toString('utf8'),
    complete: size <= BODY_LIMIT_BYTES,
    header: (name) => [headers[name]].flat()[0] ?? null,
  }
}

async function openDispatcher(url: URL, roots: TlsRoots, signal: AbortSignal): Promise<Dispatcher> {
  const tcp = {
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MILLISECONDS,
    // Here as well, for undici does not look at a request's signal while it connects.
    signal,
    timeout: 0,
  }
  if (url.protocol === 'http:') {
    if (!isLoopback(url.hostname)) {
      throw new AgentError(
        'CONFIG_INVALID',
        `issuer.url ${url.origin} is http: to a host that is not loopback`,
      )
    }
    return new Agent({ connections: 1, allowH2: false, connect: tcp })
  }
  // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED=0 has no effect.
  const tls = { ...tcp, secureContext: await roots.context(), rejectUnauthorized: true, allowH2: false }
  const proxy = proxyFor(url, process.env)
  if (proxy === null) return new Agent({ connections: 1, allowH2: false, connect: tls })
  // Its value may hold a password.
  if (proxy.url === null)
    throw new AgentError('CONFIG_INVALID', `${proxy.variable} in the environment is not the URL of a proxy`)
  return new ProxyAgent({
    uri: proxy.url.href,
    connections: 1,
    allowH2: false,
    connect: tls,
    requestTls: tls,
    proxyTls: tls,
  })
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}

/** The hard bound: undici keeps an aborted request in its queue for as long as it waits for a connection. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
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
