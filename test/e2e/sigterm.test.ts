import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { endGracefully, makeOneDue, readRecord, waitsOnRecord } from '../support/interrupted.ts'
import {
  certificateOnDisk,
  hostKeyName,
  isServed,
  leftovers,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { makeWorld, type World } from '../support/world.ts'

const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

test('SIGTERM while waiting for the lock: nothing was done, and the next start does it', async () => {
  await using world = await makeWorld(ONE_KEY)
  const old = await makeOneDue(world)
  const { agent, issuer } = world
  const lock = join(agent.folder, 'state', 'lock')
  const holder = spawn('flock', [lock, 'sh', '-c', 'echo held; read _'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const released = once(holder, 'exit')
  try {
    await once(holder.stdout, 'data')
    await agent.launch()
    await agent.waitFor('the first turn is under way', () => Number.isFinite(agent.healthPort))
    await sleep(1_000)
    expect(await agent.status()).toBeNull()
    expect(await endGracefully(world)).toBeNull()
    expect(holder.exitCode).toBeNull()
  } finally {
    holder.stdin.end('\n')
    await released
  }
  expect(await certificateOnDisk(world, 'ed25519')).toBe(old)
  expect(requestsTo(issuer, 'issue')).toBe(1)
  await expectAllWellAtNextStart(world, 2)
})

test('SIGTERM during the question for the host CA: it is asked again at the next start', async () => {
  await using world = await makeWorld({ ...ONE_KEY, config: { verify: { host_ca_file: undefined } } })
  const { agent, issuer } = world
  issuer.failNext({ kind: 'hang' }, 1, 'host-ca')
  await agent.launch()
  await agent.waitFor('the question is under way', () => requestsTo(issuer, 'host-ca') === 1)
  expect(await endGracefully(world)).toBeNull()
  expect(issuer.issued).toEqual([])
  await expectAllWellAtNextStart(world, 1)
  expect(requestsTo(issuer, 'host-ca')).toBe(2)
})

test('SIGTERM during the question to sshd: what was issued before is in place, and is served from the next start on', async () => {
  await using world = await makeWorld(ONE_KEY)
  const old = await makeOneDue(world)
  const { agent, issuer } = world
  const asking = new Set<Socket>()
  const silent = createServer((socket) => {
    // ssh speaks first: without reading that its end would never be seen.
    asking.add(
      socket
        .resume()
        .on('error', () => {})
        .on('close', () => asking.delete(socket)),
    )
  }).listen(0, '127.0.0.1')
  try {
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    await agent.configure(world.configWith({ sshd: { address: `127.0.0.1:${port}` } }))
    await agent.launch()
    await agent.waitFor('sshd is asked', () => asking.size > 0)
    expect(await endGracefully(world)).toBeNull()
    await agent.waitFor('who asked is gone too', () => asking.size === 0, 2)
  } finally {
    silent.close()
  }
  expect(await certificateOnDisk(world, 'ed25519')).not.toBe(old)
  expect(requestsTo(issuer, 'issue')).toBe(2)
  await agent.configure(world.configWith({}))
  await expectAllWellAtNextStart(world, 2)
})

test.each(['login', 'issue'] as const)('SIGTERM while waiting for the answer to: %s', async (route) => {
  await using world = await makeWorld(ONE_KEY)
  const old = await makeOneDue(world)
  const { agent, issuer } = world
  const before = requestsTo(issuer, route)
  issuer.failNext({ kind: 'hang' }, 1, route)
  await agent.launch()
  await agent.waitFor('the request is under way', () => requestsTo(issuer, route) > before)
  expect(await endGracefully(world)).toBeNull()
  expect(await certificateOnDisk(world, 'ed25519')).toBe(old)
  await expectAllWellAtNextStart(world, 2)
})

test('SIGTERM in a batch, one key swapped and the next one asked for: only that one is asked for again', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ecdsa', 'ed25519'] } })
  const { agent, issuer } = world
  issuer.failNext({ kind: 'slow', milliseconds: 0 }, 1, 'issue')
  issuer.failNext({ kind: 'hang' }, 1, 'issue')
  await agent.launch()
  await agent.waitFor('the second request is under way', () => requestsTo(issuer, 'issue') === 2)
  const first = await certificateOnDisk(world, 'ecdsa')
  expect(issuer.issued.map(({ line }) => line)).toEqual([expect.stringContaining(first ?? 'none')])
  expect(await endGracefully(world)).toBeNull()
  expect(await certificateOnDisk(world, 'ed25519')).toBeNull()
  const { hostKeys } = await readRecord(world)
  expect(hostKeys[hostKeyName('ecdsa')]?.issued?.serial).toBe(String(issuer.issued[0]?.serial))

  await expectAllWellAtNextStart(world, 2)
  expect(await certificateOnDisk(world, 'ecdsa')).toBe(first)
  expect(await isServed(world, 'ecdsa')).toBe(true)
})

test('SIGTERM while sshd is being reloaded: the swap stays, and the next start finds nothing due', async () => {
  await using world = await makeWorld(ONE_KEY)
  const old = await makeOneDue(world)
  const { agent, issuer, sshd } = world
  const slow = await slowReload(world)
  await agent.configure(world.configWith({ sshd: { reload: 'always', reload_command: slow.command } }))
  await agent.launch()
  await agent.waitFor('the reload is under way', async () => (await slow.pids()).length > 0)
  expect(await endGracefully(world)).toBeNull()
  const swapped = await certificateOnDisk(world, 'ed25519')
  expect(swapped).not.toBe(old)
  expect(issuer.issued[1]?.line).toContain(swapped)
  for (const pid of await slow.pids())
    expect(() => process.kill(pid, 0), `reload ${pid} lives on`).toThrow('ESRCH')

  await agent.configure(world.configWith({ sshd: { reload_command: [sshd.reloadScript] } }))
  await expectAllWellAtNextStart(world, 2)
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

test('SIGTERM while waiting for sshd to serve it after a reload: the next start reloads again', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, folder, sshd } = world
  const staged = { certificates: { directory: join(folder, 'staged') } }
  await agent.configure(world.configWith({ ...staged, sshd: { reload_command: ['/bin/true'] } }))
  await agent.launch()
  await agent.waitForLog('reloaded sshd')
  // The first wait is 0.4 s, the second 4.6 s.
  await sleep(700)
  expect(await agent.status()).toBeNull()
  expect(await endGracefully(world)).toBeNull()

  const script = join(folder, 'copy-and-reload')
  const copy = `cp '${folder}'/staged/*-cert.pub '${sshd.certificateDirectory}'`
  await writeFile(script, `#!/bin/sh\n${copy} && exec '${sshd.reloadScript}'\n`, { mode: 0o755 })
  await agent.configure(world.configWith({ ...staged, sshd: { reload_command: [script] } }))
  await expectAllWellAtNextStart(world, 1)
  expect(await sshd.reloadCount()).toBe(1)
})

/** Ended by us, not failed: no part of a file, no wait; what is lacking is done at once, and nothing twice. */
async function expectAllWellAtNextStart(world: World, issued: number): Promise<void> {
  const { agent, issuer } = world
  expect(await leftovers(world)).toEqual([])
  expect(await waitsOnRecord(world)).toEqual([])
  await agent.start()
  await untilReady(world)
  expect(issuer.issued).toHaveLength(issued)
  expect(issuer.issued.at(-1)?.line).toContain(await world.sshd.scan('ed25519'))
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
