import { createTask, parse, type ParsedFields, type ScheduledTask, validateDetailed } from 'node-cron'
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
    // Of the others some match never.
    if (!isEveryDay(parse(expression))) matcherOf(expression, 'UTC').getNextRuns(1)
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
  const times = timesOfDay(fields)
  const [first = 0] = times
  const overnight = first + DAY_SECONDS - (times.at(-1) ?? 0)
  const withinDay = times.map((time, index) => time - (times[index - 1] ?? time))
  return Math.max(overnight + (isEveryDay(fields) ? 0 : DAY_SECONDS), ...withinDay)
}

/** Eight years have every date, the 29th of February too. */
const YEARS_DAYS = 8 * 366
const YEAR_OF_RUNS = 13

/**
 * The longest time from one day with a match to the next, in days: 1 when every day matches.
 *
 * @param expression one that {@link checkCron} finds nothing wrong with
 */
export function longestGapDays(expression: string): number {
  const fields = parse(expression)
  // Almost always, and then no year is gone through at the start of the program.
  if (isEveryDay(fields)) return 1
  const { dayOfMonth, month, dayOfWeek } = fields
  const isLiteral = [...dayOfMonth, ...dayOfWeek].every((value) => typeof value === 'number')
  if (!isLiteral) {
    // `L` and the like, which only node-cron works out: such a day is one of each month.
    const days = expression.trim().split(/\s+/).slice(-3).join(' ')
    const runs = matcherOf(`0 0 ${days}`, 'UTC').getNextRuns(YEAR_OF_RUNS)
    return longestStep(runs.map((run) => Math.floor(run.getTime() / 1000 / DAY_SECONDS)))
  }
  const matches = (day: number): boolean => {
    const date = new Date(day * DAY_SECONDS * 1000)
    return (
      month.includes(date.getUTCMonth() + 1) &&
      dayOfMonth.includes(date.getUTCDate()) &&
      dayOfWeek.includes(date.getUTCDay())
    )
  }
  const days = Array.from({ length: YEARS_DAYS }, (_, day) => day).filter(matches)
  return longestStep(days)
}

function longestStep(days: readonly number[]): number {
  // Once in eight years, or never.
  if (days.length < 2) return YEARS_DAYS
  return Math.max(...days.map((day, index) => day - (days[index - 1] ?? day - 1)))
}

/** In seconds since midnight, in order. */
function timesOfDay({ hour, minute, second }: ParsedFields): readonly number[] {
  // A list may name a value any number of times.
  const [minutes, seconds] = [new Set(minute), new Set(second)]
  return [...new Set(hour)]
    .flatMap((hours) => Array.from(minutes, (some) => hours * 60 + some))
    .flatMap((some) => Array.from(seconds, (more) => some * 60 + more))
    .sort((a, b) => a - b)
}

function isEveryDay({ dayOfMonth, month, dayOfWeek }: ParsedFields): boolean {
  return includesAll(dayOfMonth, 1, 31) && includesAll(month, 1, 12) && includesAll(dayOfWeek, 0, 6)
}

/**
 * What says when the next match is, in milliseconds since 1970, UTC. node-cron formats each day by Intl, which holds
 * some MiB of memory: it is asked only where not every day matches.
 */
function nextMatchOf(expression: string): (now: number) => number | null {
  const fields = parse(expression)
  if (!isEveryDay(fields)) {
    const matcher = matcherOf(expression, 'UTC')
    return () => matcher.getNextRuns(1)[0]?.getTime() ?? null
  }
  const times = timesOfDay(fields)
  const [first = 0] = times
  return (now) => {
    const seconds = Math.floor(now / 1000)
    const midnight = seconds - (seconds % DAY_SECONDS)
    const next = times.find((time) => midnight + time > seconds) ?? first + DAY_SECONDS
    return (midnight + next) * 1000
  }
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

  const arm = (nextMatch: (now: number) => number | null, longest: number): void => {
    const now = Date.now()
    const next = nextMatch(now) ?? now + longest
    const delay = Math.min(Math.max(next - now, 0), longest) + LATE_MILLISECONDS
    timer = setTimeout(() => {
      arm(nextMatch, longest)
      try {
        onTick()
      } catch (error) {
        log.error({ err: error }, `a tick failed: ${messageOf(error)}`)
      }
    }, delay)
  }

  return {
    start: () => {
      if (timer === undefined) arm(nextMatchOf(expression), longestGapSeconds(expression) * 1000)
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
  const fields = parse(expression)
  if (isEveryDay(fields) && includesAll(fields.hour, 0, 23) && includesAll(fields.minute, 0, 59))
    return { contains: () => true }
  const [second = 0] = fields.second
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
