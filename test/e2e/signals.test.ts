import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { errorRow } from '../support/local-issuer.ts'
import {
  certificateOnDisk,
  hostKeyName,
  isServed,
  requestPass,
  readiness,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')
const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

async function hangUp({ agent }: World, message: string | RegExp = 'the configuration was read') {
  const from = agent.log.length
  agent.signal('SIGHUP')
  return agent.waitForLog(message, 20, from)
}

test('SIGHUP with a good configuration: other principals, tick and health address', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  await agent.start()
  await untilReady(world)
  const before = await certificateOnDisk(world, 'ed25519')

  // What the issuer does not give is told of, and what is in place stays there.
  const wanted = (principals: readonly string[]): object => ({ host_ca_file: caFile(world), principals })
  await agent.configure(world.configWith({ verify: wanted(['other.example.com']) }))
  await hangUp(world)
  await agent.waitFor('the wish is known', async () => (await readiness(agent)) === 503)
  expect(await agent.stateOf(NAME)).toBe('invalid CERT_PRINCIPALS_MISMATCH')
  expect((await agent.status())?.certificates[0]?.last_error?.code).toBe('CERT_PRINCIPALS_MISMATCH')
  expect(await certificateOnDisk(world, 'ed25519')).toBe(before)
  expect(await isServed(world, 'ed25519')).toBe(true)
  expect(issuer.issued).toHaveLength(2)

  const port = await freePort()
  await agent.configure(
    world.configWith({
      verify: wanted([HOSTNAME]),
      renewal: { tick: '* * * * * *' },
      health: { listen: `127.0.0.1:${port}` },
    }),
  )
  const oldPort = agent.healthPort
  await hangUp(world)
  await agent.waitFor('health has moved', async () => agent.healthPort === port)
  await untilReady(world)
  await expect(fetch(`http://127.0.0.1:${oldPort}/livez`)).rejects.toThrow('fetch failed')
  expect(issuer.issued).toHaveLength(2)
  expect(await certificateOnDisk(world, 'ed25519')).toBe(before)
  // The new tick turns the loop without any event.
  const { last_turn } = (await (await agent.health('/livez')).json()) as { last_turn: string }
  await agent.waitFor('a tick', async () => {
    return !(await (await agent.health('/livez')).text()).includes(last_turn)
  })
})

function caFile({ agent }: World): string {
  return `${agent.folder}/host-ca.pub`
}

test('SIGHUP with a bad configuration: every problem with its path, and the old one is kept', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, sshd } = world
  await agent.start()
  await untilReady(world)
  const bad = world.configWith({ renewal: { tick: '99 * * * *' }, issuer: { url: 'http://example.com' } })
  await agent.configure(bad)
  await hangUp(world, /the previous configuration stays in effect$/)
  for (const path of ['renewal.tick', 'issuer.url'])
    await agent.waitFor(path, () =>
      agent.log.some(
        ({ code, level, msg }) =>
          code === 'CONFIG_INVALID' && level === 'error' && msg.startsWith(`${path}:`),
      ),
    )
  await agent.configure('issuer: [')
  await hangUp(world, /the previous configuration stays in effect$/)

  expect(await readiness(agent)).toBe(200)
  await rm(sshd.certificatePath('ed25519'))
  await agent.waitFor('it is renewed as before', async () => isServed(world, 'ed25519'))
  await rm(agent.configPath)
  await hangUp(world, 'the configuration file is missing; the previous configuration stays in effect')
  expect(await readiness(agent)).toBe(200)
})

test('what waits for an administrator: SIGUSR1 looks and goes on waiting, SIGHUP asks at once', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  issuer.failAlways(errorRow('permission-denied'), 'issue')
  await agent.start()
  expect(await agent.stateOf(NAME)).toBe('absent ISSUER_FORBIDDEN')
  const refusal = agent.log.find(({ code }) => code === 'ISSUER_FORBIDDEN')
  expect(refusal?.['retry_in_seconds']).toBeGreaterThan(60)
  issuer.heal()
  for (let look = 0; look < 3; look += 1) await requestPass(world)
  expect(requestsTo(issuer, 'issue')).toBe(1)
  agent.signal('SIGHUP')
  await untilReady(world)
  expect(requestsTo(issuer, 'issue')).toBe(2)
})

test('a wrong secret is tried once, whatever happens, and again after SIGHUP', async () => {
  await using world = await makeWorld({ ...ONE_KEY, issuer: { lockAfterFailures: 3 } })
  const { agent, issuer } = world
  const { client_id, client_secret_file } = authOf(world)
  const secret = (await readFile(client_secret_file, 'utf8')).trim()
  issuer.setClientSecret(client_id, 'another')
  await agent.start()
  for (let look = 0; look < 3; look += 1) await requestPass(world)
  expect(requestsTo(issuer, 'login')).toBe(1)
  const { stdout } = await agent.verb('needs-renewal')
  expect(stdout).toContain(NAME)
  expect(JSON.stringify(agent.log)).not.toContain(secret)
  issuer.setClientSecret(client_id, secret)
  agent.signal('SIGHUP')
  await untilReady(world)
  expect(requestsTo(issuer, 'login')).toBe(2)
})

function authOf({ configWith }: World): { client_id: string; client_secret_file: string } {
  const config = configWith({}) as { auth: { client_id: string; client_secret_file: string } }
  return config.auth
}

test('a health port that is taken: told, tried again each turn, and renewals go on', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent } = world
  const squatter = createServer().listen(0, '127.0.0.1')
  await once(squatter, 'listening')
  const address = squatter.address()
  const port = typeof address === 'object' ? address?.port : null
  try {
    await agent.configure(world.configWith({ health: { listen: `127.0.0.1:${port}` } }))
    await agent.launch()
    const complaint = await agent.waitForLog(/the health server cannot start/)
    expect(complaint.level).toBe('error')
    await agent.waitFor('the certificate is served', async () => isServed(world, 'ed25519'))
  } finally {
    squatter.close()
  }
  agent.signal('SIGUSR1')
  await untilReady(world)
  expect(agent.healthPort).toBe(port)
})
