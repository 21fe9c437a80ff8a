import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { requestsTo, untilReady } from '../support/looks.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'
import { report } from './rows.ts'

/** As long as wanted: `HOSTCERTD_SOAK_MINUTES=600 npm run test:faults -- soak`. */
const MINUTES = Number(process.env['HOSTCERTD_SOAK_MINUTES'] ?? 3)
const LIFE_SECONDS = 30
/** Half a life is left for a renewal, so that a busy machine does not let a certificate expire. */
const RENEWAL = { window: '50%', jitter: '0%' }
/** What follows from these two. */
const RENEWALS_PER_MINUTE = 4
const WARM_UP_SECONDS = 40
const SAMPLE_SECONDS = 3
/** Of each minute, the last seconds. */
const OUTAGE_SECONDS = 4
/** From the end of an outage until its last wait is over and the certificates are renewed. */
const RECOVERY_SECONDS = 16

/** Algorithms that a client asks for in turn, so that it meets each of the host keys. */
const ALGORITHMS = [
  'ssh-ed25519-cert-v01@openssh.com',
  'ecdsa-sha2-nistp256-cert-v01@openssh.com',
  'rsa-sha2-512-cert-v01@openssh.com',
] as const

/** What the daemon holds. Its collector lets memory go up and down; an exchange or a probe may be under way. */
const TOLERANCES = {
  residentMib: (first: number) => first * 1.15 + 4,
  files: (first: number) => first + 2,
  threads: (first: number) => first + 1,
  children: (first: number) => first + 1,
} as const

type Held = Readonly<Record<keyof typeof TOLERANCES, number>>

async function heldBy(pid: number): Promise<Held> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1])
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return {
    residentMib: of('VmRSS') / 1024,
    files: (await readdir(`/proc/${pid}/fd`)).length,
    threads: of('Threads'),
    children: children.split(' ').filter(Boolean).length,
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

/** What grew from the first third to the last. */
function growth(samples: readonly Held[]): { readonly flaws: string[]; readonly remark: string } {
  const third = Math.floor(samples.length / 3)
  const names = ['residentMib', 'files', 'threads', 'children'] as const
  const flaws: string[] = []
  const words = names.map((name) => {
    const of = (part: readonly Held[]): number => median(part.map((held) => held[name]))
    const [first, last] = [of(samples.slice(0, third)), of(samples.slice(-third))]
    const change = `${name} ${first.toFixed(0)} → ${last.toFixed(0)}`
    if (!(last <= TOLERANCES[name](first))) flaws.push(change)
    return change
  })
  return { flaws, remark: words.join(', ') }
}

/** Each minute a short outage, refused and 502 in turn. @returns whether the issuer is well, and has been for a while */
function outages({ issuer }: World, began: number): () => Promise<boolean> {
  let isOut = false
  let count = 0
  return async () => {
    const seconds = (performance.now() - began) / 1000
    const inMinute = seconds % 60
    const shallBeOut = inMinute >= 60 - OUTAGE_SECONDS
    if (shallBeOut && !isOut) {
      count += 1
      if (count % 2 === 0) await issuer.stop()
      else issuer.failAlways({ kind: 'html' })
    } else if (!shallBeOut && isOut) {
      issuer.heal()
      await issuer.start()
    }
    isOut = shallBeOut
    return !isOut && (seconds < 60 || inMinute > RECOVERY_SECONDS)
  }
}

test(
  `certificates of ${LIFE_SECONDS} s and an outage each minute: nothing grows, and no client meets an expired one`,
  async () => {
    await using world = await makeWorld({
      ttlSeconds: LIFE_SECONDS,
      config: { log: { level: 'info' }, renewal: RENEWAL },
    })
    const { agent, issuer, sshd } = world
    await agent.start()
    await untilReady(world)
    const began = performance.now()
    const isWell = outages(world, began)
    const flaws: string[] = []
    const samples: Held[] = []
    let [connects, inOutages, sampledAt] = [0, 0, 0]
    for (;;) {
      const seconds = (performance.now() - began) / 1000
      if (seconds >= MINUTES * 60) break
      const wasWell = await isWell()
      const hostKeyAlgorithms = ALGORITHMS[connects % ALGORITHMS.length] ?? ALGORITHMS[0]
      const knownHosts = world.knownHosts()
      const client = await sshd.connect({ knownHosts, hostname: HOSTNAME, hostKeyAlgorithms })
      connects += 1
      if (client.status !== 0) {
        if (wasWell) flaws.push(`${seconds.toFixed(0)} s, ${hostKeyAlgorithms}: ${client.stderr}`)
        else inOutages += 1
      }
      if (!agent.running) throw new Error(`hostcertd ended: ${JSON.stringify(agent.log.slice(-12))}`)
      if (seconds >= WARM_UP_SECONDS && seconds >= sampledAt + SAMPLE_SECONDS) {
        samples.push(await heldBy(agent.pid))
        sampledAt = seconds
      }
      await sleep(250)
    }
    const grown = growth(samples)
    const requests = requestsTo(issuer, 'issue')
    // Those of each host key, the first one, and what failed in outages.
    const most = 3 * (MINUTES * RENEWALS_PER_MINUTE + 1) + 6 * MINUTES
    if (requests > most) flaws.push(`${requests} requests, at most ${most} are expected`)
    issuer.heal()
    await issuer.start()
    const over = performance.now()
    await untilReady(world, 60)
    await report({
      part: 'Soak',
      fault: `${MINUTES} min of certificates that live ${LIFE_SECONDS} s, with an outage of ${OUTAGE_SECONDS} s each minute`,
      tried: connects,
      lost: flaws.length,
      wrong: grown.flaws.length,
      recoveredSeconds: (performance.now() - over) / 1000,
      remark: `${grown.remark}; ${requests} requests, ${inOutages} clients refused in or right after an outage`,
    })
    expect(samples.length).toBeGreaterThan(9)
    expect(flaws).toEqual([])
    expect(grown.flaws).toEqual([])
  },
  (MINUTES + 3) * 60_000,
)
