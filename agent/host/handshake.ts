import type { PublicKey } from '../cert/public-key.ts'
import { certificateTypeOf, WireReader } from '../cert/wire.ts'
import type { Presented } from '../renewal/ports.ts'

/** How one run of ssh ended, started to see what a server presents for one host key. */
export type Handshake =
  | Exclude<Presented, { kind: 'unknown' }>
  /** Nothing accepts connections. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** This host has no such address: IPv6 is switched off, say. */
  | { readonly kind: 'no-address'; readonly reason: string }
  /** No common cipher, MAC or key exchange. */
  | { readonly kind: 'nothing-in-common'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/**
 * For ssh_config(5), KnownHostsCommand: ssh runs it to look for the host key that was presented, and it prints that key,
 * between two copies of a nonce that a server cannot know. In the environment other users cannot see it either.
 */
export const SHOW_HOST_KEY = `/bin/sh -c 'echo "$HOSTCERTD_NONCE" %K "$HOSTCERTD_NONCE" >&2'`

/** How RSA keys sign in a handshake: RFC 8332 and PROTOCOL.certkeys. Keys of other types sign in one way. */
const RSA_ALGORITHMS = {
  certified: [
    'rsa-sha2-512-cert-v01@openssh.com',
    'rsa-sha2-256-cert-v01@openssh.com',
    'ssh-rsa-cert-v01@openssh.com',
  ],
  plain: ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa'],
}

/** The system's words when this host cannot have such an address: EADDRNOTAVAIL and EAFNOSUPPORT. */
const NO_ADDRESS = ['Cannot assign requested address', 'Address family not supported by protocol']
const UNABLE_TO_NEGOTIATE =
  /^Unable to negotiate with \S+ port \d+: no matching (host key type|cipher|MAC|key exchange method) found\. Their offer: (.*)$/

/**
 * What to have ssh ask for, certificates first: of what the server offers, ssh takes what comes first here.
 *
 * @param known host key algorithms that this ssh knows
 * @returns none when it does not know both kinds: then a plain key would not mean that there is no certificate
 */
export function hostKeyAlgorithmsFor(key: PublicKey, known: readonly string[]): readonly string[] {
  const all = algorithmsOf(key)
  const certified = all.certified.filter((name) => known.includes(name))
  const plain = all.plain.filter((name) => known.includes(name))
  return certified.length > 0 && plain.length > 0 ? [...certified, ...plain] : []
}

function algorithmsOf({ type }: PublicKey): { certified: readonly string[]; plain: readonly string[] } {
  if (type === 'ssh-rsa') return RSA_ALGORITHMS
  return { certified: [certificateTypeOf(type)].filter((name) => name !== null), plain: [type] }
}

/**
 * Read how ssh ended. It is with status 255 in each case, and with lines on stderr that end in CR LF. A server can put
 * whole lines there (in the text of a disconnect message), but only after the beginning of one of ssh's own.
 *
 * @param ended `failure`: why there is no exit status
 * @param key the host key asked about
 */
export function readHandshake(
  ended: { readonly status: number | null; readonly failure: string | null; readonly stderr: string },
  nonce: string,
  key: PublicKey,
): Handshake {
  const lines = ended.stderr.split(/\r?\n/).filter((line) => line.trim() !== '')
  const marked = [...new Set(lines.filter((line) => line.includes(nonce)))]
  if (marked.length > 0) {
    const shown = marked.length === 1 ? readMarked(marked[0] ?? '', nonce, key) : null
    return shown ?? { kind: 'unknown', reason: 'the output of ssh was not understood' }
  }
  const reason = reasonIn(lines, ended)
  if (ended.status !== 255 || lines.length === 0) return { kind: 'unknown', reason }
  const whyNot = lines.map(connectFailureIn)
  if (whyNot.every((why) => why === 'Connection refused')) return { kind: 'refused', reason }
  if (whyNot.every((why) => NO_ADDRESS.includes(why ?? ''))) return { kind: 'no-address', reason }
  const [, missing, offer = ''] = (lines.length === 1 && UNABLE_TO_NEGOTIATE.exec(lines[0] ?? '')) || []
  if (missing === undefined) return { kind: 'unknown', reason }
  if (missing !== 'host key type') return { kind: 'nothing-in-common', reason }
  const { certified, plain } = algorithmsOf(key)
  // With a newer ssh, or an old server, ssh may not have asked for all that there is of this type.
  const isCertain =
    /^[\x21-\x7E]+$/.test(offer) && !offer.split(',').some((name) => [...certified, ...plain].includes(name))
  return isCertain ? { kind: 'not-offered', offer } : { kind: 'unknown', reason }
}

/** What {@link SHOW_HOST_KEY} prints; null for anything else, and for a key of a type that was not asked for. */
function readMarked(line: string, nonce: string, key: PublicKey): Handshake | null {
  const [before, base64 = '', after, ...more] = line.split(' ')
  const blob = Buffer.from(base64, 'base64')
  if (before !== nonce || after !== nonce || more.length > 0 || blob.toString('base64') !== base64)
    return null
  const type = typeIn(blob)
  if (type === key.type) return { kind: 'plain', blob }
  return type === certificateTypeOf(key.type) ? { kind: 'certificate', blob } : null
}

function typeIn(blob: Buffer): string {
  try {
    return new WireReader(blob).text()
  } catch {
    return ''
  }
}

function reasonIn(
  lines: readonly string[],
  { status, failure }: { status: number | null; failure: string | null },
): string {
  const said = lines.map((line) => connectFailureIn(line) ?? line)
  if (failure !== null) return [failure, ...said].join('; ')
  return said.length === 0 ? `ssh ended with status ${status} and no message` : said.join('; ')
}

/** Why there is no connection, without the address, which ssh repeats. */
function connectFailureIn(line: string): string | undefined {
  return /^(?:socket|ssh: connect to host \S+ port \d+): (.+)$/.exec(line)?.[1]
}
