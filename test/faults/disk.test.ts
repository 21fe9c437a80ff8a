import { execFile } from 'node:child_process'
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { certificateOnDisk, isServed, leftovers, requestsTo, untilReady } from '../support/looks.ts'
import { needsRoot } from '../support/skip.ts'
import type { World } from '../support/world.ts'
import {
  certificateFolder,
  enrolledWorld,
  flawsOf,
  placeDueCertificate,
  stateFolder,
} from './enrolled-world.ts'
import { isWhole, report } from './rows.ts'

const run = promisify(execFile)
const KEY = 'ssh_host_ed25519_key'
/** A pass every two seconds, so that the daemon finds a repaired disk soon, and has many occasions to ask the issuer. */
const CONFIG = { renewal: { jitter: '0%', tick: '*/2 * * * * *' } }
/** How long a fault lasts once it is reported. Waits after failures are 5 s, 15 s and 60 s, up to 30 % shorter. */
const LASTS_SECONDS = isWhole ? 45 : 3
/** One request, one more after each wait that is over by then, and one after the repair. */
const MOST_REQUESTS = isWhole ? 5 : 3

type Place = 'certificates' | 'state'
interface Disk {
  readonly name: string
  /** Nothing can be written in the folder after it. */
  spoil(folder: string): Promise<void>
  repair(folder: string): Promise<void>
}

const folderOf = (world: World, place: Place): string =>
  place === 'certificates' ? certificateFolder(world) : stateFolder(world)

/** Both folders as small file systems of their own. `await using` before the world ends. */
async function worldOnSmallDisks(): Promise<AsyncDisposable & { readonly world: World }> {
  const mounted: string[] = []
  const unmount = async (): Promise<void> => {
    for (const folder of mounted) await run('umount', ['--lazy', folder]).catch(() => {})
  }
  try {
    const world = await enrolledWorld(CONFIG, async (made) => {
      for (const place of ['certificates', 'state'] as const) {
        const folder = folderOf(made, place)
        await mkdir(folder, { recursive: true })
        await run('mount', ['-t', 'tmpfs', '-o', 'mode=755,size=64k,nr_inodes=32', 'tmpfs', folder])
        mounted.push(folder)
      }
    })
    const dispose = async (): Promise<void> => {
      await world.agent.stop()
      await unmount()
      await world[Symbol.asyncDispose]()
    }
    return { world, [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await unmount()
    throw error
  }
}

const FULL: Disk = {
  name: 'full',
  spoil: async (folder) => {
    const write = writeFile(join(folder, 'filler'), Buffer.alloc(1024 * 1024))
    await expect(write).rejects.toMatchObject({ code: 'ENOSPC' })
  },
  repair: async (folder) => rm(join(folder, 'filler')),
}

const NO_INODES: Disk = {
  name: 'without free inodes',
  spoil: async (folder) => {
    await mkdir(join(folder, 'many'))
    const fill = async (): Promise<void> => {
      for (let file = 0; file < 64; file += 1) await writeFile(join(folder, 'many', String(file)), '')
    }
    await expect(fill()).rejects.toMatchObject({ code: 'ENOSPC' })
  },
  repair: async (folder) => rm(join(folder, 'many'), { recursive: true }),
}

const READ_ONLY: Disk = {
  name: 'mounted read-only',
  spoil: async (folder) => void (await run('mount', ['-o', 'remount,ro', folder])),
  repair: async (folder) => void (await run('mount', ['-o', 'remount,rw', folder])),
}

const DISKS = [FULL, NO_INODES, READ_ONLY].flatMap((disk) => [
  { disk, place: 'certificates' as const },
  { disk, place: 'state' as const },
])

test('a disk to which nothing can be written, under `renew`', needsRoot, async () => {
  await using made = await worldOnSmallDisks()
  const { world } = made
  const { agent, issuer } = world
  const flaws: string[] = []
  let longest = 0
  for (const { disk, place } of DISKS) {
    const requests = requestsTo(issuer, 'issue')
    const due = await placeDueCertificate(world)
    await disk.spoil(folderOf(world, place))
    const { status, stderr } = await agent.verb('renew')
    const found = await flawsOf(world, due)
    if ((await certificateOnDisk(world, 'ed25519')) !== due) found.push('lost: the certificate in place')
    if (status === 0 || !stderr.includes('STORE_FAILED')) found.push(`renew ends with ${status}: ${stderr}`)
    await disk.repair(folderOf(world, place))
    const began = performance.now()
    const again = await agent.verb('renew')
    longest = Math.max(longest, (performance.now() - began) / 1000)
    if (again.status !== 0) found.push(`renew ends with ${again.status} after the repair: ${again.stderr}`)
    if (!(await isServed(world, 'ed25519'))) found.push('it is not served')
    found.push(...(await flawsAfter(world, requests, 2)))
    for (const flaw of found) flaws.push(`${place} on a disk ${disk.name}: ${flaw}`)
  }
  const name = 'a disk that is full, has no free inodes, or is mounted read-only, under `renew`'
  await reportFlaws(name, DISKS.length, flaws, longest, 'at most 2 requests')
  expect(flaws).toEqual([])
})

/** The code of the last error of the host key; null when it has none. */
async function lastError({ agent }: World): Promise<string | null> {
  const status = await agent.status()
  return status?.certificates.find(({ host_key }) => host_key === KEY)?.last_error?.code ?? null
}

/** Change something while the daemon cannot see it, so that it finds everything at once. */
async function behindItsBack({ agent }: World, change: () => Promise<void>): Promise<void> {
  agent.signal('SIGSTOP')
  try {
    await change()
  } finally {
    agent.signal('SIGCONT')
  }
}

/** Wait until sshd presents a certificate other than `before`, and the daemon is content. @returns after how long */
async function recovered(world: World, before: string | null): Promise<number> {
  const began = performance.now()
  const isDone = async (): Promise<boolean> =>
    (await certificateOnDisk(world, 'ed25519')) !== before && (await isServed(world, 'ed25519'))
  await world.agent.waitFor('a new certificate is served', isDone, 90)
  await untilReady(world)
  await world.agent.waitFor('no error is left', async () => (await lastError(world)) === null)
  return (performance.now() - began) / 1000
}

/** What must hold after each fault. */
async function flawsAfter(world: World, requests: number, most: number): Promise<string[]> {
  const asked = requestsTo(world.issuer, 'issue') - requests
  // A running daemon may be saving its record at this moment; what nobody removes stays until the next start.
  let left = await leftovers(world)
  for (let look = 1; left.length > 0 && look < 20; look += 1) {
    await sleep(100)
    const now = await leftovers(world)
    left = left.filter((name) => now.includes(name))
  }
  return [
    ...(await flawsOf(world)),
    ...(asked <= most ? [] : [`${asked} requests`]),
    ...(left.length === 0 ? [] : [`left behind: ${left.join(' ')}`]),
  ]
}

async function reportFlaws(
  fault: string,
  tried: number,
  flaws: readonly string[],
  recoveredSeconds: number,
  remark: string,
): Promise<void> {
  const lost = flaws.filter((flaw) => flaw.includes('lost: ')).length
  const wrong = flaws.length - lost
  await report({ part: 'Disk', fault, tried, lost, wrong, recoveredSeconds, remark })
}

test('a disk to which nothing can be written, under a running daemon', needsRoot, async () => {
  await using made = await worldOnSmallDisks()
  const { world } = made
  const { agent, issuer } = world
  await agent.start()
  await untilReady(world)
  const tried = isWhole ? DISKS : DISKS.filter((_, index) => index % 3 === 0)
  const flaws: string[] = []
  let [longest, asked] = [0, 0]
  for (const { disk, place } of tried) {
    const folder = folderOf(world, place)
    const requests = requestsTo(issuer, 'issue')
    const found: string[] = []
    let due = ''
    await behindItsBack(world, async () => {
      due = await placeDueCertificate(world)
      await disk.spoil(folder)
    })
    try {
      await agent.waitFor(
        'STORE_FAILED in status',
        async () => (await lastError(world)) === 'STORE_FAILED',
        40,
      )
      // The fault lasts: what is counted here is requests in that time.
      await sleep(LASTS_SECONDS * 1000)
      if ((await certificateOnDisk(world, 'ed25519')) !== due) found.push('lost: the certificate in place')
      found.push(...(await flawsOf(world, due)))
    } finally {
      await disk.repair(folder)
    }
    longest = Math.max(longest, await recovered(world, due))
    asked = Math.max(asked, requestsTo(issuer, 'issue') - requests)
    found.push(...(await flawsAfter(world, requests, MOST_REQUESTS)))
    if (!agent.running) found.push('the daemon has ended')
    for (const flaw of found) flaws.push(`${place} on a disk ${disk.name}: ${flaw}`)
  }
  const name = 'a disk that is full, has no free inodes, or is mounted read-only, under a running daemon'
  await reportFlaws(
    name,
    tried.length,
    flaws,
    longest,
    `at most ${asked} requests while it lasts ${LASTS_SECONDS} s`,
  )
  expect(flaws).toEqual([])
})

/** What somebody does to a folder, and how it is undone where the daemon cannot help itself. */
interface Damage {
  readonly name: string
  damage(folder: string): Promise<void>
  undo: ((folder: string) => Promise<void>) | null
}

const DAMAGES: readonly Damage[] = [
  { name: 'removed', damage: async (folder) => rm(folder, { recursive: true }), undo: null },
  {
    name: 'replaced by a file',
    damage: async (folder) => {
      await rm(folder, { recursive: true })
      await writeFile(folder, '')
    },
    undo: async (folder) => rm(folder),
  },
  {
    name: 'replaced by another folder',
    damage: async (folder) => {
      await rename(folder, `${folder}.before`)
      await mkdir(folder)
      await rm(`${folder}.before`, { recursive: true })
    },
    undo: null,
  },
  {
    name: 'replaced by a symlink to another folder',
    damage: async (folder) => {
      await rm(folder, { recursive: true })
      await mkdir(`${folder}.elsewhere`, { recursive: true })
      await symlink(`${folder}.elsewhere`, folder)
    },
    undo: null,
  },
]

test.each(['certificates', 'state'] as const)(
  'the folder of the %s, damaged under a running daemon',
  async (place) => {
    const world = await enrolledWorld(CONFIG)
    await using _ = world
    const { agent, issuer } = world
    const folder = folderOf(world, place)
    await agent.start()
    await untilReady(world)
    const tried = isWhole ? DAMAGES : DAMAGES.slice(0, 2)
    const flaws: string[] = []
    let [longest, most] = [0, 0]
    for (const { name, damage, undo } of tried) {
      const requests = requestsTo(issuer, 'issue')
      // With the certificates in place the state is needed for a renewal only.
      const due = place === 'state' ? { line: '' } : null
      await behindItsBack(world, async () => {
        if (due !== null) due.line = await placeDueCertificate(world)
        await damage(folder)
      })
      if (undo !== null) {
        await agent.waitFor(
          'STORE_FAILED in status',
          async () => (await lastError(world)) === 'STORE_FAILED',
          40,
        )
        await sleep(LASTS_SECONDS * 1000)
        if (due !== null) flaws.push(...(await flawsOf(world, due.line)).map((flaw) => `${name}: ${flaw}`))
        await undo(folder)
      }
      longest = Math.max(longest, await recovered(world, due?.line ?? null))
      most = Math.max(most, requestsTo(issuer, 'issue') - requests)
      await agent.waitFor('the attempts are on record', async () => {
        const text = await readFile(join(stateFolder(world), 'attempts.json'), 'utf8').catch(() => '')
        return text.includes(KEY)
      })
      const { mode } = await stat(folder)
      const found = await flawsAfter(world, requests, undo === null ? 1 : MOST_REQUESTS)
      if (!agent.running) found.push('the daemon has ended')
      if ((mode & 0o777) !== 0o755) found.push(`the folder has mode ${(mode & 0o777).toString(8)}`)
      for (const flaw of found) flaws.push(`${name}: ${flaw}`)
    }
    const fault = `the folder of the ${place}: ${tried.map(({ name }) => name).join(', ')}, under a running daemon`
    await reportFlaws(fault, tried.length, flaws, longest, `at most ${most} requests`)
    expect(flaws).toEqual([])
  },
)
