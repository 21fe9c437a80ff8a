import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { StatusDocument } from '../../agent/renewal/status-document.ts'
import { makeWorld } from '../support/world.ts'

const TYPES = ['ed25519', 'ecdsa', 'rsa'] as const

test('without a daemon: renew brings new certificates into service, and wait and status see them', async () => {
  await using world = await makeWorld()
  const { agent, issuer, sshd } = world
  await agent.configure(world.configWith({}))
  expect(await agent.verb('needs-renewal')).toMatchObject({ status: 2 })
  const waiting = await agent.verb('wait', '--timeout', '5s')
  expect(waiting).toMatchObject({ status: 1, stdout: '' })
  expect(waiting.stderr).toContain('ssh_host_ed25519_key is absent')

  const renewed = await agent.verb('renew')
  expect(renewed).toMatchObject({ status: 0 })
  expect(renewed.stdout.match(/: renewed \(absent\), /g)).toHaveLength(3)
  for (const type of TYPES) expect(await sshd.scan(type), type).not.toBeNull()

  expect(await agent.verb('needs-renewal')).toMatchObject({ status: 1 })
  expect(await agent.verb('wait', '--timeout', '20s')).toMatchObject({ status: 0, stdout: '', stderr: '' })
  const status = await agent.verb('status', '--json')
  const document = JSON.parse(status.stdout) as StatusDocument
  expect(document.certificates.map(({ state, served }) => [state, served?.matches])).toEqual(
    TYPES.map(() => ['valid', true]),
  )
  const text = await agent.verb('status')
  expect(text.stdout.match(/ valid .*left, renewal in .*, served\n/g)).toHaveLength(3)

  const dry = await agent.verb('renew', '--force', '--dry-run', '--json')
  expect(dry.status).toBe(0)
  expect(JSON.parse(dry.stdout)).toMatchObject(TYPES.map(() => ({ result: 'would-renew' })))
  expect(issuer.issued).toHaveLength(6)
  const after = JSON.parse((await agent.verb('status', '--json')).stdout) as StatusDocument
  expect(after.certificates.map(({ serial }) => serial)).toEqual(
    document.certificates.map(({ serial }) => serial),
  )
})

test('wait does not take for served what was served once: sshd is down', async () => {
  await using world = await makeWorld()
  const { agent, sshd } = world
  await agent.configure(world.configWith({}))
  expect(await agent.verb('renew')).toMatchObject({ status: 0 })
  await sshd.stop()
  const down = await agent.verb('wait', '--timeout', '5s')
  expect(down).toMatchObject({ status: 1, stdout: '' })
  expect(down.stderr).toMatch(/^not every certificate is served after 5s: sshd has been down since \S+Z\n$/)
  const checked = await agent.verb('check')
  expect(checked).toMatchObject({ status: 1 })
  expect(checked.stdout).toMatch(/^HOSTCERTD WARNING - sshd has been down since \S+Z \|/)
  const waiting = agent.verb('wait', '--timeout', '40s')
  await sshd.start()
  expect(await waiting).toMatchObject({ status: 0 })
})

test('with a daemon: status and wait ask it, and renew shares its lock and its record', async () => {
  await using world = await makeWorld()
  const { agent } = world
  await agent.start()
  expect(await agent.verb('wait', '--timeout', '30s')).toMatchObject({ status: 0, stderr: '' })
  const [fromVerb, fromDaemon] = [await agent.verb('status', '--json'), await agent.status()]
  expect(fromVerb.status).toBe(0)
  const document = JSON.parse(fromVerb.stdout) as StatusDocument
  expect(document.issuer).toEqual(fromDaemon?.issuer)
  // Only the daemon knows when the issuer last answered it.
  expect(document.issuer.last_success).not.toBeNull()

  const renewed = await agent.verb('renew', '--force', '--host-key', 'ssh_host_ed25519_key')
  expect(renewed).toMatchObject({ status: 0 })
  expect(renewed.stdout).toMatch(/^ssh_host_ed25519_key: renewed \(forced\), .*\n$/)
  const serial = /serial (\d+)/.exec(renewed.stdout)?.[1]
  await agent.waitFor('the daemon sees the new certificate', async () => {
    const status = await agent.status()
    return status?.certificates.some((certificate) => certificate.serial === serial) === true
  })
})

test('renew says when sshd does not come to serve the certificates', async () => {
  await using world = await makeWorld()
  const { agent } = world
  await agent.configure(
    world.configWith({ sshd: { address: '127.0.0.1:1', reload_command: ['/bin/false'] } }),
  )
  const { status, stdout, stderr } = await agent.verb('renew')
  expect(status).toBe(1)
  expect(stdout.match(/: renewed \(absent\), /g)).toHaveLength(3)
  expect(stderr).toMatch(/^ssh_host_ed25519_key: SSHD_RELOAD_FAILED: reload_command failed: /m)
})

test('renew: a reload that fails is a failure, also where sshd is not asked, until one succeeds', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, sshd } = world
  const reloadedBy = async (program: string): Promise<void> =>
    agent.configure(world.configWith({ sshd: { address: 'none', reload_command: [program] } }))
  await reloadedBy('/bin/false')
  for (const stdout of [/: renewed \(absent\), /, /^nothing is due/]) {
    const result = await agent.verb('renew')
    expect(result.stdout).toMatch(stdout)
    expect(result.stderr).toMatch(/^ssh_host_ed25519_key: SSHD_RELOAD_FAILED: /m)
    expect(result.status).toBe(1)
  }
  await reloadedBy(sshd.reloadScript)
  expect((await agent.verb('renew')).status).toBe(0)
  expect(await sshd.reloadCount()).toBe(1)
})

test('renew: nothing is due, and sshd does not answer: no failure of its own', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  await world.sshd.stop()
  await world.agent.configure(world.configWith({}))
  const first = await world.agent.verb('renew')
  expect(first.stderr).toMatch(/^ssh_host_ed25519_key: SSHD_\w+: /m)
  expect(first.status).toBe(1)
  const second = await world.agent.verb('renew')
  expect(second).toMatchObject({ status: 0, stdout: 'nothing is due\n' })
  // It is said of the files alone.
  expect(second.stderr).toMatch(/^ssh_host_ed25519_key: what sshd presents is unknown: .*Connection refused/m)
})

test('renew --host-key answers for that key alone, served or not', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519', 'ecdsa'] } })
  const { agent, folder, sshd } = world
  const staged = join(folder, 'staged')
  const script = join(folder, 'copy-one')
  const copy = `cp '${staged}/ssh_host_ed25519_key-cert.pub' '${sshd.certificateDirectory}'`
  await writeFile(script, `#!/bin/sh\n${copy} && exec '${sshd.reloadScript}'\n`, { mode: 0o755 })
  const changes = { certificates: { directory: staged }, sshd: { reload_command: [script] } }
  await agent.configure(world.configWith(changes))
  const both = await agent.verb('renew')
  expect(both.status).toBe(1)
  expect(both.stderr).toMatch(
    /^ssh_host_ecdsa_key: SSHD_NOT_SERVING: sshd presents another certificate or none/m,
  )

  const served = await agent.verb('renew', '--force', '--host-key', 'ssh_host_ed25519_key')
  expect(served.stdout).toMatch(/^ssh_host_ed25519_key: renewed \(forced\), .*\n$/)
  expect(served.stderr).not.toMatch(/^ssh_host_ecdsa_key: /m)
  expect(served.status).toBe(0)
  expect((await agent.verb('renew', '--host-key', 'ssh_host_ecdsa_key')).status).toBe(1)
})
