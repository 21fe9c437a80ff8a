import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { certificateOnDisk, isServed, leftovers, requestsTo, untilReady } from '../support/looks.ts'
import { makeWorld, type World } from '../support/world.ts'
import { type Fault, Injector } from './injection.ts'
import { pointsOf, report } from './rows.ts'

const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

/** A host with a valid certificate, and what injects faults into its files and connections. */
async function enrolledWorld(): Promise<{ readonly world: World; readonly injector: Injector }> {
  const world = await makeWorld(ONE_KEY)
  await world.agent.configure(world.configWith({}))
  const { status, stderr } = await world.agent.verb('renew')
  if (status !== 0) throw new Error(stderr)
  const injector = await Injector.build(world.folder, [
    join(world.agent.folder, 'state'),
    world.sshd.certificateDirectory ?? join(world.folder, 'host', 'certs'),
  ])
  return { world, injector }
}

/** What is wrong with the certificate in place; none when it is one that was issued, whole, and readable for sshd. */
async function flawsOf(world: World): Promise<string[]> {
  const onDisk = await certificateOnDisk(world, 'ed25519')
  if (onDisk === null) return ['lost: there is no certificate']
  const path = world.sshd.certificatePath('ed25519')
  const text = await readFile(path, 'utf8')
  const isIssued = world.issuer.issued.some(({ line }) => line.startsWith(onDisk))
  const { mode } = await stat(path)
  return [
    ...(isIssued && text.endsWith('\n') ? [] : ['lost: it is torn, or none that was issued']),
    ...((mode & 0o777) === 0o644 ? [] : [`its mode is ${(mode & 0o777).toString(8)}`]),
  ]
}

/** Put it right without the fault, and say what is not as it must be then. */
async function recover(world: World, before: number): Promise<{ flaws: string[]; seconds: number }> {
  const began = performance.now()
  const { status, stderr } = await world.agent.verb('renew')
  const seconds = (performance.now() - began) / 1000
  const asked = requestsTo(world.issuer, 'issue') - before
  const left = await leftovers(world)
  return {
    seconds,
    flaws: [
      ...(await flawsOf(world)),
      ...(status === 0 ? [] : [`renew ends with ${status}: ${stderr}`]),
      ...((await isServed(world, 'ed25519')) ? [] : ['it is not served']),
      ...(left.length === 0 ? [] : [`left behind: ${left.join(' ')}`]),
      ...(asked <= 2 ? [] : [`${asked} requests for one certificate`]),
    ],
  }
}

/** Run `renew --force` with a fault at one call after the other. */
async function tryEach(
  name: string,
  kinds: readonly string[],
  some: number,
  milliseconds?: number,
): Promise<string[]> {
  const { world, injector } = await enrolledWorld()
  await using _ = world
  const { agent, issuer } = world
  const renew = ['renew', '--force']
  const { calls, status } = await injector.verb(agent.configPath, renew, { kind: 'none', at: 0 })
  expect(status).toBe(0)
  expect(calls.length).toBeGreaterThan(20)
  const flaws: string[] = []
  let [tried, longest] = [0, 0]
  for (const kind of kinds) {
    for (const at of pointsOf(calls.length, some)) {
      const before = requestsTo(issuer, 'issue')
      const fault: Fault = { kind, at, ...(milliseconds === undefined ? {} : { milliseconds }) }
      const faulty = await injector.verb(agent.configPath, renew, fault)
      const at_ = `${kind} at call ${at}, ${faulty.calls[at - 1] ?? 'which never came'}`
      const ended =
        kind === 'kill' ? faulty.signal === 'SIGKILL' || faulty.calls.length < at : faulty.status !== null
      const during = await flawsOf(world)
      const after = await recover(world, before)
      tried += 1
      longest = Math.max(longest, after.seconds)
      for (const flaw of [...(ended ? [] : [`ended by ${faulty.signal}`]), ...during, ...after.flaws])
        flaws.push(`${at_}: ${flaw}`)
    }
  }
  const lost = flaws.filter((flaw) => flaw.includes(': lost: ')).length
  await report({
    part: 'Files and connections',
    fault: name,
    tried,
    lost,
    wrong: flaws.length - lost,
    recoveredSeconds: longest,
  })
  return flaws
}

test('`renew` killed before each call', async () => {
  expect(await tryEach('`renew` killed before each call', ['kill'], 14)).toEqual([])
})

test('`renew` with an error at each call, made or not', async () => {
  const name =
    '`renew` with EIO, ENOSPC, EROFS, EMFILE at each call, and EIO reported for a call that was made'
  expect(await tryEach(name, ['EIO', 'ENOSPC', 'EROFS', 'EMFILE', 'after-EIO'], 5)).toEqual([])
})

test('`renew` with a slow disk', async () => {
  expect(await tryEach('`renew` with each call taking 3 s longer', ['slow'], 3, 3000)).toEqual([])
})

test('a crash loop of twenty starts of `run`: the certificate stays, and the issuer is hardly asked', async () => {
  const { world, injector } = await enrolledWorld()
  await using _ = world
  const { agent, issuer, sshd } = world
  const before = requestsTo(issuer, 'issue')
  await sshd.rotateKey('ed25519', 'rename')
  for (let start = 1; start <= 20; start += 1)
    await injector.verb(agent.configPath, ['run'], { kind: 'kill', at: 20 + 3 * start }, 5)
  const began = performance.now()
  await agent.start()
  await untilReady(world, 60)
  const seconds = (performance.now() - began) / 1000
  const asked = requestsTo(issuer, 'issue') - before
  const flaws = await flawsOf(world)
  await report({
    part: 'Files and connections',
    fault: 'a crash loop of twenty starts of `run`, with a certificate due',
    tried: 20,
    lost: flaws.length,
    wrong: asked <= 4 ? 0 : 1,
    recoveredSeconds: seconds,
    remark: `${asked} requests`,
  })
  expect(flaws).toEqual([])
  expect(asked).toBeLessThanOrEqual(4)
})
