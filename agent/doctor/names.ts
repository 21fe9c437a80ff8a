import { UPPER_CASE } from '../cert/errors.ts'
import { isAddress } from '../cert/known-hosts.ts'
import { isUsableByClients, upperCaseWarning } from '../cert/verify-issued.ts'
import { isLoopback } from '../config/config.ts'
import { runProgram } from '../host/programs.ts'
import { type CertifiableView, type HostKeyView, isCertifiable } from '../renewal/judge.ts'
import { type Finding, ok, remedyOf, skipped, unknown, warning } from './finding.ts'

/** What this host is called, by itself and by the system's resolver. Null: that could not be found out. */
export interface HostNames {
  readonly fullName: string | null
  /** What its addresses are called: `hostname -A`, which asks for each but loopback and link-local ones. */
  readonly reverse: readonly string[] | null
  /** Its addresses but loopback and link-local ones. */
  readonly addresses: readonly string[] | null
  /** The addresses of a name; empty: the resolver knows no such name. */
  readonly forward: ReadonlyMap<string, readonly string[] | null>
}

/** A resolver may hang: it is asked by programs that can be ended. */
const TIMEOUT_MILLISECONDS = 5_000
/** Of this host, that are looked at. */
const MOST_NAMES = 16
/** getent(1): no such entry. */
const NOT_FOUND = 2

/**
 * By which names clients reach this host and accept its certificate, and by which they do not: ssh(1) compares the name
 * that it was given, in lower case, with the principals. Asks the system's resolver, within ten seconds.
 */
export async function examineNames(
  views: readonly HostKeyView[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const principals = principalsOf(views.filter(isCertifiable))
  if (principals.length === 0) return [skipped('names', 'needs a usable certificate')]
  const [fullName, reverse, addresses] = await Promise.all([
    wordsOf(['hostname', '-f'], signal),
    wordsOf(['hostname', '-A'], signal),
    wordsOf(['hostname', '-I'], signal),
  ])
  const names = [...new Set([...principals, ...(fullName ?? [])].map((name) => name.toLowerCase()))]
  const forward = new Map(
    await Promise.all(
      names.slice(0, MOST_NAMES).map(async (name) => [name, await addressesOf(name, signal)] as const),
    ),
  )
  return judgeNames(principals, { fullName: fullName?.at(0) ?? null, reverse, addresses, forward })
}

/**
 * What clients can make of the principals, by what this host is called. Pure.
 *
 * @param principals of all certificates in place, as they are in them; at least one
 */
export function judgeNames(principals: readonly string[], host: HostNames): readonly Finding[] {
  const usable = principals.filter(isUsableByClients)
  const inUpperCase = upperCaseWarning(principals)
  return [
    ...(inUpperCase === null ? [] : [warning('names', inUpperCase, remedyOf(UPPER_CASE))]),
    ...usable.map((name) => judgePrincipal(name, host)),
    ...judgeOtherNames(usable, host),
  ]
}

function judgePrincipal(name: string, { addresses, forward }: HostNames): Finding {
  if (!forward.has(name))
    return unknown('names', `the certificate is for ${name}, too, which was not looked up`)
  const found = forward.get(name) ?? null
  if (found === null)
    return unknown(
      'names',
      `the certificate is for ${name}; the resolver gave no answer to what its addresses are`,
    )
  if (found.length === 0)
    return unknown(
      'names',
      `the certificate is for ${name}, which could not be resolved on this host`,
      `if clients cannot resolve it either, add a DNS record for it`,
    )
  if (found.some((address) => addresses?.includes(address) === true))
    return ok(
      'names',
      `clients that resolve ${name} to this host, as it does itself, can use it${shortHint(name)}`,
    )
  if (found.every(isLoopback)) {
    const message = `clients that can resolve ${name} can use it${shortHint(name)}; here it is ${found.join(', ')}, which says nothing about DNS`
    return ok('names', message)
  }
  const others = found.filter((address) => !isLoopback(address)).join(', ')
  return unknown(
    'names',
    addresses === null
      ? `the certificate is for ${name} (${others}); the addresses of this host could not be read`
      : `the certificate is for ${name}, whose address (${others}) is none of this host's own`,
    'right behind NAT or a load balancer that passes connections to this host; otherwise correct the DNS record',
  )
}

function shortHint(name: string): string {
  const [short = ''] = name.split('.')
  return short === name || isAddress(name)
    ? ''
    : `; by ${short} alone only those that complete it (\`CanonicalizeHostname yes\` in their ssh_config)`
}

/** Names of this host that are in no certificate. */
function judgeOtherNames(usable: readonly string[], { fullName, reverse }: HostNames): readonly Finding[] {
  const named = [...(fullName === null ? [] : [fullName]), ...(reverse ?? [])].map((name) =>
    name.toLowerCase(),
  )
  const isCovered = (name: string): boolean => usable.some((pattern) => patternOf(pattern).test(name))
  const others = [...new Set(named)].filter((name) => !isCovered(name) && isFullName(name))
  const instead = usable.find((name) => !/[*?]/.test(name))
  const findings =
    others.length === 0 || instead === undefined
      ? []
      : [
          warning(
            'names',
            `this host is also called ${others.slice(0, MOST_NAMES).join(', ')}, which is not in the certificate: a client that connects by that name finds no known host key ("No … host key is known")`,
            `connect by ${instead}, or set \`HostKeyAlias ${instead}\` for that name in the clients' ssh_config; to have it in the certificate instead, register it at the issuer`,
          ),
        ]
  const unseen = [
    ...(fullName === null ? ['its full name (`hostname -f`)'] : []),
    ...(reverse === null ? ['the names of its addresses (`hostname -A`)'] : []),
  ]
  return unseen.length === 0
    ? findings
    : [...findings, unknown('names', `could not find out ${unseen.join(' and ')}`)]
}

function principalsOf(views: readonly CertifiableView[]): readonly string[] {
  const certificates = views.flatMap(({ onDisk }) => (onDisk.kind === 'usable' ? [onDisk.certificate] : []))
  return [...new Set(certificates.flatMap(({ principals }) => principals))]
}

/** A principal of a host certificate may be a pattern: match_pattern() of OpenSSH. */
function patternOf(principal: string): RegExp {
  return new RegExp(`^${RegExp.escape(principal).replaceAll('\\*', '.*').replaceAll('\\?', '.')}$`)
}

/** Names that only this host has for itself say nothing about clients. */
function isFullName(name: string): boolean {
  return name.includes('.') && !/^localhost\.|\.localdomain$/.test(name)
}

/** The words that a program prints; null when it cannot be run, fails or takes too long. */
async function wordsOf(argv: readonly string[], signal: AbortSignal): Promise<readonly string[] | null> {
  const { status, stdout } = await run(argv, signal)
  return status === 0 ? stdout.split(/\s+/).filter((word) => word !== '') : null
}

/** getent(1) asks as ssh does: /etc/hosts, DNS, and whatever else nsswitch.conf names. */
async function addressesOf(name: string, signal: AbortSignal): Promise<readonly string[] | null> {
  const { status, stdout } = await run(['getent', 'ahosts', '--', name], signal)
  if (status === NOT_FOUND) return []
  if (status !== 0) return null
  const addresses = stdout.split('\n').map((line) => line.split(/\s+/)[0] ?? '')
  return [...new Set(addresses.filter((address) => /^[\da-f.:]+$/i.test(address)))]
}

async function run(argv: readonly string[], signal: AbortSignal) {
  return runProgram(argv, { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal })
}
