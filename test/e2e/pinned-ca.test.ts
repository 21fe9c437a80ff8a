import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { certificateOnDisk, hostKeyName, readiness, untilReady } from '../support/looks.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { HOSTNAME, makeWorld, type World } from '../support/world.ts'

const NAME = hostKeyName('ed25519')
const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

/** Put a certificate in place that nothing is wrong with but its CA. */
async function placeAnothers({ folder, sshd }: World): Promise<void> {
  const ca = join(folder, 'another-ca')
  await generateKey(ca, 'ed25519')
  const publicKey = `${sshd.hostKeyPath('ed25519')}.pub`
  const line = await signCertificate({ ca, publicKey, principals: [HOSTNAME], validity: '-1m:+1h' })
  await writeFile(sshd.certificatePath('ed25519'), `${line}\n`)
}

function pinOf({ agent }: World): { path: string; away: string } {
  const path = join(agent.folder, 'host-ca.pub')
  return { path, away: `${path}.away` }
}

test("the pinned CAs are not there at the start: no certificate passes, another CA's neither", async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  await agent.configure(world.configWith({}))
  await placeAnothers(world)
  const { path, away } = pinOf(world)
  await rename(path, away)
  const problem = `CONFIG_INVALID: verify.host_ca_file: ${path}: no such file or directory (ENOENT)`

  const started = await agent.verb('run')
  expect(started.status).toBe(78)
  expect(started.stderr).toContain(`verify.host_ca_file: ${path}: no such file`)
  const checked = await agent.verb('check')
  expect(checked).toMatchObject({ status: 3, stdout: expect.stringContaining(problem) as string })
  const status = await agent.verb('status')
  expect(status).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining(problem) as string })
  expect((await agent.verb('needs-renewal')).status).toBe(255)
  expect((await agent.verb('renew')).status).toBe(1)
  expect(issuer.requests).toEqual([])

  await rename(away, path)
  expect((await agent.verb('check')).stdout).toContain('CERT_CA_MISMATCH')
  await agent.start()
  await untilReady(world)
  expect(issuer.issued[0]?.line).toContain(await certificateOnDisk(world, 'ed25519'))
})

test.each([
  { name: 'missing', spoil: async ({ path, away }: ReturnType<typeof pinOf>) => rename(path, away) },
  { name: 'empty', spoil: async ({ path }: ReturnType<typeof pinOf>) => writeFile(path, '# soon\n') },
])('SIGHUP with pinned CAs that are $name: told, and the old ones go on to count', async ({ spoil }) => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer } = world
  await agent.start()
  await untilReady(world)
  const { path, away } = pinOf(world)
  await spoil({ path, away })
  const from = agent.log.length
  await agent.configure(world.configWith({ renewal: { tick: '* * * * * *' } }))
  agent.signal('SIGHUP')
  const { level, code, msg } = await agent.waitForLog(/the previous configuration stays in effect$/, 20, from)
  expect({ level, code }).toEqual({ level: 'error', code: 'CONFIG_INVALID' })
  expect(msg).toContain(`verify.host_ca_file: ${path}: `)
  expect(agent.log.slice(from).map((line) => line.msg)).not.toContain('the configuration was read')
  expect([await agent.stateOf(NAME), await readiness(agent)]).toEqual(['valid null', 200])

  await placeAnothers(world)
  await agent.waitFor("another CA's certificate is replaced", async () => {
    const onDisk = await certificateOnDisk(world, 'ed25519')
    return onDisk !== null && issuer.issued[1]?.line.includes(onDisk) === true
  })
  await untilReady(world)
  expect((await agent.verb('config', 'validate')).status).toBe(78)
})
