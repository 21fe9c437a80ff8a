import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { makeOneDue, readRecord, recordPath } from '../support/interrupted.ts'
import {
  certificateOnDisk,
  hostKeyName,
  isServed,
  requestPass,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')
const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

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

test('killed between the swap and its record: what was swapped is served, and nothing new is issued', async () => {
  await using folder = await makeTemporaryFolder()
  const armed = join(folder.path, 'armed')
  const environment = { NODE_OPTIONS: `--import=${await crashAfterSwap(folder.path, armed)}` }
  await using world = await makeWorld({ ...ONE_KEY, environment })
  const old = await makeOneDue(world)
  const { agent, issuer } = world
  await writeFile(armed, '')
  await agent.launch()
  await agent.waitFor('it is gone', () => !agent.running)
  const swapped = await certificateOnDisk(world, 'ed25519')
  expect(swapped).not.toBe(old)
  expect(issuer.issued[1]?.line).toContain(swapped)
  // So it was killed before: on record the attempt is still under way.
  expect((await readRecord(world)).hostKeys[NAME]?.wait).not.toBeNull()

  await agent.start()
  await untilReady(world)
  expect(await isServed(world, 'ed25519')).toBe(true)
  expect(await agent.stateOf(NAME)).toBe('valid null')
  await requestPass(world)
  expect(requestsTo(issuer, 'issue')).toBe(2)
})

/** A module that kills the program that loads it, once, as soon as a certificate was renamed into its place. */
async function crashAfterSwap(folder: string, armed: string): Promise<string> {
  const text = `
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
const { rename } = fs.promises
fs.promises.rename = async (from, to) => {
  await rename(from, to)
  if (!to.endsWith('-cert.pub') || !fs.existsSync(${JSON.stringify(armed)})) return
  fs.rmSync(${JSON.stringify(armed)})
  process.kill(process.pid, 'SIGKILL')
  await new Promise(() => {})
}
syncBuiltinESMExports()
`
  const file = join(folder, 'crash-after-swap.mjs')
  await writeFile(file, text)
  return pathToFileURL(file).href
}

test('killed at rest: the next start goes on where it was', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  await agent.start()
  await untilReady(world)
  await agent.stop('SIGKILL')
  await agent.start()
  await requestPass(world)
  await untilReady(world)
  expect(issuer.issued).toHaveLength(1)
})
