import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  FOREVER,
  formatCertificateTime,
  formatDuration,
  formatTime,
  parseDuration,
  parseTime,
} from '../../agent/cert/time.ts'

describe('formatCertificateTime', () => {
  test.each([
    { seconds: 0n, want: '1970-01-01T00:00:00Z' },
    { seconds: 951_782_400n, want: '2000-02-29T00:00:00Z' },
    { seconds: 2n ** 31n - 1n, want: '2038-01-19T03:14:07Z' },
    { seconds: 2n ** 31n, want: '2038-01-19T03:14:08Z' },
    { seconds: 2n ** 32n, want: '2106-02-07T06:28:16Z' },
    { seconds: 253_402_300_799n, want: '9999-12-31T23:59:59Z' },
    { seconds: 253_402_300_800n, want: '+10000-01-01T00:00:00Z' },
    { seconds: 8_640_000_000_000n, want: '+275760-09-13T00:00:00Z' },
    { seconds: 8_640_000_000_001n, want: '+275760-09-13T00:00:01Z' },
    { seconds: 2n ** 63n - 1n, want: '+292277026596-12-04T15:30:07Z' },
    { seconds: 2n ** 64n - 2n, want: '+584554051223-11-09T07:00:14Z' },
    { seconds: FOREVER, want: null },
  ])('$seconds', ({ seconds, want }) => {
    expect(formatCertificateTime(seconds)).toBe(want)
  })

  test('as Date has it, for the years that RFC 3339 knows', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 253_402_300_799 }), (seconds) => {
        const text = formatCertificateTime(BigInt(seconds)) ?? ''
        expect(text).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
        expect(Date.parse(text)).toBe(seconds * 1000)
      }),
    )
  })

  test('exact for all 64 bits, by another way of counting days', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: FOREVER - 1n }), (seconds) => {
        expect(secondsOf(formatCertificateTime(seconds) ?? '')).toBe(seconds)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('parseTime', () => {
  test('back from what was written, exact as far as a double is', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 53n }), (seconds) => {
        expect(parseTime(formatCertificateTime(seconds) ?? '')).toBe(Number(seconds))
      }),
    )
    expect(parseTime(formatCertificateTime(FOREVER - 1n) ?? '')).toBeCloseTo(2 ** 64, -5)
  })

  const good = '2026-01-01T00:00:00Z'
  test.each(['', 'never', '2026', '2026-99-99T00:00:00Z', `x${good}`, `${good}\nx`])(
    '%j is no time',
    (text) => {
      expect(parseTime(text)).toBeNaN()
    },
  )
})

/** Back from text, by counting leap years. */
function secondsOf(text: string): bigint {
  const match = /^\+?(\d+)-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z$/.exec(text)
  const [year = 0n, month = 0n, day = 0n, hour = 0n, minute = 0n, second = 0n] = (match ?? [])
    .slice(1)
    .map(BigInt)
  const before = year - 1n
  const isLeap = (year % 4n === 0n && year % 100n !== 0n) || year % 400n === 0n
  const months = [31n, isLeap ? 29n : 28n, 31n, 30n, 31n, 30n, 31n, 31n, 30n, 31n, 30n, 31n]
  const daysBefore = before * 365n + before / 4n - before / 100n + before / 400n - 719_162n
  const inYear = months.slice(0, Number(month) - 1).reduce((sum, days) => sum + days, day - 1n)
  return ((daysBefore + inYear) * 24n + hour) * 3600n + minute * 60n + second
}

describe('formatTime', () => {
  test.each([
    { at: null, want: null },
    { at: Infinity, want: null },
    { at: 0, want: '1970-01-01T00:00:00Z' },
    { at: 1_795_438_800.999, want: '2026-11-23T13:00:00Z' },
    { at: -1, want: '1969-12-31T23:59:59Z' },
    { at: 8.64e12 + 1, want: '+275760-09-13T00:00:01Z' },
    { at: 2 ** 63, want: '+292277026596-12-04T15:30:08Z' },
  ])('$at', ({ at, want }) => {
    expect(formatTime(at)).toBe(want)
  })
})

describe('parseDuration', () => {
  test.each([
    { text: '20s', want: 20 },
    { text: '5m', want: 300 },
    { text: '12h', want: 43_200 },
    { text: '3d', want: 259_200 },
    { text: '0s', want: 0 },
    { text: '007m', want: 420 },
    { text: '999999999d', want: 86_399_999_913_600 },
  ])('$text', ({ text, want }) => {
    expect(parseDuration(text)).toBe(want)
  })

  test.each([
    '',
    '5',
    's',
    '5 m',
    ' 5m',
    '5m ',
    '5m\n',
    '1.5h',
    '-1s',
    '+1s',
    '1h30m',
    '5M',
    '5w',
    '1e3s',
    '٣d',
    '9999999999s',
  ])('%j is none', (text) => {
    expect(parseDuration(text)).toBeNull()
  })
})

describe('formatDuration', () => {
  test.each([
    { seconds: 0, want: '0s' },
    { seconds: -5, want: '0s' },
    { seconds: 0.4, want: '0s' },
    { seconds: 59.6, want: '1m' },
    { seconds: 61, want: '1m 1s' },
    { seconds: 3600, want: '1h' },
    { seconds: 3601, want: '1h' },
    { seconds: 5400, want: '1h 30m' },
    { seconds: 86_400 * 12 + 3600 * 4 + 59, want: '12d 4h' },
    { seconds: 86_400 + 60, want: '1d' },
    { seconds: 1e12, want: '11574074d 1h' },
    { seconds: Infinity, want: 'forever' },
  ])('$seconds', ({ seconds, want }) => {
    expect(formatDuration(seconds)).toBe(want)
  })

  test('what it says is right within the smaller unit, and a duration of one unit comes back', () => {
    const size = { d: 86_400, h: 3600, m: 60, s: 1 }
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), fc.constantFrom('d', 'h', 'm', 's'), (count, unit) => {
        const parts = formatDuration(count).split(' ')
        const told = parts.reduce((sum, part) => sum + (parseDuration(part) ?? Number.NaN), 0)
        expect(told).toBeLessThanOrEqual(count)
        expect(count - told).toBeLessThan(count >= 3600 ? size.h : size.m)
        const small = (count % 23) + 1
        expect(parseDuration(formatDuration(small * size[unit]))).toBe(small * size[unit])
      }),
    )
  })
})
