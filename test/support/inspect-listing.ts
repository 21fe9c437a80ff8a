import { certificateTypeOf } from '../../agent/cert/wire.ts'
import type { InspectedCertificate } from '../../agent/cli/inspect.ts'

/** All that `ssh-keygen -L` prints. */
interface Listing {
  readonly type: string
  readonly key: string
  readonly ca: string
  readonly keyId: string
  readonly serial: string
  readonly valid: string
  readonly principals: readonly string[]
  readonly critical: readonly string[]
  readonly extensions: readonly string[]
}

export function readListing(text: string): Listing {
  const one = (label: string): string => new RegExp(`^        ${label}: (.*)$`, 'm').exec(text)?.[1] ?? '?'
  const many = (label: string): string[] => {
    const block =
      new RegExp(`^        ${label}: (?:\\(none\\))?\n((?: {16}.*\n)*)`, 'm').exec(text)?.[1] ?? '?'
    return block
      .split('\n')
      .slice(0, -1)
      .map((line) => line.slice(16))
  }
  return {
    type: one('Type'),
    key: one('Public key'),
    ca: one('Signing CA'),
    keyId: one('Key ID'),
    serial: one('Serial'),
    valid: one('Valid'),
    principals: many('Principals'),
    critical: many('Critical Options').map(plainOption),
    extensions: many('Extensions').map(plainOption),
  }
}

/** OpenSSH prints the raw data of options that it does not know: a length and a text. */
function plainOption(line: string): string {
  const unknown = /^(\S+) UNKNOWN OPTION: ([0-9a-f]+) \(len \d+\)$/.exec(line)
  if (unknown !== null)
    return `${unknown[1]} ${Buffer.from(unknown[2] ?? '', 'hex')
      .subarray(4)
      .toString()}`
  return line.replace(/ UNKNOWN FLAG OPTION$/, '')
}

/** How OpenSSH calls a type for people. */
function family(type: string): string {
  const [name = ''] = type.split('@')
  if (name.startsWith('ecdsa')) return 'ECDSA'
  if (name.startsWith('sk-')) return name.includes('ecdsa') ? 'ECDSA-SK' : 'ED25519-SK'
  return name.slice('ssh-'.length).toUpperCase()
}

/** An entry in the words of `ssh-keygen -L`. */
export function comparable(entry: InspectedCertificate): Listing {
  const options = (all: Readonly<Record<string, string>>): string[] =>
    Object.entries(all).map(([name, value]) => (value === '' ? name : `${name} ${value}`))
  return {
    type: `${certificateTypeOf(entry.key_type)} ${entry.type} certificate`,
    key: `${family(entry.key_type)}-CERT ${entry.public_key_fingerprint}`,
    ca: `${family(entry.ca_key_type)} ${entry.ca_fingerprint} (using ${entry.signature_algorithm})`,
    keyId: `"${entry.key_id}"`,
    serial: entry.serial,
    valid: validText(entry),
    principals: entry.principals,
    critical: options(entry.critical_options),
    extensions: options(entry.extensions),
  }
}

function validText({ valid_after, valid_before }: InspectedCertificate): string {
  const from = valid_after === '1970-01-01T00:00:00Z' ? null : (valid_after?.replace('Z', '') ?? 'never')
  const to = valid_before?.replace('Z', '') ?? null
  if (from === null) return to === null ? 'forever' : `before ${to}`
  return to === null ? `after ${from}` : `from ${from} to ${to}`
}
