import { spawnSync } from 'node:child_process'
import { hostname } from 'node:os'
import { expect, test } from 'vitest'
import { systemClock, createPace, createHostNames } from '../../agent/host/machine.ts'
import { never } from './asking-sshd.ts'

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

test('a full name of the kernel is used as it is, with its short form', async () => {
  expect(await createHostNames(() => 'web1.example.com')()).toEqual(['web1', 'web1.example.com'])
})

test('a short name is completed as `hostname --fqdn` does it', async () => {
  const { stdout, status } = spawnSync('hostname', ['--fqdn'], { encoding: 'utf8' })
  const full = status === 0 ? stdout.trim() : hostname()
  expect(await createHostNames()()).toContain(full)
  expect(await createHostNames(() => 'localhost')()).toContain('localhost')
})

test('a name that nobody resolves is a name all the same, and is looked up once', async () => {
  let calls = 0
  const names = createHostNames(() => {
    calls += 1
    return 'hostcertd-test-nobody'
  })
  const [first, second] = await Promise.all([names(), names()])
  expect(first).toEqual(['hostcertd-test-nobody'])
  expect(second).toBe(first)
  expect(calls).toBe(1)
})
