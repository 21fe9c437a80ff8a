import { expect, test } from 'vitest'
import { ERROR_CODES, REMEDIES, remedyOf } from '../../agent/cert/errors.ts'

test('every error code has a cause and a remedy, in prose that can be put into any sentence', () => {
  expect(Object.keys(REMEDIES)).toEqual([...ERROR_CODES])
  for (const { cause, remedy } of Object.values(REMEDIES)) {
    for (const text of [cause, remedy]) {
      expect(text.length).toBeGreaterThan(10)
      expect(text).not.toMatch(/[.\s]$/)
      expect(text.split('`').length % 2, `backticks in: ${text}`).toBe(1)
    }
  }
})

test('what is no code has no remedy', () => {
  for (const text of [null, 'window-open', 'toString', '']) expect(remedyOf(text)).toBeNull()
  expect(remedyOf('STORE_FAILED')).toBe(REMEDIES.STORE_FAILED)
})
