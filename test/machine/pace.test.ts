import { expect, test } from 'vitest'
import { createPace } from '../../agent/host/clock.ts'
import { never } from './asking-sshd.ts'

test('so many do not wait, the next waits, and an abort ends that with its reason', async () => {
  const twiceADay = createPace(2, 86_400_000)
  await twiceADay(never)
  await twiceADay(never)
  const controller = new AbortController()
  const waiting = twiceADay(controller.signal).catch((error: unknown) => error)
  const reason = new Error('enough')
  controller.abort(reason)
  expect(await waiting).toBe(reason)
})

test('each waits until there were fewer within the time', async () => {
  const pace = createPace(2, 300)
  const startedAt = performance.now()
  const at: number[] = []
  for (let call = 0; call < 5; call++) {
    await pace(never)
    at.push(performance.now() - startedAt)
  }
  const [, , third = 0, , fifth = 0] = at
  expect(third).toBeGreaterThanOrEqual(295)
  expect(fifth).toBeGreaterThanOrEqual(595)
})
