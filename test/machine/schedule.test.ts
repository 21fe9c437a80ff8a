import { spawnSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  checkCron,
  createMaintenanceWindow,
  createTicker,
  longestGapDays,
  longestGapSeconds,
} from '../../agent/host/schedule.ts'
import { RecordingLog } from '../fakes/recording-log.ts'

const CRON = new URL('../../agent/host/schedule.ts', import.meta.url).href

test.each(['* * * * *', '*/30 * * * * *', '0 2-4 * * mon-fri', '@hourly', '0 0 L * *', '  *   * * * * '])(
  '%s is fine',
  (expression) => {
    expect(checkCron(expression)).toBeNull()
  },
)

test.each([
  '',
  'every minute',
  '* * * *',
  '60 * * * *',
  '* * * * * * *',
  '*/0 * * * *',
  '0 0 31 2 *',
  '1-x * * * *',
])('"%s" is not', (expression) => {
  expect(checkCron(expression)).toEqual(expect.any(String))
})

test('a range without measure is refused before it is written out', () => {
  expect(checkCron('0-999999999 * * * *')).toContain('999999999')
})

test.each([
  ['* * * * *', 60],
  ['* * * * * *', 1],
  ['*/5 * * * *', 300],
  ['*/10 * * * * *', 10],
  ['*/7 * * * *', 420],
  ['*/7 * * * * *', 7],
  ['0,7,14,21,28,35,42,49,55 * * * *', 420],
  ['0-50 * * * *', 600],
  ['30 */4 * * * *', 240],
  ['*/5 1-31 * * * *', 29 * 60 + 5],
  ['* 0-22 * * *', 3660],
  ['0 * * * *', 3600],
  ['0 0 * * *', 86_400],
  ['* * 1-31 1-12 0-7', 60],
  [`${'1,'.repeat(30_000)}31 * * * *`, 1800],
])('the longest gap of %s is %d s', (expression, seconds) => {
  expect(longestGapSeconds(expression)).toBe(seconds)
})

test.each([
  ['* * * * *', 1],
  ['30 2 * * *', 1],
  ['0 3 * * 0', 7],
  ['0 3 * * mon-fri', 3],
  ['0 3 1,8,15,22 * *', 10],
  ['0 3 1 * *', 31],
  ['0 3 29 2 *', 1461],
  ['* * * 1-11 *', 32],
  ['* * L * *', 31],
])('from a day of %s to the next there are at most %d days', (expression, days) => {
  expect(longestGapDays(expression)).toBe(days)
})

test.each(['* * * * mon-fri', '* * 1-30 * *', '* * * 1-11 *', '* * L * *', '* * * * 5L'])(
  'days left out make a gap of more than a day: %s',
  (expression) => {
    expect(longestGapSeconds(expression)).toBeGreaterThan(86_400)
  },
)

describe('the ticker', () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: new Date('2026-10-25T00:30:15Z') })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  test('ticks once at each match, and no more after stop', () => {
    const onTick = vi.fn<() => void>()
    const ticker = createTicker('* * * * *', onTick, new RecordingLog())
    vi.advanceTimersByTime(120_000)
    expect(onTick).not.toHaveBeenCalled()
    ticker.start()
    ticker.start()
    vi.advanceTimersByTime(44_000)
    expect(onTick).not.toHaveBeenCalled()
    vi.advanceTimersByTime(2000)
    expect(onTick).toHaveBeenCalledTimes(1)
    vi.advanceTimersByTime(5 * 60_000)
    expect(onTick).toHaveBeenCalledTimes(6)
    ticker.stop()
    vi.advanceTimersByTime(600_000)
    expect(onTick).toHaveBeenCalledTimes(6)
    expect(vi.getTimerCount()).toBe(0)
    ticker.start()
    vi.advanceTimersByTime(61_000)
    expect(onTick).toHaveBeenCalledTimes(7)
    ticker.stop()
  })

  test('a clock that is set back or far forward costs no tick and no time', () => {
    const onTick = vi.fn<() => void>()
    const ticker = createTicker('* * * * *', onTick, new RecordingLog())
    ticker.start()
    vi.advanceTimersByTime(60_000)
    vi.setSystemTime(new Date('1970-01-01T00:00:30Z'))
    onTick.mockClear()
    vi.advanceTimersByTime(3 * 60_000)
    expect(onTick.mock.calls.length).toBeGreaterThanOrEqual(2)
    vi.setSystemTime(new Date('2040-01-01T00:00:30Z'))
    onTick.mockClear()
    vi.advanceTimersByTime(3 * 60_000)
    expect(onTick.mock.calls.length).toBeGreaterThanOrEqual(2)
    expect(onTick.mock.calls.length).toBeLessThanOrEqual(4)
    ticker.stop()
  })

  test('a tick that throws is logged, and the next one comes', () => {
    const log = new RecordingLog()
    let count = 0
    const onTick = (): void => {
      count++
      throw new Error('this tick is no good')
    }
    const ticker = createTicker('* * * * *', onTick, log)
    ticker.start()
    vi.advanceTimersByTime(121_000)
    ticker.stop()
    expect(count).toBe(2)
    expect(log.messages('error')[0]).toContain('this tick is no good')
  })

  test('stopping within a tick holds', () => {
    let count = 0
    const onTick = (): void => {
      count++
      ticker.stop()
    }
    const ticker = createTicker('* * * * * *', onTick, new RecordingLog())
    ticker.start()
    vi.advanceTimersByTime(10_000)
    expect(count).toBe(1)
  })
})

/** In another process, for a time zone is one of a process. */
function inNewProcess(zone: string, code: string): string {
  const program = `const cron = await import(${JSON.stringify(CRON)}); ${code}`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, TZ: zone },
    encoding: 'utf8',
    timeout: 15_000,
  })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  return stdout
}

test('with real timers it ticks, and a stopped one does not keep the process alive', () => {
  const code = `
    const ticker = cron.createTicker('* * * * * *', () => { process.stdout.write('tick'); ticker.stop() }, console)
    ticker.start()`
  expect(inNewProcess('UTC', code)).toBe('tick')
})

test('the maintenance window is in the time zone of the machine, whole minutes', () => {
  const at = (iso: string): number => Date.parse(iso) / 1000
  const code = `
    const window = cron.createMaintenanceWindow('* 2-3 * * sun')
    const times = ${JSON.stringify([
      at('2026-10-25T00:59:59Z'), // 02:59:59, summer time
      at('2026-10-25T01:30:30Z'), // 02:30:30, winter time
      at('2026-10-25T02:59:59Z'), // 03:59:59
      at('2026-10-25T03:00:00Z'), // 04:00:00
      at('2026-10-26T01:30:00Z'), // a Monday
    ])}
    process.stdout.write(times.map((time) => window.contains(time)).join())`
  expect(inNewProcess('Europe/Berlin', code)).toBe('true,true,true,false,false')
})

test('a minute of which only some seconds match is in the window as a whole', () => {
  const window = createMaintenanceWindow('30 */2 * * * *')
  const even = Date.UTC(2026, 0, 1, 12, 0, 0) / 1000
  expect([0, 29.5, 30, 59.9].map((second) => window.contains(even + second))).toEqual([
    true,
    true,
    true,
    true,
  ])
  expect([60, 90, 119.9].map((second) => window.contains(even + second))).toEqual([false, false, false])
})
