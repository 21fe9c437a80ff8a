import { publicKeyText, type PublicKey } from './public-key.ts'

/**
 * The hosts that a CA is trusted for when nobody says otherwise: all of the domains of these names, or the names
 * themselves where others may have hosts in that domain. Never all hosts.
 *
 * @param principals of this host's certificates
 * @returns patterns of ssh_config(5), each once; empty when there are no names
 */
export function hostPatternsOf(principals: readonly string[]): readonly string[] {
  return [
    ...new Set(principals.filter((name) => !/[*?]/.test(name)).map((name) => patternOf(name.toLowerCase()))),
  ].filter(isHostPattern)
}

/** Second labels below which countries register domains: `example.co.uk`. */
const SECOND_LEVEL =
  /^(?:ac|adm|asn|asso|biz|co|com|ed|edu|firm|gen|go|gob|gouv|gov|govt|gv|id|idv|in|ind|info|k12|ltd|ma?il|me|mod|muni|ne|net|nhs|nic|nom|or|org|plc|police|pro|res|sch|school|web)$/
/** Domains in which strangers have hosts: clouds and dynamic DNS. */
const SHARED =
  /(?:^|\.)(?:amazonaws\.com(?:\.cn)?|azure\.com|azure\.net|azurewebsites\.net|googleusercontent\.com|oraclevcn\.com|cloudapp\.net|scw\.cloud|ovh\.net|contaboserver\.net|hstgr\.cloud|kundenserver\.de|linodeusercontent\.com|vultrusercontent\.com|your-server\.de|herokuapp\.com|github\.io|duckdns\.org|dyndns\.(?:org|info)|dynv6\.net|ddns\.net|ddnss\.de|freeddns\.org|eu\.org|mooo\.com|hopto\.org|zapto\.org|no-ip\.(?:biz|info|org)|myftp\.org|spdns\.de|selfhost\.(?:de|eu)|goip\.de|ts\.net|nip\.io|sslip\.io)$/

function patternOf(name: string): string {
  const [first = '', ...domain] = name.split('.')
  const [second = '', top = ''] = domain.slice(-2)
  const isPublic = domain.length < 2 || (domain.length === 2 && top.length === 2 && SECOND_LEVEL.test(second))
  if (isAddress(name) || first === '' || isPublic || SHARED.test(name)) return name
  return `*.${domain.join('.')}`
}

/** Whether it is an address of IPv4 or IPv6, and no name. */
export function isAddress(text: string): boolean {
  return /^[\d.]+$|:/.test(text)
}

/** Whether it is a pattern of ssh_config(5) that does not stand for every host: there is a letter or digit in it. */
export function isHostPattern(text: string): boolean {
  return /^[\w.:*?-]{1,255}$/.test(text) && /[a-z0-9]/i.test(text)
}

/** A line of known_hosts: certificates of this CA are trusted for these hosts. */
export function certAuthorityLine(patterns: readonly string[], ca: PublicKey): string {
  return `@cert-authority ${patterns.join(',')} ${publicKeyText(ca)}`
}
