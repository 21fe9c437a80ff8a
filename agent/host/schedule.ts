import { createTask, parse, validateDetailed, type ScheduledTask } from 'node-cron'
import { messageOf } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { Log } from '../renewal/ports.ts'

const DAY_SECONDS = 86_400
/** A timer fires up to a millisecond early, and then the same match would come twice. */
const LATE_MILLISECONDS = 5
/** No field has a value of three digits, and node-cron would write out `0-999999999` number by number. */
const OVERSIZED_NUMBER = /\d{3,}/

/** node-cron writes to the console unless it is given somewhere else. */
const SILENT = {
  info: (): void => undefined,
  warn: (): void => undefined,
  error: (): void => undefined,
  debug: (): void => undefined,
}

/**
 * What is wrong with a cron expression: five fields, or six with seconds first.
 *
 * @returns null when it is fine
 */
export function checkCron(expression: string): string | null {
  const oversized = OVERSIZED_NUMBER.exec(expression)
  if (oversized !== null) return `${oversized[0]} is too large a number for a cron expression`
  try {
    const { valid, errors } = validateDetailed(expression)
    if (!valid) return errors.map(({ message }) => message).join('; ')
    matcherOf(expression, 'UTC').getNextRuns(1)
    return null
  } catch (error) {
    return messageOf(error)
  }
}

/**
 * The longest time between two matches. Exact when every day matches; when days are left out it is a lower bound of
 * more than a day. A change of summer time is not counted: where every hour matches it makes no gap.
 *
 * @param expression one that {@link checkCron} finds nothing wrong with
 * @returns seconds
 */
export function longestGapSeconds(expression: string): number {
  const fields = parse(expression)
  const times = fields.hour
    .flatMap((hour) => fields.minute.map((minute) => hour * 60 + minute))
    .flatMap((minutes) => fields.second.map((second) => minutes * 60 + second))
    .sort((a, b) => a - b)
  const [first = 0] = times
  const overnight = first + DAY_SECONDS - (times.at(-1) ?? 0)
  const withinDay = times.map((time, index) => time - (times[index - 1] ?? time))
  const everyDay =
    includesAll(fields.dayOfMonth, 1, 31) &&
    includesAll(fields.month, 1, 12) &&
    includesAll(fields.dayOfWeek, 0, 6)
  return Math.max(overnight + (everyDay ? 0 : DAY_SECONDS), ...withinDay)
}

interface Ticker {
  /** Calls `onTick` at each match from now on. Starting twice is starting once. */
  start(): void
  /** No call comes after it, and no timer is left. May be started again. */
  stop(): void
}

/**
 * Calls `onTick` at each match of a cron expression. node-cron says when; the timer is our own, for node-cron's, after
 * the clock was set back, waits until it catches up, and after it was set forward, counts every match in between (hours,
 * for a machine that starts in 1970). Here no timer is longer than the longest gap, so a tick can come too often, never
 * too late. In UTC, for a local hour that comes twice in autumn is skipped the second time.
 *
 * @param expression one that {@link checkCron} finds nothing wrong with
 */
export function createTicker(expression: string, onTick: () => void, log: Pick<Log, 'error'>): Ticker {
  let timer: NodeJS.Timeout | undefined

  const arm = (matcher: ScheduledTask, longest: number): void => {
    const now = Date.now()
    const next = matcher.getNextRuns(1)[0]?.getTime() ?? now + longest
    const delay = Math.min(Math.max(next - now, 0), longest) + LATE_MILLISECONDS
    timer = setTimeout(() => {
      arm(matcher, longest)
      try {
        onTick()
      } catch (error) {
        log.error({ err: error }, `a tick failed: ${messageOf(error)}`)
      }
    }, delay)
  }

  return {
    start: () => {
      if (timer === undefined) arm(matcherOf(expression, 'UTC'), longestGapSeconds(expression) * 1000)
    },
    stop: () => {
      clearTimeout(timer)
      timer = undefined
    },
  }
}

interface MaintenanceWindow {
  /** Whether a routine renewal may start: true for each second of a minute that matches. */
  contains(now: UnixSeconds): boolean
}

/**
 * The minutes that a cron expression matches, in the machine's time zone.
 *
 * @param expression one that {@link checkCron} finds nothing wrong with
 */
export function createMaintenanceWindow(expression: string): MaintenanceWindow {
  const [second = 0] = parse(expression).second
  const matcher = matcherOf(expression)
  return {
    contains: (now) => matcher.match(new Date((Math.floor(now / 60) * 60 + second) * 1000)),
  }
}

/** A task that is never started: it answers questions about its expression. */
function matcherOf(expression: string, timezone?: string): ScheduledTask {
  const zone = timezone === undefined ? {} : { timezone }
  const task = createTask(expression, () => undefined, { logger: SILENT, ...zone })
  // node-cron keeps every task in a list until then. It does nothing that would have to be waited for.
  void task.destroy()
  return task
}

function includesAll(values: readonly (number | string)[], first: number, last: number): boolean {
  for (let value = first; value <= last; value++) if (!values.includes(value)) return false
  return true
}
