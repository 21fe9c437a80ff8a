import { stat } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { HOSTNAME, makeWorld } from '../support/world.ts'

const TYPES = ['ed25519', 'ecdsa', 'rsa'] as const

test('a fresh host: certificates for all host keys, served, and a client that trusts only the CA connects', async () => {
  await using world = await makeWorld()
  const { agent, issuer, sshd } = world
  const before = await sshd.connect({ knownHosts: world.knownHosts(), hostname: HOSTNAME })
  expect(before.status).not.toBe(0)

  await agent.start()
  await agent.waitFor('all are served', async () => (await agent.health('/readyz')).status === 200)
  expect(issuer.issued).toHaveLength(3)
  for (const type of TYPES) {
    expect(await sshd.scan(type), type).not.toBeNull()
    expect((await stat(sshd.certificatePath(type))).mode & 0o777).toBe(0o644)
  }
  const after = await sshd.connect({ knownHosts: world.knownHosts(), hostname: HOSTNAME })
  expect(after).toMatchObject({ status: 0 })
  expect(await agent.stop()).toBe(0)
})
