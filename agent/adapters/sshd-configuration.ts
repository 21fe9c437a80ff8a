import { glob } from 'node:fs/promises'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { readBoundedFile } from '../system/bounded-file.ts'
import { oneLine } from '../system/one-line.ts'
import { runProgram } from '../system/run-program.ts'

export interface SshdConfigurationOptions {
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
  readonly value: string
  /** Whether it stands below a `Match` line of its own file, or its file is included from there. */
  readonly inMatch: boolean
}

/** What sshd makes of its files. */
export interface EffectiveSshd {
  /** Private halves. */
  readonly hostKeys: readonly string[]
  readonly hostCertificates: readonly string[]
  readonly hostKeyAlgorithms: readonly string[]
  /** `HOST:PORT`, an IPv6 address in brackets. Behind ssh.socket it is systemd that listens, maybe elsewhere. */
  readonly listen: readonly string[]
}

export type SshdAnswer =
  | { readonly kind: 'effective'; readonly settings: EffectiveSshd }
  /** It does not accept its configuration; why, in its own words. */
  | { readonly kind: 'refused'; readonly why: string }

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
    if (result.status !== 0) {
      const said = result.stderr.trim() === '' ? `status ${result.status}` : result.stderr
      return { kind: 'refused', why: result.failure ?? oneLine(said) }
    }
    const values = (keyword: string): string[] =>
      result.stdout
        .split('\n')
        .filter((line) => line.startsWith(`${keyword} `))
        .map((line) => line.slice(keyword.length + 1).trim())
    const settings = {
      hostKeys: values('hostkey'),
      hostCertificates: values('hostcertificate').filter((path) => path !== 'none'),
      hostKeyAlgorithms: values('hostkeyalgorithms').flatMap((list) => list.split(',')),
      listen: values('listenaddress').map((address) => address.replace(/ .*/, '')),
    }
    return { kind: 'effective', settings }
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
      const [, keyword = '', value = ''] = /^\s*([A-Za-z]\w*)(?:\s*=\s*|\s+)(.*?)\s*$/.exec(written) ?? []
      if (keyword === '') continue
      if (keyword.toLowerCase() === 'match') inMatch = true
      found.push({ file, line: index + 1, keyword: keyword.toLowerCase(), value, inMatch })
      if (keyword.toLowerCase() !== 'include' || depth >= MAX_DEPTH) continue
      for (const pattern of value.split(/\s+/).map(unquoted)) {
        const absolute = isAbsolute(pattern) ? pattern : join(INCLUDE_FOLDER, pattern)
        for (const path of await matches(absolute))
          found.push(...(await this.#read(path, inMatch, depth + 1)))
      }
    }
    return found
  }
}

function unquoted(text: string): string {
  return text.replace(/^"(.*)"$/, '$1')
}

/** In the order in which sshd reads them. */
async function matches(pattern: string): Promise<string[]> {
  const paths: string[] = []
  try {
    for await (const path of glob(pattern)) paths.push(resolve(path))
  } catch {
    // A folder that may not be looked into has nothing for us.
  }
  return paths.sort()
}
