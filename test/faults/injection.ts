import { execFile, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const SOURCE = fileURLToPath(new URL('fault-shim.c', import.meta.url))
const PROGRAM = fileURLToPath(new URL('../../dist/hostcertd.js', import.meta.url))

/** What happens at one call: see `fault-shim.c`. */
export interface Fault {
  /** `kill`, the name of an error, `after-` and either of them, or `slow`. */
  readonly kind: string
  /** Of the calls that are counted, from 1; 0: none, they are only listed. */
  readonly at: number
  /** How much longer the call takes, for `slow`. */
  readonly milliseconds?: number
}

export interface FaultyRun {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
  /** The calls that were made, `open /path` for one. */
  readonly calls: readonly string[]
  readonly seconds: number
}

/** What a verb did, run without a fault of its own, and the most memory that it or a child of it had resident. */
export async function measuredVerb(
  configPath: string,
  args: readonly string[],
  wrapper: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<Omit<FaultyRun, 'calls'> & { readonly peakMib: number }> {
  const { PATH = '' } = process.env
  const [program, ...rest] = [...wrapper, process.execPath, PROGRAM, ...args, '--config', configPath]
  const began = performance.now()
  const child = spawn(program, rest, {
    env: { PATH, NO_COLOR: '1', ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 90_000,
    killSignal: 'SIGABRT',
  })
  let [stderr, peakKib] = ['', 0]
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const look = setInterval(() => {
    if (child.pid !== undefined) peakKib = Math.max(peakKib, ...residentOf(child.pid))
  }, 50)
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, by) => resolve([code, by]))
  })
  clearInterval(look)
  const seconds = (performance.now() - began) / 1000
  return { status, signal, stderr, seconds, peakMib: peakKib / 1024 }
}

/** KiB of the process and of each that it started, the most so far. */
function residentOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8')
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)
    const own = Number(/^VmHWM:\s+(\d+)/m.exec(text)?.[1] ?? 0)
    return [own, ...children.flatMap((child) => residentOf(Number(child)))]
  } catch {
    return []
  }
}

/** Build a library for LD_PRELOAD. @returns its path */
export async function buildLibrary(source: string, library: string): Promise<string> {
  await run('gcc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'])
  return library
}

/** Injects faults into hostcertd from outside. */
export class Injector {
  readonly #library: string
  readonly #log: string
  readonly #folders: readonly string[]

  private constructor(library: string, log: string, folders: readonly string[]) {
    this.#library = library
    this.#log = log
    this.#folders = folders
  }

  /**
   * @param folder for what it needs itself
   * @param folders calls that touch a file in one of these count, and every connect()
   */
  static async build(folder: string, folders: readonly string[]): Promise<Injector> {
    const library = await buildLibrary(SOURCE, join(folder, 'fault-shim.so'))
    return new Injector(library, join(folder, 'calls'), folders)
  }

  /** Environment variables for a process that shall have the fault. */
  environment({ kind, at, milliseconds = 0 }: Fault): Record<string, string> {
    return {
      LD_PRELOAD: this.#library,
      FAULT: kind,
      FAULT_AT: String(at),
      FAULT_MILLISECONDS: String(milliseconds),
      FAULT_FOLDERS: this.#folders.join(':'),
      FAULT_LOG: this.#log,
    }
  }

  /** The calls since the last time that this was asked. */
  async calls(): Promise<string[]> {
    const text = await readFile(this.#log, 'utf8').catch(() => '')
    await rm(this.#log, { force: true })
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.replace(/^\d+ /, ''))
  }

  /** Run a verb with a fault, to its end. */
  async verb(
    configPath: string,
    args: readonly string[],
    fault: Fault,
    limitSeconds = 60,
  ): Promise<FaultyRun> {
    await this.calls()
    const { PATH = '' } = process.env
    const env = { PATH, NO_COLOR: '1', ...this.environment(fault) }
    const began = performance.now()
    const child = spawn(process.execPath, [PROGRAM, ...args, '--config', configPath], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: limitSeconds * 1000,
      killSignal: 'SIGABRT',
    })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, by) => resolve([code, by]))
    })
    const seconds = (performance.now() - began) / 1000
    return { status, signal, stderr, calls: await this.calls(), seconds }
  }
}
