import { copyFile, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  certificateOnDisk,
  certificatesOnDisk,
  hostKeyName,
  HOST_KEY_TYPES,
  isServed,
  requestPass,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')

async function startReady(world: World): Promise<(string | null)[]> {
  await world.agent.start()
  await untilReady(world)
  return certificatesOnDisk(world)
}

/** Wait until the new key's certificate is in place and served, after exactly one more request. */
async function expectResigned(world: World, before: readonly (string | null)[]): Promise<void> {
  const { agent, issuer, sshd } = world
  await agent.waitFor('the new key is certified and served', async () => {
    const [ours, ...others] = await certificatesOnDisk(world)
    expect(others).toEqual(before.slice(1))
    return ours !== before[0] && (await isServed(world, 'ed25519'))
  })
  await agent.waitFor('it is known to be served', async () => (await agent.stateOf(NAME)) === 'valid null')
  expect(requestsTo(issuer, 'issue')).toBe(HOST_KEY_TYPES.length + 1)
  const hostKeyAlgorithms = 'ssh-ed25519-cert-v01@openssh.com'
  const client = await sshd.connect({ knownHosts: world.knownHosts(), hostname: HOSTNAME, hostKeyAlgorithms })
  expect(client).toMatchObject({ status: 0 })
}

test.each(['in-place', 'rename', 'delete'] as const)('a host key rotated: %s', async (how) => {
  await using world = await makeWorld()
  const before = await startReady(world)
  await world.sshd.rotateKey('ed25519', how)
  if (how === 'delete') {
    const gone = async (): Promise<boolean> => (await world.agent.stateOf(NAME)).startsWith('undefined')
    await world.agent.waitFor('the key is seen to be gone', gone)
    await world.sshd.rotateKey('ed25519', 'rename')
  }
  await expectResigned(world, before)
})

test('all host keys rotated at once: one batch, one reload', async () => {
  await using world = await makeWorld({ config: { sshd: { reload: 'always' } } })
  const { agent, issuer, sshd } = world
  await agent.start()
  await untilReady(world)
  const before = await certificatesOnDisk(world)
  for (const type of HOST_KEY_TYPES) {
    await generateKey(join(sshd.folder, `fresh_${type}`), type, `root@${HOSTNAME}`)
  }
  for (const type of HOST_KEY_TYPES) {
    for (const half of ['', '.pub']) {
      await rename(join(sshd.folder, `fresh_${type}${half}`), sshd.hostKeyPath(type) + half)
    }
  }
  await agent.waitFor('all are certified anew', async () => {
    const now = await certificatesOnDisk(world)
    return now.every((line, index) => line !== before[index])
  })
  await agent.waitFor('sshd is reloaded', async () => (await sshd.reloadCount()) > 1)
  await requestPass(world)
  await untilReady(world)
  expect(requestsTo(issuer, 'issue')).toBe(6)
  expect(await sshd.reloadCount()).toBe(2)
})

/** @returns where the host key of type ed25519 is, and another one that is to take its place; both without `.pub` */
async function makeFreshKey(sshd: World['sshd']): Promise<{ path: string; fresh: string }> {
  const fresh = join(sshd.folder, 'fresh')
  await generateKey(fresh, 'ed25519', `root@${HOSTNAME}`)
  return { path: sshd.hostKeyPath('ed25519'), fresh }
}

test('a public half that is half written is left alone until it is whole', async () => {
  await using world = await makeWorld()
  const before = await startReady(world)
  const { agent, sshd } = world
  const { path, fresh } = await makeFreshKey(sshd)
  const line = await readFile(`${fresh}.pub`, 'utf8')
  await copyFile(fresh, path)
  await writeFile(`${path}.pub`, line.slice(0, 40))
  await agent.waitFor('the half is seen', async () => {
    return (await agent.stateOf(NAME)) === 'invalid HOST_KEY_UNREADABLE'
  })
  expect(await certificateOnDisk(world, 'ed25519')).toBe(before[0])
  await writeFile(`${path}.pub`, line)
  await expectResigned(world, before)
})

test('the private half comes before the public half', async () => {
  await using world = await makeWorld()
  const before = await startReady(world)
  const { agent, sshd } = world
  const { path, fresh } = await makeFreshKey(sshd)
  await rm(`${path}.pub`)
  await copyFile(fresh, path)
  await agent.waitFor('the key is seen to be gone', async () =>
    (await agent.stateOf(NAME)).startsWith('undefined'),
  )
  await copyFile(`${fresh}.pub`, `${path}.pub`)
  await expectResigned(world, before)
})

test('the public half comes before the private half', async () => {
  await using world = await makeWorld()
  const before = await startReady(world)
  const { agent, sshd } = world
  const { path, fresh } = await makeFreshKey(sshd)
  await copyFile(`${fresh}.pub`, `${path}.pub`)
  await agent.waitFor('sshd is seen to offer another key', async () => {
    return /^(?:ignored|unconfirmed) /.test(await agent.stateOf(NAME))
  })
  await copyFile(fresh, path)
  await expectResigned(world, before)
})

test('a host key rotated during a request: the answer for the old key is dropped', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, issuer, sshd } = world
  const answer = Promise.withResolvers<void>()
  issuer.failNext({ kind: 'pause', until: answer.promise }, 1, 'issue')
  await agent.launch()
  await agent.waitFor('the request is under way', () => requestsTo(issuer, 'issue') === 1)
  await sshd.rotateKey('ed25519', 'rename')
  answer.resolve()
  await agent.waitForLog('the host key changed during the request: the response was dropped')
  await untilReady(world)
  expect(issuer.issued).toHaveLength(2)
  expect(issuer.issued[1]?.line).toContain(await certificateOnDisk(world, 'ed25519'))
  expect(await isServed(world, 'ed25519')).toBe(true)
})
