import { expect, test } from 'vitest'
import { caRefresh } from '../../agent/cli/ca-refresh.ts'
import type { CliContext } from '../../agent/cli/context.ts'
import { needsRoot } from '../support/skip.ts'
import { inertContext } from './in-process.ts'

test.each([
  { options: {}, isNow: false, isWell: true, status: 0 },
  { options: { now: true }, isNow: true, isWell: true, status: 0 },
  { options: {}, isNow: false, isWell: false, status: 1 },
])('one run: $options, $isWell', needsRoot, async ({ options, isNow, isWell, status }) => {
  const asked: boolean[] = []
  const context: CliContext = {
    ...inertContext(),
    refreshCas: async (_file, _load, now) => {
      asked.push(now)
      return isWell
    },
  }
  expect(await caRefresh(context, options, new AbortController().signal)).toBe(status)
  expect(asked).toEqual([isNow])
})
