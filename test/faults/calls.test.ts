import { expect, test } from 'vitest'
import { Agent } from '../support/agent.ts'
import { certificateOnDisk, isServed, leftovers, requestsTo, untilReady } from '../support/looks.ts'
import type { World } from '../support/world.ts'
import { enrolledWorld, flawsOf, injectorFor, placeDueCertificate } from './enrolled-world.ts'
import type { Fault, Injector } from './injection.ts'
import { isWhole, pointsOf, report, reportFlaws } from './rows.ts'

/** A pass every two seconds: a failure of this host's own is tried again at the next one. */
const CONFIG = { renewal: { tick: '*/2 * * * * *' } }

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

interface Trial {
  /** As the row is called. */
  readonly name: string
  readonly kinds: readonly string[]
  /** How many points of each kind in the short form. */
  readonly some: number
  readonly milliseconds?: number
  /** Only at calls with this name. */
  readonly only?: string
}

/** The numbers of the calls at which a fault is tried. */
function pointsIn(calls: readonly string[], { some, only }: Trial): number[] {
  const points = calls.flatMap((call, index) =>
    only === undefined || call.startsWith(`${only} `) ? [index + 1] : [],
  )
  return pointsOf(points.length, some).flatMap((nth) => points[nth - 1] ?? [])
}

/** Run `renew --force` with a fault at one call after the other. */
async function tryRenew(trial: Trial): Promise<string[]> {
  const { name, kinds, milliseconds } = trial
  const world = await enrolledWorld()
  await using _ = world
  const injector = await injectorFor(world)
  const { agent, issuer } = world
  const renew = ['renew', '--force']
  const { calls, status } = await injector.verb(agent.configPath, renew, { kind: 'none', at: 0 })
  expect(status).toBe(0)
  expect(calls.length).toBeGreaterThan(20)
  const flaws: string[] = []
  let [tried, longest] = [0, 0]
  for (const kind of kinds) {
    for (const at of pointsIn(calls, trial)) {
      const before = requestsTo(issuer, 'issue')
      const fault: Fault = { kind, at, ...(milliseconds === undefined ? {} : { milliseconds }) }
      const faulty = await injector.verb(agent.configPath, renew, fault)
      const at_ = `${kind} at call ${at}, ${faulty.calls[at - 1] ?? 'which never came'}`
      const ended = kind.endsWith('kill')
        ? faulty.signal === 'SIGKILL' || faulty.calls.length < at
        : faulty.status !== null
      const during = await flawsOf(world)
      const after = await recover(world, before)
      tried += 1
      longest = Math.max(longest, after.seconds)
      for (const flaw of [...(ended ? [] : [`ended by ${faulty.signal}`]), ...during, ...after.flaws])
        flaws.push(`${at_}: ${flaw}`)
    }
  }
  await reportFlaws(
    {
      part: 'Files and connections',
      fault: name,
      tried,
      recoveredSeconds: longest,
    },
    flaws,
  )
  return flaws
}

/** The daemon with a fault, until it has renewed a certificate that is due, or has ended. */
async function faultyDaemon(
  world: World,
  injector: Injector,
  fault: Fault,
  due: string,
): Promise<{ calls: string[]; hasEnded: boolean; seconds: number }> {
  await injector.calls()
  const { folder } = world.agent
  const environment = injector.environment(fault)
  const began = performance.now()
  await using daemon = new Agent({ folder, config: world.configWith(CONFIG), environment })
  await daemon.launch()
  const hasRenewed = async (): Promise<boolean> =>
    (await certificateOnDisk(world, 'ed25519')) !== due &&
    (await daemon.stateOf('ssh_host_ed25519_key')) === 'valid null'
  await daemon.waitFor(
    'it has renewed, or has ended',
    async () => !daemon.running || (await hasRenewed()),
    90,
  )
  const hasEnded = !daemon.running
  const seconds = (performance.now() - began) / 1000
  await daemon.stop()
  return { calls: await injector.calls(), hasEnded, seconds }
}

/** The next start of the daemon, without a fault, and what is not as it must be then. */
async function recoverByStart(world: World, due: string): Promise<{ flaws: string[]; seconds: number }> {
  const { agent } = world
  const began = performance.now()
  await agent.start()
  const isDone = async (): Promise<boolean> =>
    (await certificateOnDisk(world, 'ed25519')) !== due && (await isServed(world, 'ed25519'))
  await agent.waitFor('a new certificate is served', isDone, 60)
  await untilReady(world)
  const seconds = (performance.now() - began) / 1000
  await agent.stop()
  const left = await leftovers(world)
  const flaws = [...(await flawsOf(world)), ...(left.length === 0 ? [] : [`left behind: ${left.join(' ')}`])]
  return { flaws, seconds }
}

/**
 * Run the daemon with one renewal to do, and a fault at one call after the other, from its start to its end. One that is
 * not killed must renew all the same.
 */
async function tryDaemon(trial: Trial): Promise<string[]> {
  const { name, kinds, milliseconds = 0 } = trial
  const world = await enrolledWorld()
  await using _ = world
  const injector = await injectorFor(world)
  const first = await placeDueCertificate(world)
  const { calls } = await faultyDaemon(world, injector, { kind: 'none', at: 0 }, first)
  expect(calls.length).toBeGreaterThan(40)
  const flaws: string[] = []
  let [tried, lost, longest] = [0, 0, 0]
  for (const kind of kinds) {
    const isKill = kind.endsWith('kill')
    for (const at of pointsIn(calls, trial)) {
      const due = await placeDueCertificate(world)
      const before = requestsTo(world.issuer, 'issue')
      const faulty = await faultyDaemon(world, injector, { kind, at, milliseconds }, due)
      const during = await flawsOf(world, due)
      const after = await recoverByStart(world, due)
      const asked = requestsTo(world.issuer, 'issue') - before
      tried += 1
      longest = Math.max(longest, isKill ? after.seconds : faulty.seconds)
      const found = [
        ...(faulty.hasEnded && !isKill ? ['the daemon has ended'] : []),
        ...during,
        ...after.flaws,
        ...(asked <= 2 ? [] : [`${asked} requests for one certificate`]),
      ]
      lost += found.filter((flaw) => flaw.startsWith('lost: ')).length
      for (const flaw of found)
        flaws.push(`${kind} at call ${at}, ${faulty.calls[at - 1] ?? 'which never came'}: ${flaw}`)
    }
  }
  const wrong = flaws.length - lost
  const remark = `of ${calls.length} calls`
  await report({
    part: 'Files and connections',
    fault: name,
    tried,
    lost,
    wrong,
    recoveredSeconds: longest,
    remark,
  })
  return flaws
}

const TRIALS: readonly (Trial & { readonly attempt: (trial: Trial) => Promise<string[]> })[] = [
  { attempt: tryRenew, name: '`renew` killed before each call', kinds: ['kill'], some: 14 },
  { attempt: tryRenew, name: '`renew` killed after each call', kinds: ['after-kill'], some: 4 },
  {
    attempt: tryRenew,
    name: '`renew` with EIO, ENOSPC, EDQUOT, EROFS, EMFILE at each call, and EIO reported for a call that was made',
    kinds: ['EIO', 'ENOSPC', 'EDQUOT', 'EROFS', 'EMFILE', 'after-EIO'],
    some: 4,
  },
  {
    attempt: tryRenew,
    name: '`renew` with each call taking 3 s longer',
    kinds: ['slow'],
    some: 3,
    milliseconds: 3000,
  },
  {
    attempt: tryDaemon,
    name: '`run` with a renewal to do, killed before each call',
    kinds: ['kill'],
    some: 5,
  },
  {
    attempt: tryDaemon,
    name: '`run` with a renewal to do, killed after each call',
    kinds: ['after-kill'],
    some: 4,
  },
  {
    attempt: tryDaemon,
    name: '`run` with a renewal to do, and EIO or EDQUOT at each call',
    kinds: ['EIO', 'EDQUOT'],
    some: 3,
  },
]
const THIRTY_SECONDS = { kinds: ['slow'], some: 1, milliseconds: 30_000, only: 'fsync' }
const SLOW_TRIALS: typeof TRIALS = [
  { attempt: tryRenew, name: '`renew` with each fsync taking 30 s', ...THIRTY_SECONDS },
  { attempt: tryDaemon, name: '`run` with each fsync taking 30 s', ...THIRTY_SECONDS },
]

const trials = isWhole ? [...TRIALS, ...SLOW_TRIALS] : TRIALS

test.each(trials.map((trial) => [trial.name, trial] as const))('%s', async (_, trial) => {
  expect(await trial.attempt(trial)).toEqual([])
})

test('a crash loop of twenty starts of `run`: the certificate stays, and the issuer is hardly asked', async () => {
  const world = await enrolledWorld()
  await using _ = world
  const injector = await injectorFor(world)
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
