import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { createConnection } from 'node:net'
import { reasonOf } from '../cert/text.ts'
import { isSocket } from '../host/files.ts'
import { lineSplitter, LONGEST_LINE } from './exchange-protocol.ts'

/** How an exchange is started. */
export interface ExchangeWay {
  /** Node, its flags, and the program with its arguments: a child, where there is no socket. */
  readonly program: readonly string[]
  /** Of the unit that has the host's configuration and its credential; null: always a child. */
  readonly socket: string | null
  /** False: not without the socket. */
  readonly mayBeChild: boolean
}

/** Where the package's unit listens. */
export const EXCHANGE_SOCKET = '/run/hostcertd-exchange.sock'

/** One exchange, asked line by line. */
export interface Channel {
  /**
   * Send a question, a line, and wait for the next line. One question at a time.
   *
   * @returns null when the exchange has ended, or the signal fired
   */
  readonly ask: (question: string, signal: AbortSignal) => Promise<string | null>
  /** Why it has ended; null while it runs. */
  readonly ended: string | null
  /** Whether it was ever there: a socket that accepted, or a child that runs. */
  readonly wasStarted: boolean
  /** Whether it is the unit's, which systemd ends by its age. */
  readonly isUnit: boolean
  /** Close its input, which ends it; one that does not end is killed. */
  readonly end: () => void
  readonly kill: () => void
}

/** After its input was closed it has this long to end by itself. */
const END_MILLISECONDS = 1_000
/** As above, when its answer is of no interest any more: to stop the programs that it started. */
const KILL_MILLISECONDS = 1_000

/**
 * The variables that it gets of our environment: none that could hold a secret, but for the token by which a container of
 * AWS's asks for its keys, which it gets in no other way.
 */
const VARIABLES =
  /^(?:PATH|HOME|LANG|LC_.*|TZ|(?:HTTPS?|ALL|NO)_PROXY|CREDENTIALS_DIRECTORY|JOURNAL_STREAM|NO_COLOR|SSL_CERT_(?:FILE|DIR)|NODE_.*|OPENSSL_.*|UV_.*|MALLOC_.*|GLIBC_TUNABLES|LD_.*|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|AWS_(?:DEFAULT_)?REGION|AWS_CONTAINER_.*|HOSTCERTD_TEST_METADATA)$/i

/**
 * Start an exchange: the unit behind its socket, or a child. Never throws: one that cannot be started has ended.
 *
 * @param settings its first line
 */
export function openChannel({ program, socket, mayBeChild }: ExchangeWay, settings: string): Channel {
  let stream: Stream | null = null
  let ended: string | null = null
  let wasStarted = false
  const isUnit = socket !== null && isSocket(socket)
  const started = (): void => {
    wasStarted = true
  }
  let waiting: ((line: string | null) => void) | null = null
  const over = (why: string): void => {
    ended ??= why
    waiting?.(null)
  }
  const split = lineSplitter(
    (line) => waiting?.(line),
    () => over(`a reply of more than ${LONGEST_LINE} characters`),
  )
  const stopWithin = (milliseconds: number): void => {
    stream?.end()
    setTimeout(() => stream?.isOpen() === true && stream.kill(), milliseconds).unref()
  }
  if (socket !== null && !mayBeChild && !isUnit) {
    over(`there is no ${socket}: \`systemctl restart hostcertd-exchange.socket\``)
  } else {
    try {
      stream = isUnit ? connect(socket, split, over, started) : spawnChild(program, split, over, started)
      stream.write(`${settings}\n`)
    } catch (error) {
      const { path = program[0] ?? '' } = error as NodeJS.ErrnoException
      over(`it cannot be started: ${path}: ${reasonOf(error)}`)
    }
  }
  return {
    ask: (question, signal) =>
      new Promise((resolve) => {
        const settle = (line: string | null): void => {
          signal.removeEventListener('abort', onAbort)
          waiting = null
          resolve(line)
        }
        const onAbort = (): void => settle(null)
        if (ended !== null) {
          settle(null)
          return
        }
        waiting = settle
        signal.addEventListener('abort', onAbort, { once: true })
        stream?.write(`${question}\n`)
      }),
    get ended() {
      return ended
    },
    get wasStarted() {
      return wasStarted
    },
    isUnit,
    end: () => stopWithin(END_MILLISECONDS),
    kill: () => stopWithin(KILL_MILLISECONDS),
  }
}

/** Text to and from an exchange. */
interface Stream {
  readonly write: (text: string) => void
  readonly end: () => void
  readonly kill: () => void
  readonly isOpen: () => boolean
}

/** @throws the system's error when there is something that cannot be started */
function spawnChild(
  [node = '', ...args]: readonly string[],
  onText: (text: string) => void,
  over: (why: string) => void,
  started: () => void,
): Stream {
  // After a change of user they may be out of reach, which the child would report by a stack trace only.
  accessSync(node, constants.X_OK)
  // Its arguments may name what does not exist yet.
  const script = args.find((arg) => arg.startsWith('/'))
  if (script !== undefined) accessSync(script, constants.R_OK)
  const child = spawn(node, args, { stdio: ['pipe', 'pipe', 'inherit'], env: environmentOf(process.env) })
  child.once('spawn', started)
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
function connect(
  path: string,
  onText: (text: string) => void,
  over: (why: string) => void,
  started: () => void,
): Stream {
  const connection = createConnection({ path })
  connection.once('connect', started)
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
  return !/^--(?:jitless|optimize-for-size|max-semi-space-size|inspect(?!-port))/.test(flag)
}
