import { type ChildProcess, spawn } from 'node:child_process'
import type { ErrorCode } from '../cert/errors.ts'
import { parseCaKeys } from '../cert/public-key.ts'
import { inOneLine, oneLine, reasonOf } from '../cert/text.ts'
import type {
  Clock,
  HostCaAnswer,
  IssueAnswer,
  Issuer,
  IssuerFailure,
  IssuerHealth,
  Metrics,
} from '../renewal/ports.ts'
import {
  type ExchangeSettings,
  lineSplitter,
  LONGEST_LINE,
  type Question,
  readReply,
  type Reply,
} from './exchange-protocol.ts'
import { HealthRecord } from './issuer-health.ts'

export interface ExchangeClientOptions {
  /** The program of the exchange and its arguments. */
  readonly program: readonly string[]
  readonly settings: ExchangeSettings
  readonly clock: Clock
  readonly metrics: Pick<Metrics, 'issuerRequest'>
}

/** Beyond what its own time limits allow: to start, and to read what the system trusts. */
const SPARE_MILLISECONDS = 10_000
/** A login, an issue, and both once more: each has the whole `issuer.timeout`. */
const REQUESTS_PER_QUESTION = 4
/** An exchange that is told to end has this long. */
const END_MILLISECONDS = 1_000

/** What it gets of our environment: nothing that could hold somebody's secret. */
const VARIABLES =
  /^(?:PATH|HOME|LANG|LC_.*|TZ|(?:HTTPS?|ALL|NO)_PROXY|CREDENTIALS_DIRECTORY|JOURNAL_STREAM|NO_COLOR|SSL_CERT_(?:FILE|DIR)|NODE_.*|OPENSSL_.*|MALLOC_.*)$/i

/** An exchange that runs. */
interface Running {
  readonly child: ChildProcess
  /** Why it has ended; null while it runs. */
  ended: string | null
  /** Is told the next line, or why there is none. */
  waiting: ((line: string | null) => void) | null
}

/**
 * The issuer, asked by a process of its own: it alone loads HTTP, TLS and the logins, and reads the credential. It is
 * started at the first question and lives until {@link Issuer.end}; one that hangs, wherever, is killed.
 */
export function createExchangeClient(options: ExchangeClientOptions): Issuer {
  const { settings, clock, metrics } = options
  const health = new HealthRecord(clock)
  let running: Running | null = null

  const ask = async (question: Question, signal: AbortSignal): Promise<Reply['answer']> => {
    signal.throwIfAborted()
    running ??= start(options)
    const exchange = running
    const { timeoutMilliseconds } = settings.issuer
    const count = question.ask === 'issue' ? REQUESTS_PER_QUESTION : 1
    const limit = AbortSignal.timeout(count * timeoutMilliseconds + SPARE_MILLISECONDS)
    const line = await nextLine(exchange, question, AbortSignal.any([signal, limit]))
    if (line === null) {
      running = null
      kill(exchange)
      signal.throwIfAborted()
      if (limit.aborted) return failed('ISSUER_TIMEOUT', 'the exchange with the issuer took too long')
      return failed(
        'ISSUER_UNREACHABLE',
        `the exchange with the issuer ended: ${exchange.ended ?? 'no reply'}`,
      )
    }
    try {
      const reply = readReply(line)
      health.learn(reply.health)
      for (const { route, code, seconds } of reply.requests) metrics.issuerRequest(route, code, seconds)
      return reply.answer
    } catch {
      running = null
      kill(exchange)
      return failed('ISSUER_INVALID_RESPONSE', 'the exchange with the issuer said something that is no reply')
    }
  }

  return {
    issue: async (publicKey, signal): Promise<IssueAnswer> => {
      const answer = await ask({ ask: 'issue', publicKey }, signal)
      if (answer.kind === 'failed') return { ok: false, failure: printable(answer.failure) }
      if (answer.kind === 'issued') return { ok: true, ...answer }
      return { ok: false, failure: wrongAnswer().failure }
    },
    hostCa: async (signal): Promise<HostCaAnswer> => {
      const answer = await ask({ ask: 'host-ca' }, signal)
      if (answer.kind === 'failed')
        return { ok: false, failure: printable(answer.failure), noSuchRoute: answer.noSuchRoute }
      if (answer.kind === 'host-ca') {
        try {
          return { ok: true, keys: parseCaKeys(answer.keys.join('\n')) }
        } catch {
          // Below.
        }
      }
      return { ok: false, failure: wrongAnswer().failure, noSuchRoute: false }
    },
    health: (): IssuerHealth => health.current,
    end: () => {
      if (running !== null) stop(running)
      running = null
    },
  }
}

function start({ program: [program = '', ...args], settings }: ExchangeClientOptions): Running {
  const environment = Object.entries(process.env).filter(([name]) => VARIABLES.test(name))
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: Object.fromEntries(environment),
  })
  const exchange: Running = { child, ended: null, waiting: null }
  const over = (why: string): void => {
    exchange.ended ??= why
    exchange.waiting?.(null)
  }
  child.once('error', (error) => over(reasonOf(error)))
  child.once('close', (status, signal) => over(signal === null ? `exit status ${status}` : `by ${signal}`))
  child.stdin?.on('error', () => undefined)
  child.stdout?.setEncoding('utf8')
  child.stdout?.on(
    'data',
    lineSplitter(
      (line) => exchange.waiting?.(line),
      () => over(`a reply of more than ${LONGEST_LINE} characters`),
    ),
  )
  child.stdin?.write(`${JSON.stringify(settings)}\n`)
  return exchange
}

/** @returns null when the exchange has ended, or the signal fired */
function nextLine(exchange: Running, question: Question, signal: AbortSignal): Promise<string | null> {
  return new Promise((resolve) => {
    const settle = (line: string | null): void => {
      signal.removeEventListener('abort', onAbort)
      exchange.waiting = null
      resolve(line)
    }
    const onAbort = (): void => settle(null)
    if (exchange.ended !== null) {
      settle(null)
      return
    }
    exchange.waiting = settle
    signal.addEventListener('abort', onAbort, { once: true })
    exchange.child.stdin?.write(`${JSON.stringify(question)}\n`)
  })
}

/** It ends by itself with its input; one that does not is killed. */
function stop(exchange: Running): void {
  exchange.child.stdin?.end()
  const timer = setTimeout(() => kill(exchange), END_MILLISECONDS)
  timer.unref()
  exchange.child.once('close', () => clearTimeout(timer))
}

function kill({ child }: Running): void {
  child.kill('SIGKILL')
}

function failed(code: ErrorCode, message: string): Extract<Reply['answer'], { kind: 'failed' }> {
  const failure: IssuerFailure = {
    code,
    message,
    next: 'issuer-backoff',
    retryAfterSeconds: null,
    requestId: null,
  }
  return { kind: 'failed', failure, noSuchRoute: false }
}

function wrongAnswer(): Extract<Reply['answer'], { kind: 'failed' }> {
  return failed('ISSUER_INVALID_RESPONSE', 'the exchange with the issuer answered another question')
}

/** Whatever the exchange says, a message is one line that can be printed. */
function printable(failure: IssuerFailure): IssuerFailure {
  const { message, requestId } = failure
  return {
    ...failure,
    message: inOneLine(message),
    requestId: requestId === null ? null : oneLine(requestId),
  }
}
