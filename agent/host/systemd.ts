import { setTimeout as wait } from 'node:timers/promises'
import notify from 'systemd-notify'
import { messageOf } from '../cert/errors.ts'
import { oneLine } from '../cert/text.ts'
import type { Log, ServiceManager } from '../renewal/ports.ts'
import { runProgram } from './programs.ts'

interface ServiceManagerOptions {
  readonly log: Pick<Log, 'debug'>
  /** For one message; it takes some 10 ms. */
  readonly timeoutMilliseconds?: number
}

const TIMEOUT_MILLISECONDS = 5000

/**
 * Notifies systemd of our state, sd_notify(3), by running `systemd-notify`: Node has no datagram sockets of AF_UNIX. The npm
 * package knows ready and status; the rest is given to the program itself, and never with `--no-block` (loses
 * messages) or `--pid=self` (moves the main process to one that is gone). Messages go one after the other, in the order
 * of the calls. Without NOTIFY_SOCKET in the environment nothing is run.
 */
export function createServiceManager(options: ServiceManagerOptions): ServiceManager {
  const timeoutMilliseconds = options.timeoutMilliseconds ?? TIMEOUT_MILLISECONDS
  let last: Promise<void> = Promise.resolve()
  let statusSent: string | null = null
  let failureLogged = false

  const enqueue = (send: () => Promise<void>): Promise<void> => {
    if (!hasServiceManager()) return Promise.resolve()
    const before = last
    const inTurn = async (): Promise<void> => {
      await before
      try {
        await send()
      } catch (error) {
        statusSent = null
        if (failureLogged) return
        failureLogged = true
        options.log.debug({}, `the service manager could not be notified: ${oneLine(messageOf(error))}`)
      }
    }
    last = inTurn()
    return last
  }

  const sendByPackage = async (message: {
    readonly ready?: true
    readonly status: string
  }): Promise<void> => {
    const over = new AbortController()
    const timeout = async (): Promise<never> => {
      await wait(timeoutMilliseconds, undefined, { signal: over.signal })
      throw new Error(`systemd-notify did not finish within ${timeoutMilliseconds / 1000} s`)
    }
    try {
      await Promise.race([notify(message), timeout()])
      statusSent = message.status
    } finally {
      over.abort()
    }
  }

  const sendByProgram = async (...assignments: string[]): Promise<void> => {
    const { status, failure, stderr } = await runProgram(['systemd-notify', ...assignments], {
      timeoutMilliseconds,
    })
    if (status !== 0) throw new Error(failure ?? `systemd-notify ended with status ${status}: ${stderr}`)
  }

  return {
    ready: (status) => enqueue(() => sendByPackage({ ready: true, status: oneLine(status) })),
    status: (status) =>
      enqueue(async () => {
        const line = oneLine(status)
        if (line !== statusSent) await sendByPackage({ status: line })
      }),
    watchdog: () => enqueue(() => sendByProgram('WATCHDOG=1')),
    reloading: () => enqueue(() => sendByProgram('RELOADING=1', `MONOTONIC_USEC=${monotonicMicroseconds()}`)),
    stopping: () => enqueue(() => sendByProgram('STOPPING=1')),
    get watchdogSeconds() {
      return watchdogSecondsOf(process.env)
    },
  }
}

function hasServiceManager(): boolean {
  return (process.env['NOTIFY_SOCKET'] ?? '') !== ''
}

/** sd_watchdog_enabled(3): meant for us only if WATCHDOG_PID is ours or not there. */
function watchdogSecondsOf(environment: NodeJS.ProcessEnv): number | null {
  const { NOTIFY_SOCKET: socket = '', WATCHDOG_USEC: interval = '', WATCHDOG_PID: pid } = environment
  if (socket === '' || !/^[1-9]\d{0,15}$/.test(interval)) return null
  return pid === undefined || pid === String(process.pid) ? Number(interval) / 1_000_000 : null
}

/** CLOCK_MONOTONIC, which is what Node's high-resolution time is on Linux. */
function monotonicMicroseconds(): bigint {
  return process.hrtime.bigint() / 1000n
}
