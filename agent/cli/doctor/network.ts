import { isIP } from 'node:net'
import {
  proxyFor,
  reachPort,
  resolveName,
  shakeHands,
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

/** The way to the issuer below HTTP: name, TCP, TLS. What comes after a failure is skipped. */
export async function examineNetwork(patient: Patient): Promise<Finding[]> {
  const { config, environment, host, signal } = patient
  const url = new URL(config.issuer.url)
  const name = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const isSecure = url.protocol === 'https:'
  const port = url.port === '' ? (isSecure ? 443 : 80) : Number(url.port)
  const proxy = proxyFor(url, environment)
  if (proxy !== null) {
    const why = `requests to ${name} go through the proxy ${proxy}, which does this`
    return [skipped('name', why), skipped('tcp', why), skipped('tls', why)]
  }

  const named = isIP(name) === 0 ? await resolveName(name, signal) : null
  if (named?.ok === false) {
    const remedy = `correct issuer.url, or name resolution: \`getent hosts ${name}\` must find it (/etc/resolv.conf, /etc/hosts)`
    return [
      failure('name', `cannot resolve ${name}: ${named.why}`, remedy),
      ...skips('the name', 'tcp', 'tls'),
    ]
  }
  const first = ok(
    'name',
    named === null ? `${name} is an address` : `${name}: ${named.addresses.join(', ')}`,
  )

  const reached = await reachPort(name, port, signal)
  if (!reached.ok) return [first, tcpFailure(name, port, reached), ...skips('a connection', 'tls')]
  const second = ok('tcp', `${name}:${port} takes connections`)

  if (!isSecure) return [first, second, skipped('tls', `${config.issuer.url} has none, on this host only`)]
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

function skips(what: string, ...steps: readonly ('tcp' | 'tls')[]): Finding[] {
  return steps.map((step) => skipped(step, `needs ${what}`))
}

function tcpFailure(
  name: string,
  port: number,
  { code, why }: { readonly code: string; readonly why: string },
): Finding {
  const message = `cannot connect to ${name}:${port}: ${why}`
  switch (code) {
    case 'ECONNREFUSED':
      return failure(
        'tcp',
        message,
        `nobody listens there: is the issuer up, and the port of issuer.url right?`,
      )
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
      return failure('tcp', message, "there is no route: see to this host's network (`ip route`)")
    default:
      return failure(
        'tcp',
        message,
        `a firewall drops it, or the issuer is down: let this host out to port ${port}`,
      )
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
