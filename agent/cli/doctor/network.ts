import { isIP } from 'node:net'
import {
  proxyFor,
  reachPort,
  resolveName,
  shakeHands,
  type Proxy,
  type Reached,
  type TlsFindings,
} from '../../adapters/issuer/reachability.ts'
import { AgentError } from '../../core/errors.ts'
import { formatDuration, formatTime } from '../../core/time.ts'
import { failure, ok, skipped, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

/** A server certificate that ends sooner is told of; most are renewed well before. */
const TLS_WARNING_SECONDS = 14 * 86_400
/** OpenSSL's names for a certificate that nobody we trust has signed. */
const UNTRUSTED = [
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
]

/** The service has its environment from there; that of a shell is another. */
export const WHERE_PROXIES_ARE_SET = 'for the service they are set in /etc/default/hostcertd'

/** The other end of the first connection on the way to the issuer, and how to mend what is wrong with it. */
interface FarEnd {
  readonly host: string
  readonly port: number
  readonly secure: boolean
  /** Null: the issuer itself. */
  readonly proxy: Proxy | null
  /** Where host and port are written. */
  readonly source: string
}

/**
 * The way to the issuer below HTTP: name, TCP, TLS. Through a proxy the way to that; what lies behind it shows when the
 * issuer is asked. What comes after a failure is skipped.
 */
export async function examineNetwork(patient: Patient): Promise<Finding[]> {
  const { config, environment, host, signal } = patient
  const url = new URL(config.issuer.url)
  const proxy = proxyFor(url, environment)
  const end = farEnd(url, proxy)
  if (end === null) {
    const message = `${proxy?.variable} in the environment is not the URL of a proxy`
    return [
      failure('name', message, `correct it, or take it out: ${WHERE_PROXIES_ARE_SET}`),
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

  if (proxy !== null) {
    return [first, second, skipped('tls', `it goes through ${what}${name}:${port}, see issuer`)]
  }
  if (!end.secure) return [first, second, skipped('tls', `${config.issuer.url} has none, on this host only`)]
  try {
    const shaken = await shakeHands(name, port, config.issuer.caFile, signal)
    return [first, second, tlsFinding(name, port, shaken, host.clock.now())]
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    const remedy =
      'put the PEM certificates of the TLS CA there, or take issuer.ca_file out of the configuration'
    return [first, second, failure('tls', error.message, remedy)]
  }
}

function farEnd(url: URL, proxy: Proxy | null): FarEnd | null {
  const secure = url.protocol === 'https:'
  if (proxy !== null) return proxy.at && { ...proxy.at, secure, proxy, source: proxy.variable }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port)
  return { host, port, secure, proxy, source: 'issuer.url' }
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
      return `nobody listens there: is the ${who} up, and the port of ${source} right?`
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
      return "there is no route: see to this host's network (`ip route`)"
    default:
      return `a firewall drops it, or the ${who} is down: let this host out to port ${port}`
  }
}

function tlsFinding(name: string, port: number, shaken: Reached<TlsFindings>, now: number): Finding {
  if (!shaken.ok) {
    const remedy = `does ${name}:${port} speak https? correct issuer.url, or see to what stands in between`
    return failure('tls', `no TLS with ${name}:${port}: ${shaken.why}`, remedy)
  }
  const { distrust, subject, signedBy, notAfter } = shaken
  const who = `certificate of "${subject}", signed by "${signedBy}", good until ${formatTime(notAfter)}`
  if (distrust !== null) return distrusted(name, who, shaken, distrust)
  const left = notAfter - now
  if (left < TLS_WARNING_SECONDS) {
    const remedy = `have the TLS certificate of ${name} renewed`
    return warning('tls', `${who}: it ends in ${formatDuration(left)}`, remedy)
  }
  return ok('tls', who)
}

function distrusted(name: string, who: string, { signedBy }: TlsFindings, code: string): Finding {
  if (UNTRUSTED.includes(code)) {
    const remedy = `if "${signedBy}" is the CA that you expect, put its certificate (PEM) in a file and set issuer.ca_file to it; if not, somebody stands in between`
    return failure('tls', `${who}: its CA is trusted by nobody here (${code})`, remedy)
  }
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return failure(
        'tls',
        `${who}: it has ended`,
        `have the TLS certificate of ${name} renewed; if \`date\` is wrong, set the clock`,
      )
    case 'CERT_NOT_YET_VALID':
      return failure(
        'tls',
        `${who}: it is not valid yet`,
        'set the clock of this host: `timedatectl set-ntp true`',
      )
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return failure(
        'tls',
        `${who}: it is not for ${name}`,
        'set issuer.url to a name that the certificate is for',
      )
    default:
      return failure('tls', `${who}: ${code}`, `see to the TLS certificate of ${name}`)
  }
}
