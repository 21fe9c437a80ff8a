import { mkdir } from 'node:fs/promises'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { splitKeyLine } from '../cert/public-key.ts'
import { oneLine } from '../cert/text.ts'
import { certificateTypeOf, outlineOf } from '../cert/wire.ts'
import { pathsMatching, readBoundedFile, SMALL_FILE_BYTES } from './files.ts'
import { type LoadedKey, readLoadedKey } from './key-pairs.ts'
import { findProgram, type ProgramResult, runProgram } from './programs.ts'

interface SshdConfigurationOptions {
  /** sshd's main configuration file. */
  readonly file: string
  /** Absolute path of sshd. */
  readonly program: string
}

/** One line of the files, as they are written. */
export interface SshdDirective {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** In lower case. */
  readonly keyword: string
  /** Without quotes and a comment behind it. */
  readonly value: string
  /** The same, word by word. */
  readonly words: readonly string[]
  /** Whether it stands below a `Match` line of its own file, or its file is included from there. `Match all` ends one. */
  readonly inMatch: boolean
  /** How many Includes lead to its file; 0 for the main one. */
  readonly depth: number
}

/** What sshd makes of its files. */
interface EffectiveSshd {
  /** Of private halves; with an agent, of public ones too. Never empty. */
  readonly hostKeys: readonly string[]
  /** In the order in which sshd reads them: of several for one key the last that can be loaded counts. */
  readonly hostCertificates: readonly string[]
  /** Empty when sshd did not say. */
  readonly hostKeyAlgorithms: readonly string[]
  /** `HOST:PORT`, an IPv6 address in brackets. Behind ssh.socket it is systemd that listens, maybe elsewhere. */
  readonly listen: readonly string[]
}

export type SshdAnswer =
  | { readonly kind: 'effective'; readonly settings: EffectiveSshd }
  /** It does not accept its configuration; why, in its own words. */
  | { readonly kind: 'refused'; readonly why: string }
  /** It accepts it, and none of its host keys can be loaded; why, in its own words. */
  | { readonly kind: 'no-host-keys'; readonly why: string }
  /** The folder is missing that is there only while sshd runs; its own words. */
  | { readonly kind: 'no-runtime-folder'; readonly why: string }
  /** It could not be asked, or what it said is not understood. Says nothing about the configuration. */
  | { readonly kind: 'unknown'; readonly why: string }

/** Whether sshd accepts its configuration; `why` is in its own words. */
export type SshdCheck =
  | { readonly kind: 'ok' }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'unknown'; readonly why: string }

/** By `sshd -T` without a `HostKey` line: servconf.c, fill_default_server_options. */
export const DEFAULT_HOST_KEYS = ['rsa', 'ecdsa', 'ed25519'].map((type) => `/etc/ssh/ssh_host_${type}_key`)

/** Not there while a socket-activated sshd idles. */
const RUNTIME_FOLDER = '/run/sshd'

/** sshd gives up at as many: servconf.c, SERVCONF_MAX_DEPTH. */
const MAX_DEPTH = 16
const LIMIT_BYTES = 1024 * 1024
const A_CONNECTION = 'user=root,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22'
const TIMEOUT_MILLISECONDS = 10_000
/** sshd_config(5), Include: what is not absolute lies there. */
const INCLUDE_FOLDER = '/etc/ssh'

/** sshd's configuration, as it is written and as sshd understands it. Changes nothing. */
export class SshdConfiguration {
  readonly file: string
  readonly #program: string

  constructor({ file, program }: SshdConfigurationOptions) {
    this.file = resolve(file)
    this.#program = program
  }

  /** `sshd -T`. Only root may: it reads the private host keys. */
  async effective(signal: AbortSignal): Promise<SshdAnswer> {
    const limits = { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal, outputBytes: LIMIT_BYTES }
    const argv = [this.#program, '-T', '-f', this.file]
    const plain = await runProgram(argv, limits)
    // `Match LocalPort` makes it want to be told of a connection; what is read here cannot stand in a Match block.
    const result = plain.status === 0 ? plain : await runProgram([...argv, '-C', A_CONNECTION], limits)
    return result.status === 0 ? readSettings(result.stdout) : readRefusal(result, '-T')
  }

  /** `sshd -t`. Only root may. Without the folder that it wants nothing is known: {@link makeRuntimeFolder}. */
  async check(signal: AbortSignal): Promise<SshdCheck> {
    const limits = { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal }
    const result = await runProgram([this.#program, '-t', '-f', this.file], limits)
    if (result.status === 0) return { kind: 'ok' }
    const { kind, why } = readRefusal(result, '-t')
    return { kind: kind === 'refused' || kind === 'no-host-keys' ? 'refused' : 'unknown', why }
  }

  /** Every line that sshd reads, includes in their places; what cannot be read is left out. */
  async directives(): Promise<SshdDirective[]> {
    return this.#read(this.file, false, 0)
  }

  /**
   * Drop-ins beside the main file that no `Include` of it reaches.
   *
   * @param directives of {@link directives}
   */
  async unreadDropIns(directives: readonly SshdDirective[]): Promise<SshdDirective[]> {
    const reached = new Set(directives.map(({ file }) => file))
    const unread: SshdDirective[] = []
    for (const path of await matches(join(dirname(this.file), 'sshd_config.d', '*.conf'))) {
      if (!reached.has(path)) unread.push(...(await this.#read(path, false, MAX_DEPTH)))
    }
    return unread
  }

  async #read(file: string, isConditional: boolean, depth: number): Promise<SshdDirective[]> {
    const text = await readBoundedFile(file, LIMIT_BYTES).catch(() => '')
    const found: SshdDirective[] = []
    let inMatch = isConditional
    for (const [index, written] of text.split('\n').entries()) {
      const [, quoted = '', name = quoted, rest = ''] = DIRECTIVE.exec(written) ?? []
      if (name === '') continue
      const keyword = name.toLowerCase()
      const words = wordsOf(rest)
      const value = words.join(' ')
      if (keyword === 'match') inMatch = isConditional || value.toLowerCase() !== 'all'
      found.push({ file, line: index + 1, keyword, value, words, inMatch, depth })
      if (keyword !== 'include' || depth >= MAX_DEPTH) continue
      for (const pattern of includePatterns(words)) {
        for (const path of await matches(pattern)) found.push(...(await this.#read(path, inMatch, depth + 1)))
      }
    }
    return found
  }
}

/** A line is `keyword value`; OpenSSH prints keywords in lower case up to 10.3, as in sshd_config(5) since. */
function readSettings(stdout: string): SshdAnswer {
  const lines = stdout.split('\n').map((line) => /^(\S+) (.*?)\s*$/.exec(line))
  const values = (keyword: string): string[] =>
    lines.flatMap((match) => (match?.[1]?.toLowerCase() === keyword ? [match[2] ?? ''] : []))
  const hostKeys = values('hostkey')
  // sshd does not start without one.
  if (hostKeys.length === 0) return { kind: 'unknown', why: 'sshd -T printed no HostKey line' }
  const settings = {
    hostKeys,
    hostCertificates: values('hostcertificate').filter((path) => path !== 'none'),
    hostKeyAlgorithms: values('hostkeyalgorithms').flatMap((list) => list.split(',')),
    listen: values('listenaddress').map((address) => address.replace(/ .*/, '')),
  }
  return { kind: 'effective', settings }
}

type Refusal = Exclude<SshdAnswer, { kind: 'effective' }>

function readRefusal({ status, failure, stderr }: ProgramResult, option: '-t' | '-T'): Refusal {
  if (failure !== null) return { kind: 'unknown', why: failure }
  // Without the frames around warnings.
  const why = oneLine(stderr.replace(/^@.*$/gm, ''))
  if (why === '')
    return { kind: 'unknown', why: `sshd ${option} ended with status ${status} and printed nothing` }
  if (stderr.includes('Missing privilege separation directory')) return { kind: 'no-runtime-folder', why }
  return { kind: stderr.includes('no hostkeys available') ? 'no-host-keys' : 'refused', why }
}

/** A keyword, maybe in quotes, and what follows it: servconf.c and strdelim in misc.c. */
const DIRECTIVE = /^\s*(?:"([A-Za-z]\w*)"|([A-Za-z]\w*))(?:\s*=\s*|\s+)(.*)$/s
const IN_DOUBLE = String.raw`"((?:\\["'\\]|\\(?!["'\\])|[^"\\])*)"`
const IN_SINGLE = String.raw`'((?:\\["'\\]|\\(?!["'\\])|[^'\\])*)'`
const ESCAPED = String.raw`\\(["'\\ ])`
const WORD = new RegExp(`(?:${IN_DOUBLE}|${IN_SINGLE}|${ESCAPED}|\\S)+`, 'g')
const QUOTED_PART = new RegExp(`${IN_DOUBLE}|${IN_SINGLE}|${ESCAPED}`, 'g')

/** As argv_split in misc.c: words, any part of them in quotes, up to one that begins with `#`. */
function wordsOf(text: string): string[] {
  const words: string[] = []
  for (const [word] of text.matchAll(WORD)) {
    if (word.startsWith('#')) break
    words.push(
      word.replace(
        QUOTED_PART,
        (_part, double: string | undefined, single: string | undefined, escaped: string | undefined) =>
          escaped ?? (double ?? single ?? '').replace(/\\(["'\\])/g, '$1'),
      ),
    )
  }
  return words
}

/** @param words of an Include line */
export function includePatterns(words: readonly string[]): string[] {
  return words.map((word) => (isAbsolute(word) ? word : join(INCLUDE_FOLDER, word)))
}

/** In the order in which sshd reads them. */
async function matches(pattern: string): Promise<string[]> {
  return (await pathsMatching(pattern)).toSorted()
}

/** What sshd's configuration says, and what lies behind the paths in it. */
export interface SshdFacts {
  readonly file: string
  /** `not-root`: only root may ask. */
  readonly answer: SshdAnswer | { readonly kind: 'not-root' } | { readonly kind: 'no-sshd' }
  /** The lines as written. */
  readonly written: readonly SshdDirective[]
  /** Of drop-ins that nothing includes. */
  readonly unread: readonly SshdDirective[]
  /** Host keys that sshd is configured to load; empty when that is not known. */
  readonly loaded: readonly LoadedKey[]
  /** HostCertificate lines in the order in which sshd reads them. */
  readonly certificates: readonly CertificateLine[]
}

export interface CertificateLine {
  readonly path: string
  /** Where it is written; null when no line that we can read says so. */
  readonly at: string | null
  /** Of the certificate in it; null when sshd could not load any. */
  readonly blob: Buffer | null
}

interface ReadingSshd {
  readonly isRoot: boolean
  readonly signal: AbortSignal
  readonly sshdConfigFile: string
}

export async function readSshd({ isRoot, signal, sshdConfigFile }: ReadingSshd): Promise<SshdFacts> {
  const program = await findProgram('sshd')
  const sshd = new SshdConfiguration({ file: sshdConfigFile, program: program ?? '' })
  const { file } = sshd
  const nothing = { file, written: [], unread: [], loaded: [], certificates: [] }
  if (program === null) return { ...nothing, answer: { kind: 'no-sshd' } }
  const written = await sshd.directives()
  const unread = await sshd.unreadDropIns(written)
  const answer = isRoot ? await sshd.effective(signal) : ({ kind: 'not-root' } as const)
  const loaded: LoadedKey[] = []
  const hostKeys = answer.kind === 'effective' ? answer.settings.hostKeys : []
  for (const path of hostKeys) loaded.push(await readLoadedKey(path, signal))
  const lines = linesOf(written, 'hostcertificate')
  const paths =
    answer.kind === 'effective' ? answer.settings.hostCertificates : lines.map(({ value }) => value)
  const certificates: CertificateLine[] = []
  for (const path of paths) {
    const line = lines.findLast(({ value }) => value === path)
    certificates.push({
      path,
      at: line === undefined ? null : placeOf(line),
      blob: await readCertificate(path),
    })
  }
  return { file, answer, written, unread, loaded, certificates }
}

/** Those that count: sshd does not accept these keywords below a Match line. */
export function linesOf(written: readonly SshdDirective[], wanted: string): SshdDirective[] {
  return written.filter(({ keyword, inMatch }) => keyword === wanted && !inMatch)
}

/** `FILE:LINE`. */
export function placeOf({ file, line }: SshdDirective): string {
  return `${file}:${line}`
}

/** The `HostKeyAgent` line that counts; null when none does. */
export function agentOf({ written }: SshdFacts): SshdDirective | null {
  const [line] = linesOf(written, 'hostkeyagent')
  return line === undefined || line.value.toLowerCase() === 'none' ? null : line
}

/** As sshd loads one: the first line of a file that is a key; with `.pub` behind the path when there is none. */
export async function readCertificate(path: string): Promise<Buffer | null> {
  for (const place of [path, `${path}.pub`]) {
    const text = await readBoundedFile(place, SMALL_FILE_BYTES).catch(() => '')
    for (const line of text.split(/\r?\n/)) {
      const { blob } = splitKeyLine(line)
      if (blob !== null) return outlineOf(blob) === null ? null : blob
    }
  }
  return null
}

/** By which sshd can present a certificate for a key of this type; for RSA the names of signatures: PROTOCOL.certkeys. */
export function certificateAlgorithmsOf(keyType: string): string[] {
  const type = certificateTypeOf(keyType)
  if (type === null) return []
  return keyType === 'ssh-rsa'
    ? ['rsa-sha2-512-cert-v01@openssh.com', 'rsa-sha2-256-cert-v01@openssh.com', type]
    : [type]
}

/**
 * Whether no certificate for a key of this type can be presented.
 *
 * @param algorithms HostKeyAlgorithms as sshd has it; an empty list, or one with patterns, says nothing
 */
export function excludesCertificates(algorithms: readonly string[], keyType: string): boolean {
  if (algorithms.length === 0 || algorithms.some((name) => /[*?]/.test(name))) return false
  const types = certificateAlgorithmsOf(keyType)
  return types.length > 0 && !types.some((type) => algorithms.includes(type))
}

/** Make the folder without which root's sshd answers nothing, as the root helper does. */
export async function makeRuntimeFolder(): Promise<void> {
  // Where it cannot be made, sshd says so itself.
  await mkdir(RUNTIME_FOLDER, { mode: 0o755 }).catch(() => undefined)
}
