import { type ChildProcess, spawn } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { oneLine, reasonOf } from '../cert/text.ts'

interface ProgramLimits {
  /** Then it gets SIGTERM, and SIGKILL a second later. */
  readonly timeoutMilliseconds: number
  /** Of its standard output the first ones, of its standard error the last; the rest is read and dropped. */
  readonly outputBytes?: number
  /** Stops the program too. */
  readonly signal?: AbortSignal
  /** The only variables that it gets; left out: all of our own. */
  readonly environment?: Readonly<Record<string, string>>
  /** Its working directory; left out: our own. */
  readonly folder?: string
  /** Open files that the program gets as 3, 4 … */
  readonly files?: readonly number[]
  /** As whom it runs, without other groups; only root may. */
  readonly user?: { readonly uid: number; readonly gid: number }
  /** Kill its process group when the program ends, and at once when the signal fires: this process may be about to end too. */
  readonly leavesNothing?: boolean
}

/** `failure` is why there is no exit status: not found, timed out, killed. */
export interface ProgramResult {
  readonly status: number | null
  readonly failure: string | null
  readonly stdout: string
  /** Of more than `outputBytes`, the last lines, without the one whose beginning was dropped unless it is the only one. */
  readonly stderr: string
}

const DEFAULT_OUTPUT_BYTES = 64 * 1024
/** Between SIGTERM and SIGKILL. */
const GRACE_MILLISECONDS = 1000
/** For output still in the pipe after the exit; a child left in the background may hold the pipe for ever. */
const DRAIN_MILLISECONDS = 200

/**
 * Run a program without a shell, with no input, bounded in time and output. It has a process group of its own: what it
 * started is stopped with it, and Ctrl-C at a terminal reaches us alone, who know whether it may be stopped.
 *
 * @param argv the program, looked up in PATH unless it has a slash, and its arguments
 * @returns also when it could not be started
 * @throws the signal's reason, at once when it fires
 */
export function runProgram(argv: readonly string[], limits: ProgramLimits): Promise<ProgramResult> {
  const { signal, files = [], outputBytes = DEFAULT_OUTPUT_BYTES } = limits
  const { leavesNothing = false } = limits
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason)
      return
    }
    const [program = '', ...rest] = argv
    let child: ChildProcess
    try {
      child = spawn(program, rest, {
        stdio: ['ignore', 'pipe', 'pipe', ...files],
        detached: true,
        env: limits.environment ?? process.env,
        // Another user may have no access to the folder that root called this in, and find and others fail there.
        cwd: limits.folder ?? (limits.user === undefined ? undefined : '/'),
        ...limits.user,
      })
    } catch (error) {
      // Most failures come as an event, some (no memory, a NUL in an argument) at once.
      resolve({ status: null, failure: cannotRun(program, error), stdout: '', stderr: '' })
      return
    }
    const stdout = collect(child.stdout, outputBytes)
    const stderr = collectLast(child.stderr, outputBytes)
    let timedOut = false
    let isStopping = false
    let killTimer: NodeJS.Timeout | undefined
    let drainTimer: NodeJS.Timeout | undefined

    const send = (name: NodeJS.Signals): void => {
      if (child.pid === undefined) return
      try {
        process.kill(-child.pid, name)
      } catch {
        // Gone in between.
      }
    }
    const stop = (): void => {
      if (child.exitCode !== null || child.signalCode !== null) return
      isStopping = true
      send('SIGTERM')
      killTimer = setTimeout(send, GRACE_MILLISECONDS, 'SIGKILL')
    }
    const onAbort = (): void => {
      if (leavesNothing) send('SIGKILL')
      else stop()
      reject(signal?.reason)
    }
    const timeout = setTimeout(() => {
      timedOut = true
      stop()
    }, limits.timeoutMilliseconds)
    const finish = (status: number | null, failure: string | null): void => {
      clearTimeout(timeout)
      clearTimeout(killTimer)
      clearTimeout(drainTimer)
      signal?.removeEventListener('abort', onAbort)
      resolve({ status, failure, stdout: stdout(), stderr: stderr() })
    }

    signal?.addEventListener('abort', onAbort, { once: true })
    child.once('error', (error) => finish(null, cannotRun(program, error)))
    child.once('exit', () => {
      clearTimeout(timeout)
      clearTimeout(killTimer)
      // What it started may ignore SIGTERM.
      if (leavesNothing || isStopping) send('SIGKILL')
      drainTimer = setTimeout(() => {
        child.stdout?.destroy()
        child.stderr?.destroy()
      }, DRAIN_MILLISECONDS)
    })
    child.once('close', (code, killedBy) => {
      const seconds = limits.timeoutMilliseconds / 1000
      if (timedOut) finish(null, `${oneLine(program)} did not finish within ${seconds} s`)
      else if (killedBy !== null) finish(null, `${oneLine(program)} was killed by ${killedBy}`)
      else finish(code, null)
    })
  })
}

function cannotRun(program: string, error: unknown): string {
  return `cannot run ${oneLine(program)}: ${reasonOf(error)}`
}

function collect(stream: NodeJS.ReadableStream | null, limit: number): () => string {
  const chunks: Buffer[] = []
  let length = 0
  stream?.on('data', (chunk: Buffer) => {
    const part = chunk.subarray(0, limit - length)
    length += part.length
    if (part.length > 0) chunks.push(part)
  })
  // A pipe that breaks is an end of the output, nothing more.
  stream?.on('error', () => undefined)
  return () => Buffer.concat(chunks).toString('utf8')
}

function collectLast(stream: NodeJS.ReadableStream | null, limit: number): () => string {
  let last = Buffer.alloc(0)
  let isCut = false
  stream?.on('data', (chunk: Buffer) => {
    isCut ||= last.length + chunk.length > limit
    last = Buffer.concat([last, chunk]).subarray(-limit)
  })
  stream?.on('error', () => undefined)
  return () => {
    const text = last.toString('utf8')
    return isCut ? text.slice(text.indexOf('\n') + 1) || text : text
  }
}

/** Folders of programs for root; a user's PATH often lacks them. */
const FOLDERS_OF_ROOT = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/**
 * The path of a program.
 *
 * @param program a name, or a path with a slash
 * @returns an absolute path; null when nobody could run it
 */
export async function findProgram(program: string): Promise<string | null> {
  const inPath = (process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute)
  const places = program.includes('/')
    ? [program]
    : [...inPath, ...FOLDERS_OF_ROOT].map((folder) => join(folder, program))
  for (const place of places) {
    try {
      await access(place, constants.X_OK)
      return place
    } catch {
      // Not here.
    }
  }
  return null
}
