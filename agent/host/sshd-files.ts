import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { splitKeyLine } from '../cert/public-key.ts'
import { oneLine } from '../cert/text.ts'
import { certificateTypeOf, outlineOf } from '../cert/wire.ts'
import { readBoundedFile, SMALL_FILE_BYTES } from './files.ts'
import { type LoadedKey, readLoadedKey } from './key-pairs.ts'
import { findProgram, type ProgramResult, runProgram } from './programs.ts'
import {
  isNone,
  linesOf,
  placeOf,
  readDirectives,
  readUnreadDropIns,
  type SshdDirective,
} from './sshd-directives.ts'

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

const LIMIT_BYTES = 1024 * 1024
const A_CONNECTION = 'user=root,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22'
const TIMEOUT_MILLISECONDS = 10_000
/** As of a service: sshd takes relative paths of keys from there. */
const WORKING_FOLDER = '/'

/** What sshd says of its configuration. */
export class SshdConfiguration {
  readonly #program: string
  readonly #file: string

  /**
   * @param program absolute path of sshd
   * @param file its main configuration file
   */
  constructor(program: string, file: string) {
    this.#program = program
    this.#file = resolve(file)
  }

  /** `sshd -T`. Only root may: it reads the private host keys. */
  async effective(signal: AbortSignal): Promise<SshdAnswer> {
    const plain = await this.#run(['-T'], signal)
    // With `Match LocalPort` it asks for a connection; no keyword that is read here may be below a Match line.
    const result = plain.status === 0 ? plain : await this.#run(['-T', '-C', A_CONNECTION], signal)
    return result.status === 0 ? readSettings(result.stdout) : readRefusal(result, '-T')
  }

  /** `sshd -t`. Only root may. Without the runtime folder the answer is unknown: {@link makeRuntimeFolder}. */
  async check(signal: AbortSignal): Promise<SshdCheck> {
    const result = await this.#run(['-t'], signal)
    if (result.status === 0) return { kind: 'ok' }
    const { kind, why } = readRefusal(result, '-t')
    return { kind: kind === 'refused' || kind === 'no-host-keys' ? 'refused' : 'unknown', why }
  }

  async #run(options: readonly string[], signal: AbortSignal): Promise<ProgramResult> {
    return runProgram([this.#program, ...options, '-f', this.#file], {
      timeoutMilliseconds: TIMEOUT_MILLISECONDS,
      signal,
      outputBytes: LIMIT_BYTES,
      folder: WORKING_FOLDER,
    })
  }
}

/** What sshd prints for `none` in the place of a path: printf(3) of a null pointer. */
const NO_PATH = ['none', '(null)']

/** A line is `keyword value`; OpenSSH prints keywords in lower case up to 10.3, as in sshd_config(5) since. */
function readSettings(stdout: string): SshdAnswer {
  const lines = stdout.split('\n').map((line) => /^(\S+) (.*?)\s*$/.exec(line))
  const values = (keyword: string): string[] =>
    lines.flatMap((match) => (match?.[1]?.toLowerCase() === keyword ? [match[2] ?? ''] : []))
  const paths = (keyword: string): string[] => values(keyword).filter((path) => !NO_PATH.includes(path))
  const hostKeys = paths('hostkey')
  // sshd does not start without one.
  if (hostKeys.length === 0) return { kind: 'unknown', why: 'sshd -T printed no HostKey line' }
  const settings = {
    hostKeys,
    hostCertificates: paths('hostcertificate'),
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
  const file = resolve(sshdConfigFile)
  const nothing = { file, written: [], unread: [], loaded: [], certificates: [] }
  if (program === null) return { ...nothing, answer: { kind: 'no-sshd' } }
  const written = await readDirectives(file)
  const unread = await readUnreadDropIns(file, written)
  const answer = isRoot
    ? await new SshdConfiguration(program, file).effective(signal)
    : ({ kind: 'not-root' } as const)
  const loaded: LoadedKey[] = []
  const hostKeys = answer.kind === 'effective' ? answer.settings.hostKeys : []
  for (const path of hostKeys) loaded.push(await readLoadedKey(path, signal))
  const lines = linesOf(written, 'hostcertificate').filter((line) => !isNone(line))
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

/** The `HostKeyAgent` line that counts; null when none does. */
export function agentOf({ written }: SshdFacts): SshdDirective | null {
  const [line] = linesOf(written, 'hostkeyagent')
  return line === undefined || isNone(line) ? null : line
}

/** As sshd loads one: the first line of a file that is a key; with `.pub` behind the path when there is none. */
export async function readCertificate(path: string): Promise<Buffer | null> {
  for (const place of [path, `${path}.pub`]) {
    const text = await readBoundedFile(resolve(WORKING_FOLDER, place), SMALL_FILE_BYTES).catch(() => '')
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
