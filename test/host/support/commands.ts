import { spawn } from 'node:child_process'

/** How a program ended and what it said. */
export interface Outcome {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  /** Written to the program's stdin, which is empty otherwise. */
  readonly input?: string
  /** Milliseconds until the program is killed; default two minutes. */
  readonly timeout?: number
  /** Instead of the environment of the test. */
  readonly env?: NodeJS.ProcessEnv
  readonly signal?: AbortSignal
}

const TWO_MINUTES = 120_000

/** Run a program to its end. @throws when it cannot be started, or was killed for taking too long */
export function tryCommand(argv: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  const [program = '', ...rest] = argv
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
  const limit = AbortSignal.timeout(options.timeout ?? TWO_MINUTES)
  const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal])
  const child = spawn(program, rest, {
    env: options.env ?? process.env,
    signal,
    killSignal: 'SIGKILL',
    stdio: 'pipe',
  })
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8')
    child[name].on('data', (text: string) => (said[name] += text))
  }
  child.on('error', (cause) =>
    reject(new Error(`${argv.join(' ')}: ${cause.message}\n${said.stdout}${said.stderr}`, { cause })),
  )
  child.on('close', (status) => resolve({ status, ...said }))
  // A program that reads no input closes the pipe: no failure.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  return promise
}

/** Run a program that has to succeed. @returns its stdout @throws with all it said when its exit status is not 0 */
export async function command(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await tryCommand(argv, options)
  if (status === 0) return stdout
  throw new Error(`${argv.join(' ')}: exit status ${status}\n${stdout}${stderr}`)
}
