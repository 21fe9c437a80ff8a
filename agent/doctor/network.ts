import { isIP } from 'node:net'
import { AgentError } from '../cert/errors.ts'
import type { HttpIssuerConfig, Login } from '../config/config.ts'
import type { AddressSetting } from '../issuer/answer.ts'
import type { IssuerFinding } from '../issuer/exchange-protocol.ts'
import { mayWantCertificate } from '../issuer/failures.ts'
import { authorityOf } from '../issuer/http.ts'
import { type Endpoint, endpointOf, type Proxy, proxyFor, proxyProblem } from '../issuer/proxy.ts'
import type { Clock } from '../renewal/ports.ts'
import { PROXY_FAILED, PROXY_REFUSED, reachPort, resolveName, shakeHands } from './connections.ts'
import { failure, ok, skipped, unknown } from './finding.ts'
import { tlsFinding } from './tls.ts'

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
