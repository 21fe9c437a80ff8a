import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import {
  certificatesOnDisk,
  HOST_KEY_TYPES,
  isServed,
  requestPass,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'

/** Algorithms that a client asks for in turn, so that it meets each of the host keys. */
const ALGORITHMS = [
  'ssh-ed25519-cert-v01@openssh.com',
  'ecdsa-sha2-nistp256-cert-v01@openssh.com',
  'rsa-sha2-512-cert-v01@openssh.com',
] as const

test.concurrent('certificates that live for seconds are renewed before their end, and no client is ever refused', async () => {
  await using world = await makeWorld({ ttlSeconds: 20 })
  const { agent, sshd } = world
  await agent.start()
  await untilReady(world)
  const first = await certificatesOnDisk(world)

  let connects = 0
  await agent.waitFor(
    'every certificate is renewed',
    async () => {
      const hostKeyAlgorithms = ALGORITHMS[connects % ALGORITHMS.length] ?? ALGORITHMS[0]
      const client = await sshd.connect({
        knownHosts: world.knownHosts(),
        hostname: HOSTNAME,
        hostKeyAlgorithms,
      })
      connects += 1
      expect(client, `connect ${connects} by ${hostKeyAlgorithms}`).toMatchObject({ status: 0 })
      await neverExpired(world)
      const now = await certificatesOnDisk(world)
      // Each host key some times; on a machine with little else to do it is a hundred, for a renewal takes its time.
      return connects >= 12 && now.every((line, index) => line !== null && line !== first[index])
    },
    // A connection takes 80 ms, or three seconds on a machine with much else to do.
    90,
  )
  for (const type of HOST_KEY_TYPES) expect(await isServed(world, type), type).toBe(true)
  expect(agent.log.filter(({ msg }) => msg === 'requesting a certificate').slice(3)).not.toContainEqual(
    expect.objectContaining({ reason: 'expired' }),
  )
}, 150_000)

async function neverExpired({ agent }: World): Promise<void> {
  const status = await agent.status()
  for (const { state, valid_before, host_key } of status?.certificates ?? []) {
    expect(['valid', 'due', 'overdue', 'unconfirmed'], host_key).toContain(state)
    expect(Date.parse(valid_before ?? ''), host_key).toBeGreaterThan(Date.now())
  }
}

test.concurrent('a new certificate is not due again before half of its life is over', async () => {
  // The issuer dates back by up to two minutes: of 30 s, all lies in the window from the start.
  await using world = await makeWorld({ ttlSeconds: 30, sshd: { hostKeyTypes: ['ed25519'] } })
  await world.agent.start()
  await untilReady(world)
  await sleep(8_000)
  for (let look = 0; look < 2; look += 1) await requestPass(world)
  expect(requestsTo(world.issuer, 'issue')).toBe(1)
  const certificate = (await world.agent.status())?.certificates[0]
  const left = Date.parse(certificate?.valid_before ?? '') - Date.parse(certificate?.renewal_due ?? '')
  expect(left).toBeLessThanOrEqual(16_000)
})

test.concurrent('a reload_command that hangs is ended after half a minute, and nothing else stands still', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, folder, issuer } = world
  const pidFile = join(folder, 'hanging-reload.pid')
  const script = join(folder, 'hanging-reload')
  await writeFile(script, `#!/bin/sh\necho $$ >'${pidFile}'\nexec sleep 300\n`, { mode: 0o755 })
  await agent.configure(world.configWith({ sshd: { reload: 'always', reload_command: [script] } }))
  await agent.launch()
  await agent.waitFor('the certificate is served', async () => isServed(world, 'ed25519'))
  const told = await agent.waitForLog(/did not finish within 30 s/, 50)
  expect(told).toMatchObject({ level: 'error', code: 'SSHD_RELOAD_FAILED' })
  const pid = Number(await readFile(pidFile, 'utf8'))
  await agent.waitFor('the command is gone', () => !isAlive(pid))
  expect((await agent.health('/livez')).status).toBe(200)
  expect(issuer.issued).toHaveLength(1)
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test.each([
  { reload: 'always', most: 1, least: 1 },
  // Before 9.8 sshd reads certificates anew for every connection.
  { reload: 'auto', most: 1, least: 0 },
  { reload: 'never', most: 0, least: 0 },
])('three certificates at once, reload $reload: one reload at most', async ({ reload, most, least }) => {
  await using world = await makeWorld()
  const { agent, issuer, sshd } = world
  await agent.configure(world.configWith({ sshd: { reload } }))
  await agent.start()
  if (reload !== 'never') await untilReady(world)
  expect(issuer.issued).toHaveLength(3)
  const count = await sshd.reloadCount()
  expect(count).toBeLessThanOrEqual(most)
  expect(count).toBeGreaterThanOrEqual(least)

  // A second batch, by hand, and again one reload for all.
  await agent.stop()
  const renewed = await agent.verb('renew', '--force')
  expect(renewed.stdout.match(/renewed \(forced\)/g)).toHaveLength(3)
  expect(issuer.issued).toHaveLength(6)
  expect(await sshd.reloadCount()).toBeLessThanOrEqual(2 * most)
  expect(await sshd.reloadCount()).toBeGreaterThanOrEqual(2 * least)
})
