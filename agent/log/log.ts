import { fstatSync, writeSync } from 'node:fs'
import { isatty } from 'node:tty'
import pino from 'pino'
import type { DestinationStream, Logger } from 'pino'
import { escapeControls } from '../cert/text.ts'
import type { Log, LogFields } from '../renewal/ports.ts'
import {
  journalLine,
  prettyLine,
  type LogEvent,
  scrubFields,
  scrubText,
  type ScrubbedFields,
} from './log-line.ts'

interface LogOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'
  /** `auto`: `journal` under journald, `pretty` on a terminal, else `json`. */
  readonly format: 'auto' | 'journal' | 'pretty' | 'json'
  /** Of the program; in every JSON line. */
  readonly version: string
}

/** The log of the program: one line an event, on stderr. */
export interface StderrLog extends Log {
  /** Change level and format, after the configuration was read again. References to the log stay valid. */
  configure(options: LogOptions): void
}

/** What a field is called that has the name of something that every line has. */
const RENAMED: Readonly<Record<string, string>> = { level: 'level_', time: 'time_', msg: 'msg_' }

/**
 * The log. Writes before it returns, never throws, and keeps secrets out (see `log-line.ts`).
 *
 * @param environment `JOURNAL_STREAM` and `NO_COLOR` count
 */
export function createLog(options: LogOptions, environment: NodeJS.ProcessEnv = process.env): StderrLog {
  const stderr = new StderrStream((lines) => log.warn({ lines }, 'log lines were lost: stderr was not read'))
  let logger = loggerOf(options, environment, stderr)

  function write(level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string): void {
    if (!logger.isLevelEnabled(level)) return
    logger[level](renamed(scrubFields(fields, logger.isLevelEnabled('debug'))), scrubText(message))
  }

  const log: StderrLog = {
    debug: (fields, message) => write('debug', fields, message),
    info: (fields, message) => write('info', fields, message),
    warn: (fields, message) => write('warn', fields, message),
    error: (fields, message) => write('error', fields, message),
    configure: (changed) => {
      logger = loggerOf(changed, environment, stderr)
    },
  }
  return log
}

function loggerOf(options: LogOptions, environment: NodeJS.ProcessEnv, stderr: StderrStream): Logger {
  const format = options.format === 'auto' ? formatFor(environment) : options.format
  return pino(
    {
      level: options.level,
      base: null,
      // Not `base`: a field of the same name would then be in the line twice.
      mixin: () => (format === 'json' ? { version: options.version } : {}),
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination(format, environment, stderr),
  )
}

function formatFor(environment: NodeJS.ProcessEnv): 'journal' | 'pretty' | 'json' {
  if (isJournal(environment['JOURNAL_STREAM'])) return 'journal'
  return isTerminal() ? 'pretty' : 'json'
}

function destination(
  format: 'journal' | 'pretty' | 'json',
  environment: NodeJS.ProcessEnv,
  stderr: StderrStream,
): DestinationStream {
  switch (format) {
    case 'json':
      return { write: (line) => stderr.write(`${escapeControls(line.trimEnd())}\n`) }
    case 'journal':
      return { write: (line) => stderr.write(`${journalLine(eventIn(line).event)}\n`) }
    case 'pretty': {
      // no-color.org: set, and not to nothing.
      const colour = isTerminal() && (environment['NO_COLOR'] ?? '') === ''
      return {
        write: (line) => {
          const { event, time } = eventIn(line)
          stderr.write(`${prettyLine(event, new Date(time), colour)}\n`)
        },
      }
    }
  }
}

/** What pino wrote, taken apart again: pino makes JSON only, and its transports cost a thread each. */
function eventIn(line: string): { event: LogEvent; time: string } {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<'level' | 'time' | 'msg', string> &
    ScrubbedFields
  return { event: { level, message: msg, fields }, time }
}

function renamed(fields: ScrubbedFields): ScrubbedFields {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [RENAMED[key] ?? key, value]))
}

const STDERR = 2
/** How much a reader that hangs may leave unread before lines are lost. */
const MOST_WAITING_BYTES = 1 << 18
const RETRY_MILLISECONDS = 50

/** Whether a person reads along. */
export function isTerminal(): boolean {
  return isatty(STDERR)
}

/** Whether stderr is journald's socket itself: systemd.exec(5), `JOURNAL_STREAM` is its device and inode. */
export function isJournal(journalStream: string | undefined): boolean {
  if (journalStream === undefined) return false
  try {
    const { dev, ino } = fstatSync(STDERR, { bigint: true })
    return journalStream === `${dev}:${ino}`
  } catch {
    return false
  }
}

/**
 * Writes to stderr before it returns, so that the last words before an exit are not lost. A reader that is gone or
 * hangs never ends or stops the program: what it does not take waits, up to a limit, and then lines are dropped
 * and counted.
 */
export class StderrStream {
  readonly #onLost: (lines: number) => void
  #waiting = Buffer.alloc(0)
  #lost = 0

  /** @param onLost is told, once there is room again, how many lines were dropped; it may write */
  constructor(onLost: (lines: number) => void) {
    this.#onLost = onLost
  }

  /** @param line with its newline */
  write(line: string): void {
    if (this.#waiting.length > MOST_WAITING_BYTES) {
      this.#lost += 1
      return
    }
    const idle = this.#waiting.length === 0
    this.#waiting = Buffer.concat([this.#waiting, Buffer.from(line)])
    if (idle) this.#flush()
  }

  #flush(): void {
    while (this.#waiting.length > 0) {
      try {
        this.#waiting = this.#waiting.subarray(writeSync(STDERR, this.#waiting))
      } catch (error) {
        if (!isBusy(error)) {
          // Nobody will ever read it.
          this.#waiting = Buffer.alloc(0)
          return
        }
        // Not a reason to stay alive: a reader that hangs must not delay the exit.
        setTimeout(() => this.#flush(), RETRY_MILLISECONDS).unref()
        return
      }
    }
    if (this.#lost === 0) return
    const lost = this.#lost
    this.#lost = 0
    this.#onLost(lost)
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN'
}
