import { spawn } from 'node:child_process'
import type { Certificate } from '../../agent/cert/host-certificate.ts'
import { FOREVER, formatCertificateTime } from '../../agent/cert/time.ts'
import { sshString } from '../cert/craft.ts'

/** 9999-12-31: `ssh-keygen -L` prints later years in another form. */
export const LAST_YEAR = 253_402_300_799n

/** Lines for one ssh-keygen: it ends at some of them. */
const AT_ONCE = 100

/** What `ssh-keygen -L` prints for each line; null where it refuses it. */
export async function listings(lines: readonly string[]): Promise<(string | null)[]> {
  const listed: (string | null)[] = lines.map(() => null)
  let first = 0
  while (first < lines.length) {
    const some = lines.slice(first, first + AT_ONCE)
    const { found, fatalAt } = await listOnce(some)
    for (const [index, text] of found) listed[first + index] = text
    // It ends at options that it cannot print, having begun to; the lines behind are for another run.
    if (fatalAt !== null) listed[first + fatalAt] = null
    first += fatalAt === null ? some.length : fatalAt + 1
  }
  return listed
}

async function listOnce(lines: readonly string[]) {
  const child = spawn('stdbuf', ['-oL', 'ssh-keygen', '-L', '-f', '-'], {
    env: { ...process.env, TZ: 'UTC' },
  })
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []]
  child.stdout.on('data', (part: Buffer) => stdout.push(part))
  child.stderr.on('data', (part: Buffer) => stderr.push(part))
  child.stdin.on('error', () => {})
  // The first line is skipped as a comment: of line 1 alone the number is not always printed.
  child.stdin.end(Buffer.from(`#\n${lines.join('\n')}\n`))
  await new Promise((resolve) => child.once('close', resolve))
  const parts = Buffer.concat(stdout)
    .toString()
    .split(/^\(stdin\):(\d+):\n/m)
  const found = new Map<number, string>()
  for (let at = 1; at < parts.length; at += 2) found.set(Number(parts[at]) - 2, parts[at + 1] ?? '')
  const lastError = Buffer.concat(stderr).toString().trimEnd().split('\n').at(-1) ?? ''
  // Everything else that it reports is about one line and begins with its place.
  const isFatal = lastError !== '' && !lastError.startsWith('(stdin):')
  if (isFatal && found.size === 0) throw new Error(`ssh-keygen: ${lastError}`)
  return { found, fatalAt: isFatal ? Math.max(...found.keys()) : null }
}

/** Where we and `ssh-keygen -L` differ about a line; null where not. What it refuses we may refuse, and what it accepts. */
export function difference(certificate: Certificate, listing: string | null): string | null {
  if (listing === null) return 'ssh-keygen refuses it'
  const family = (type: string): string => {
    const [, ofToken = '', name = ''] = /^(sk-)?(?:ssh-)?([a-z]\w*)/.exec(type) ?? []
    return `${name.toUpperCase()}${ofToken === '' ? '' : '-SK'}`
  }
  const { kind, keyType, publicKey, ca, keyId, serial, principals, criticalOptions } = certificate
  const wanted = [
    `        Type: ${keyType}-cert-v01@openssh.com ${kind} certificate`,
    `        Public key: ${family(keyType)}-CERT ${publicKey.fingerprint}`,
    `        Signing CA: ${family(ca.type)} ${ca.fingerprint} (using ${certificate.signatureAlgorithm})`,
    `        Key ID: "${keyId}"`,
    `        Serial: ${serial}`,
    ...validityLines(certificate),
    principals.length === 0 ? '        Principals: (none)' : '        Principals: ',
    ...principals.map((principal) => `                ${principal}`),
    criticalOptions.size === 0 ? '        Critical Options: (none)' : '        Critical Options: ',
  ].join('\n')
  const printed = validityLines(certificate).length > 0 ? listing : listing.replace(/^ {8}Valid: .*\n/m, '')
  if (!printed.startsWith(`${wanted}\n`))
    return `${JSON.stringify(printed)}, wanted ${JSON.stringify(wanted)}`
  let rest = printed.slice(wanted.length + 1)
  for (const [name, value] of criticalOptions) {
    const forms = optionForms(value).map((form) => `                ${name} ${form}\n`)
    const form = [...forms, `                ${name}\n`].find((one) => rest.startsWith(one))
    if (form === undefined) return `option ${JSON.stringify([name, value])}: ${JSON.stringify(rest)}`
    rest = rest.slice(form.length)
  }
  return rest.startsWith('        Extensions: ') ? null : `behind the options: ${JSON.stringify(rest)}`
}

/** Plain, or the raw data in hexadecimal, which is a string within a string or anything else. */
function optionForms(value: string): string[] {
  const unknown = (hex: string): string => `UNKNOWN OPTION: ${hex} (len ${hex.length / 2})`
  return [value, unknown(sshString(value).toString('hex')), unknown(value), 'UNKNOWN FLAG OPTION']
}

function validityLines({ validAfter, validBefore }: Certificate): string[] {
  const isPrinted = (at: bigint): boolean => at === FOREVER || at <= LAST_YEAR
  // All bits set in `valid after` is a moment beyond all calendars.
  if (validAfter > LAST_YEAR || !isPrinted(validBefore)) return []
  const [from, to] = [validAfter, validBefore].map((at) => formatCertificateTime(at)?.replace('Z', '') ?? '')
  if (validAfter === 0n) return [`        Valid: ${validBefore === FOREVER ? 'forever' : `before ${to}`}`]
  return [`        Valid: ${validBefore === FOREVER ? `after ${from}` : `from ${from} to ${to}`}`]
}
