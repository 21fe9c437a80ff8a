import { expect } from 'vitest'
import type { Reading } from '../../agent/config/values.ts'

/** What is read, or `PROBLEM`; every problem says something. */
export function outcome<T>(reading: Reading<T>): T | 'PROBLEM' {
  if (reading.ok) return reading.value
  expect(reading.problem).toMatch(/^must be /)
  return 'PROBLEM'
}
