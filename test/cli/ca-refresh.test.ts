import { expect, test } from 'vitest'
import { caRefresh } from '../../agent/cli/ca-refresh.ts'
import type { CliContext } from '../../agent/cli/context.ts'
import { needsRoot } from '../support/skip.ts'
import { inertContext } from './in-process.ts'

type Refreshed = Awaited<ReturnType<CliContext['refreshCas']>>
const LATER: Refreshed = { kind: 'later', seconds: 0 }

/** @returns the exit status, and what was done: `refresh`, or the seconds that were slept */
async function run(outcomes: readonly Refreshed[], now = false): Promise<readonly (string | number)[]> {
  const done: (string | number)[] = []
  const left = [...outcomes]
  const context: CliContext = {
    ...inertContext(),
    err: () => {},
    refreshCas: async () => {
      done.push('refresh')
      return left.shift() ?? LATER
    },
    sleep: async (milliseconds) => void done.push(milliseconds / 1000),
  }
  return [await caRefresh(context, { now }, new AbortController().signal), ...done]
}

test('while the issuer fails, it is tried again; with --now it is not', needsRoot, async () => {
  expect(await run([{ kind: 'done' }])).toEqual([0, 'refresh'])
  expect(await run([{ kind: 'failed' }, { kind: 'done' }])).toEqual([1, 'refresh'])
  expect(await run([LATER, { kind: 'later', seconds: 900 }, { kind: 'done' }])).toEqual([
    0,
    'refresh',
    60,
    'refresh',
    900,
    'refresh',
  ])
  expect(await run([{ kind: 'later', seconds: 86_400 }, { kind: 'failed' }])).toEqual([
    1,
    'refresh',
    3600,
    'refresh',
  ])
  expect(await run([])).toEqual([1, 'refresh', 60, 'refresh', 600, 'refresh', 3600, 'refresh'])
  expect(await run([LATER, { kind: 'done' }], true)).toEqual([1, 'refresh'])
})
