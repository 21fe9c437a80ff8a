import { chmod, chown, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { startLocalIssuer } from '../support/local-issuer.ts'
import { needsRoot } from '../support/skip.ts'
import { certificateOf, ED25519, makeBareHost, memberOf, type BareHost } from './bare-host.ts'

/** Nobody's: a number that needs no account. */
const OWNER = 65_534
const HOST_ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'

/** Who a verb is, as the kernel has it when it runs the reload command. */
async function hostOfAnother(): Promise<{ readonly host: BareHost; readonly whoFile: string }> {
  const host = await makeBareHost()
  const whoFile = join(host.folder, 'state', 'who')
  for (const name of ['state', 'certs']) {
    await chown(join(host.folder, name), OWNER, OWNER)
    await chmod(join(host.folder, name), 0o700)
  }
  return { host, whoFile }
}

describe('run as root', needsRoot, () => {
  test('renew becomes the owner of the state directory, and logs in with what only root may read', async () => {
    const { host, whoFile } = await hostOfAnother()
    await using _host = host
    await using issuer = await startLocalIssuer({ folder: host.folder })
    const hostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
    const { clientId, clientSecret } = issuer.addIdentity({ mayIssueFor: [hostId] })
    const credentials = join(host.folder, 'credentials')
    await mkdir(credentials, { mode: 0o700 })
    await writeFile(join(credentials, 'client-secret'), clientSecret, { mode: 0o400 })
    const ca = join(host.folder, 'issuer-ca.pub')
    await writeFile(ca, `${issuer.caPublicKey}\n`)
    const clientSecretFile = 'credential:client-secret'
    const copyStatus = ['/bin/sh', '-c', `grep -E '^(Uid|Gid|Groups):' /proc/$$/status > ${whoFile}`]
    await host.configure({
      ...memberOf({ url: issuer.url, hostId, clientId, clientSecretFile }),
      verify: { host_ca_file: ca },
      sshd: { address: 'none', reload: 'always', reload_command: copyStatus },
    })

    const result = await host.verb(['renew'])
    expect(result).toMatchObject({ status: 0, stderr: '' })
    expect(await certificateOf(host, ED25519)).not.toBeNull()
    const written = [host.certificatePath(ED25519), join(host.statePath, 'attempts.json'), whoFile]
    for (const file of written.concat(join(host.statePath, 'lock'))) {
      expect(await stat(file), file).toMatchObject({ uid: OWNER, gid: OWNER })
    }
    const who = (await readFile(whoFile, 'utf8')).replaceAll(/[ \t]+/g, ' ').split('\n')
    const four = Array.from({ length: 4 }, () => OWNER).join(' ')
    expect(who.map((line) => line.trim())).toEqual([`Uid: ${four}`, `Gid: ${four}`, `Groups: ${OWNER}`, ''])
  })

  test.each([
    { verb: ['status'], status: 0 },
    { verb: ['needs-renewal'], status: 2 },
    { verb: ['wait', '--timeout', '0s'], status: 1 },
  ])('$verb reads as the owner too', async ({ verb, status }) => {
    const { host } = await hostOfAnother()
    await using _host = host
    expect((await host.verb(verb)).status).toBe(status)
    // What the owner cannot read, the verb cannot read either.
    await writeFile(join(host.folder, 'root-ca.pub'), await readFile(join(host.folder, 'ca.pub')), {
      mode: 0o400,
    })
    await host.configure({ verify: { host_ca_file: join(host.folder, 'root-ca.pub') } })
    const refused = await host.verb(verb)
    expect(refused.stdout + refused.stderr).toMatch(/^CONFIG_INVALID: .*root-ca\.pub/)
  })

  test.each([{ verb: ['config', 'validate'] }, { verb: ['run'] }])(
    '$verb: pinned CAs that the owner cannot read are a problem of the configuration',
    async ({ verb }) => {
      const { host } = await hostOfAnother()
      await using _host = host
      const pin = join(host.folder, 'ca.pub')
      await chmod(pin, 0o400)
      const { status, stdout, stderr } = await host.verb(verb)
      expect(status).toBe(78)
      expect(stdout + stderr).toContain(`verify.host_ca_file: ${pin}: permission denied (EACCES)`)
    },
  )

  test.each([{ verb: ['config', 'validate'] }, { verb: ['run'] }])(
    '$verb: a configuration that the owner cannot read, as umask 077 makes it, is a problem',
    async ({ verb }) => {
      const { host } = await hostOfAnother()
      await using _host = host
      await chmod(host.configPath, 0o600)
      const { status, stdout, stderr } = await host.verb(verb)
      expect(status).toBe(78)
      expect(stdout + stderr).toContain(
        `${host.configPath}: cannot be read: permission denied (EACCES) (read as user `,
      )
    },
  )

  test('inspect becomes the owner also where no CA can be read', async () => {
    const { host } = await hostOfAnother()
    await using _host = host
    await host.certify(ED25519)
    await chmod(host.certificatePath(ED25519), 0o400)
    await rm(join(host.folder, 'ca.pub'))
    const { status, stdout } = await host.verb(['inspect', host.certificatePath(ED25519), '--json'])
    expect({ status, stdout }).toEqual({ status: 1, stdout: expect.stringContaining('EACCES') as string })
  })

  test('inspect reads as the owner too', async () => {
    const { host } = await hostOfAnother()
    await using _host = host
    await host.certify(ED25519)
    await chmod(host.certificatePath(ED25519), 0o400)
    const { status, stdout } = await host.verb(['inspect', host.certificatePath(ED25519), '--json'])
    expect(status).toBe(1)
    expect(stdout).toContain('EACCES')
  })

  test('krl: what the owner cannot write, root can, and how is said', async () => {
    const { host } = await hostOfAnother()
    await using _host = host
    const folder = join(host.folder, 'of-root')
    await mkdir(folder, { mode: 0o755 })
    const list = join(folder, 'revoked-hosts')
    const { status, stderr } = await host.verb(['krl', list, '--host-id', HOST_ID])
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(
        /^cannot write .*revoked-hosts: .*\(EACCES\); as root, write it with `hostcertd krl - >FILE\.new && chmod 644 FILE\.new && mv FILE\.new FILE`\n$/,
      ) as string,
    })
    expect(await readdir(folder)).toEqual([])
  })

  test('a state directory of root changes nothing', async () => {
    await using host = await makeBareHost()
    await host.certify(ED25519)
    await chmod(host.certificatePath(ED25519), 0o400)
    expect(await host.verb(['inspect', host.certificatePath(ED25519)])).toMatchObject({ status: 0 })
  })
})
