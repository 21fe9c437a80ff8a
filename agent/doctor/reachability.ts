import type { X509Certificate } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls'
import { messageOf } from '../cert/errors.ts'
import { reasonOf, systemCodeOf, hostAndPort } from '../cert/text.ts'
import { endpointOf, type Endpoint } from '../issuer/proxy.ts'
import { TlsRoots } from '../issuer/tls-roots.ts'

/** One step of the way to the issuer; `code` is Node's, for deciding. */
type Reached<T> =
  | ({ readonly ok: true } & T)
  | { readonly ok: false; readonly code: string; readonly why: string }

/** What a TLS handshake showed, and what it is judged by. */
export interface TlsFindings {
  /** Null when we trust it; Node's code when we do not. */
  readonly distrust: string | null
  /** What the server sent: its own certificate, then each one that signed the one before. */
  readonly sent: readonly X509Certificate[]
  /** What `ca_file` holds. */
  readonly inCaFile: readonly X509Certificate[]
  /** The system's store, or Node's own list, and NODE_EXTRA_CA_CERTS. */
  readonly inStore: readonly X509Certificate[]
}

/** For each step; an exchange may take longer, but a diagnosis is waited for. */
const STEP_MILLISECONDS = 8_000
const TIMED_OUT = 'ETIMEDOUT'
/** Of certificates that a server sends; more are not looked at. */
const LONGEST_CHAIN = 10

/** What a name stands for. */
export async function resolveName(
  host: string,
  signal: AbortSignal,
): Promise<Reached<{ readonly addresses: readonly string[] }>> {
  return inTime(signal, async () => {
    const found = await lookup(host, { all: true })
    return { addresses: found.map(({ address }) => address) }
  })
}

/** Whether anybody takes a TCP connection. It is closed at once. */
export async function reachPort(host: string, port: number, signal: AbortSignal): Promise<Reached<object>> {
  return inTime(signal, async (limit) => {
    const socket = connectTcp({ host, port, autoSelectFamily: true, autoSelectFamilyAttemptTimeout: 2000 })
    return await opened(socket, 'connect', limit, () => ({}))
  })
}

/**
 * What a server shows in a TLS handshake, trusted or not. Nothing is sent but, to a proxy, the CONNECT.
 *
 * @param proxy `http:` or `https:`; null for none
 * @throws AgentError CONFIG_INVALID when `ca_file` cannot be used
 */
export async function shakeHands(
  { host, port }: Endpoint,
  proxy: URL | null,
  caFile: string | null,
  signal: AbortSignal,
): Promise<Reached<TlsFindings>> {
  const roots = new TlsRoots(caFile)
  const [secureContext, known] = [await roots.context(), await roots.certificates()]
  return inTime(signal, async (limit) => {
    const way =
      proxy === null ? { host, port } : { socket: await tunnel({ host, port }, proxy, secureContext, limit) }
    const servername = isIP(host) === 0 ? { servername: host } : {}
    // Only to look at what is wrong with it: the connection is closed before anything is said.
    const socket = connectTls({ ...way, ...servername, secureContext, rejectUnauthorized: false })
    return await opened(socket, 'secureConnect', limit, () => ({ ...findingsOf(socket), ...known }))
  })
}

/** How a proxy fails us: {@link Reached}'s `code` when it refuses the tunnel, and when there is no speaking with it. */
export const PROXY_REFUSED = 'PROXY_REFUSED'
export const PROXY_FAILED = 'PROXY_FAILED'

async function tunnel(
  { host, port }: Endpoint,
  proxy: URL,
  secureContext: SecureContext,
  limit: AbortSignal,
): Promise<Socket> {
  const target = hostAndPort(host, port)
  const { username, password } = proxy
  const login = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`)
  const authorization = username === '' ? {} : { 'proxy-authorization': `Basic ${login.toString('base64')}` }
  const end = endpointOf(proxy)
  const tls = {
    secureContext,
    rejectUnauthorized: true,
    ...(isIP(end.host) === 0 && { servername: end.host }),
  }
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const fail = (code: string, why: string): void => reject(Object.assign(new Error(why), { code }))
  const connecting = requestHttp({
    method: 'CONNECT',
    path: target,
    headers: { host: target, ...authorization },
    signal: limit,
    createConnection: () => (proxy.protocol === 'https:' ? connectTls({ ...end, ...tls }) : connectTcp(end)),
  })
  connecting.once('error', (error) => fail(PROXY_FAILED, whyOf(error)))
  connecting.once('response', () => fail(PROXY_FAILED, 'it does not answer CONNECT as a proxy does'))
  connecting.once('connect', ({ statusCode = 0 }: IncomingMessage, socket: Socket) => {
    if (statusCode === 200) {
      resolve(socket)
      return
    }
    socket.destroy()
    fail(PROXY_REFUSED, `it answered CONNECT with ${statusCode}`)
  })
  connecting.end()
  return promise
}

function findingsOf(socket: TLSSocket): Pick<TlsFindings, 'distrust' | 'sent'> {
  const error: unknown = socket.authorizationError
  const code = error instanceof Error ? (systemCodeOf(error) ?? error.message) : String(error)
  const sent: X509Certificate[] = []
  let next = socket.getPeerX509Certificate()
  while (next !== undefined && sent.length < LONGEST_CHAIN) {
    sent.push(next)
    next = next.issuerCertificate
  }
  return { distrust: socket.authorized ? null : code, sent }
}

/** Until a socket is open or failed; it is destroyed either way. @param look what is wanted of the open one */
async function opened<T>(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  limit: AbortSignal,
  look: () => T,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const onAbort = (): void => reject(limit.reason)
  limit.addEventListener('abort', onAbort, { once: true })
  socket.once(event, () => resolve(look()))
  socket.on('error', reject)
  socket.once('close', () => reject(new Error('the connection was closed')))
  try {
    return await promise
  } finally {
    limit.removeEventListener('abort', onAbort)
    socket.destroy()
  }
}

async function inTime<T extends object>(
  signal: AbortSignal,
  work: (limit: AbortSignal) => Promise<T>,
): Promise<Reached<T>> {
  const timeout = AbortSignal.timeout(STEP_MILLISECONDS)
  const limit = AbortSignal.any([signal, timeout])
  const { promise: late, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(limit.reason)
  limit.addEventListener('abort', onAbort, { once: true })
  try {
    return { ok: true, ...(await Promise.race([work(limit), late])) }
  } catch (error) {
    signal.throwIfAborted()
    if (timeout.aborted)
      return { ok: false, code: TIMED_OUT, why: `no answer within ${STEP_MILLISECONDS / 1000} s` }
    const [first = error] = error instanceof AggregateError ? error.errors : [error]
    return { ok: false, code: systemCodeOf(first) ?? '', why: whyOf(first) }
  } finally {
    limit.removeEventListener('abort', onAbort)
  }
}

/** OpenSSL's own line is cut down to its reason. */
function whyOf(error: unknown): string {
  return /:error:[^:]*:[^:]*:[^:]*:([^:]+):/.exec(messageOf(error))?.[1] ?? reasonOf(error)
}
