import { writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { hostKeyName, isServed, untilReady } from '../support/looks.ts'
import { makeWorld } from '../support/world.ts'

test('not enrolled: idle and alive, not ready; with a configuration it begins by itself', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, issuer } = world
  await agent.launch({ enrolled: false })
  await agent.waitForLog(/^not enrolled/)
  await agent.waitFor('the first turn', async () => (await agent.status()) !== null)
  expect((await agent.health('/livez')).status).toBe(200)
  const ready = await agent.health('/readyz')
  expect(ready.status).toBe(503)
  expect(await ready.json()).toMatchObject({ status: 'fail', reason: 'not-enrolled' })
  expect(await agent.status()).toMatchObject({ enrolled: false, certificates: [] })
  expect(issuer.requests).toEqual([])

  // A configuration that is not right yet is told of, and waited for.
  await writeFile(agent.configPath, 'issuer: {}\n')
  agent.signal('SIGHUP')
  await agent.waitForLog(/^issuer\.url: /)
  expect((await agent.health('/livez')).status).toBe(200)

  await agent.configure(world.configWith({}))
  agent.signal('SIGHUP')
  await agent.waitForLog('the configuration was read')
  await agent.waitFor('health has moved', () => agent.healthPort !== DEFAULT_PORT)
  await untilReady(world)
  expect(await agent.stateOf(hostKeyName('ed25519'))).toBe('valid null')
  expect(await isServed(world, 'ed25519')).toBe(true)
  expect(await agent.stop()).toBe(0)
})

/** Where it listens while it is not told. */
const DEFAULT_PORT = 9847
