import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { createConnection } from 'node:net'
import type { ErrorCode, Failure } from '../cert/errors.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { inOneLine, reasonOf } from '../cert/text.ts'
import { isSocket } from '../host/files.ts'
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
  type DiagnosisAnswer,
  type DiagnosisQuestion,
  type ExchangeSettings,
  lineSplitter,
  LONGEST_LINE,
  PROTOCOL,
  type Question,
  readReply,
  type Reply,
} from './exchange-protocol.ts'
import { localFailure } from './failures.ts'
import { HealthRecord } from './issuer-health.ts'

/** So begins what is said of the exchange itself, not of the issuer. */
const EXCHANGE = 'the exchange with the issuer'

/** Whether it is the way to the issuer that failed, and not the issuer. */
export function isOfExchange({ message }: Failure): boolean {
  return message.startsWith(`${EXCHANGE} `)
}

/** How an exchange is started. */
export interface ExchangeWay {
  /** Node, its flags, and the program with its arguments: a child, where there is no socket. */
  readonly program: readonly string[]
  /** Of the unit that has the host's configuration and its credential; null: always a child. */
  readonly socket: string | null
  /** False: not without the socket. */
  readonly mayBeChild: boolean
}

export interface ExchangeClientOptions extends ExchangeWay {
  readonly settings: Omit<ExchangeSettings, 'protocol'>
  readonly clock: Clock
  readonly metrics: Pick<Metrics, 'issuerRequest'>
}

/** A question without its number. */
type Asked =
  | { readonly ask: 'issue'; readonly publicKey: string }
  | { readonly ask: 'host-ca' }
  | ({ readonly ask: 'diagnose' } & DiagnosisQuestion)

/** Beyond what its own time limits allow: to start, and to read what the system trusts. */
const SPARE_MILLISECONDS = 10_000
/** A login, an issue, and both once more: each has the whole `issuer.timeout`. */
const REQUESTS_PER_QUESTION = 4
/** The steps of a diagnosis below HTTP, which have limits of their own. */
const CONNECTING_MILLISECONDS = 30_000
/** However much a diagnosis asks: systemd ends the exchange after five minutes. */
const LONGEST_DIAGNOSIS_MILLISECONDS = 280_000
/** An exchange that is told to end has this long. */
const END_MILLISECONDS = 1_000

/** What it gets of our environment: nothing that could hold somebody's secret. */
const VARIABLES =
  /^(?:PATH|HOME|LANG|LC_.*|TZ|(?:HTTPS?|ALL|NO)_PROXY|CREDENTIALS_DIRECTORY|JOURNAL_STREAM|NO_COLOR|SSL_CERT_(?:FILE|DIR)|NODE_.*|OPENSSL_.*|UV_.*|MALLOC_.*|GLIBC_TUNABLES|LD_.*|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES)$/i

/** The way to an exchange. */
interface Channel {
  readonly write: (text: string) => void
  /** Its input ends, and it should. */
  readonly end: () => void
  readonly kill: () => void
  readonly isOpen: () => boolean
}

/** Where the package's unit listens. */
export const EXCHANGE_SOCKET = '/run/hostcertd-exchange.sock'

/** An exchange that was started. */
interface Running {
  /** Null when it could not be. */
  readonly channel: Channel | null
  /** Why it has ended; null while it runs. */
  ended: string | null
  /** Is told the next line, or why there is none. */
  waiting: ((line: string | null) => void) | null
}

export interface ExchangeClient extends Issuer {
  /**
   * Have the exchange examine the way to the issuer, for `doctor`. Rejects only when `signal` fires.
   *
   * @returns a failure when the exchange could not be asked, or refuses its configuration
   */
  diagnose(question: DiagnosisQuestion, signal: AbortSignal): Promise<DiagnosisAnswer>
}

/**
 * The issuer, asked by a process of its own: it alone loads HTTP, TLS and the logins, and reads the credential. It is
 * started at the first question and lives until {@link Issuer.end}; one that hangs, wherever, is killed.
 */
export function createExchangeClient(options: ExchangeClientOptions): ExchangeClient {
  const { settings, clock, metrics } = options
  const health = new HealthRecord(clock)
  let running: Running | null = null
  let questions = 0

  /** What it did cannot be known any more, nor what it does next. */
  const giveUp = (asked: Asked, code: ErrorCode, message: string, since: number): Reply['answer'] => {
    if (running !== null) kill(running)
    running = null
    health.unreached()
    if (asked.ask !== 'diagnose') metrics.issuerRequest(asked.ask, code, clock.now() - since)
    const failure = localFailure(code, 'issuer-backoff', `${EXCHANGE} ${message}`)
    return { kind: 'failed', failure, noSuchRoute: false }
  }

  const ask = async (
    asked: Asked,
    kind: Reply['answer']['kind'],
    signal: AbortSignal,
  ): Promise<Reply['answer']> => {
    signal.throwIfAborted()
    const since = clock.now()
    running ??= start(options)
    const exchange = running
    const question: Question = { id: ++questions, ...asked }
    const limit = AbortSignal.timeout(limitOf(asked, settings.issuer.timeoutMilliseconds))
    const line = await nextLine(exchange, question, AbortSignal.any([signal, limit]))
    if (line === null && signal.aborted) {
      kill(exchange)
      running = null
      throw signal.reason
    }
    if (line === null && limit.aborted)
      return giveUp(asked, 'ISSUER_TIMEOUT', 'gave no answer in time, and was killed', since)
    if (line === null)
      return giveUp(asked, 'ISSUER_UNREACHABLE', `ended: ${exchange.ended ?? 'no reply'}`, since)
    const reply = replyTo(question, line)
    if (reply === null || (reply.answer.kind !== kind && reply.answer.kind !== 'failed'))
      return giveUp(
        asked,
        'ISSUER_INVALID_RESPONSE',
        'said something that is no reply, and was killed',
        since,
      )
    health.learn(reply.health)
    for (const { route, code, seconds } of reply.requests) metrics.issuerRequest(route, code, seconds)
    return reply.answer
  }

  return {
    issue: async (publicKey, signal): Promise<IssueAnswer> => {
      const answer = await ask({ ask: 'issue', publicKey }, 'issued', signal)
      return answer.kind === 'issued' ? { ok: true, ...answer } : { ok: false, failure: failureIn(answer) }
    },
    hostCa: async (signal): Promise<HostCaAnswer> => {
      const answer = await ask({ ask: 'host-ca' }, 'host-ca', signal)
      const keys = answer.kind === 'host-ca' ? caKeysIn(answer.keys) : []
      if (keys.length > 0) return { ok: true, keys }
      const noSuchRoute = answer.kind === 'failed' && answer.noSuchRoute
      return { ok: false, failure: failureIn(answer), noSuchRoute }
    },
    diagnose: async (question, signal) => {
      const answer = await ask({ ask: 'diagnose', ...question }, 'diagnosed', signal)
      return answer.kind === 'diagnosed'
        ? { ok: true, findings: answer.findings }
        : { ok: false, failure: failureIn(answer) }
    },
    health: (): IssuerHealth => health.current,
    end: () => {
      if (running !== null) stop(running)
      running = null
    },
  }
}

/** @param timeout of one request */
function limitOf(asked: Asked, timeout: number): number {
  switch (asked.ask) {
    case 'issue':
      return REQUESTS_PER_QUESTION * timeout + SPARE_MILLISECONDS
    case 'host-ca':
      return timeout + SPARE_MILLISECONDS
    case 'diagnose': {
      // The host CA, a login, what may be read; then the certificates.
      const requests = 3 + asked.issueFor.length * REQUESTS_PER_QUESTION
      const wanted = requests * timeout + CONNECTING_MILLISECONDS + SPARE_MILLISECONDS
      return Math.min(wanted, LONGEST_DIAGNOSIS_MILLISECONDS)
    }
  }
}

function start(options: ExchangeClientOptions): Running {
  const { program, socket, mayBeChild } = options
  const { issuer, auth, log } = options.settings
  if (socket !== null && !mayBeChild && !isSocket(socket)) {
    const ended = `there is no ${socket}: \`systemctl restart hostcertd-exchange.socket\``
    return { channel: null, ended, waiting: null }
  }
  let exchange: Running | null = null
  const over = (why: string): void => {
    if (exchange === null) return
    exchange.ended ??= why
    exchange.waiting?.(null)
  }
  const split = lineSplitter(
    (line) => exchange?.waiting?.(line),
    () => over(`a reply of more than ${LONGEST_LINE} characters`),
  )
  try {
    const channel =
      socket !== null && isSocket(socket) ? connect(socket, split, over) : spawnChild(program, split, over)
    exchange = { channel, ended: null, waiting: null }
    const settings: ExchangeSettings = { protocol: PROTOCOL, issuer, auth, log }
    channel.write(`${JSON.stringify(settings)}\n`)
  } catch (error) {
    const { path = program[0] ?? '' } = error as NodeJS.ErrnoException
    exchange = { channel: null, ended: `it cannot be started: ${path}: ${reasonOf(error)}`, waiting: null }
  }
  return exchange
}

/** @throws the system's error when there is something that cannot be started */
function spawnChild(
  [node = '', ...args]: readonly string[],
  onText: (text: string) => void,
  over: (why: string) => void,
): Channel {
  // After a change of user they may be out of reach, of which the child itself says a stack only.
  accessSync(node, constants.X_OK)
  for (const file of args.filter((arg) => arg.startsWith('/'))) accessSync(file, constants.R_OK)
  const child = spawn(node, args, { stdio: ['pipe', 'pipe', 'inherit'], env: environmentOf(process.env) })
  child.on('error', (error) => over(`it cannot be started: ${reasonOf(error)}`))
  child.once('close', (status, signal) => over(signal === null ? `exit status ${status}` : `by ${signal}`))
  child.stdin.on('error', () => undefined)
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', onText)
  return {
    write: (text) => void child.stdin.write(text),
    end: () => child.stdin.end(),
    kill: () => void child.kill('SIGKILL'),
    isOpen: () => child.exitCode === null && child.signalCode === null,
  }
}

/** systemd starts one for each connection, and ends it with that. */
function connect(path: string, onText: (text: string) => void, over: (why: string) => void): Channel {
  const connection = createConnection({ path })
  connection.on('error', (error) => over(`${path}: ${reasonOf(error)}`))
  connection.once('close', () => over(`${path} was closed: see journalctl -u 'hostcertd-exchange*'`))
  connection.setEncoding('utf8')
  connection.on('data', (part) => onText(String(part)))
  return {
    write: (text) => void connection.write(text),
    end: () => connection.end(),
    kill: () => connection.destroy(),
    isOpen: () => !connection.destroyed,
  }
}

/** Without what would make a debugger of it, or take WebAssembly from it. */
function environmentOf(ours: NodeJS.ProcessEnv): Record<string, string> {
  const named = Object.entries(ours).filter(([name]) => VARIABLES.test(name))
  const given = Object.fromEntries(named.map(([name, text]) => [name, text ?? '']))
  const options = given['NODE_OPTIONS']
  if (options !== undefined) given['NODE_OPTIONS'] = options.split(/\s+/).filter(isForExchange).join(' ')
  return given
}

/** Whether a flag of Node's that we were started with is for the exchange too. */
export function isForExchange(flag: string): boolean {
  return !/^--(?:jitless|max-semi-space-size|inspect(?!-port))/.test(flag)
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
    exchange.channel?.write(`${JSON.stringify(question)}\n`)
  })
}

/** @returns null when it is none, or one to another question */
function replyTo(question: Question, line: string): Reply | null {
  try {
    const reply = readReply(line)
    return reply.id === question.id ? reply : null
  } catch {
    return null
  }
}

/** It ends by itself with its input; one that does not is killed. */
function stop({ channel }: Running): void {
  channel?.end()
  setTimeout(() => channel?.isOpen() === true && channel.kill(), END_MILLISECONDS).unref()
}

function kill({ channel }: Running): void {
  channel?.kill()
}

function caKeysIn(lines: readonly string[]): readonly PublicKey[] {
  try {
    return parseCaKeys(lines.join('\n'))
  } catch {
    return []
  }
}

/** Whatever the exchange says, a message is one line that can be printed. */
function failureIn(answer: Reply['answer']): IssuerFailure {
  if (answer.kind !== 'failed')
    return localFailure('ISSUER_INVALID_RESPONSE', 'issuer-backoff', `${EXCHANGE} gave no CA key`)
  const { failure } = answer
  const requestId = failure.requestId === null ? null : inOneLine(failure.requestId)
  return { ...failure, message: inOneLine(failure.message), requestId }
}
