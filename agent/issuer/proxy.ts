import { isIP, isIPv6 } from 'node:net'

/** A proxy that the environment names. */
export interface Proxy {
  /** The variable that names it, as it is spelled there. */
  readonly variable: string
  /** Null when its value is not the URL of a proxy. A user and password in it are secrets. */
  readonly url: URL | null
}

/** One end of a connection; an IPv6 address is without brackets. */
export interface Endpoint {
  readonly host: string
  readonly port: number
}

type Environment = Readonly<Record<string, string | undefined>>

/** RFC 1928 for SOCKS. These are the protocols that a proxy may have. */
const DEFAULT_PORTS = new Map([
  ['http:', 80],
  ['https:', 443],
  ['socks:', 1080],
  ['socks5:', 1080],
])

/**
 * The proxy that requests to a URL go through; null for none. The one rule, for the requests and for doctor: `https:`
 * URLs by HTTPS_PROXY, else HTTP_PROXY, unless NO_PROXY exempts the host. A variable in lower case counts first.
 */
export function proxyFor(url: URL, environment: Environment): Proxy | null {
  if (url.protocol !== 'https:') return null
  const proxy = variableOf('HTTPS_PROXY', environment) ?? variableOf('HTTP_PROXY', environment)
  if (proxy === null || isExempt(url, variableOf('NO_PROXY', environment)?.value ?? '')) return null
  return { variable: proxy.name, url: proxyUrlOf(proxy.value) }
}

/** Why a proxy cannot be used, without its value, which may hold a password; null when it can. */
export function proxyProblem({ variable, url }: Proxy): string | null {
  if (url === null) return `${variable} in the environment is not the URL of a proxy`
  // undici would send the address as a TLS server name, which Node refuses.
  if (url.protocol !== 'https:' || isIP(endpointOf(url).host) === 0) return null
  return `the https: proxy in ${variable} is an IP address; set its host name, or use http:`
}

/** Where a connection to a URL, or to a proxy, goes. */
export function endpointOf({ hostname, port, protocol }: URL): Endpoint {
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? (DEFAULT_PORTS.get(protocol) ?? 0) : Number(port),
  }
}

/** As `curl` and undici have it: a variable in lower case that is there hides the other, also when it is empty. */
function variableOf(upperCase: string, environment: Environment): { name: string; value: string } | null {
  const name = [upperCase.toLowerCase(), upperCase].find((one) => environment[one] !== undefined)
  const value = name === undefined ? '' : (environment[name] ?? '')
  return name === undefined || value === '' ? null : { name, value }
}

function proxyUrlOf(value: string): URL | null {
  const url = URL.parse(value)
  if (url === null || url.hostname === '' || !DEFAULT_PORTS.has(url.protocol)) return null
  try {
    // They are sent decoded.
    decodeURIComponent(`${url.username}:${url.password}`)
    return url
  } catch {
    return null
  }
}

/** The passwords of all proxies that the environment names, as they are written there and as they are sent. */
export function proxyPasswords(environment: Environment): readonly string[] {
  return Object.entries(environment).flatMap(([name, value = '']) => {
    const password = /_proxy$/i.test(name) ? (URL.parse(value)?.password ?? '') : ''
    return proxyUrlOf(value) === null ? [password] : [password, decodeURIComponent(password)]
  })
}

/**
 * Whether NO_PROXY names the host of a URL. Its entries are separated by commas or blanks: `*` is every host, `NAME` and
 * `.NAME` a host and all below it, `*.NAME` only those below, and an address that address; `:PORT` behind any of them
 * restricts it to that port, behind an IPv6 address in brackets only. A network such as `10.0.0.0/8` exempts nothing.
 */
function isExempt(url: URL, noProxy: string): boolean {
  const host = canonical(url.hostname)
  const { port } = endpointOf(url)
  return noProxy.split(/[\s,]+/).some((entry) => {
    const [, name = entry, onlyPort] = /^(\[.+\]|[^:]+)(?::(\d+))?$/.exec(entry) ?? []
    if (name === '' || (onlyPort !== undefined && Number(onlyPort) !== port)) return false
    if (name === '*') return true
    const below = canonical(name.replace(/^\*?\./, ''))
    return host.endsWith(`.${below}`) || (host === below && !name.startsWith('*'))
  })
}

/** One spelling for each name and address. */
function canonical(name: string): string {
  const address = name.replace(/^\[(.*)\]$/, '$1')
  if (isIPv6(address)) return URL.parse(`http://[${address}]`)?.hostname ?? address
  return name.toLowerCase().replace(/\.$/, '')
}
