import { existsSync } from 'node:fs'
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { certificateOnDisk, isServed, requestsTo, untilReady } from '../support/looks.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'
import { pointsOf, report } from './rows.ts'

const [MINUTE, HOUR, DAY] = [60, 3600, 86_400]
const [MONTH, TEN_YEARS] = [30 * DAY, 3653 * DAY]
/** A tick each second; a pass with its questions to sshd takes some of them on a busy machine. */
const TICK = '* * * * * *'
const MOST_SECONDS_TO_RECOVER = 15
/** A new certificate is at least so many seconds older than the next. */
const SHORTEST_PAUSE_SECONDS = 10

/** The clock of hostcertd and of what it starts; the monotonic one, and those of all others, stay as they are. */
class FakeClock implements AsyncDisposable {
  readonly environment: Readonly<Record<string, string>>
  readonly #file: string
  #offset = 0

  /** @param folder the file `.faketimerc` in its home also reaches the exchange, which does not get these variables */
  constructor(folder: string) {
    this.#file = join(folder, '.faketimerc')
    this.environment = {
      HOME: folder,
      LD_PRELOAD: '/usr/$LIB/faketime/libfaketime.so.1',
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    }
  }

  /** @param offset seconds ahead of the true time; negative: behind */
  async set(offset: number): Promise<void> {
    this.#offset = offset
    await writeFile(`${this.#file}.new`, `${offset < 0 ? '' : '+'}${offset}\n`)
    await rename(`${this.#file}.new`, this.#file)
  }

  /** Remove the shared memory that libfaketime leaves behind where a process ends without its exit handlers. */
  async [Symbol.asyncDispose](): Promise<void> {
    const names = (await readdir('/dev/shm')).map((name) => /^(?:sem\.)?faketime_[a-z]+_(\d+)$/.exec(name))
    for (const [name, pid] of names.filter((match) => match !== null))
      if (!existsSync(`/proc/${pid}`)) await rm(join('/dev/shm', name), { force: true })
  }

  /** Seconds since the epoch. */
  now(): number {
    return Date.now() / 1000 + this.#offset
  }
}

/** Seconds that a certificate lives, or forever. */
type Life = number | 'forever'

interface Jump {
  readonly life: Life
  /** While the daemon runs, while it is off, or while it is stopped as by a suspend. */
  readonly when: 'running' | 'off' | 'suspended'
  /** How far the clock jumps; at the end of the row it is corrected. */
  readonly seconds: number
  /** The clock of the issuer jumps too: time has really passed. */
  readonly together?: boolean
  /** State and reason under the wrong clock. */
  readonly state: RegExp
  /** Of requests for a certificate, under the wrong clock. */
  readonly most: number
}

const EXPIRED = { state: /^expired/, most: 3 } as const
const TOO_EARLY = { state: /^invalid CERT_NOT_YET_VALID/, most: 3 } as const
const NOTHING = { state: /^valid/, most: 0 } as const
/** What the issuer makes ends by our clock in half a minute: half of that is waited for each time. */
const LAST_MINUTE = { state: /^(?:valid|due|overdue|unconfirmed)/, most: 3 } as const
const RENEWED = { state: /^valid/, most: 1, together: true } as const

const JUMPS: readonly Jump[] = [
  { life: DAY, when: 'running', seconds: HOUR, ...NOTHING },
  { life: DAY, when: 'running', seconds: -HOUR, ...TOO_EARLY },
  { life: DAY, when: 'running', seconds: -4 * MINUTE, ...NOTHING },
  { life: DAY, when: 'running', seconds: MONTH, ...EXPIRED },
  { life: DAY, when: 'running', seconds: -MONTH, ...TOO_EARLY },
  { life: DAY, when: 'running', seconds: TEN_YEARS, ...EXPIRED },
  { life: DAY, when: 'running', seconds: -TEN_YEARS, ...TOO_EARLY },
  { life: DAY, when: 'off', seconds: HOUR, ...NOTHING },
  { life: DAY, when: 'off', seconds: -HOUR, ...TOO_EARLY },
  { life: DAY, when: 'off', seconds: MONTH, ...EXPIRED },
  { life: DAY, when: 'off', seconds: -MONTH, ...TOO_EARLY },
  { life: DAY, when: 'off', seconds: TEN_YEARS, ...EXPIRED },
  // 1970, as after a boot without a battery.
  { life: DAY, when: 'off', seconds: MINUTE - Math.floor(Date.now() / 1000), ...TOO_EARLY },
  { life: DAY, when: 'suspended', seconds: HOUR, ...NOTHING, together: true },
  { life: DAY, when: 'suspended', seconds: MONTH, ...RENEWED },
  { life: DAY, when: 'suspended', seconds: -HOUR, ...TOO_EARLY },
  { life: HOUR, when: 'running', seconds: HOUR - MINUTE / 2, ...LAST_MINUTE },
  { life: HOUR, when: 'running', seconds: HOUR - MINUTE / 2, ...RENEWED },
  { life: HOUR, when: 'suspended', seconds: HOUR - MINUTE / 2, ...RENEWED },
  { life: MINUTE, when: 'running', seconds: HOUR, ...EXPIRED },
  { life: MINUTE, when: 'off', seconds: -HOUR, ...TOO_EARLY },
  { life: TEN_YEARS, when: 'running', seconds: MONTH, ...NOTHING },
  { life: TEN_YEARS, when: 'running', seconds: TEN_YEARS + DAY, ...EXPIRED },
  { life: TEN_YEARS, when: 'off', seconds: -TEN_YEARS, ...TOO_EARLY },
  { life: 'forever', when: 'running', seconds: TEN_YEARS, ...NOTHING },
  { life: 'forever', when: 'off', seconds: TEN_YEARS, ...NOTHING },
  { life: 'forever', when: 'running', seconds: -TEN_YEARS, ...TOO_EARLY },
]

/** Have a certificate of this life issued, under the right clock, and served. */
async function certify(world: World, life: Life): Promise<void> {
  const { agent, issuer, hostId, sshd } = world
  if (life === 'forever') {
    const edit = async () =>
      signCertificate({
        ca: issuer.caKeyPath,
        publicKey: `${sshd.hostKeyPath('ed25519')}.pub`,
        principals: [HOSTNAME],
        validity: '+0s:forever',
      })
    issuer.failNext({ kind: 'tamper', edit }, 1, 'issue')
  } else {
    issuer.setTtl(hostId, life)
  }
  const { status, stderr } = await agent.verb('renew', '--force')
  if (status !== 0) throw new Error(stderr)
  await untilReady(world)
}

/** Wait until the loop has turned so many times under this clock, and say what state it found. */
async function stateAfterTurns({ agent }: World, clock: FakeClock, turns: number): Promise<string> {
  const seen = new Set<string>()
  await agent.waitFor(`${turns} turns`, async () => {
    const text = await (await agent.health('/metrics')).text()
    const last = /^hostcertd_loop_last_turn_timestamp_seconds (\S+)$/m.exec(text)?.[1] ?? ''
    if (Math.abs(Number(last) - clock.now()) < 10) seen.add(last)
    return seen.size >= turns
  })
  return agent.stateOf('ssh_host_ed25519_key')
}

test('the clock is set, while hostcertd runs and while it does not', async () => {
  await using home = await makeTemporaryFolder()
  await using clock = new FakeClock(home.path)
  await clock.set(0)
  let issuersOffset = 0
  await using world = await makeWorld({
    sshd: { hostKeyTypes: ['ed25519'] },
    issuer: { now: () => Date.now() + issuersOffset * 1000 },
    config: { renewal: { tick: TICK } },
    environment: clock.environment,
  })
  const { agent, issuer } = world
  const isIssued = async (): Promise<boolean> => {
    const onDisk = await certificateOnDisk(world, 'ed25519')
    return (
      onDisk !== null && (onDisk === forever || issuer.issued.some(({ line }) => line.startsWith(onDisk)))
    )
  }
  let forever: string | null = null
  const flaws: string[] = []
  let [lost, longest, requests] = [0, 0, 0]
  await agent.start()
  await untilReady(world)
  const chosen = pointsOf(JUMPS.length, 13).map((point) => JUMPS[point - 1])
  for (const jump of chosen) {
    if (jump === undefined) continue
    const { life, when, seconds, together = false, state, most } = jump
    const name = `life ${life}, ${when}, ${seconds} s${together ? ', as the issuer' : ''}`
    const note = (flaw: string): void => void flaws.push(`${name}: ${flaw}`)
    await certify(world, life)
    if (life === 'forever') forever = await certificateOnDisk(world, 'ed25519')
    const before = requestsTo(issuer, 'issue')
    const began = performance.now()

    if (when === 'off') await agent.stop()
    if (when === 'suspended') agent.signal('SIGSTOP')
    await clock.set(seconds)
    if (together) issuersOffset = seconds
    if (when === 'off') await agent.start()
    if (when === 'suspended') agent.signal('SIGCONT')

    const found = await stateAfterTurns(world, clock, 3)
    if (!state.test(found)) note(`it is ${found}`)
    if (!(await isIssued())) lost += 1
    if ((await agent.health('/livez')).status !== 200) note('the loop does not turn')
    const asked = requestsTo(issuer, 'issue') - before
    const inTime = Math.floor((performance.now() - began) / 1000 / SHORTEST_PAUSE_SECONDS)
    if (asked > most + (most === 0 ? 0 : inTime)) note(`${asked} requests`)
    if (most === 1 && asked !== 1) note('it was not renewed')

    const corrected = performance.now()
    await clock.set(0)
    issuersOffset = 0
    await stateAfterTurns(world, clock, 1)
    await untilReady(world, 60)
    const took = (performance.now() - corrected) / 1000
    if (took > MOST_SECONDS_TO_RECOVER) note(`${took} s until it is well again`)
    if (!(await isServed(world, 'ed25519'))) note('it is not served')
    const again = requestsTo(issuer, 'issue') - before - asked
    // What was issued under the wrong clock may have to be replaced.
    if (again > 1) note(`${again} requests after the correction`)
    longest = Math.max(longest, took)
    requests += asked + again
    if (!agent.running) note('it ended')
  }
  await report({
    part: 'Clock',
    fault: 'the clock set by minutes to ten years, both ways, and corrected: while running, off, suspended',
    tried: chosen.length,
    lost,
    wrong: flaws.length,
    recoveredSeconds: longest,
    remark: `${requests} requests for a certificate`,
  })
  expect(flaws).toEqual([])
  expect(lost).toBe(0)
})
