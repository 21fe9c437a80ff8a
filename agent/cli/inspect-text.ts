import { formatDuration, type UnixSeconds } from '../core/time.ts'
import type { InspectedCertificate, InspectEntry } from './inspect.ts'

/**
 * The same for people: a block of aligned lines for each file.
 *
 * @param now seconds since the epoch: adds how long the certificate still lasts
 * @returns without a newline at the end; what stands in the certificate cannot steer a terminal
 */
export function formatInspection(entries: readonly InspectEntry[], now?: UnixSeconds): string {
  return entries.map((entry) => formatEntry(entry, now)).join('\n\n')
}

function formatEntry(entry: InspectEntry, now: UnixSeconds | undefined): string {
  const name = entry.file === '-' ? 'standard input' : printable(entry.file)
  if ('error' in entry) return `${name}:\n  ${entry.error.code} ${printable(entry.error.message)}`
  const rows: (readonly [label: string, value: string])[] = [
    ['type', `${entry.type} certificate`],
    ['key', `${entry.key_type} ${entry.public_key_fingerprint}`],
    ['key id', `"${printable(entry.key_id)}"`],
    ['serial', entry.serial],
    ['validity', validity(entry) + (now === undefined ? '' : validityHint(entry, now))],
    ['principals', entry.principals.map(listed).join(', ') || 'none: good for any name'],
    ...optionRow('critical', entry.critical_options),
    ...optionRow('extensions', entry.extensions),
    ['CA', `${entry.ca_key_type} ${entry.ca_fingerprint}`],
    ['signature', signatureText(entry)],
  ]
  return [`${name}:`, ...rows.map(([label, value]) => `  ${label.padEnd(12)}${value}`)].join('\n')
}

function signatureText({ signature_algorithm, signature_valid }: InspectedCertificate): string {
  return `${printable(signature_algorithm)}, ${signature_valid ? 'good' : 'BAD: it does not hold'}`
}

function validity({ valid_after, valid_before }: InspectedCertificate): string {
  return `from ${valid_after ?? 'never'} ${valid_before === null ? 'forever' : `to ${valid_before}`}`
}

/** Empty for times past the year 9999, which are as good as forever. */
function validityHint({ valid_after, valid_before }: InspectedCertificate, now: UnixSeconds): string {
  const starts = Date.parse(valid_after ?? '') / 1000
  const ends = Date.parse(valid_before ?? '') / 1000
  if (ends <= now) return ` (ended ${formatDuration(now - ends)} ago)`
  if (starts > now) return ` (starts in ${formatDuration(starts - now)})`
  return ends > now ? ` (ends in ${formatDuration(ends - now)})` : ''
}

function optionRow(label: string, options: Readonly<Record<string, string>>): [string, string][] {
  const texts = Object.entries(options).map(([name, value]) =>
    value === '' ? listed(name) : `${listed(name)}=${listed(value)}`,
  )
  return texts.length === 0 ? [] : [[label, texts.join(', ')]]
}

/** An item of a list, in quotes when it would not be told from its neighbours without. */
function listed(text: string): string {
  return /^[^\s,"]+$/.test(text) ? printable(text) : `"${printable(text)}"`
}

/** Controls and what turns or hides text, as escapes. */
function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  )
}
