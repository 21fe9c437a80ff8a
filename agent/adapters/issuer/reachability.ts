import { lookup } from 'node:dns/promises'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type PeerCertificate, type TLSSocket } from 'node:tls'
import { messageOf } from '../../core/errors.ts'
import type { UnixSeconds } from '../../core/time.ts'
import { reasonOf, systemCodeOf } from '../../system/one-line.ts'
import { TlsRoots } from './tls-roots.ts'

/** One step of the way to the issuer; `code` is Node's, for deciding. */
export type Reached<T> =
  | ({ readonly ok: true } & T)
  | { readonly ok: false; readonly code: string; readonly why: string }

export interface TlsFindings {
  /** Null when we trust it; Node's code when we do not. */
  readonly distrust: string | null
  /** Who the certificate is for, and who signed it; common name, else organisation. */
  readonly subject: string
  readonly signedBy: string
  readonly notBefore: UnixSeconds
  readonly notAfter: UnixSeconds
}

/** For each step; an exchange may take longer, but a diagnosis is waited for. */
const STEP_MILLISECONDS = 8_000
const TIMED_OUT = 'ETIMEDOUT'

/** A proxy that the environment names. */
export interface Proxy {
  /** The variable that names it, as it is spelled there. */
  readonly variable: string
  /** Null when its value is not the URL of a proxy. */
  readonly at: { readonly host: string; readonly port: number } | null
}

/** The proxy that requests to a URL go through; null for none. By the same variables as the requests. */
export function proxyFor(url: URL, environment: Readonly<Record<string, string | undefined>>): Proxy | null {
  if (url.protocol !== 'https:') return null
  const of = (name: string): { variable: string; value: string } | null => {
    const variable = [name.toLowerCase(), name].find((one) => environment[one] !== undefined)
    const value = variable === undefined ? '' : (environment[variable] ?? '')
    return variable === undefined || value === '' ? null : { variable, value }
  }
  const proxy = of('HTTPS_PROXY') ?? of('HTTP_PROXY')
  if (proxy === null || isExempt(url.hostname, of('NO_PROXY')?.value ?? '')) return null
  try {
    const { hostname, port, protocol } = new URL(proxy.value)
    const usual = protocol === 'https:' ? 443 : 80
    const at = { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? usual : Number(port) }
    return { variable: proxy.variable, at: hostname === '' ? null : at }
  } catch {
    return { variable: proxy.variable, at: null }
  }
}

function isExempt(hostname: string, noProxy: string): boolean {
  const entries = noProxy.split(/[\s,]+/).map((entry) => entry.replace(/^\*?\./, '').replace(/:\d+$/, ''))
  return entries.some(
    (entry) => entry === '*' || (entry !== '' && (hostname === entry || hostname.endsWith(`.${entry}`))),
  )
}

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
 * What a server shows in a TLS handshake, trusted or not. Nothing is sent.
 *
 * @throws AgentError CONFIG_INVALID when `ca_file` cannot be used
 */
export async function shakeHands(
  host: string,
  port: number,
  caFile: string | null,
  signal: AbortSignal,
): Promise<Reached<TlsFindings>> {
  const secureContext = await new TlsRoots(caFile).context()
  return inTime(signal, async (limit) => {
    const servername = isIP(host) === 0 ? { servername: host } : {}
    // Only to look at what is wrong with it: the connection is closed before anything is said.
    const socket = connectTls({ host, port, ...servername, secureContext, rejectUnauthorized: false })
    return await opened(socket, 'secureConnect', limit, () => findingsOf(socket))
  })
}

function findingsOf(socket: TLSSocket): TlsFindings {
  const peer = socket.getPeerCertificate()
  const error: unknown = socket.authorizationError
  const code = error instanceof Error ? (systemCodeOf(error) ?? error.message) : String(error)
  return {
    distrust: socket.authorized ? null : code,
    subject: nameIn(peer.subject),
    signedBy: nameIn(peer.issuer),
    notBefore: Date.parse(peer.valid_from) / 1000,
    notAfter: Date.parse(peer.valid_to) / 1000,
  }
}

function nameIn(name: PeerCertificate['subject'] | undefined): string {
  return [name?.CN ?? name?.O ?? 'nobody'].flat()[0] ?? 'nobody'
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
