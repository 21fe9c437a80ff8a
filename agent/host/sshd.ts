import { readdir } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { ErrorCode } from '../cert/errors.ts'
import { CERTIFICATE_SUFFIX, certificateFileOf } from '../cert/host-certificate.ts'
import { oneLine, reasonOf, systemCodeOf } from '../cert/text.ts'
import type { Sshd, SshdOutcome } from '../renewal/ports.ts'
import { isSocket, readBoundedFile, SMALL_FILE_BYTES } from './files.ts'
import { runProgram } from './programs.ts'

export interface SshdOptions {
  /** Program and arguments, no shell; takes precedence over the helper. */
  readonly reloadCommand: readonly string[] | null
  /** The helper's socket; looked for at each use, for the package may come and go. */
  readonly helperSocket?: string
  /** Where the helper copies to. */
  readonly copiesDirectory?: string
  /** The helper's part of sshd's configuration. */
  readonly dropIn?: string
  readonly commandTimeoutMilliseconds?: number
  readonly helperTimeoutMilliseconds?: number
  /** How long to wait before each further try when the helper is busy. */
  readonly busyPauses?: readonly number[]
}

export const HELPER_SOCKET = '/run/hostcertd-reload.sock'
/** Where sshd of a packaged host reads certificates. */
export const COPIES_DIRECTORY = '/etc/ssh/hostcertd'
/** The helper's part of sshd's configuration. */
export const DROP_IN = '/etc/ssh/sshd_config.d/40-hostcertd.conf'
const COMMAND_TIMEOUT_MILLISECONDS = 30_000
/** The helper's unit gives it 30 s. */
const HELPER_TIMEOUT_MILLISECONDS = 35_000
/** A helper that ends without an answer after longer than this was at work. */
const REFUSED_WITHIN_MILLISECONDS = 5_000
const BUSY_PAUSES = [100, 300, 1000, 3000]
/** Characters. */
const LONGEST_ANSWER = 64 * 1024
/** EX_CONFIG of sysexits(3): the exit status of a reload command if sshd's configuration is bad. */
const CONFIG_STATUS = 78

const ADDRESS = String.raw`(?:\[[\w:.%-]+\]|[\w.*-]+):\d{1,5}`
const ANSWER = new RegExp(
  String.raw`^(?:ok|busy retry=(?<retry>[1-9]\d{0,3})|error (?<code>SSHD_CONFIG_INVALID|SSHD_RELOAD_FAILED|STORE_FAILED))` +
    String.raw` listen=(?<listen>(?:${ADDRESS}(?:,${ADDRESS})*)?)(?: reload=(?<reload>yes|no))?(?: : (?<text>.*))?$`,
)

/** The way to what root does: `sshd.reload_command`, else the packaged helper, else none. */
export function createSshd(options: SshdOptions): Sshd {
  const { reloadCommand, copiesDirectory = COPIES_DIRECTORY, dropIn = DROP_IN } = options
  const helperSocket = options.helperSocket ?? HELPER_SOCKET
  const usesHelper = (): boolean => reloadCommand === null && isSocket(helperSocket)
  let lastSeen: Wanted = { staged: new Map(), present: [] }
  /**
   * What still differs after the helper did its work, it left out for a reason: it is asked again only when this changes,
   * for its notes may be out of date then, too.
   */
  let settled = ''

  const askHelper = async (word: 'install' | 'reload', signal: AbortSignal): Promise<SshdOutcome> => {
    const timeoutMilliseconds = options.helperTimeoutMilliseconds ?? HELPER_TIMEOUT_MILLISECONDS
    for (const pause of [0, ...(options.busyPauses ?? BUSY_PAUSES)]) {
      await wait(pause, undefined, { signal }).catch(() => signal.throwIfAborted())
      const reply = await exchange(helperSocket, word, timeoutMilliseconds, signal)
      if (reply.kind === 'failed') return failed('SSHD_RELOAD_FAILED', `${helperSocket}: ${reply.why}`)
      if (reply.kind === 'line') return readAnswer(reply.line, helperSocket)
    }
    const where = "busy, or failing: see journalctl -u 'hostcertd-reload@*'"
    return failed('SSHD_RELOAD_FAILED', `${helperSocket}: the helper did not answer: ${where}`)
  }

  return {
    get hasHelper() {
      return usesHelper()
    },
    get canReload() {
      return reloadCommand !== null || usesHelper()
    },
    install: async (signal) => {
      signal.throwIfAborted()
      if (!usesHelper()) return DONE
      const outcome = await askHelper('install', signal)
      if (outcome.kind === 'done') settled = await differences(lastSeen, copiesDirectory, dropIn)
      return outcome
    },
    installNeeded: async (staged, present) => {
      lastSeen = { staged, present }
      if (!usesHelper()) return false
      return (await differences(lastSeen, copiesDirectory, dropIn)) !== settled
    },
    reload: async (signal) => {
      signal.throwIfAborted()
      if (reloadCommand !== null) {
        const limit = options.commandTimeoutMilliseconds ?? COMMAND_TIMEOUT_MILLISECONDS
        return await runReloadCommand(reloadCommand, limit, signal)
      }
      if (usesHelper()) return await askHelper('reload', signal)
      return failed('SSHD_RELOAD_FAILED', `no reload_command is set and there is no ${helperSocket}`)
    },
  }
}

const DONE: SshdOutcome = { kind: 'done', listen: [], notes: [], reloadNeeded: false }

function failed(code: ErrorCode, message: string): SshdOutcome {
  return { kind: 'failed', failure: { code, message } }
}

async function runReloadCommand(
  command: readonly string[],
  timeoutMilliseconds: number,
  signal: AbortSignal,
): Promise<SshdOutcome> {
  const result = await runProgram(command, { timeoutMilliseconds, signal })
  if (result.status === 0) return DONE
  const said = result.stderr.trim() === '' ? 'there was no message on stderr' : oneLine(result.stderr)
  const why = result.failure ?? `${oneLine(command[0] ?? '')} ended with status ${result.status}: ${said}`
  const code = result.status === CONFIG_STATUS ? 'SSHD_CONFIG_INVALID' : 'SSHD_RELOAD_FAILED'
  return failed(code, `reload_command failed: ${why}`)
}

/** `busy`: closed without a byte, which is how systemd treats a connection beyond MaxConnections. */
type Reply =
  | { readonly kind: 'line'; readonly line: string }
  | { readonly kind: 'busy' }
  | { readonly kind: 'failed'; readonly why: string }

/** Closed, or its queue is full (EAGAIN): another client is being served. */
const BUSY_CODES: readonly (string | null)[] = ['ECONNRESET', 'EPIPE', 'EAGAIN']

/** One word to the helper, one line from it. */
function exchange(
  socketPath: string,
  word: string,
  timeoutMilliseconds: number,
  signal: AbortSignal,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const startedAt = performance.now()
    const socket = createConnection({ path: socketPath })
    let received = ''
    const end = (): void => {
      clearTimeout(timeout)
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
    }
    const settle = (reply: Reply): void => {
      end()
      resolve(reply)
    }
    const onAbort = (): void => {
      end()
      reject(signal.reason)
    }
    const timeout = setTimeout(() => {
      settle({ kind: 'failed', why: `no answer after ${timeoutMilliseconds / 1000} s` })
    }, timeoutMilliseconds)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('connect', () => socket.write(`${word}\n`))
    socket.setEncoding('utf8')
    socket.on('data', (chunk) => {
      received += String(chunk)
      const lineEnd = received.indexOf('\n')
      if (received.length > LONGEST_ANSWER) settle({ kind: 'failed', why: 'the answer is too long' })
      else if (lineEnd !== -1) settle({ kind: 'line', line: received.slice(0, lineEnd) })
    })
    socket.once('end', () => {
      // Beyond MaxConnections it is closed at once; later it was ended, by the time limit of its unit perhaps.
      const isRefused = received === '' && performance.now() - startedAt < REFUSED_WITHIN_MILLISECONDS
      settle(isRefused ? { kind: 'busy' } : { kind: 'failed', why: 'the answer is cut short' })
    })
    socket.once('error', (error) => {
      const busy = received === '' && BUSY_CODES.includes(systemCodeOf(error))
      settle(busy ? { kind: 'busy' } : { kind: 'failed', why: reasonOf(error) })
    })
  })
}

/**
 * The helper's answer: `ok listen=HOST:PORT[,HOST:PORT…] reload=yes|no[ : NOTE[TAB NOTE…]]`,
 * `busy retry=SECONDS listen=…` or `error CODE listen=… : MESSAGE`.
 */
function readAnswer(line: string, socketPath: string): SshdOutcome {
  const { code, retry, listen = '', reload, text } = ANSWER.exec(line)?.groups ?? {}
  const addresses = listen === '' ? [] : listen.split(',')
  if (code !== undefined && text !== undefined) return failed(code as ErrorCode, oneLine(text))
  if (retry !== undefined && reload === undefined && text === undefined) {
    return { kind: 'busy', retrySeconds: Number(retry), listen: addresses }
  }
  if (code === undefined && retry === undefined && reload !== undefined) {
    const notes = (text ?? '').split('\t').map(oneLine)
    return {
      kind: 'done',
      listen: addresses,
      notes: notes.filter((note) => note !== ''),
      reloadNeeded: reload === 'yes',
    }
  }
  return failed('SSHD_RELOAD_FAILED', `${socketPath}: an answer that is not understood: ${oneLine(line)}`)
}

interface Wanted {
  readonly staged: ReadonlyMap<string, string>
  readonly present: readonly string[]
}

/**
 * A line for each certificate whose copy is not seen to be the same, for each copy too many, and for a drop-in that is
 * seen to be another than the helper writes; empty when there is none.
 */
async function differences({ staged, present }: Wanted, copies: string, dropIn: string): Promise<string> {
  const lines: string[] = []
  for (const [name, certificate] of staged) {
    const copy = await readText(join(copies, certificateFileOf(name))).catch(() => null)
    if (certificate !== copy) lines.push(`${name} ${certificate} ${copy}`)
  }
  const files = await copiesIn(copies)
  // If the folder cannot be listed, its content is unknown.
  if (files === null) return lines.join('\n')
  for (const file of files) {
    const name = basename(file, CERTIFICATE_SUFFIX)
    if (!present.includes(name)) lines.push(name)
  }
  const wanted = dropInText(copies, files)
  // Nor does a drop-in that cannot be read.
  const text = await readText(dropIn).catch(() => wanted)
  if (text !== wanted) lines.push(`${dropIn} ${text}`)
  return lines.join('\n')
}

const FIRST_LINE = '# Written by hostcertd for each certificate that there is; changes are lost.'

/**
 * The drop-in that the helper writes: a line for each copy, in the order of their bytes, in quotes where the name
 * needs them. Null when there are no copies, for then there is no drop-in.
 */
export function dropInText(directory: string, files: readonly string[]): string | null {
  if (files.length === 0) return null
  const sorted = files.toSorted((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
  const paths = sorted.map((file) => join(directory, file))
  const values = paths.map((path) => (/[^A-Za-z0-9._/@+-]/.test(path) ? `"${path}"` : path))
  return [FIRST_LINE, ...values.map((value) => `HostCertificate ${value}`), ''].join('\n')
}

/** File names of the copies, as far as the helper takes them for such; null when that cannot be known. */
async function copiesIn(folder: string): Promise<string[] | null> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries
      .filter(
        (entry) => entry.isFile() && entry.name.endsWith(CERTIFICATE_SUFFIX) && !entry.name.startsWith('.'),
      )
      .map(({ name }) => name)
  } catch (error) {
    return systemCodeOf(error) === 'ENOENT' ? [] : null
  }
}

/** Its text; null when there is no such file. */
async function readText(path: string): Promise<string | null> {
  try {
    return await readBoundedFile(path, SMALL_FILE_BYTES)
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return null
    throw error
  }
}
