import { describe, expect, test } from 'vitest'
import { parseHttpDate, parseRetryAfter } from '../../agent/issuer/answer.ts'

const NOON = Date.UTC(2026, 7, 1, 12, 0, 0) / 1000
const DATE = 'Sat, 01 Aug 2026 12:00:00 GMT'

describe('Retry-After', () => {
  test.each([
    { name: 'absent', value: null, want: null },
    { name: 'seconds', value: '54', want: 54 },
    { name: 'seconds among blanks', value: ' 54 ', want: 54 },
    { name: 'at once', value: '0', want: null },
    { name: 'negative', value: '-5', want: null },
    { name: 'a fraction', value: '1.5', want: null },
    { name: 'words', value: 'soon', want: null },
    { name: 'nothing', value: '', want: null },
    { name: 'more than a number holds', value: '9'.repeat(400), want: Number.MAX_SAFE_INTEGER },
    { name: 'a time', value: 'Sat, 01 Aug 2026 12:01:30 GMT', want: 90 },
    { name: 'a time in the form of RFC 850', value: 'Saturday, 01-Aug-26 12:01:30 GMT', want: 90 },
    { name: 'a time in the form of asctime', value: 'Sat Aug  1 12:01:30 2026', want: 90 },
    { name: 'a time gone by', value: 'Sat, 01 Aug 2026 11:59:00 GMT', want: null },
    { name: 'a time that is none', value: 'Sat, 99 Foo 2026 12:01:30 GMT', want: null },
  ])('$name', ({ value, want }) => {
    expect(parseRetryAfter(value, DATE, NOON)).toBe(want)
  })

  test('a time is counted from the Date of the answer, not from our clock', () => {
    expect(parseRetryAfter('Sat, 01 Aug 2026 12:01:30 GMT', DATE, NOON + 86_400)).toBe(90)
  })

  test('without a Date it is counted from our clock', () => {
    expect(parseRetryAfter('Sat, 01 Aug 2026 12:01:30 GMT', null, NOON + 30)).toBe(60)
    expect(parseRetryAfter('Sat, 01 Aug 2026 12:01:30 GMT', 'yesterday', NOON + 30)).toBe(60)
  })
})

test('an HTTP-date is read as UTC whatever the local zone', () => {
  expect(parseHttpDate(DATE)).toBe(NOON)
  expect(parseHttpDate('Sat Aug  1 12:00:00 2026')).toBe(NOON)
  expect(parseHttpDate('2026-08-01T12:00:00Z')).toBe(null)
})
