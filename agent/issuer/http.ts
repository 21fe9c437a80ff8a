import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { Agent, errors, ProxyAgent, request, type Dispatcher } from 'undici'
import { AgentError } from '../cert/errors.ts'
import { isLoopback } from '../config/config.ts'
import { endpointOf, proxyFor, proxyProblem } from './proxy.ts'
import type { ClientCertificate, TlsRoots } from './tls-roots.ts'

/** Most answers are below 2 KiB; more than this is not read. */
const BODY_LIMIT_BYTES = 64 * 1024

/** Node's default of 250 ms gives up on an address that is merely far away. */
const ADDRESS_ATTEMPT_MILLISECONDS = 2000

interface RawRequest {
  readonly url: URL
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
  /** Of the answer; more than this is not read. Left out: 64 KiB. */
  readonly limitBytes?: number | undefined
  /** The certificate that TLS shows the server. */
  readonly mutualTls?: ClientCertificate | null
  /** Called before the first byte of the request is sent, over a connection that stands. */
  readonly onSend?: () => void
}

export interface RawReply {
  readonly status: number
  readonly text: string
  /** False when the body went on beyond the limit. */
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
  return sendBy(await openDispatcher(asked, roots, signal), asked, signal)
}

/** As {@link send}, by a dispatcher that is used for nothing else and destroyed afterwards. */
export async function sendBy(
  dispatcher: Dispatcher,
  asked: Omit<RawRequest, 'mutualTls'>,
  signal: AbortSignal,
): Promise<RawReply> {
  try {
    return await untilAborted(
      withTlsAlert(() => reportingSend(asked, () => exchange(asked, dispatcher, signal))),
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

async function exchange(
  asked: Omit<RawRequest, 'mutualTls'>,
  dispatcher: Dispatcher,
  signal: AbortSignal,
): Promise<RawReply> {
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
  const { limitBytes = BODY_LIMIT_BYTES } = asked
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    size += chunk.length
    if (size > limitBytes) break
  }
  return {
    status: statusCode,
    text: Buffer.concat(chunks).subarray(0, limitBytes).toString('utf8'),
    complete: size <= limitBytes,
    header: (name) => [headers[name]].flat()[0] ?? null,
  }
}

/** Straight to a server that has no name or TLS of its own to check: a service on this machine, or next to it. */
export function openDirectly(signal: AbortSignal): Dispatcher {
  return new Agent({ connections: 1, allowH2: false, connect: { signal, timeout: 0 } })
}

async function openDispatcher(
  { url, mutualTls }: RawRequest,
  roots: TlsRoots,
  signal: AbortSignal,
): Promise<Dispatcher> {
  const tcp = {
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MILLISECONDS,
    // Here as well, for undici does not look at a request's signal while it connects.
    signal,
    timeout: 0,
  }
  if (url.protocol === 'http:') {
    if (!isLoopback(endpointOf(url).host)) {
      throw new AgentError(
        'CONFIG_INVALID',
        `issuer.url ${url.origin} is http: to a host that is not loopback`,
      )
    }
    return new Agent({ connections: 1, allowH2: false, connect: tcp })
  }
  // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED=0 has no effect.
  const common = { ...tcp, rejectUnauthorized: true, allowH2: false }
  const proxyTls = { ...common, secureContext: await roots.context() }
  const tls =
    mutualTls === undefined || mutualTls === null
      ? proxyTls
      : { ...common, secureContext: await roots.contextWith(mutualTls) }
  const proxy = proxyFor(url, process.env)
  if (proxy === null) return new Agent({ connections: 1, allowH2: false, connect: tls })
  const problem = proxyProblem(proxy)
  if (proxy.url === null || problem !== null) throw new AgentError('CONFIG_INVALID', problem ?? '')
  return new ProxyAgent({
    uri: proxy.url.href,
    connections: 1,
    allowH2: false,
    connect: proxyTls,
    requestTls: tls,
    proxyTls,
  })
}

/** The hard bound: undici keeps an aborted request in its queue for as long as it waits for a connection. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
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

/** undici publishes each request here before it writes it, those to a proxy for a connection included. */
const SENDING = 'undici:client:sendHeaders'

/** One exchange at a time. */
async function reportingSend<T>({ onSend }: Pick<RawRequest, 'onSend'>, work: () => Promise<T>): Promise<T> {
  const onSending = (published: unknown): void => {
    const { request: sent } = published as { readonly request: { readonly method: string } }
    if (sent.method !== 'CONNECT') onSend?.()
  }
  subscribe(SENDING, onSending)
  try {
    return await work()
  } finally {
    unsubscribe(SENDING, onSending)
  }
}
