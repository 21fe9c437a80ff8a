import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import type { LocalIssuer } from './local-issuer.ts'
import type { HostKeyType } from './private-sshd.ts'
import type { World } from './world.ts'

export const HOST_KEY_TYPES: readonly HostKeyType[] = ['ed25519', 'ecdsa', 'rsa']

/** As `host_key` of the status document. */
export function hostKeyName(type: HostKeyType): string {
  return `ssh_host_${type}_key`
}

/** What lies in the certificate's place, as `ssh-keyscan -c` prints it: `TYPE BASE64`; null when nothing does. */
export async function certificateOnDisk({ sshd }: World, type: HostKeyType): Promise<string | null> {
  try {
    const text = await readFile(sshd.certificatePath(type), 'utf8')
    return text.split(' ').slice(0, 2).join(' ')
  } catch {
    return null
  }
}

/** Of all three host keys. */
export async function certificatesOnDisk(world: World): Promise<(string | null)[]> {
  return Promise.all(HOST_KEY_TYPES.map(async (type) => certificateOnDisk(world, type)))
}

/** Whether sshd presents, in a real handshake, what lies on disk. */
export async function isServed(world: World, type: HostKeyType): Promise<boolean> {
  const onDisk = await certificateOnDisk(world, type)
  return onDisk !== null && onDisk === (await world.sshd.scan(type))
}

/** How many requests of a route have reached the issuer, answered or not. */
export function requestsTo(issuer: LocalIssuer, route: 'login' | 'issue' | 'host-ca'): number {
  const end = { login: '/login', issue: '/issue-host-cert', 'host-ca': '/host-ca-public-key' }[route]
  return issuer.requests.filter(({ path }) => path.endsWith(end)).length
}

/** Wait until every host key's certificate is valid and served, as the program sees it. */
export async function untilReady({ agent }: World, seconds?: number): Promise<void> {
  const isReady = async (): Promise<boolean> => (await readiness(agent)) === 200
  await agent.waitFor('every certificate is served', isReady, seconds)
}

/** The status of `/readyz`; null while nobody listens. */
export async function readiness(agent: World['agent']): Promise<number | null> {
  try {
    return (await agent.health('/readyz')).status
  } catch {
    return null
  }
}

/** Temporary files that somebody forgot, anywhere in the world. */
export async function leftovers({ folder }: World): Promise<string[]> {
  const names = await readdir(folder, { recursive: true })
  return names.filter((name) => name.endsWith('.tmp')).map((name) => basename(name))
}

/** SIGUSR1 to an agent at rest, and wait until it has looked. */
export async function requestPass({ agent }: World): Promise<void> {
  const before = await lastTurn(agent)
  agent.signal('SIGUSR1')
  await agent.waitFor('the turn after SIGUSR1', async () => (await lastTurn(agent)) > before)
}

/** When the last turn was completed, with the fractions that only the metric has. */
async function lastTurn(agent: World['agent']): Promise<number> {
  const text = await (await agent.health('/metrics')).text()
  return Number(/^hostcertd_loop_last_turn_timestamp_seconds (\S+)$/m.exec(text)?.[1])
}
