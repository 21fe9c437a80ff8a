import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AttemptRecord } from '../../agent/renewal/record.ts'
import { certificateOnDisk } from './looks.ts'
import type { World } from './world.ts'

/** Well below the 10 s of the interface, where the program ends whatever hangs: nothing may hang. */
const END_MILLISECONDS = 4_000

/** End the agent by SIGTERM and say how it went: `null` when status and time are right. */
export async function endGracefully({ agent }: World): Promise<string | null> {
  const start = performance.now()
  const status = await agent.stop('SIGTERM')
  const milliseconds = Math.round(performance.now() - start)
  return status === 0 && milliseconds < END_MILLISECONDS ? null : `status ${status} after ${milliseconds} ms`
}

/** Put a certificate in place, then rotate the key while nobody looks: now another one is due. @returns the old one */
export async function makeOneDue(world: World): Promise<string> {
  await world.agent.configure(world.configWith({}))
  const { status, stderr } = await world.agent.verb('renew')
  const old = await certificateOnDisk(world, 'ed25519')
  if (status !== 0 || old === null) throw new Error(`renew put nothing in place: ${stderr}`)
  await world.sshd.rotateKey('ed25519', 'rename')
  return old
}

export function recordPath({ agent }: World): string {
  return join(agent.folder, 'state', 'attempts.json')
}

export async function readRecord(world: World): Promise<AttemptRecord> {
  return JSON.parse(await readFile(recordPath(world), 'utf8')) as AttemptRecord
}

/** Every wait on record, of the issuer, the login, the reload and each host key; none where there is no record. */
export async function waitsOnRecord(world: World): Promise<unknown[]> {
  if (!existsSync(recordPath(world))) return []
  const { issuer, login, reload, hostKeys } = await readRecord(world)
  const waits = [issuer, login, reload, ...Object.values(hostKeys).map(({ wait }) => wait)]
  return waits.filter((wait) => wait !== null)
}
