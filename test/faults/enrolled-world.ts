import { execFile } from 'node:child_process'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { certificateOnDisk } from '../support/looks.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'
import { Injector } from './injection.ts'

const run = promisify(execFile)

/** A host with one host key and a valid certificate for it. */
export async function enrolledWorld(
  config: Readonly<Record<string, unknown>> = {},
  prepare: (world: World) => Promise<void> = async () => {},
): Promise<World> {
  const world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] }, config })
  try {
    await prepare(world)
    await world.agent.configure(world.configWith(config))
    const { status, stderr } = await world.agent.verb('renew')
    if (status !== 0) throw new Error(stderr)
    return world
  } catch (error) {
    await world[Symbol.asyncDispose]()
    throw error
  }
}

export function certificateFolder({ sshd, folder }: World): string {
  return sshd.certificateDirectory ?? join(folder, 'host', 'certs')
}

export function stateFolder({ agent }: World): string {
  return join(agent.folder, 'state')
}

/** Counts the calls that touch the certificates and the state. */
export async function injectorFor(world: World): Promise<Injector> {
  return Injector.build(world.folder, [stateFolder(world), certificateFolder(world)])
}

/**
 * Put a usable certificate in place for which renewal is due, with sshd presenting it and no attempt on record.
 *
 * @returns it, as `TYPE BASE64`
 */
export async function placeDueCertificate(world: World): Promise<string> {
  const { sshd, folder } = world
  const line = await signCertificate({
    ca: join(folder, 'issuer', 'host-ca-1'),
    publicKey: `${sshd.hostKeyPath('ed25519')}.pub`,
    principals: [HOSTNAME],
    validity: '-50m:+10m',
  })
  await writeFile(sshd.certificatePath('ed25519'), `${line}\n`)
  await rm(join(stateFolder(world), 'attempts.json'), { force: true })
  await run(sshd.reloadScript)
  return line.split(' ').slice(0, 2).join(' ')
}

/**
 * What is wrong with the certificate in place; nothing when it was issued, is whole, and readable for sshd.
 *
 * @param due that of {@link placeDueCertificate}, where it may be in place as well
 */
export async function flawsOf(world: World, due?: string): Promise<string[]> {
  const onDisk = await certificateOnDisk(world, 'ed25519')
  if (onDisk === null) return ['lost: there is no certificate']
  const path = world.sshd.certificatePath('ed25519')
  const text = await readFile(path, 'utf8')
  const isKnown = onDisk === due || world.issuer.issued.some(({ line }) => line.startsWith(`${onDisk} `))
  const { mode } = await stat(path)
  return [
    ...(isKnown && text.endsWith('\n') ? [] : ['lost: it is torn, or none that was issued']),
    ...((mode & 0o777) === 0o644 ? [] : [`its mode is ${(mode & 0o777).toString(8)}`]),
  ]
}
