import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  certificateOnDisk,
  hostKeyName,
  HOST_KEY_TYPES,
  isServed,
  requestPass,
  readiness,
  requestsTo,
  untilReady,
} from '../support/looks.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')
const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

test('sshd is down: certificates are issued all the same, and confirmed when it is back', async () => {
  await using world = await makeWorld()
  const { agent, issuer, sshd } = world
  await sshd.stop()
  await agent.start()
  for (const type of HOST_KEY_TYPES) {
    expect(await agent.stateOf(hostKeyName(type)), type).toBe('unconfirmed SSHD_UNREACHABLE')
    expect(issuer.issued.map(({ line }) => line.split(' ').slice(0, 2).join(' '))).toContain(
      await certificateOnDisk(world, type),
    )
  }
  expect(await readiness(agent)).toBe(503)
  expect(issuer.issued).toHaveLength(3)

  await sshd.start()
  await requestPass(world)
  await untilReady(world)
  for (const type of HOST_KEY_TYPES) expect(await isServed(world, type), type).toBe(true)
  expect(issuer.issued).toHaveLength(3)
})

test('sshd goes down after it was confirmed: the state stays, and that it is down is told, after a restart too', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, sshd } = world
  await agent.start()
  await untilReady(world)
  const before = await agent.status()
  expect(before?.sshd.state).toBe('up')
  expect((await agent.verb('check')).status).toBe(0)
  await sshd.stop()
  await requestPass(world)
  const expectDown = async (): Promise<string | null | undefined> => {
    expect(await agent.stateOf(NAME)).toBe('valid null')
    expect(await readiness(agent)).toBe(200)
    const status = await agent.status()
    expect(status?.sshd.state).toBe('down')
    expect(status?.certificates[0]?.served).toMatchObject({
      matches: true,
      unknown: expect.any(String) as string,
    })
    const { status: exit, stdout } = await agent.verb('check')
    expect(exit).toBe(1)
    expect(stdout).toContain(`HOSTCERTD WARNING - sshd has been down since ${status?.sshd.since}`)
    return status?.sshd.since
  }
  const since = await expectDown()
  await agent.stop()
  await agent.start()
  expect(await expectDown()).toBe(since)
})

/** Let sshd see a new certificate only by a reload, whatever its version: the reload copies it to where sshd reads. */
async function makeCopying(world: World): Promise<void> {
  const { agent, sshd } = world
  const staged = join(world.folder, 'staged')
  const script = join(world.folder, 'copy-and-reload')
  const text = `#!/bin/sh
/usr/sbin/sshd -t -f '${sshd.configPath}' || exit 78
cp '${staged}'/*-cert.pub '${sshd.certificateDirectory}' && exec '${sshd.reloadScript}'
`
  await writeFile(script, text, { mode: 0o755 })
  await agent.configure(
    world.configWith({ certificates: { directory: staged }, sshd: { reload_command: [script] } }),
  )
}

test("somebody broke sshd's configuration: it is not reloaded, goes on serving, and is reloaded once mended", async () => {
  await using world = await makeWorld(ONE_KEY)
  await makeCopying(world)
  const { agent, issuer, sshd } = world
  await agent.start()
  await untilReady(world)
  const served = await sshd.scan('ed25519')
  const { pid } = sshd
  expect(await sshd.reloadCount()).toBe(1)

  await sshd.breakConfig()
  await agent.stop()
  expect((await agent.verb('renew', '--force')).status).toBe(1)
  await agent.start()
  expect(await agent.stateOf(NAME)).toBe('unconfirmed SSHD_NOT_SERVING')
  const error = (await agent.status())?.certificates[0]?.last_error
  expect(error?.code).toBe('SSHD_CONFIG_INVALID')
  expect(error?.message).toContain('NoSuchKeyword')
  expect(await readiness(agent)).toBe(503)
  await requestPass(world)
  expect(sshd.running).toBe(true)
  expect(sshd.pid).toBe(pid)
  expect(await sshd.reloadCount()).toBe(1)
  expect(await sshd.scan('ed25519')).toBe(served)
  const client = await sshd.connect({ knownHosts: world.knownHosts(), hostname: HOSTNAME })
  expect(client).toMatchObject({ status: 0 })

  await sshd.mendConfig()
  agent.signal('SIGHUP')
  await untilReady(world)
  expect(await sshd.reloadCount()).toBe(2)
  expect(await sshd.scan('ed25519')).not.toBe(served)
  expect(issuer.issued).toHaveLength(2)
  expect((await agent.status())?.certificates[0]?.last_error).toBeNull()
})

test("sshd's configuration is broken and every reload wanted: the old listener is left alone", async () => {
  await using world = await makeWorld({ ...ONE_KEY, config: { sshd: { reload: 'always' } } })
  const { agent, sshd } = world
  await sshd.breakConfig()
  await agent.start()
  expect(agent.log).toContainEqual(expect.objectContaining({ level: 'error', code: 'SSHD_CONFIG_INVALID' }))
  expect(sshd.running).toBe(true)
  expect(await sshd.reloadCount()).toBe(0)
})

test('sshd goes on serving an old certificate: told, reloads back off, and nothing new is issued', async () => {
  await using world = await makeWorld(ONE_KEY)
  await makeCopying(world)
  const { agent, issuer, sshd } = world
  await agent.start()
  await untilReady(world)
  // From now on the reload does not bring the new one to where sshd reads.
  await agent.stop()
  const staged = join(world.folder, 'staged')
  await agent.configure(
    world.configWith({ certificates: { directory: staged }, sshd: { reload_command: [sshd.reloadScript] } }),
  )
  await agent.verb('renew', '--force')
  const reloads = await sshd.reloadCount()
  await agent.start()
  expect(await agent.stateOf(NAME)).toBe('unconfirmed SSHD_NOT_SERVING')
  const certificate = (await agent.status())?.certificates[0]
  expect(certificate?.served).toMatchObject({ matches: false })
  expect(certificate?.served?.serial).not.toBe(certificate?.serial)
  for (let look = 0; look < 3; look += 1) await requestPass(world)
  // `renew` has just reloaded in vain. The restart ended that wait, so there was one more; SIGUSR1 ends no wait.
  expect(await sshd.reloadCount()).toBe(reloads + 1)
  expect(requestsTo(issuer, 'issue')).toBe(2)
})

test.each([
  { name: 'missing', command: ['/nonexistent/reload-sshd'], says: 'cannot run' },
  { name: 'failing', command: ['/bin/sh', '-c', 'echo out of order >&2; exit 3'], says: 'out of order' },
  { name: 'lying', command: ['/bin/true'], says: 'even after a reload' },
])('a reload_command that is $name', async ({ command, says }) => {
  await using world = await makeWorld(ONE_KEY)
  await makeCopying(world)
  const { agent, issuer } = world
  await agent.configure(
    world.configWith({
      certificates: { directory: join(world.folder, 'staged') },
      sshd: { reload_command: command },
    }),
  )
  await agent.start()
  expect(await agent.stateOf(NAME)).toBe('unconfirmed SSHD_NOT_SERVING')
  const told = agent.log.find(
    ({ level, retry_in_seconds }) => level === 'error' && retry_in_seconds !== undefined,
  )
  expect(told?.['code']).toMatch(/^SSHD_(?:RELOAD_FAILED|NOT_SERVING)$/)
  expect(told?.msg).toContain(says)
  expect((await agent.status())?.certificates[0]?.last_error?.code).toBe(told?.['code'])
  expect(issuer.issued).toHaveLength(1)
})

test('host keys that sshd does not offer, or the issuer does not sign, are left alone and say why', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, issuer, sshd } = world
  // sshd knows neither of these.
  await generateKey(join(sshd.folder, 'ssh_host_rsa_key'), 'rsa', 'root@web1')
  await generateKey(join(sshd.folder, 'ssh_host_p521_key'), 'ecdsa-521', 'root@web1')
  await agent.start()
  await untilReady(world)
  expect(await agent.stateOf(NAME)).toBe('valid null')
  expect(await agent.stateOf('ssh_host_rsa_key')).toMatch(
    /^ignored sshd does not offer a host key of type ssh-rsa/,
  )
  expect(await agent.stateOf('ssh_host_p521_key')).toMatch(
    /^ignored the issuer does not sign keys of type ecdsa-sha2-nistp521: .*unsupported key type/,
  )
  const requests = requestsTo(issuer, 'issue')
  for (let look = 0; look < 2; look += 1) await requestPass(world)
  expect(requestsTo(issuer, 'issue')).toBe(requests)
  expect(issuer.issued).toHaveLength(2)
})

test('a key type that the issuer refuses: SIGHUP asks once more, and once it is signed, sshd presents the certificate', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer, sshd } = world
  const name = 'ssh_host_p521_key'
  const key = join(sshd.folder, name)
  await generateKey(key, 'ecdsa-521', 'root@web1')
  await sshd.stop()
  const lines = [`HostKey ${key}`, `HostCertificate ${join(sshd.certificateDirectory ?? '', name)}-cert.pub`]
  await appendFile(sshd.configPath, `${lines.join('\n')}\n`)
  await sshd.start()
  const requests = () => requestsTo(issuer, 'issue')
  const connects = async (): Promise<boolean> => {
    const hostKeyAlgorithms = 'ecdsa-sha2-nistp521-cert-v01@openssh.com'
    const wish = { knownHosts: world.knownHosts(), hostname: HOSTNAME, hostKeyAlgorithms }
    return (await sshd.connect(wish)).status === 0
  }
  await agent.start()
  await untilReady(world)
  expect(await agent.stateOf(name)).toMatch(/^ignored the issuer does not sign keys of type/)
  expect(await connects()).toBe(false)
  expect(requests()).toBe(2)
  await requestPass(world)
  expect(requests()).toBe(2)

  agent.signal('SIGHUP')
  await agent.waitFor('the request after SIGHUP', () => requests() === 3)
  // The first may be the end of the turn that asked.
  for (let look = 0; look < 2; look += 1) await requestPass(world)
  expect(requests()).toBe(3)
  expect(issuer.requests.findLast(({ path }) => path.endsWith('/issue-host-cert'))).toMatchObject({
    body: { publicKey: expect.stringMatching(/^ecdsa-sha2-nistp521 /) as string },
    status: 400,
  })
  expect(await agent.stateOf(name)).toMatch(/^ignored the issuer does not sign keys of type/)

  issuer.signType('ecdsa-sha2-nistp521')
  agent.signal('SIGHUP')
  await agent.waitFor('the certificate', async () => (await agent.stateOf(name)) === 'valid null')
  expect(requests()).toBe(4)
  const { certificates = [] } = (await agent.status()) ?? {}
  expect(certificates.find(({ host_key }) => host_key === name)?.served).toMatchObject({ matches: true })
  expect(await connects()).toBe(true)
})

test('an sshd that is told to offer no certificates: seen, and no reason to issue more', async () => {
  const algorithms = 'ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512'
  const sshdOptions = { extraConfig: `HostKeyAlgorithms ${algorithms}` }
  await using world = await makeWorld({ sshd: sshdOptions })
  const { agent, issuer } = world
  await agent.start()
  for (const type of HOST_KEY_TYPES) {
    expect(await agent.stateOf(hostKeyName(type)), type).toBe('unconfirmed SSHD_NOT_SERVING')
  }
  await requestPass(world)
  expect(issuer.issued).toHaveLength(3)
  expect(await certificateOnDisk(world, 'ed25519')).not.toBeNull()
  expect(await readFile(world.sshd.configPath, 'utf8')).toContain(algorithms)
})
