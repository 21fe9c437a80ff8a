import { lookup } from 'node:dns/promises'
import { type IncomingMessage, request as requestHttp } from 'node:http'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext } from 'node:tls'
import { messageOf } from '../cert/errors.ts'
import { hostAndPort, reasonOf, systemCodeOf } from '../cert/text.ts'
import { tlsReason } from '../issuer/http-exchange.ts'
import { type Endpoint, endpointOf } from '../issuer/proxy.ts'
import { TlsRoots } from '../issuer/tls-roots.ts'
import { findingsOf, type TlsFindings } from './tls.ts'

/** The result of one step; `code` is Node's. */
type Reached<T> =
  | ({ readonly ok: true } & T)
  | { readonly ok: false; readonly code: string; readonly why: string }

/** For each step; shorter than for a renewal, as a person waits for a diagnosis. */
const STEP_MILLISECONDS = 8_000
const TIMED_OUT = 'ETIMEDOUT'

/** The addresses of a name. */
export async function resolveName(
  host: string,
  signal: AbortSignal,
): Promise<Reached<{ readonly addresses: readonly string[] }>> {
  return inTime(signal, async () => {
    const found = await lookup(host, { all: true })
    return { addresses: found.map(({ address }) => address) }
  })
}

/** Whether a TCP connection is accepted. It is closed at once. */
export async function reachPort(host: string, port: number, signal: AbortSignal): Promise<Reached<object>> {
  return inTime(signal, async (limit) => {
    const socket = connectTcp({ host, port, autoSelectFamily: true, autoSelectFamilyAttemptTimeout: 2000 })
    return await opened(socket, 'connect', limit, () => ({}))
  })
}

/**
 * The result of a TLS handshake, whether the server is trusted or not. Nothing but, to a proxy, the CONNECT is sent.
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
    // Only to find what is wrong with it: the connection is closed before anything is sent.
    const socket = connectTls({
      ...way,
      ...servername,
      secureContext,
      rejectUnauthorized: false,
      // As in a request: a server that accepts HTTP/2 only refuses it.
      ALPNProtocols: ['http/1.1'],
    })
    return await opened(socket, 'secureConnect', limit, () => ({ ...findingsOf(socket), ...known }))
  })
}

/** {@link Reached}'s `code` if a proxy refuses the tunnel, and if it does not behave as a proxy. */
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
  connecting.once('response', () => fail(PROXY_FAILED, 'it does not respond to CONNECT like a proxy'))
  connecting.once('connect', ({ statusCode = 0 }: IncomingMessage, socket: Socket) => {
    if (statusCode === 200) {
      resolve(socket)
      return
    }
    socket.destroy()
    fail(PROXY_REFUSED, `it responded to CONNECT with ${statusCode}`)
  })
  connecting.end()
  return promise
}

/** Until a socket is open or failed; it is destroyed either way. @param read what is wanted of the open one */
async function opened<T>(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  limit: AbortSignal,
  read: () => T,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const onAbort = (): void => reject(limit.reason)
  limit.addEventListener('abort', onAbort, { once: true })
  socket.once(event, () => resolve(read()))
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

function whyOf(error: unknown): string {
  return tlsReason(messageOf(error)) ?? reasonOf(error)
}
