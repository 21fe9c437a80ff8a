import { lookup } from 'node:dns/promises'
import { type IncomingMessage, request as requestHttp } from 'node:http'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext } from 'node:tls'
import { AgentError, messageOf } from '../cert/errors.ts'
import { hostAndPort, reasonOf, systemCodeOf } from '../cert/text.ts'
import type { HttpIssuerConfig, Login } from '../config/config.ts'
import type { AddressSetting } from '../issuer/answer.ts'
import type { IssuerFinding } from '../issuer/exchange-protocol.ts'
import { mayWantCertificate } from '../issuer/failures.ts'
import { tlsReason } from '../issuer/http-exchange.ts'
import { authorityOf, TlsRoots } from '../issuer/http.ts'
import { type Endpoint, endpointOf, type Proxy, proxyFor, proxyProblem } from '../issuer/proxy.ts'
import type { Clock } from '../renewal/ports.ts'
import { failure, ok, skipped, unknown } from './finding.ts'
import { findingsOf, tlsFinding, type TlsFindings } from './tls.ts'

/** The way to the issuer under examination, in the process that has its credential, proxy and sandbox. */
export interface WayToIssuer {
  readonly issuer: HttpIssuerConfig
  /** The login with the paths of `doctor`, for remedies: here a credential is a copy that systemd made. */
  readonly shownAuth: Login
  /** Of this process; it names proxies. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** Not the environment of a shell. */
export const WHERE_PROXIES_ARE_SET = 'the service reads it from /etc/default/hostcertd'

/** An address of the issuer's, and the setting that names it. */
export interface Address {
  readonly setting: AddressSetting
  readonly url: string
}

/** Where the login goes. */
export function loginAddress({ auth, url }: HttpIssuerConfig): Address {
  return auth.method === 'tls-cert'
    ? { setting: 'auth.login_url', url: auth.loginUrl }
    : { setting: 'issuer.url', url }
}

/** The other end of the first connection on the way to the issuer. */
interface FarEnd extends Endpoint {
  /** Null: the issuer itself. */
  readonly proxy: Proxy | null
  /** Where host and port are written. */
  readonly source: string
}

/**
 * The way to an address of the issuer's below HTTP: name, TCP, TLS. Through a proxy name and TCP are the proxy's, TLS the issuer's. What
 * comes after a failure is skipped.
 */
export async function examineNetwork(way: WayToIssuer, address: Address): Promise<IssuerFinding[]> {
  const { environment, signal } = way
  const url = new URL(address.url)
  const proxy = proxyFor(url, environment)
  const end = farEnd(url, address.setting, proxy)
  const problem = proxy === null ? null : proxyProblem(proxy)
  if (end === null || problem !== null) {
    return [
      failure(
        'name',
        problem ?? '',
        `correct it (http://USER:PASSWORD@HOST:PORT), or remove it: ${WHERE_PROXIES_ARE_SET}`,
      ),
      ...skips('the name', 'tcp', 'tls'),
    ]
  }
  const { host: name, port } = end
  const what = proxy === null ? '' : `the proxy (${proxy.variable}) `

  const named = isIP(name) === 0 ? await resolveName(name, signal) : null
  if (named?.ok === false) {
    const remedy = `correct ${end.source}, or name resolution: \`getent hosts ${name}\` must find it (/etc/resolv.conf, /etc/hosts)`
    return [
      failure('name', `cannot resolve ${what}${name}: ${named.why}`, `${remedy}${pastProxy(url, end)}`),
      ...skips('the name', 'tcp', 'tls'),
    ]
  }
  const first = ok(
    'name',
    named === null ? `${what}${name} is an address` : `${what}${name}: ${named.addresses.join(', ')}`,
  )

  const reached = await reachPort(name, port, signal)
  if (!reached.ok) {
    const message = `cannot connect to ${what}${name}:${port}: ${reached.why}`
    const remedy = `${tcpRemedy(end, reached.code)}${pastProxy(url, end)}`
    return [first, failure('tcp', message, remedy), ...skips('a connection', 'tls')]
  }
  const second = ok('tcp', `${what}${name}:${port} accepts connections`)

  return [first, second, await examineTls(url, address.setting, end, way)]
}

async function examineTls(
  url: URL,
  setting: AddressSetting,
  end: FarEnd,
  { clock, issuer, signal }: WayToIssuer,
): Promise<IssuerFinding> {
  const { proxy } = end
  if (url.protocol !== 'https:') return skipped('tls', `${url.origin} is on this host, without TLS`)
  if (proxy !== null && !['http:', 'https:'].includes(proxy.url?.protocol ?? ''))
    return skipped(
      'tls',
      `not checked separately through a SOCKS proxy (${proxy.variable}): see the step issuer`,
    )
  try {
    const endpoint = endpointOf(url)
    const { caFile } = issuer
    const shaken = await shakeHands(endpoint, proxy?.url ?? null, caFile, signal)
    if (shaken.ok) {
      const proxyVariable = proxy?.variable ?? null
      return tlsFinding(shaken, { setting, host: endpoint.host, caFile, proxyVariable, now: clock.now() })
    }
    if (proxy !== null && [PROXY_REFUSED, PROXY_FAILED].includes(shaken.code)) {
      const message = `the proxy (${proxy.variable}) refused the connection to ${authorityOf(url)}: ${shaken.why}`
      const wanted = `allow this host to connect to ${authorityOf(url)} at the proxy; if the proxy requires a login (407), set the user and the password in ${proxy.variable}`
      const remedy =
        shaken.code === PROXY_REFUSED
          ? wanted
          : `check that ${proxy.variable} names a proxy, and that it accepts ${proxy.url?.protocol}// connections`
      return failure('tls', message, `${remedy}${pastProxy(url, end)}`)
    }
    // TLS 1.2 asks for a client certificate in the handshake, and this one has none; the login has.
    if (setting === 'auth.login_url' && mayWantCertificate(shaken.code)) {
      const message = `${authorityOf(url)} may require a client certificate (${shaken.why}), and this check has none`
      return unknown('tls', message, 'see the step login')
    }
    const remedy = `check that ${authorityOf(url)} is an https server: correct ${setting}, or what is in front of the issuer`
    return failure('tls', `the TLS handshake failed with ${authorityOf(url)}: ${shaken.why}`, remedy)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const remedy = 'write the certificates (PEM) of the TLS root CAs to that file, or remove issuer.ca_file'
    return failure('tls', error.message, remedy)
  }
}

function farEnd(url: URL, setting: AddressSetting, proxy: Proxy | null): FarEnd | null {
  if (proxy === null) return { ...endpointOf(url), proxy, source: setting }
  return proxy.url && { ...endpointOf(proxy.url), proxy, source: proxy.variable }
}

/** The alternative to the proxy. */
function pastProxy({ hostname }: URL, { proxy }: FarEnd): string {
  return proxy === null ? '' : `. To bypass it, add ${hostname} to NO_PROXY: ${WHERE_PROXIES_ARE_SET}`
}

function skips(what: string, ...steps: readonly ('tcp' | 'tls')[]): IssuerFinding[] {
  return steps.map((step) => skipped(step, `needs ${what}`))
}

function tcpRemedy({ port, proxy, source }: FarEnd, code: string): string {
  const who = proxy === null ? 'issuer' : 'proxy'
  switch (code) {
    case 'ECONNREFUSED':
      return `nothing listens there: check that the ${who} is up, and the port of ${source}`
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
      return 'there is no route: check the network of this host (`ip route`)'
    default:
      return `a firewall drops the connection, or the ${who} is down: allow this host to connect to port ${port}`
  }
}

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
