import { execFile } from 'node:child_process'
import { copyFile, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { findingsIn, of, troubles, type Finding } from '../doctor/findings.ts'
import { closedPort } from '../issuer/harness.ts'
import { isServed, untilReady } from '../support/looks.ts'
import { isRoot } from '../support/skip.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeWorld, type World } from '../support/world.ts'

const ONE_KEY = { sshd: { hostKeyTypes: ['ed25519'] } } as const

async function diagnose({ agent, sshd }: World, ...args: readonly string[]): Promise<readonly Finding[]> {
  const result = await agent.verb('doctor', '--json', '--sshd-config', sshd.configPath, ...args)
  const findings = findingsIn(result.stdout)
  const fails = findings.some(({ status }) => status === 'failure')
  expect(result.status).toBe(fails ? 1 : 0)
  return findings
}

test('a host that is well: nothing to say, and the daemon does not notice', async () => {
  await using world = await makeWorld()
  const { agent, issuer } = world
  await agent.start()
  await untilReady(world)
  const record = await readFile(join(agent.folder, 'state', 'attempts.json'), 'utf8')
  const issued = issuer.issued.length
  const findings = await diagnose(world, '--issue')
  expect(troubles(findings)).toEqual([])
  expect(of('served', findings).map(({ status }) => status)).toEqual(['ok', 'ok', 'ok'])
  expect(of('issue', findings).map(({ status }) => status)).toEqual(['ok', 'ok', 'ok'])
  expect(of('daemon', findings)[0]?.message).toMatch(/^running, version .*, listening on 127\.0\.0\.1:\d+$/)
  expect(of('sshd-config', findings)).toMatchObject([{ status: isRoot ? 'ok' : 'skipped' }])
  expect(issuer.issued).toHaveLength(issued + 3)
  expect(await readFile(join(agent.folder, 'state', 'attempts.json'), 'utf8')).toBe(record)
})

test('sshd does not run', async () => {
  await using world = await makeWorld(ONE_KEY)
  await world.agent.start()
  await untilReady(world)
  await world.sshd.stop()
  const findings = await diagnose(world)
  expect(troubles(findings)).toEqual(['served failure'])
  const [served] = of('served', findings)
  expect(served?.message).toMatch(
    /^SSHD_UNREACHABLE: sshd is not running, or not at this address: 127\.0\.0\.1:\d+: /,
  )
  expect(served?.remedy).toMatch(/^start sshd: `systemctl start ssh` \(sshd\)/)
  expect(served?.remedy).toMatch(isRoot ? /\(sshd\)$/ : /set sshd\.address/)
  // What was seen before is not said as if it were so now.
  const [config] = of('sshd-config', findings)
  expect(config?.message).toMatch(isRoot ? /^when last checked, sshd presented/ : /^/)
  const { port } = world.sshd
  const elsewhere = await closedPort()
  await world.agent.configure(world.configWith({ sshd: { address: `127.0.0.1:${elsewhere}` } }))
  const [other] = of('served', await diagnose(world))
  const says = `, or set sshd.address (127.0.0.1:${elsewhere}) to where it listens`
  expect(other?.remedy).toContain(isRoot ? `${says}; by its configuration, on 127.0.0.1:${port}` : says)
})

test('sshd serves another certificate than the one on disk', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent } = world
  await agent.start()
  await untilReady(world)
  await agent.stop()
  // sshd goes on reading the old place.
  const staged = join(world.folder, 'staged')
  await agent.configure(world.configWith({ certificates: { directory: staged }, sshd: { reload: 'never' } }))
  await agent.verb('renew')
  const findings = await diagnose(world)
  const [served] = of('served', findings)
  expect(served).toMatchObject({ status: 'failure' })
  expect(served?.message).toMatch(/^SSHD_NOT_SERVING: .*sshd presents serial \d+, but serial \d+ is on disk$/)
  const [config] = of('sshd-config', findings)
  const line = `${world.sshd.configPath}:`
  const asRoot = `has no HostCertificate line for ${staged}/ssh_host_ed25519_key-cert.pub; for this host key it has ${line}`
  expect(config?.message).toContain(isRoot ? asRoot : 'requires root')
  expect(config?.remedy).toMatch(
    isRoot ? /^replace \S+:\d+ with `HostCertificate \S+`; then `sshd -t/ : /sudo/,
  )
  // The same cause, so the same remedy.
  expect(served?.remedy).toContain(isRoot ? config?.remedy : 'hostcertd renew')
})

test('an expired certificate, which sshd serves: that is what is wrong, and a reload would not help', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer, sshd } = world
  await agent.configure(world.configWith({}))
  const wish = { ca: issuer.caKeyPath, principals: ['web1.example.com'], serial: 7n, validity: '-2h:-1h' }
  const publicKey = `${sshd.hostKeyPath('ed25519')}.pub`
  await writeFile(sshd.certificatePath('ed25519'), `${await signCertificate({ ...wish, publicKey })}\n`)
  await promisify(execFile)(sshd.reloadScript)
  await agent.waitFor('sshd serves it', async () => isServed(world, 'ed25519'))
  const findings = await diagnose(world)
  expect(troubles(findings)).toEqual(['certificates failure', 'daemon warning'])
  expect(of('served', findings)).toMatchObject([
    {
      status: 'skipped',
      message: expect.stringMatching(
        /presents serial 7, which expired 1h ago; the same as on disk \(CERT_EXPIRED\)$/,
      ) as string,
      remedy: null,
    },
  ])
  const { stdout } = await agent.verb('status')
  expect(stdout).toMatch(/ expired .* expired 1h ago, renewal due, served\n/)
  expect(stdout).not.toContain('sshd serves serial')
})

test('renewed on disk, while what sshd still presents has expired: check is critical, with a daemon and without', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer, sshd } = world
  const wish = { ca: issuer.caKeyPath, principals: ['web1.example.com'], serial: 7n, validity: '-2h:-1h' }
  const publicKey = `${sshd.hostKeyPath('ed25519')}.pub`
  await writeFile(sshd.certificatePath('ed25519'), `${await signCertificate({ ...wish, publicKey })}\n`)
  await promisify(execFile)(sshd.reloadScript)
  await agent.waitFor('sshd serves it', async () => isServed(world, 'ed25519'))
  const staged = { certificates: { directory: join(world.folder, 'staged') }, sshd: { reload: 'never' } }
  await agent.configure(world.configWith(staged))
  const says =
    /^HOSTCERTD CRITICAL - \S+: unconfirmed, \d+m.* left; sshd .* certificate, serial 7, which expired 1h.* ago;/
  await agent.verb('renew')
  expect(of('served', await diagnose(world))[0]?.message).toMatch(
    /presents serial 7, which expired 1h.* ago, but serial \d+ is on disk$/,
  )
  expect(await agent.verb('check')).toMatchObject({
    status: 2,
    stdout: expect.stringMatching(says) as string,
  })
  await agent.start()
  const withDaemon = await agent.verb('check')
  expect(withDaemon).toMatchObject({ status: 2, stdout: expect.stringMatching(says) as string })
  expect(withDaemon.stdout).not.toContain('the daemon')
})

test('sshd presents no certificate at all', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'], certificateDirectory: null } })
  await world.agent.start()
  const findings = await diagnose(world)
  expect(of('served', findings)).toMatchObject([
    { status: 'failure', message: expect.stringMatching(/^SSHD_NOT_SERVING: .*no certificate$/) as string },
  ])
  expect(of('sshd-config', findings)[0]?.remedy).toMatch(isRoot ? /^add `HostCertificate / : /sudo/)
})

test('host keys behind symlinks, sshd with another configuration file: what is served is no failure', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, sshd } = world
  const path = sshd.hostKeyPath('ed25519')
  const there = join(world.folder, 'persistent_key')
  for (const half of ['', '.pub']) {
    await rename(path + half, there + half)
    await symlink(there + half, path + half)
  }
  await edit(sshd.configPath, (text) => text.replace(`HostKey ${path}`, `HostKey ${there}`))
  await sshd.stop()
  await sshd.start()
  await agent.start()
  await untilReady(world)
  expect(troubles(await diagnose(world))).toEqual([])
  const other = join(world.folder, 'other_sshd_config')
  await generateKey(join(world.folder, 'other_key'), 'ed25519')
  await writeFile(other, `HostKey ${join(world.folder, 'other_key')}\nHostKeyAlgorithms ssh-ed25519\n`)
  const { status, stdout } = await agent.verb('doctor', '--sshd-config', other)
  expect({ status, last: stdout.trimEnd().split('\n').at(-1) }).toEqual({
    status: 0,
    last: 'no problems found; could not check: names',
  })
})

test('served, and the configuration would not survive a reload: a warning', async () => {
  await using world = await makeWorld(ONE_KEY)
  await world.agent.start()
  await untilReady(world)
  await world.sshd.breakConfig()
  const findings = await diagnose(world)
  expect(troubles(findings)).toEqual(isRoot ? ['sshd-config warning'] : [])
  expect(of('sshd-config', findings)[0]?.message).toMatch(
    isRoot ? /^sshd serves the certificates now, but: SSHD_CONFIG_INVALID: .*NoSuchKeyword/ : /only root/,
  )
})

test('a later HostCertificate line for the same key: sshd presents that one, doctor names the line, and without it all is well', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, issuer, sshd } = world
  const old = join(world.folder, 'old-cert.pub')
  const publicKey = `${sshd.hostKeyPath('ed25519')}.pub`
  const wish = { ca: issuer.caKeyPath, principals: ['web1.example.com'], serial: 99n, validity: '-1h:+1h' }
  await writeFile(old, `${await signCertificate({ ...wish, publicKey })}\n`)
  await edit(sshd.configPath, (text) => `${text}HostCertificate ${join(world.folder, 'missing')}\n`)
  await edit(sshd.configPath, (text) => `${text}HostCertificate ${old}\n`)
  await promisify(execFile)(sshd.reloadScript)
  await agent.start()
  await agent.waitFor(
    'a reload that did not help',
    async () =>
      (await agent.status())?.certificates.some(
        ({ state, last_error }) => state === 'unconfirmed' && last_error?.code === 'SSHD_NOT_SERVING',
      ) === true,
    20,
  )
  const findings = await diagnose(world)
  expect(troubles(findings)).toEqual(['sshd-config failure', 'served failure'])
  const [config] = of('sshd-config', findings)
  const lines = (await readFile(sshd.configPath, 'utf8')).split('\n')
  const place = `${sshd.configPath}:${lines.indexOf(`HostCertificate ${old}`) + 1}`
  expect(config?.message).toContain(
    `${place}: HostCertificate ${old} (serial 99) comes after ${sshd.configPath}:`,
  )
  expect(config?.remedy).toBe(`remove ${place}; then \`sshd -t && systemctl reload ssh\` (sshd)`)
  expect(of('served', findings)).toEqual([
    expect.objectContaining({
      message: expect.stringMatching(
        /^SSHD_NOT_SERVING: .*sshd presents serial 99, but serial \d+ is on disk$/,
      ) as string,
      remedy: config?.remedy,
    }),
  ])
  await edit(sshd.configPath, (text) => text.replace(`HostCertificate ${old}\n`, ''))
  await agent.verb('renew')
  await promisify(execFile)(sshd.reloadScript)
  await agent.waitFor('sshd serves ours', async () => isServed(world, 'ed25519'))
  expect(troubles(await diagnose(world))).toEqual([])
})

test('the public half of another key: doctor names the pair, and its remedy works', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent, sshd } = world
  const path = sshd.hostKeyPath('ed25519')
  const image = join(world.folder, 'image')
  await generateKey(image, 'ed25519')
  await copyFile(`${image}.pub`, `${path}.pub`)
  await agent.configure(world.configWith({}))
  await agent.verb('renew')
  const findings = await diagnose(world)
  expect(of('served', findings)).toMatchObject([
    {
      status: 'unknown',
      message: expect.stringMatching(/another server answered, or the public half of/) as string,
    },
  ])
  if (!isRoot) return
  expect(troubles(findings)).toContain('host-keys failure')
  const [pair] = of('host-keys', findings)
  const remedy = `ssh-keygen -y -f ${path} > ${path}.pub && chmod 644 ${path}.pub`
  expect(pair?.remedy).toBe(`\`${remedy}\``)
  expect(JSON.stringify(findings)).not.toContain('PRIVATE KEY')
  await promisify(execFile)('sh', ['-c', remedy])
  await agent.start()
  await untilReady(world)
  expect(troubles(await diagnose(world))).toEqual([])
})

test('check and metrics write ask the daemon that runs', async () => {
  await using world = await makeWorld(ONE_KEY)
  const { agent } = world
  await agent.start()
  await untilReady(world)
  const well = await agent.verb('check')
  expect(well).toMatchObject({ status: 0, stderr: '' })
  expect(well.stdout).toMatch(
    /^HOSTCERTD OK - 1 host key has a valid certificate, which expires in 5\dm.* \| 'ssh_host_ed25519_key'=\d+s;/,
  )
  const file = join(world.folder, 'hostcertd.prom')
  expect(await agent.verb('metrics', 'write', file)).toMatchObject({ status: 0 })
  expect(await readFile(file, 'utf8')).toMatch(
    /^hostcertd_renewals_total\{host_key="ssh_host_ed25519_key",result="ok"\} 1$/m,
  )

  await writeFile(world.sshd.certificatePath('ed25519'), '')
  await world.issuer.stop()
  await agent.stop()
  const broken = await agent.verb('check')
  expect(broken.status).toBe(2)
  expect(broken.stdout).toContain('CERT_UNPARSABLE')
  expect(broken.stdout).toContain('the daemon does not respond')
})

async function edit(path: string, change: (text: string) => string): Promise<void> {
  await writeFile(path, change(await readFile(path, 'utf8')))
}
