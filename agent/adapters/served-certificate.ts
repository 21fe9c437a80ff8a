import { tryParse } from '../core/verify-issued.ts'
import type { ServedCertificates, ServedObservation, ServedOffer, ServedQuestion } from '../renewal/ports.ts'
import { oneLine } from '../system/one-line.ts'
import { runProgram } from '../system/run-program.ts'

export interface ServedCertificatesOptions {
  /** `auto`: where the helper says that sshd listens, else port 22 of the loopback addresses. */
  readonly address: 'auto' | 'none' | Address
  /** Looked up in PATH. */
  readonly program?: string
  /** That sshd may take for a banner, and again for its keys. */
  readonly timeoutSeconds?: number
}

interface Address {
  readonly host: string
  readonly port: number
}

/** What one run of ssh-keyscan brought. */
interface Scan {
  /** A line for each connection that got as far as `SSH-2.0-…`. */
  readonly banners: number
  /** Type and base64 of each key or certificate. */
  readonly shown: readonly (readonly [type: string, base64: string])[]
  /** Why there may be less than there is; null when all connections ended by themselves. */
  readonly incomplete: string | null
}

const TIMEOUT_SECONDS = 5
/** One wait for a banner, one for the keys, and a little. */
const PROGRAM_TIMEOUTS = 3
const LOOPBACK: readonly Address[] = [
  { host: '127.0.0.1', port: 22 },
  { host: '::1', port: 22 },
]
/** Each may take its time, and the turn has an end. */
const MOST_ADDRESSES = 4
/** What sshd calls any address of the host: sshd_config(5), ListenAddress. */
const ANY_ADDRESS: Readonly<Record<string, string>> = {
  '0.0.0.0': '127.0.0.1',
  '*': '127.0.0.1',
  '::': '::1',
}
const CERT_SUFFIX = '-cert-v01@openssh.com'

/** What sshd presents, asked by `ssh-keyscan` in real handshakes: one for each family of key types. */
export function createServedCertificates(options: ServedCertificatesOptions): ServedCertificates {
  const { address } = options
  const timeoutSeconds = options.timeoutSeconds ?? TIMEOUT_SECONDS

  const scan = async (
    to: Address,
    families: readonly string[],
    extra: readonly string[],
    signal: AbortSignal,
  ) => {
    const startedAt = performance.now()
    const target = [
      '-t',
      families.join(','),
      '-p',
      String(to.port),
      '-T',
      String(timeoutSeconds),
      '--',
      to.host,
    ]
    const result = await runProgram([options.program ?? 'ssh-keyscan', ...extra, ...target], {
      timeoutMilliseconds: timeoutSeconds * PROGRAM_TIMEOUTS * 1000,
      signal,
    })
    const seconds = (performance.now() - startedAt) / 1000
    return readScan(result, families.length, seconds >= timeoutSeconds)
  }

  const observeAt = async (
    to: Address,
    { keyTypes, bareKeys }: ServedQuestion,
    signal: AbortSignal,
  ): Promise<ServedObservation> => {
    const certificates = await scan(to, familiesOf(keyTypes), ['-c'], signal)
    const offers = new Map<string, ServedOffer | null>(
      keyTypes.map((type) => [type, certificateOffer(type, certificates)]),
    )
    if (certificates.banners === 0) return noBanner(to, certificates)
    const bare = keyTypes.filter((type) => offers.get(type) === null)
    if (bare.length === 0) return { kind: 'answered', offers }
    if (certificates.incomplete !== null) return noBanner(to, certificates)
    if (!bareKeys) {
      for (const type of bare) {
        offers.set(type, { kind: showsOtherCurve(type, certificates) ? 'hidden' : 'no-certificate' })
      }
      return { kind: 'answered', offers }
    }
    const keys = await scan(to, familiesOf(bare), [], signal)
    if (keys.incomplete !== null) return noBanner(to, keys)
    for (const type of bare) offers.set(type, keyOffer(type, keys, certificates))
    return { kind: 'answered', offers }
  }

  const observe: ServedCertificates['observe'] = async (question, signal) => {
    if (address === 'none') return { kind: 'no-banner', detail: 'sshd.address is none' }
    if (question.keyTypes.length === 0) return { kind: 'answered', offers: new Map() }
    const details: string[] = []
    for (const to of address === 'auto' ? addressesOf(question.listen) : [address]) {
      const seen = await observeAt(to, question, signal)
      if (seen.kind === 'answered') return seen
      details.push(seen.detail)
    }
    return { kind: 'no-banner', detail: details.join('; ') }
  }

  return { enabled: address !== 'none', observe }
}

/** Each address once, any-address as loopback; port 22 of the loopback addresses when none can be used. */
function addressesOf(listen: readonly string[]): readonly Address[] {
  const addresses = new Map<string, Address>()
  for (const entry of listen) {
    const match = /^(?:\[([0-9A-Fa-f:.%\w-]+)\]|([\w.*-]+)):(\d{1,5})$/.exec(entry)
    if (match === null) continue
    const [, inBrackets, plain = '', port] = match
    const named = inBrackets ?? plain
    const host = ANY_ADDRESS[named] ?? named
    addresses.set(`${host} ${port}`, { host, port: Number(port) })
  }
  return addresses.size === 0 ? LOOPBACK : [...addresses.values()].slice(0, MOST_ADDRESSES)
}

/** The names of `-t`: ssh-keyscan knows one for all curves. */
function familiesOf(keyTypes: readonly string[]): string[] {
  return [...new Set(keyTypes.map(familyOf))]
}

function familyOf(keyType: string): string {
  if (keyType.startsWith('ecdsa-sha2-')) return 'ecdsa'
  return keyType.replace(/^ssh-/, '')
}

/**
 * OpenSSH 10 prints the banner lines to stdout, 9.2 to stderr; keys come as `HOST TYPE BASE64`, certificates as
 * `TYPE BASE64`.
 */
function readScan(
  result: Awaited<ReturnType<typeof runProgram>>,
  connections: number,
  tookTooLong: boolean,
): Scan {
  const outLines = result.stdout.split('\n')
  const errorLines = result.stderr.split('\n').filter((line) => line.trim() !== '')
  const banners = [...outLines, ...errorLines].filter((line) => /^# .* SSH-/.test(line)).length
  const shown = outLines.flatMap((line): [string, string][] => {
    if (line.startsWith('#')) return []
    const [type, base64] = line.trim().split(/\s+/).slice(-2)
    return type === undefined || base64 === undefined ? [] : [[type, base64]]
  })
  const complaint = errorLines.find((line) => !line.startsWith('#'))
  let incomplete = result.failure
  if (incomplete === null && banners < connections) {
    incomplete = complaint === undefined ? 'no banner, is sshd running?' : oneLine(complaint)
  }
  if (incomplete === null && tookTooLong) incomplete = 'it answered too slowly'
  return { banners, shown, incomplete }
}

/**
 * The certificate shown for a type. One that cannot be read (of a kind that sshpk does not know, say) is `hidden`: it is
 * neither ours nor a sign that ours will not come.
 */
function certificateOffer(keyType: string, { shown }: Scan): ServedOffer | null {
  const found = shown.find(([type]) => type === `${keyType}${CERT_SUFFIX}`)
  if (found === undefined) return null
  const parsed = tryParse(found.join(' '))
  return parsed.ok ? { kind: 'certificate', certificate: parsed.certificate } : { kind: 'hidden' }
}

function keyOffer(keyType: string, keys: Scan, certificates: Scan): ServedOffer | null {
  const found = keys.shown.find(([type]) => type === keyType)
  if (found !== undefined) return { kind: 'key', blob: Buffer.from(found[1], 'base64') }
  return showsOtherCurve(keyType, keys) || showsOtherCurve(keyType, certificates) ? { kind: 'hidden' } : null
}

/** For a type that was not shown itself: of several curves sshd shows the one that ssh-keyscan likes best. */
function showsOtherCurve(keyType: string, { shown }: Scan): boolean {
  return familyOf(keyType) === 'ecdsa' && shown.some(([type]) => type.startsWith('ecdsa-sha2-'))
}

function noBanner({ host, port }: Address, { incomplete }: Scan): ServedObservation {
  const at = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  return { kind: 'no-banner', detail: `${at}: ${incomplete ?? 'no banner'}` }
}
