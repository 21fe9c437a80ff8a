import { type ChildProcess, spawn } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { cutTo, inOneLine, quote, reasonOf } from '../cert/text.ts'
import type { CommandIssuerConfig } from '../config/config.ts'
import { readBoundedFile, SMALL_FILE_BYTES } from '../host/files.ts'
import type { Clock, IssueAnswer, IssueRequest, Issuer, Log, Metrics } from '../renewal/ports.ts'
import { parseObject } from './answer.ts'
import { localFailure } from './failures.ts'
import { HealthRecord } from './issuer-health.ts'
import { proxyPasswords } from './proxy.ts'
import { Secrets } from './secrets.ts'

export interface CommandIssuerOptions extends Omit<CommandIssuerConfig, 'kind'> {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Pick<Metrics, 'issuerRequest'>
}

const VARIABLES = /^(?:PATH|LANG|CREDENTIALS_DIRECTORY|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy)$/

/** Of its standard output; an answer is a few KiB. */
const MOST_OUTPUT_BYTES = 64 * 1024
/** Of its standard error; what comes after is not logged. */
const MOST_LOG_LINES = 50
/** For output that is still in the pipes after its end; a process in the background may hold them for ever. */
const DRAIN_MILLISECONDS = 200
const LONGEST_MESSAGE = 300

/** `issuer.command`: a program that signs in the issuer's place. One process for each certificate. */
export function createCommandIssuer(options: CommandIssuerOptions): Issuer {
  const { clock, metrics, command } = options
  const health = new HealthRecord(clock)
  return {
    issue: async (request, signal) => {
      const began = clock.now()
      const start = performance.now()
      const answer = await issueBy(options, request, signal)
      const ended = clock.now()
      if (answer.ok) health.answered(200, null, { began, ended })
      else if (answer.failure.code === 'ISSUER_REJECTED') health.answered(400, null, { began, ended })
      else health.unreached()
      const code = answer.ok ? '200' : answer.failure.code
      metrics.issuerRequest('issue', code, (performance.now() - start) / 1000)
      return answer
    },
    hostCa: async () => {
      const message = `${command[0]} signs keys only: the CA is that of verify.host_ca_file`
      const failure = localFailure('ISSUER_NOT_FOUND', 'administrator', message)
      return { ok: false, failure, noSuchRoute: true }
    },
    health: () => health.current,
  }
}

/** What a program that the configuration names gets of our environment: no secret but the password of a proxy. */
export function environmentOfProgram(
  ours: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const named = Object.entries(ours).filter(([name]) => VARIABLES.test(name))
  return Object.fromEntries(named.map(([name, text]) => [name, text ?? '']))
}

/** What the program may repeat: the credentials that systemd passed to the unit, and the passwords of proxies. */
export async function secretsOfProgram(environment: NodeJS.ProcessEnv): Promise<Secrets> {
  const secrets = new Secrets()
  const folder = environment['CREDENTIALS_DIRECTORY']
  const names = folder === undefined ? [] : await readdir(folder).catch(() => [])
  for (const name of names) {
    const text = await readBoundedFile(`${folder}/${name}`, SMALL_FILE_BYTES).catch(() => '')
    for (const line of [text.trim(), ...text.split('\n')]) secrets.add(line.trim())
  }
  for (const password of proxyPasswords(environment)) secrets.add(password)
  return secrets
}

/** Rejects only when `signal` fires, with its reason. */
async function issueBy(
  { command, timeoutMilliseconds, log }: CommandIssuerOptions,
  { publicKey, hostKey, principals }: IssueRequest,
  signal: AbortSignal,
): Promise<IssueAnswer> {
  const [program = ''] = command
  const [keyType] = publicKey.split(' ')
  const question = { public_key: publicKey, key_type: keyType, host_key: hostKey, principals }
  let lastError = ''
  const errors = logLines(log, program, (line) => (lastError = line))
  const timeout = AbortSignal.timeout(timeoutMilliseconds)
  const run = await runOnce(command, JSON.stringify(question), errors, AbortSignal.any([signal, timeout]))
  signal.throwIfAborted()
  const invalid = (flaw: string): IssueAnswer => ({
    ok: false,
    failure: localFailure('ISSUER_INVALID_RESPONSE', 'key-backoff', `${program} ${flaw}`),
  })
  switch (run.kind) {
    case 'not-started': {
      const message = `cannot start ${program} (issuer.command): ${run.why}`
      return { ok: false, failure: localFailure('ISSUER_UNREACHABLE', 'issuer-backoff', message) }
    }
    case 'stopped': {
      const message = `${program} did not finish within ${timeoutMilliseconds / 1000} s and was killed`
      return { ok: false, failure: localFailure('ISSUER_TIMEOUT', 'issuer-backoff', message) }
    }
    case 'too-much':
      return invalid(`wrote more than ${MOST_OUTPUT_BYTES / 1024} KiB and was killed`)
    case 'ended':
      if (run.how === null) return readAnswer(program, run.output, invalid)
      return invalid(`failed with ${run.how}${lastError === '' ? '' : `: ${lastError}`}`)
  }
}

/** One line: `{"certificate"}` or `{"error":{"message","retry_after"}}`. */
function readAnswer(program: string, output: string, invalid: (flaw: string) => IssueAnswer): IssueAnswer {
  const line = output.replace(/\r?\n$/, '')
  if (line.trim() === '') return invalid('wrote no answer')
  if (line.includes('\n')) return invalid('wrote more than one line')
  const answer = parseObject(line)
  if (answer === null) return invalid(`wrote something that is no JSON object: ${quote(line)}`)
  const { certificate = null, error = null } = answer
  if (error === null) {
    if (typeof certificate === 'string' && certificate.trim() !== '')
      return { ok: true, signedKey: certificate, serialNumber: null, requestId: null }
    return invalid('wrote an answer without a certificate or an error')
  }
  if (certificate !== null) return invalid('wrote both a certificate and an error')
  const { message, retry_after: retryAfter } = error as { message?: unknown; retry_after?: unknown }
  if (typeof message !== 'string') return invalid('wrote an error without a message')
  const seconds = typeof retryAfter === 'number' && retryAfter > 0 ? retryAfter : null
  const reason = cutTo(LONGEST_MESSAGE, inOneLine(message)) || 'no reason given'
  // A time to wait concerns the CA as a whole; without one it is this key that was refused.
  const next = seconds === null ? 'key-backoff' : 'issuer-backoff'
  const failure = localFailure('ISSUER_REJECTED', next, `${program} refused to sign: ${reason}`)
  return { ok: false, failure: { ...failure, retryAfterSeconds: seconds } }
}

type Run =
  | { readonly kind: 'not-started'; readonly why: string }
  /** The signal fired. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'too-much' }
  /** `how`: `exit status 1`, `SIGSEGV`; null when it went well. */
  | { readonly kind: 'ended'; readonly how: string | null; readonly output: string }

/**
 * Run a program with one line of input. It has a process group of its own, none of which is left when this returns.
 *
 * @param onError is given what it writes to its standard error
 */
function runOnce(
  [program = '', ...args]: readonly string[],
  input: string,
  onError: (part: string) => void,
  signal: AbortSignal,
): Promise<Run> {
  return new Promise((resolve) => {
    let child: ChildProcess
    try {
      child = spawn(program, args, {
        stdio: 'pipe',
        detached: true,
        env: environmentOfProgram(process.env),
      })
    } catch (error) {
      resolve({ kind: 'not-started', why: reasonOf(error) })
      return
    }
    const chunks: Buffer[] = []
    let size = 0
    let stopped: Run | null = null
    let drain: NodeJS.Timeout | undefined
    const finish = (run: Run): void => {
      clearTimeout(drain)
      signal.removeEventListener('abort', onAbort)
      child.stdout?.destroy()
      child.stderr?.destroy()
      // So that a last line without an end is one too.
      onError('\n')
      resolve(run)
    }
    const stop = (why: Run): void => {
      if (child.exitCode !== null || child.signalCode !== null) return
      stopped ??= why
      killGroup(child)
    }
    const onAbort = (): void => stop({ kind: 'stopped' })
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    child.stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= MOST_OUTPUT_BYTES) chunks.push(chunk)
      else stop({ kind: 'too-much' })
    })
    child.stderr?.setEncoding('utf8').on('data', onError)
    // A program that does not read its input, or ends early, is judged by what it writes.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.on('error', () => undefined)
    child.stdin?.end(`${input}\n`)
    child.once('error', (error) => finish({ kind: 'not-started', why: reasonOf(error) }))
    let how: string | null = null
    const done = (): void => {
      finish(stopped ?? { kind: 'ended', how, output: Buffer.concat(chunks).toString('utf8') })
    }
    child.once('exit', (status, killedBy) => {
      how = killedBy ?? (status === 0 ? null : `exit status ${status}`)
      killGroup(child)
      drain = setTimeout(done, DRAIN_MILLISECONDS)
    })
    child.once('close', done)
  })
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nothing of it is left.
  }
}

/** Log a program's standard error line by line; too many are left out. */
function logLines(log: Log, program: string, onLine: (line: string) => void): (part: string) => void {
  let rest = ''
  let count = 0
  return (part) => {
    const lines = (rest + part).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > MOST_OUTPUT_BYTES) {
      lines.push(rest)
      rest = ''
    }
    for (const text of lines) {
      // The log removes secrets, and then cuts: a secret at the cut would keep its beginning.
      const line = inOneLine(text)
      if (line === '') continue
      count += 1
      if (count <= MOST_LOG_LINES) log.info({ program }, line)
      else if (count === MOST_LOG_LINES + 1)
        log.warn({ program }, 'the program writes more lines to its standard error, which are not logged')
      onLine(line)
    }
  }
}
