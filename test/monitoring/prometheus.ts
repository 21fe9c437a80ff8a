import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../support/private-sshd/process.ts'

const START_MILLISECONDS = 30_000
const POLL_MILLISECONDS = 250

export interface Sample {
  readonly metric: Readonly<Record<string, string>>
  /** Seconds since the epoch, and the value as Prometheus prints it. */
  readonly value: readonly [number, string]
}

export interface Target {
  readonly labels: Readonly<Record<string, string>>
  readonly health: 'up' | 'down' | 'unknown'
  readonly lastError: string
}

/** Why the tests of a program cannot run here; null when it is there. */
export function missing(program: string): string | null {
  const { PATH = '' } = process.env
  const found = PATH.split(delimiter).some((folder) => isExecutable(join(folder, program)))
  return found ? null : `${program} is missing (Debian: apt install prometheus)`
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Run promtool. @param input for its stdin */
export async function promtool(
  args: readonly string[],
  input = '',
): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = execFile('promtool', args, { timeout: 60_000 }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : null
      resolve({ status, output: `${stdout}${stderr}` })
    })
    child.stdin?.end(input)
  })
}

/** A real Prometheus on 127.0.0.1 that scrapes and evaluates once a second. `await using` ends it. */
export class Prometheus implements AsyncDisposable {
  readonly #folder: string
  readonly #rulesPath: string
  #url = ''
  #child: ChildProcess | null = null
  #log = ''

  /** @param folder an existing one, for its data and configuration */
  constructor(folder: string, rulesPath: string) {
    this.#folder = folder
    this.#rulesPath = rulesPath
  }

  /** @throws with its log when it is not ready in time */
  async start(): Promise<void> {
    const address = `127.0.0.1:${await freePort()}`
    const configuration = join(this.#folder, 'prometheus.yml')
    await this.scrape(new Map())
    await writeFile(configuration, this.#configuration())
    const child = spawn(
      'prometheus',
      [
        `--config.file=${configuration}`,
        `--storage.tsdb.path=${join(this.#folder, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=warn',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    this.#child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#log += text))
    this.#url = `http://${address}`
    const until = performance.now() + START_MILLISECONDS
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || performance.now() > until)
        throw new Error(`Prometheus did not start:\n${this.#log}`)
      await sleep(POLL_MILLISECONDS)
    }
  }

  /** What it scrapes from now on: ports of 127.0.0.1 by `instance`. */
  async scrape(targets: ReadonlyMap<string, number>): Promise<void> {
    const path = join(this.#folder, 'targets.json')
    const groups = [...targets].map(([instance, port]) => ({
      targets: [`127.0.0.1:${port}`],
      labels: { instance },
    }))
    await writeFile(`${path}.new`, JSON.stringify(groups))
    await rename(`${path}.new`, path)
  }

  /** @throws with what Prometheus says when the query is wrong */
  async query(expression: string): Promise<Sample[]> {
    const answer = await this.#get('/api/v1/query', { query: expression })
    return (answer as { result: Sample[] }).result
  }

  async targets(): Promise<Target[]> {
    const answer = await this.#get('/api/v1/targets', { state: 'active' })
    return (answer as { activeTargets: Target[] }).activeTargets
  }

  /** Everything it complained of. */
  get log(): string {
    return this.#log
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(late)
  }

  #configuration(): string {
    return JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: [this.#rulesPath],
      scrape_configs: [
        {
          job_name: 'hostcertd',
          file_sd_configs: [{ files: [join(this.#folder, 'targets.json')], refresh_interval: '1s' }],
        },
      ],
    })
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await fetch(`${this.#url}/-/ready`)).ok
    } catch {
      return false
    }
  }

  async #get(path: string, parameters: Readonly<Record<string, string>>): Promise<unknown> {
    const response = await fetch(`${this.#url}${path}?${new URLSearchParams(parameters).toString()}`)
    const body = (await response.json()) as { status: string; error?: string; data: unknown }
    if (body.status !== 'success') throw new Error(`${body.error}: ${JSON.stringify(parameters)}`)
    return body.data
  }
}
