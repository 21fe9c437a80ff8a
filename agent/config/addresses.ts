import { isIP, isIPv4, isIPv6 } from 'node:net'
import type { Config, HealthListen } from './config.ts'
import { isAbsolutePath, mustBe, mustBeUnquoted, type Reading, value } from './values.ts'

interface HostAndPort {
  /** An IPv6 address is without its brackets. */
  readonly host: string
  readonly port: number
}

/** `HOST:PORT` or `[IPV6]:PORT`, port 1 to 65535; null for anything else. The host is not checked further. */
function splitHostAndPort(text: string): HostAndPort | null {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+)):([1-9]\d{0,4})$/.exec(text)
  if (match === null) return null
  const [, bracketed, bare = ''] = match
  const port = Number(match[3])
  if (port > 65_535 || (bracketed !== undefined && !isIPv6(bracketed))) return null
  return { host: bracketed ?? bare, port }
}

/** A name that can be resolved. It becomes an argument of a program, so it never begins with a dash. */
function isHostName(text: string): boolean {
  // What ends in a number is meant as an IPv4 address (WHATWG URL, "ends in a number"), and then must be one.
  if (/(?:^|\.)\d+\.?$/.test(text)) return isIPv4(text)
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/.test(text)
}

/** Whether only this host can be meant: 127.0.0.0/8, ::1 and `localhost`; an IPv6 address without its brackets. */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.')
  return host === '::1' || host.toLowerCase() === 'localhost'
}

/** Where to ask what sshd serves. */
export function readSshdAddress(text: string): Reading<Config['sshd']['address']> {
  if (text === 'auto' || text === 'none') return value(text)
  const address = splitHostAndPort(text)
  if (address === null || (isIP(address.host) === 0 && !isHostName(address.host)))
    return mustBe('auto, none or host:port (an IPv6 address in brackets)', text)
  return value(address)
}

/** `sun_path` of unix(7) holds 108 bytes, the NUL at the end among them. */
const LONGEST_SOCKET_PATH_BYTES = 107

/** Where the health server listens. No name but `localhost`: what a name stands for changes, a listener does not. */
export function readHealthListen(text: string): Reading<HealthListen> {
  if (text === 'none') return value({ kind: 'none' })
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    if (!isAbsolutePath(path) || Buffer.byteLength(path) > LONGEST_SOCKET_PATH_BYTES)
      return mustBe(`unix: and an absolute path of at most ${LONGEST_SOCKET_PATH_BYTES} bytes`, text)
    return value({ kind: 'unix', path })
  }
  const address = splitHostAndPort(text)
  if (address === null || (isIP(address.host) === 0 && address.host !== 'localhost'))
    return mustBe('host:port (the host an IP address or localhost), unix:/path or none', text)
  return value({ kind: 'tcp', ...address })
}

/** A name by which browsers ask for the status page. Addresses need no entry: they are always served. */
export function readHealthHost(text: string): Reading<string> {
  const name = text.toLowerCase()
  if (isHostName(name) && isIP(name) === 0) return value(name)
  return mustBe('a host name without scheme, port and path', text)
}

/**
 * The issuer's base URL: https, or http where nothing leaves this host, for a token goes over it.
 *
 * @returns as a URL parser writes it, without slashes at the end; it may have a path
 */
export function readIssuerUrl(text: string): Reading<string> {
  // A URL parser corrects missing slashes, backslashes and white space; here they are more likely a typing error.
  if (!/^https?:\/\/[^/\\\s][^\\\s]*$/i.test(text) || !URL.canParse(text))
    return mustBe('a URL such as https://us.infisical.com', text)
  const url = new URL(text)
  // Not quoted: it has a password in it.
  if (url.username !== '' || url.password !== '' || /^https?:\/\/[^/?#]*@/i.test(text))
    return mustBeUnquoted('a URL without a user name or password')
  if (/[?#]/.test(text)) return mustBe('a URL without a query (?) or fragment (#)', text)
  if (url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
    return mustBe('https:// (http:// is for 127.0.0.1, [::1] and localhost only)', text)
  return value(`${url.origin}${url.pathname}`.replace(/\/+$/, ''))
}
