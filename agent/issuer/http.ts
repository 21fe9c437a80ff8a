import { X509Certificate } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import { Agent, errors, ProxyAgent, request, type Dispatcher } from 'undici'
import { AgentError } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { readBoundedFile, fileVersion } from '../host/files.ts'
import { endpointOf, proxyFor, proxyProblem } from './proxy.ts'

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

/** Both in PEM form. */
interface ClientCertificate {
  readonly certificate: string
  readonly key: string
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
    if (!isLoopback(url.hostname)) {
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

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
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

/** A whole system's bundle is about 250 KiB. */
const CA_FILE_LIMIT_BYTES = 1024 * 1024

export const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g

/**
 * Whom TLS trusts: the system's store (Node's own list where there is none), NODE_EXTRA_CA_CERTS, and `ca_file`.
 * The context is built at first use and again when `ca_file` changes. Node reads the system's store once a process.
 */
export class TlsRoots {
  readonly #caFile: string | null
  #built: { readonly version: string; readonly context: SecureContext } | null = null

  constructor(caFile: string | null) {
    this.#caFile = caFile
  }

  /** @throws AgentError CONFIG_INVALID when `ca_file` cannot be read or is not PEM */
  async context(): Promise<SecureContext> {
    const version = this.#caFile === null ? '' : await versionOf(this.#caFile)
    if (this.#built?.version === version) return this.#built.context
    const context = createSecureContext({ ca: await this.#all() })
    this.#built = { version, context }
    return context
  }

  /**
   * One that shows a client certificate too.
   *
   * @throws AgentError CONFIG_INVALID as {@link context} does; OpenSSL's error when key and certificate do not fit
   */
  async contextWith({ certificate, key }: ClientCertificate): Promise<SecureContext> {
    return createSecureContext({ ca: await this.#all(), cert: certificate, key })
  }

  /**
   * The certificates themselves, for a diagnosis.
   *
   * @throws AgentError CONFIG_INVALID as {@link context} does
   */
  async certificates(): Promise<{
    readonly inCaFile: X509Certificate[]
    readonly inStore: X509Certificate[]
  }> {
    const parse = (pem: string): X509Certificate => new X509Certificate(pem)
    return { inCaFile: (await this.#inCaFile()).map(parse), inStore: commonRoots().map(parse) }
  }

  async #all(): Promise<string[]> {
    return [...new Set([...commonRoots(), ...(await this.#inCaFile())])]
  }

  async #inCaFile(): Promise<string[]> {
    return this.#caFile === null ? [] : readCaFile(this.#caFile)
  }
}

function commonRoots(): string[] {
  const system = getCACertificates('system')
  return [...(system.length > 0 ? system : getCACertificates('bundled')), ...getCACertificates('extra')]
}

/** Differs when the file was written to or replaced. */
async function versionOf(path: string): Promise<string> {
  // Reading it reports why.
  return fileVersion(path).catch(() => 'unreadable')
}

/** Node takes a file without any certificate for an empty list, so each one is looked at here. */
async function readCaFile(path: string): Promise<string[]> {
  let text: string
  try {
    text = await readBoundedFile(path, CA_FILE_LIMIT_BYTES)
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `cannot read issuer.ca_file ${path}: ${reasonOf(error)}`, {
      cause: error,
    })
  }
  const certificates = text.match(PEM_CERTIFICATE) ?? []
  if (certificates.length === 0) {
    throw new AgentError('CONFIG_INVALID', `issuer.ca_file ${path} holds no certificate in PEM form`)
  }
  const damaged = certificates.findIndex((certificate) => !isCertificate(certificate))
  if (damaged === -1) return certificates
  throw new AgentError('CONFIG_INVALID', `certificate ${damaged + 1} in issuer.ca_file ${path} is damaged`)
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0
  } catch {
    return false
  }
}
