import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { isIP, type Socket } from 'node:net'
import { Agent, errors, ProxyAgent, request, type Dispatcher } from 'undici'
import { AgentError } from '../cert/errors.ts'
import { endpointOf, proxyFor } from './proxy.ts'
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
    return await untilAborted(
      withTlsAlert(() => exchange(asked, dispatcher, signal)),
      signal,
    )
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
  // undici would send the address as a TLS server name, which Node refuses.
  if (proxy.url.protocol === 'https:' && isIP(endpointOf(proxy.url).host) !== 0) {
    throw new AgentError(
      'CONFIG_INVALID',
      `the https: proxy in ${proxy.variable} is an IP address; set its host name, or use http:`,
    )
  }
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

/** undici publishes each of its connections here, those through a proxy included. */
const CONNECTED = 'undici:client:connected'

/**
 * A TLS 1.3 server requires a client certificate only after the handshake, by an alert. undici reports merely that the
 * connection was closed, so the alert is taken from the socket. One exchange at a time.
 */
async function withTlsAlert<T>(work: () => Promise<T>): Promise<T> {
  let alert: Error | null = null
  const onConnected = (published: unknown): void => {
    const { socket } = published as { readonly socket: Socket }
    socket.once('error', (error) => (alert = error))
  }
  subscribe(CONNECTED, onConnected)
  try {
    return await work()
  } catch (error) {
    throw error instanceof errors.SocketError ? (alert ?? error) : error
  } finally {
    unsubscribe(CONNECTED, onConnected)
  }
}
