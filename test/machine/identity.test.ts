import { spawnSync } from 'node:child_process'
import { hostname } from 'node:os'
import { expect, test } from 'vitest'
import { createHostNames } from '../../agent/host/identity.ts'

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
