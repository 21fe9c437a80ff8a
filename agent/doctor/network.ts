import { isIP } from 'node:net'
import { AgentError } from '../cert/errors.ts'
import { authorityOf } from '../issuer/http.ts'
import { endpointOf, proxyFor, type Endpoint, type Proxy } from '../issuer/proxy.ts'
import { failure, ok, skipped, type Finding } from './finding.ts'
import type { HttpPatient } from './patient.ts'
import { PROXY_FAILED, PROXY_REFUSED, reachPort, resolveName, shakeHands } from './reachability.ts'
import { tlsFinding } from './tls.ts'

/** The service has its environment from there; that of a shell is another. */
export const WHERE_PROXIES_ARE_SET = 'for the service they are set in /etc/default/hostcertd'

/** The other end of the first connection on the way to the issuer. */
interface FarEnd extends Endpoint {
  /** Null: the issuer itself. */
  readonly proxy: Proxy | null
  /** Where host and port are written. */
  readonly source: string
}

/**
 * The way to the issuer below HTTP: name, TCP, TLS. Through a proxy name and TCP are the proxy's, TLS the issuer's. What
 * comes after a failure is skipped.
 */
export async function examineNetwork(patient: HttpPatient): Promise<Finding[]> {
  const { config, environment, signal } = patient
  const url = new URL(config.issuer.url)
  const proxy = proxyFor(url, environment)
  const end = farEnd(url, proxy)
  if (end === null) {
    const message = `${proxy?.variable} in the environment is not the URL of a proxy`
    return [
      failure(
        'name',
        message,
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
  const second = ok('tcp', `${what}${name}:${port} takes connections`)

  return [first, second, await examineTls(url, end, patient)]
}

async function examineTls(url: URL, end: FarEnd, { config, host, signal }: HttpPatient): Promise<Finding> {
  const { proxy } = end
  if (url.protocol !== 'https:') return skipped('tls', `${config.issuer.url} has none, on this host only`)
  if (proxy !== null && !['http:', 'https:'].includes(proxy.url?.protocol ?? ''))
    return skipped('tls', `a SOCKS proxy (${proxy.variable}) is in between; asking the issuer shows it`)
  try {
    const issuer = endpointOf(url)
    const { caFile } = config.issuer
    const shaken = await shakeHands(issuer, proxy?.url ?? null, caFile, signal)
    if (shaken.ok) {
      const proxyVariable = proxy?.variable ?? null
      return tlsFinding(shaken, { host: issuer.host, caFile, proxyVariable, now: host.clock.now() })
    }
    if (proxy !== null && [PROXY_REFUSED, PROXY_FAILED].includes(shaken.code)) {
      const message = `the proxy (${proxy.variable}) does not connect to ${authorityOf(url)}: ${shaken.why}`
      const wanted = `have the proxy let this host through to ${authorityOf(url)}; if it wants a login (407), put user and password into ${proxy.variable}`
      const remedy =
        shaken.code === PROXY_REFUSED
          ? wanted
          : `check that what ${proxy.variable} names is a proxy, and is reached by ${proxy.url?.protocol}//`
      return failure('tls', message, `${remedy}${pastProxy(url, end)}`)
    }
    const remedy = `check that ${authorityOf(url)} speaks https: correct issuer.url, or what is in front of the issuer`
    return failure('tls', `no TLS with ${authorityOf(url)}: ${shaken.why}`, remedy)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const remedy = 'put the certificates (PEM) of the TLS root CAs there, or remove issuer.ca_file'
    return failure('tls', error.message, remedy)
  }
}

function farEnd(url: URL, proxy: Proxy | null): FarEnd | null {
  if (proxy === null) return { ...endpointOf(url), proxy, source: 'issuer.url' }
  return proxy.url && { ...endpointOf(proxy.url), proxy, source: proxy.variable }
}

/** What else can be done about a proxy. */
function pastProxy({ hostname }: URL, { proxy }: FarEnd): string {
  return proxy === null ? '' : `. To go past it add ${hostname} to NO_PROXY: ${WHERE_PROXIES_ARE_SET}`
}

function skips(what: string, ...steps: readonly ('tcp' | 'tls')[]): Finding[] {
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
      return `a firewall drops it, or the ${who} is down: let this host connect to port ${port}`
  }
}
