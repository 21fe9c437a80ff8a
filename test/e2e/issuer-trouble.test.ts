import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
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
import { makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')
const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const
/** With the certificate's age unknown, all of its life but the first seconds lies in such a window. */
const WIDE_WINDOW = { renewal: { window: '99%', jitter: '0%' } } as const

/** Put a certificate in place that is usable, and due from the next look on. */
async function makeOneDue({ agent, configWith }: World): Promise<void> {
  await agent.configure(configWith(WIDE_WINDOW))
  expect((await agent.verb('renew')).status).toBe(0)
  await rm(join(agent.folder, 'state', 'attempts.json'))
}

test.concurrent('the issuer is in trouble for a while: served and ready all the time, and renewed without help', async () => {
  await using world = await makeWorld(ONE_KEY)
  await makeOneDue(world)
  const { agent, issuer, sshd } = world
  const before = await readFile(sshd.certificatePath('ed25519'), 'utf8')
  issuer.failAlways(errorRow('server-error'), 'issue')
  await agent.start()
  const failed = async (times: number): Promise<boolean> =>
    (await agent.status())?.certificates[0]?.failures === times
  await agent.waitFor('two failures', async () => {
    expect(await readiness(agent)).toBe(200)
    return failed(2)
  })
  expect((await agent.status())?.certificates[0]).toMatchObject({
    state: 'due',
    last_error: { code: 'ISSUER_BUSY' },
  })
  expect(await (await agent.health('/readyz')).json()).toMatchObject({ status: 'warn' })
  expect(await readFile(sshd.certificatePath('ed25519'), 'utf8')).toBe(before)
  expect(await isServed(world, 'ed25519')).toBe(true)
  const lines = agent.log.filter(({ code }) => code === 'ISSUER_BUSY')
  for (const line of lines)
    expect(line).toMatchObject({ host_key: NAME, request_id: expect.stringMatching(/^req-/) })

  issuer.heal()
  await agent.waitFor('it is renewed', async () => (await agent.stateOf(NAME)) === 'valid null')
  expect(await readFile(sshd.certificatePath('ed25519'), 'utf8')).not.toBe(before)
  expect(await isServed(world, 'ed25519')).toBe(true)
  expect((await agent.status())?.certificates[0]).toMatchObject({ failures: 0, last_error: null })
})

test.concurrent('Retry-After is obeyed, by looks and over a crash; SIGHUP ends the wait', async () => {
  await using world = await makeWorld(ONE_KEY)
  await makeOneDue(world)
  const { agent, issuer } = world
  issuer.failNext(errorRow('rate-limited', { headers: { 'retry-after': '200' } }), 1, 'issue')
  const count = requestsTo(issuer, 'issue')
  await agent.start()
  const refusal = agent.log.find(({ code }) => code === 'ISSUER_BUSY')
  expect(refusal?.['retry_in_seconds']).toBeGreaterThanOrEqual(200)
  await requestPass(world)
  await agent.stop('SIGKILL')
  await agent.start()
  await requestPass(world)
  expect(requestsTo(issuer, 'issue')).toBe(count + 1)
  expect((await agent.status())?.waits).toMatchObject([{ for: 'issuer', code: 'ISSUER_BUSY' }])
  expect((await agent.verb('status')).stdout).toMatch(/^next request to the issuer in 3m.* \(ISSUER_BUSY\)$/m)
  agent.signal('SIGHUP')
  await agent.waitFor('it is renewed', () => issuer.issued.length === 2)
  expect(requestsTo(issuer, 'issue')).toBe(count + 2)
})

test.concurrent('after a fix, a restart ends the wait, and `renew` skips it', async () => {
  await using world = await makeWorld(ONE_KEY)
  await makeOneDue(world)
  const { agent, issuer } = world
  issuer.failNext(errorRow('permission-denied'), 2, 'issue')
  const count = requestsTo(issuer, 'issue')
  await agent.start()
  await requestPass(world)
  expect(requestsTo(issuer, 'issue')).toBe(count + 1)
  expect((await agent.verb('renew')).stderr).toContain('ISSUER_FORBIDDEN')
  expect(requestsTo(issuer, 'issue')).toBe(count + 2)
  await agent.stop()
  await agent.start()
  await agent.waitFor('it is renewed', () => issuer.issued.length === 2)
  expect(requestsTo(issuer, 'issue')).toBe(count + 3)
})

test('a token is kept for one batch, and not after it: what becomes of it then is no failure', async () => {
  await using world = await makeWorld()
  const { agent, issuer, sshd } = world
  await agent.start()
  await untilReady(world)
  expect(issuer.issued.length).toBeGreaterThan(1)
  expect(requestsTo(issuer, 'login')).toBe(1)
  for (const [logins, lose] of [() => issuer.expireTokens(), () => issuer.revokeTokens()].entries()) {
    lose()
    await rm(sshd.certificatePath('ed25519'))
    await agent.waitFor('it is issued anew', async () => isServed(world, 'ed25519'))
    expect(requestsTo(issuer, 'login')).toBe(logins + 2)
  }
  // A slow machine may run into a time limit; a token that is over it must not.
  expect(agent.log.filter(({ code }) => code === 'ISSUER_UNAUTHORIZED')).toEqual([])
})

test('a daemon that is killed while it asks leaves no exchange behind', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  const answer = Promise.withResolvers<void>()
  issuer.failNext({ kind: 'pause', until: answer.promise }, 1, 'issue')
  await agent.launch()
  await agent.waitFor('the request is under way', () => requestsTo(issuer, 'issue') === 1)
  const children = (await readFile(`/proc/${agent.pid}/task/${agent.pid}/children`, 'utf8')).trim().split(' ')
  const commandOf = async (pid: string): Promise<string> =>
    readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const commands = await Promise.all(children.map(commandOf))
  const exchange = children[commands.findIndex((command) => command.endsWith('\0exchange\0'))] ?? ''
  expect(exchange).not.toBe('')
  await agent.stop('SIGKILL')
  await expect.poll(async () => commandOf(exchange), { timeout: 10_000 }).toBe('')
  answer.resolve()
})

test('an HTTPS issuer: trusted by ca_file, and by nothing less', async () => {
  await using world = await makeWorld({ ...ONE_KEY, issuer: { https: true } })
  const { agent, issuer, folder } = world
  await agent.start()
  expect(await agent.stateOf(NAME)).toBe('absent ISSUER_UNREACHABLE')
  expect(agent.log.find(({ code }) => code === 'ISSUER_UNREACHABLE')?.msg).toContain('issuer.ca_file')
  expect(issuer.requests).toEqual([])

  const ca_file = join(folder, 'tls-roots.pem')
  await writeFile(ca_file, await readFile(issuer.tlsCaFile))
  await agent.stop()
  await rm(join(agent.folder, 'state', 'attempts.json'))
  await agent.configure(world.configWith({ issuer: { ca_file } }))
  await agent.start()
  await untilReady(world)
  expect(issuer.issued).toHaveLength(1)
})

test('`renew` while the daemon has the lock waits for it, and then finds nothing due', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  const answer = Promise.withResolvers<void>()
  issuer.failNext({ kind: 'pause', until: answer.promise }, 1, 'issue')
  await agent.launch()
  await agent.waitFor('the request is under way', () => requestsTo(issuer, 'issue') === 1)
  let isOver = false
  const renewing = agent.verb('renew').finally(() => (isOver = true))
  // Time enough to start and to ask, if it did not wait.
  await sleep(1_500)
  expect(isOver).toBe(false)
  expect(requestsTo(issuer, 'issue')).toBe(1)
  answer.resolve()
  expect(await renewing).toMatchObject({ status: 0, stdout: 'nothing is due\n' })
  await untilReady(world)
  expect(issuer.issued).toHaveLength(1)
  expect(await certificateOnDisk(world, 'ed25519')).not.toBeNull()
})

test('as the unit runs it, the issuer is asked through the socket that it names, or not at all', async () => {
  const socket = '/nonexistent/exchange.sock'
  await using world = await makeWorld({
    sshd: { hostKeyTypes: ['ed25519'] },
    environment: { HOSTCERTD_EXCHANGE_SOCKET: socket },
  })
  // With --config, as in every test; elsewhere that means a child.
  await world.agent.start()
  const [certificate] = (await world.agent.status())?.certificates ?? []
  expect(certificate).toMatchObject({ state: 'absent', last_error: { code: 'ISSUER_UNREACHABLE' } })
  expect(certificate?.last_error?.message).toContain(`there is no ${socket}`)
  expect(world.issuer.requests).toEqual([])
})
