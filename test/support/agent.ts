import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { StatusDocument } from '../../agent/renewal/status-document.ts'

/** The production bundle, which `npm run build` makes. */
const PROGRAM = fileURLToPath(new URL('../../dist/hostcertd.js', import.meta.url))
/** As the unit starts the daemon, with the Node that runs this. */
const LAUNCH = [process.execPath, '--jitless', '--optimize-for-size', '--max-semi-space-size=1', PROGRAM]
const POLL_MILLISECONDS = 25

export interface LogLine {
  readonly level: string
  readonly msg: string
  readonly [field: string]: unknown
}

export interface VerbResult {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface AgentOptions {
  /** An existing folder for its configuration, state and certificates. */
  readonly folder: string
  /** The configuration, laid over nothing. JSON is YAML. */
  readonly config: object
  readonly environment?: Readonly<Record<string, string>>
  /** Node, its flags and the program of the daemon; left out: the bundle, as the unit starts it. */
  readonly launch?: readonly string[]
}

/** A real hostcertd with a configuration of its own. `await using` ends it. */
export class Agent implements AsyncDisposable {
  readonly folder: string
  readonly configPath: string
  readonly log: LogLine[] = []
  readonly #environment: Readonly<Record<string, string>>
  readonly #launch: readonly string[]
  #config: object
  /** How much of the log is of earlier runs. */
  #earlier = 0
  #child: ChildProcess | null = null
  #exit: Promise<number | null> = Promise.resolve(null)

  constructor({ folder, config, environment = {}, launch = LAUNCH }: AgentOptions) {
    this.folder = folder
    this.configPath = join(folder, 'hostcertd.yaml')
    this.#config = config
    this.#environment = environment
    this.#launch = launch
  }

  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined) throw new Error('the agent is not running')
    return pid
  }

  /** Whether the last daemon that was started still runs. */
  get running(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** The port that this run's log says the health server listens on; NaN before. */
  get healthPort(): number {
    const line = this.log.slice(this.#earlier).findLast(({ msg }) => msg === 'the health server listens')
    return Number(/:(\d+)$/.exec(String(line?.['address']))?.[1])
  }

  async configure(config: object | string): Promise<void> {
    if (typeof config !== 'string') this.#config = config
    await mkdir(join(this.folder, 'state'), { recursive: true })
    await writeFile(this.configPath, typeof config === 'string' ? config : JSON.stringify(config))
  }

  /**
   * Start the daemon and return at once.
   *
   * @param enrolled false: without a configuration
   */
  async launch({ enrolled = true } = {}): Promise<void> {
    if (enrolled) await this.configure(this.#config)
    this.#earlier = this.log.length
    const [node = '', ...flags] = this.#launch
    const child = spawn(node, [...flags, 'run', '--config', this.configPath], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: this.#env(),
    })
    this.#child = child
    this.#exit = (async () => {
      const [code] = (await once(child, 'exit')) as [number | null]
      return code
    })()
    createInterface({ input: child.stderr }).on('line', (line) => this.log.push(parseLine(line)))
  }

  /** Start the daemon and wait until its first turn is over. */
  async start(): Promise<void> {
    await this.launch()
    await this.waitFor('the first turn', async () => {
      if (this.#child?.exitCode !== null) throw new Error(`hostcertd ended: ${JSON.stringify(this.log)}`)
      return (
        Number.isFinite(this.healthPort) &&
        (await this.health('/livez')).status === 200 &&
        (await this.status()) !== null
      )
    })
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name)
  }

  /** End it, by SIGTERM, and say with which status. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child
    if (child === null) return null
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    const late = setTimeout(() => child.kill('SIGKILL'), 15_000)
    const code = await this.#exit
    clearTimeout(late)
    this.#child = null
    return code
  }

  /** @throws Error when nobody listens */
  async health(path: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.healthPort}${path}`)
  }

  /** Null before the first look. */
  async status(): Promise<StatusDocument | null> {
    try {
      const response = await this.health('/status')
      return response.ok ? ((await response.json()) as StatusDocument) : null
    } catch {
      return null
    }
  }

  /** The state and reason of one host key, `valid null` for one. */
  async stateOf(hostKey: string): Promise<string> {
    const status = await this.status()
    const certificate = status?.certificates.find(({ host_key }) => host_key === hostKey)
    return `${certificate?.state} ${certificate?.reason}`
  }

  /** Run another verb with the same configuration. */
  async verb(...args: readonly string[]): Promise<VerbResult> {
    return new Promise((resolve) => {
      const argv = [PROGRAM, ...args, '--config', this.configPath]
      execFile(process.execPath, argv, { env: this.#env(), timeout: 90_000 }, (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === 'number' ? error.code : null
        resolve({ status, stdout, stderr })
      })
    })
  }

  /** Wait until something holds; bounded, and then it says what it was and what was logged. */
  async waitFor(what: string, holds: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
    const until = performance.now() + seconds * 1000
    while (performance.now() < until) {
      if (await holds()) return
      await sleep(POLL_MILLISECONDS)
    }
    const last = this.log.slice(-12).map((line) => JSON.stringify(line))
    throw new Error(
      `not within ${seconds} s: ${what}\n${JSON.stringify(await this.status())}\n${last.join('\n')}`,
    )
  }

  async waitForLog(message: string | RegExp, seconds = 20, from = 0): Promise<LogLine> {
    const find = (): LogLine | undefined =>
      this.log
        .slice(from)
        .find(({ msg }) => (typeof message === 'string' ? msg === message : message.test(msg)))
    await this.waitFor(`the log line ${message}`, () => find() !== undefined, seconds)
    return find() ?? { level: '', msg: '' }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  #env(): Record<string, string> {
    const { PATH = '' } = process.env
    return { PATH, NO_COLOR: '1', ...this.#environment }
  }
}

function parseLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine
  } catch {
    return { level: 'unparsed', msg: line }
  }
}
