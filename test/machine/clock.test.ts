import { expect, test } from 'vitest'
import { systemClock } from '../../agent/host/clock.ts'

test('tells seconds since the epoch, and dice below 1', () => {
  expect(Math.abs(systemClock.now() - Date.now() / 1000)).toBeLessThan(60)
  for (let i = 0; i < 100; i++) {
    const dice = systemClock.dice()
    expect(dice >= 0 && dice < 1).toBe(true)
  }
})

test('sleeps as long as asked', async () => {
  const start = performance.now()
  await systemClock.sleep(30, new AbortController().signal)
  expect(performance.now() - start).toBeGreaterThan(25)
})

test('a sleep ends with the reason of its signal', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const sleep = systemClock.sleep(60_000, controller.signal)
  controller.abort(reason)
  await expect(sleep).rejects.toBe(reason)
  await expect(systemClock.sleep(60_000, controller.signal)).rejects.toBe(reason)
})
