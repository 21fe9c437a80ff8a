import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { AttemptRecord } from '../../agent/renewal/attempt-record.ts'
import {
  certificateOnDisk,
  hostKeyName,
  isServed,
  leftovers,
  lookNow,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')
const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const
/** What SIGTERM has by `interface.md`. */
const END_MILLISECONDS = 10_000

/** Put a certificate in place, then rotate the key while nobody looks: now another one is due. @returns the old one */
async function makeOneDue(world: World): Promise<string> {
  await world.agent.configure(world.configWith({}))
  expect((await world.agent.verb('renew')).status).toBe(0)
  const old = await certificateOnDisk(world, 'ed25519')
  await world.sshd.rotateKey('ed25519', 'rename')
  if (old === null) throw new Error('renew put nothing in place')
  return old
}

async function endGracefully({ agent }: World): Promise<void> {
  const start = performance.now()
  expect(await agent.stop('SIGTERM')).toBe(0)
  expect(performance.now() - start).toBeLessThan(END_MILLISECONDS)
}

test.each(['login', 'issue'] as const)('SIGTERM while waiting for the answer to: %s', async (route) => {
  await using world = await makeWorld(ONE_KEY)
  const old = await makeOneDue(world)
  const { agent, issuer } = world
  const before = requestsTo(issuer, route)
  issuer.failNext({ kind: 'hang' }, 1, route)
  await agent.launch()
  await agent.waitFor('the request is under way', () => requestsTo(issuer, route) > before)
  await endGracefully(world)
  expect(await certificateOnDisk(world, 'ed25519')).toBe(old)
  expect(await leftovers(world)).toEqual([])

  // Ended by us, not failed: the next start owes no wait.
  const { issuer: issuerWait, login, hostKeys } = await readRecord(world)
  expect([issuerWait, login, hostKeys[NAME]?.wait]).toEqual([null, null, null])
  await agent.start()
  await untilReady(world)
  expect(issuer.issued).toHaveLength(2)
  expect(issuer.issued[1]?.line).toContain(await certificateOnDisk(world, 'ed25519'))
})

test('SIGTERM while sshd is being reloaded: the swap stays, and the next start finds nothing due', async () => {
  await using world = await makeWorld(ONE_KEY)
  const old = await makeOneDue(world)
  const { agent, issuer, sshd } = world
  const slow = await slowReload(world)
  await agent.configure(world.configWith({ sshd: { reload: 'always', reload_command: slow.command } }))
  await agent.launch()
  await agent.waitFor('the reload is under way', async () => (await slow.pids()).length > 0)
  await endGracefully(world)
  const swapped = await certificateOnDisk(world, 'ed25519')
  expect(swapped).not.toBe(old)
  expect(issuer.issued[1]?.line).toContain(swapped)
  expect(await leftovers(world)).toEqual([])
  for (const pid of await slow.pids())
    expect(() => process.kill(pid, 0), `reload ${pid} lives on`).toThrow('ESRCH')

  await agent.configure(world.configWith({ sshd: { reload_command: [sshd.reloadScript] } }))
  await agent.start()
  await untilReady(world)
  expect(await isServed(world, 'ed25519')).toBe(true)
  expect(issuer.issued).toHaveLength(2)
})

/** A `reload_command` that is never done. */
async function slowReload({ folder }: World): Promise<{ command: string[]; pids: () => Promise<number[]> }> {
  const pidFile = join(folder, 'slow-reload.pids')
  const script = join(folder, 'slow-reload')
  await writeFile(script, `#!/bin/sh\necho $$ >>'${pidFile}'\nexec sleep 60\n`, { mode: 0o755 })
  const pids = async (): Promise<number[]> => {
    const text = await readFile(pidFile, 'utf8').catch(() => '')
    return text.split('\n').filter(Boolean).map(Number)
  }
  return { command: [script], pids }
}

test('SIGTERM and SIGINT at rest, and SIGTERM twice', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    await agent.start()
    await untilReady(world)
    expect(await agent.stop(signal), signal).toBe(0)
  }
  await agent.start()
  agent.signal('SIGTERM')
  expect(await agent.stop('SIGTERM')).toBe(0)
  expect(issuer.issued).toHaveLength(1)
  expect(await leftovers(world)).toEqual([])
})

test('killed again and again during a request: the record on disk bounds the requests', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  issuer.failAlways({ kind: 'hang' }, 'issue')
  const startAndKill = async (): Promise<void> => {
    const before = requestsTo(issuer, 'issue')
    await agent.launch()
    await agent.waitFor('a request, or a turn without one', async () => {
      return requestsTo(issuer, 'issue') > before || (await agent.status()) !== null
    })
    await agent.stop('SIGKILL')
  }
  for (let start = 1; start <= 6; start += 1) await startAndKill()
  const requests = requestsTo(issuer, 'issue')
  expect(requests).toBeGreaterThan(0)
  expect(requests).toBeLessThanOrEqual(3)

  // Each crash counts as a failure, so that the wait grows.
  const failures = await endWait(world)
  await startAndKill()
  expect(requestsTo(issuer, 'issue')).toBe(requests + 1)
  expect(await endWait(world)).toBe(failures + 1)
})

/** Let the wait on record be over, and say how many failures it counts. */
async function endWait(world: World): Promise<number> {
  const record = await readRecord(world)
  const key = record.hostKeys[NAME]
  if (key === undefined || key.wait === null) throw new Error(`no wait in ${recordPath(world)}`)
  const wait = { ...key.wait, until: Date.now() / 1000 - 1 }
  const ended = { ...record, hostKeys: { ...record.hostKeys, [NAME]: { ...key, wait } } }
  await writeFile(recordPath(world), JSON.stringify(ended))
  return wait.failures
}

function recordPath({ agent }: World): string {
  return join(agent.folder, 'state', 'attempts.json')
}

async function readRecord(world: World): Promise<AttemptRecord> {
  return JSON.parse(await readFile(recordPath(world), 'utf8')) as AttemptRecord
}

test('killed at rest: the next start goes on where it was', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  await agent.start()
  await untilReady(world)
  await agent.stop('SIGKILL')
  await agent.start()
  await lookNow(world)
  await untilReady(world)
  expect(issuer.issued).toHaveLength(1)
})
