import { createReadStream } from 'node:fs'
import { AgentError, type ErrorCode, messageOf } from '../cert/errors.ts'
import { type Certificate, isSignatureValid, parseCertificate } from '../cert/host-certificate.ts'
import { escapeControls } from '../cert/text.ts'
import { formatCertificateTime, formatDuration, type UnixSeconds } from '../cert/time.ts'
import { upperCaseWarning } from '../cert/verify-issued.ts'
import { type CliContext, type ConfigOption, EXIT, readConfig } from './context.ts'

/** What `inspect --json` prints for one file; the names are the interface's. */
type InspectEntry = InspectedCertificate | InspectFailure

export interface InspectedCertificate {
  readonly file: string
  readonly type: 'host' | 'user'
  /** Of the certified key, plain: `ssh-ed25519`. */
  readonly key_type: string
  readonly key_id: string
  /** Decimal; 64 bits do not fit a JSON number. */
  readonly serial: string
  /** RFC 3339 UTC. */
  readonly valid_after: string | null
  /** RFC 3339 UTC; null: forever. */
  readonly valid_before: string | null
  readonly principals: readonly string[]
  readonly critical_options: Readonly<Record<string, string>>
  readonly extensions: Readonly<Record<string, string>>
  readonly public_key_fingerprint: string
  readonly ca_key_type: string
  readonly ca_fingerprint: string
  readonly signature_algorithm: string
  /** Null: its type cannot be verified by this version. */
  readonly signature_valid: boolean | null
}

interface InspectFailure {
  readonly file: string
  readonly error: { readonly code: ErrorCode; readonly message: string }
}

/** The name that stands for standard input. */
const STDIN = '-'

/** A certificate with the longest RSA keys and a hundred principals is smaller by far. */
const MAX_BYTES = 64 * 1024

interface InspectOptions extends ConfigOption {
  readonly json?: boolean
}

/** `inspect`: what is in certificates; 1 if one cannot be parsed or its signature is bad. */
export async function inspect(
  context: CliContext,
  files: readonly string[],
  options: InspectOptions,
): Promise<number> {
  await dropPrivileges(context, options)
  const entries = await inspectFiles(files)
  if (options.json === true) context.out(`${JSON.stringify(entries, null, 2)}\n`)
  else context.out(`${formatInspection(entries, Date.now() / 1000)}\n`)
  return isEachSound(entries) ? EXIT.ok : EXIT.failed
}

/** The configuration serves only to name the user to become: one that is bad or absent is no reason to fail. */
async function dropPrivileges(context: CliContext, options: InspectOptions): Promise<void> {
  const { loaded } = await readConfig(context, options, false)
  if (loaded.kind === 'ok') await context.dropPrivileges(loaded.config.stateDirectory)
}

/**
 * Read and explain certificates, one a file, in the order given. Never throws: a file that cannot be read or parsed
 * becomes an entry with an error.
 *
 * @param files paths; `-` is standard input, which can be read once
 */
export async function inspectFiles(files: readonly string[]): Promise<InspectEntry[]> {
  const entries: InspectEntry[] = []
  for (const file of files) entries.push(await inspectFile(file))
  return entries
}

/** Whether each could be parsed and each signature holds, which one that cannot be verified is not known to: exit status 0. */
export function isEachSound(entries: readonly InspectEntry[]): boolean {
  return entries.every((entry) => !('error' in entry) && entry.signature_valid === true)
}

async function inspectFile(file: string): Promise<InspectEntry> {
  try {
    return describe(file, parseCertificate(withoutComments(await readText(file))))
  } catch (error) {
    const code = error instanceof AgentError ? error.code : 'CERT_UNPARSABLE'
    return { file, error: { code, message: messageOf(error) } }
  }
}

/** Pipes are read as well, so that `inspect <(…)` works. */
async function readText(file: string): Promise<string> {
  const stream: AsyncIterable<Buffer> =
    file === STDIN ? process.stdin : createReadStream(file, { end: MAX_BYTES })
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stream) {
    chunks.push(chunk)
    size += chunk.length
    if (size > MAX_BYTES)
      throw new AgentError('CERT_UNPARSABLE', `not an OpenSSH certificate: over ${MAX_BYTES} bytes`)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** As ssh-keygen has it; sshd has it otherwise, so what lies in a certificate's place may have none. */
function withoutComments(text: string): string {
  return text.replaceAll(/^[ \t]*#.*$/gm, '')
}

function describe(file: string, cert: Certificate): InspectedCertificate {
  return {
    file,
    type: cert.kind,
    key_type: cert.keyType,
    key_id: cert.keyId,
    serial: cert.serial.toString(),
    valid_after: formatCertificateTime(cert.validAfter),
    valid_before: formatCertificateTime(cert.validBefore),
    principals: cert.principals,
    critical_options: Object.fromEntries(cert.criticalOptions),
    extensions: Object.fromEntries(cert.extensions),
    public_key_fingerprint: cert.publicKey.fingerprint,
    ca_key_type: cert.ca.type,
    ca_fingerprint: cert.ca.fingerprint,
    signature_algorithm: cert.signatureAlgorithm,
    signature_valid: isSignatureValid(cert),
  }
}

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
  const name = entry.file === '-' ? 'standard input' : escapeControls(entry.file)
  if ('error' in entry) return `${name}:\n  ${entry.error.code} ${escapeControls(entry.error.message)}`
  const inUpperCase = entry.type === 'host' ? upperCaseWarning(entry.principals) : null
  const rows: (readonly [label: string, value: string])[] = [
    ['type', `${entry.type} certificate`],
    ['key', `${entry.key_type} ${entry.public_key_fingerprint}`],
    ['key id', `"${escapeControls(entry.key_id)}"`],
    ['serial', entry.serial],
    ['validity', validity(entry) + (now === undefined ? '' : validityHint(entry, now))],
    ['principals', entry.principals.map(listed).join(', ') || 'none: valid for any name'],
    ...optionRow('critical', entry.critical_options),
    ...optionRow('extensions', entry.extensions),
    ['CA', `${entry.ca_key_type} ${entry.ca_fingerprint}`],
    ['signature', signatureText(entry)],
    ...(inUpperCase === null ? [] : [['warning', inUpperCase] as const]),
  ]
  return [`${name}:`, ...rows.map(([label, value]) => `  ${label.padEnd(12)}${value}`)].join('\n')
}

function signatureText({ signature_algorithm, signature_valid }: InspectedCertificate): string {
  const verdict =
    signature_valid === null
      ? 'NOT VERIFIED: the type is not supported'
      : signature_valid
        ? 'valid'
        : 'INVALID'
  return `${escapeControls(signature_algorithm)}, ${verdict}`
}

function validity({ valid_after, valid_before }: InspectedCertificate): string {
  return `from ${valid_after ?? 'never'} ${valid_before === null ? 'forever' : `to ${valid_before}`}`
}

/** Empty for times past the year 9999, which are as good as forever. */
function validityHint({ valid_after, valid_before }: InspectedCertificate, now: UnixSeconds): string {
  const starts = Date.parse(valid_after ?? '') / 1000
  const ends = Date.parse(valid_before ?? '') / 1000
  if (ends <= now) return ` (expired ${formatDuration(now - ends)} ago)`
  if (starts > now) return ` (starts in ${formatDuration(starts - now)})`
  return ends > now ? ` (expires in ${formatDuration(ends - now)})` : ''
}

function optionRow(label: string, options: Readonly<Record<string, string>>): [string, string][] {
  const texts = Object.entries(options).map(([name, value]) =>
    value === '' ? listed(name) : `${listed(name)}=${listed(value)}`,
  )
  return texts.length === 0 ? [] : [[label, texts.join(', ')]]
}

/** An item of a list, in quotes when it would not be told from its neighbours without. */
function listed(text: string): string {
  return /^[^\s,"]+$/.test(text) ? escapeControls(text) : `"${escapeControls(text)}"`
}
