import { fstatSync, writeSync } from 'node:fs'
import { isatty } from 'node:tty'

const STDERR = 2
/** What a reader that is stuck may leave unread before lines are lost. */
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
 * stuck never ends or stops the program: what it does not take waits, up to a limit, and then lines are dropped
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
        // Not a reason to stay alive: a stuck reader must not hold up an exit.
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
