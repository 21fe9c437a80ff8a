import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { answer, DROP_IN, dropInFor, inFrontOf, makeHelperHost, type HelperHost } from './helper-host.ts'

const run = promisify(execFile)
const [ED25519, ECDSA] = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key']

describe("the root helper, with hostcertd's user against it", needsRoot, () => {
  test.each<{ name: string; why: string; make: (path: string, host: HelperHost) => Promise<unknown> }>([
    { name: 'a FIFO', why: 'is not a regular file', make: (path) => run('mkfifo', [path]) },
    {
      name: 'a symlink to /etc/shadow',
      why: 'is not a regular file',
      make: (path) => symlink('/etc/shadow', path),
    },
    { name: 'a dangling symlink', why: 'is not a regular file', make: (path) => symlink('/nowhere', path) },
    { name: 'a directory', why: 'is not a regular file', make: (path) => mkdir(path) },
    { name: 'a device', why: 'is not a regular file', make: (path) => run('mknod', [path, 'c', '1', '5']) },
    {
      name: 'a huge file',
      why: 'is larger than 65536 bytes',
      make: async (path) => (await writeFile(path, ''), await truncate(path, 2 ** 40)),
    },
    {
      name: 'a good certificate, a byte longer than allowed',
      why: 'is larger than 65536 bytes',
      make: async (path, host) => await writeFile(path, (await host.stage(ED25519)).padEnd(65_537)),
    },
    { name: 'an empty file', why: 'is not one certificate', make: (path) => writeFile(path, '') },
    {
      name: 'garbage',
      why: 'is not one certificate',
      make: (path) => writeFile(path, Buffer.alloc(2000, 0x9f)),
    },
    {
      name: 'the plain public key',
      why: 'is not one certificate',
      make: async (path, { ssh }) => await writeFile(path, await readFile(join(ssh, `${ED25519}.pub`))),
    },
    {
      name: 'two certificates',
      why: 'is not one certificate',
      make: async (path, host) => await writeFile(path, (await host.stage(ED25519)).repeat(2)),
    },
    {
      name: 'a certificate with a byte changed',
      why: 'is not one certificate',
      make: async (path, host) => {
        const [type = '', blob = ''] = (await host.stage(ED25519)).split(' ')
        const bytes = Buffer.from(blob, 'base64')
        bytes[bytes.length - 70]! ^= 1
        await writeFile(path, `${type} ${bytes.toString('base64')}\n`)
      },
    },
    {
      name: 'a user certificate',
      why: 'is not a host certificate',
      make: (_path, host) => host.stage(ED25519, { kind: 'user' }),
    },
    {
      name: 'a certificate for another host key of this host',
      why: 'is for another key',
      make: async (path, host) => await writeFile(path, await host.stage(ECDSA)),
    },
    {
      name: 'a certificate for a foreign key, whose key id claims otherwise',
      why: 'is for another key',
      make: async (_path, host) => {
        const publicKey = await generateKey(join(host.ssh, '..', 'foreign'), 'ed25519')
        const { stdout } = await run('ssh-keygen', ['-l', '-f', join(host.ssh, `${ED25519}.pub`)])
        const keyId = `"\n        Public key: ED25519-CERT ${stdout.split(' ')[1]}`
        await host.stage(ED25519, { publicKey, keyId })
      },
    },
  ])('refuses $name, leaves the copy in place, and serves the others', async ({ why, make }) => {
    await using host = await makeHelperHost()
    const good = await host.stage(ED25519)
    await host.ask('install\n')
    const file = `${ED25519}-cert.pub`
    await rm(join(host.staged, file))
    await make(join(host.staged, file), host)
    const ecdsa = await host.stage(ECDSA)
    const { stdout, stderr } = await host.ask('install\n')
    expect(stdout).toMatch(
      answer('ok', `reload=yes : not installed: /var/lib/hostcertd/certs/${file} ${why}`),
    )
    expect(stderr).toContain(why)
    expect(await host.installed()).toEqual({
      [`hostcertd/${ECDSA}-cert.pub`]: ecdsa,
      [`hostcertd/${ED25519}-cert.pub`]: good,
      [DROP_IN]: dropInFor(ECDSA, ED25519),
    })
  })

  test('the staged folder itself a symlink to elsewhere: nothing but a certificate is taken from there', async () => {
    await using host = await makeHelperHost()
    const before = `umount /var/lib/hostcertd/certs; rmdir /var/lib/hostcertd/certs
      mkdir /var/lib/e; cp /etc/shadow /var/lib/e/${ED25519}-cert.pub; ln -s ../e /var/lib/hostcertd/certs`
    expect((await host.ask('install\n', { before })).stdout).toMatch(
      / : not installed: .* is not one certificate$/m,
    )
    expect(await host.installed()).toEqual({})
  })

  test('a FIFO that takes the place of the file after the first look: dd does not wait', async () => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    // The first look is made to lie, for the race cannot be won at will. A dd that waited would be killed: see below.
    const script = await readFile('systemd/reload-helper', 'utf8')
    const blind = script.replace('[ -f "$1" ] && [ ! -L "$1" ] || return 1', ':')
    expect(blind).not.toBe(script)
    await writeFile(join(host.ssh, 'blind'), blind)
    const path = join(host.staged, `${ED25519}-cert.pub`)
    for (const [make, why] of [
      ['mkfifo', 'is not one certificate'],
      ['ln -s /etc/shadow', 'cannot be read'],
      ['mkdir', 'cannot be read'],
    ] as const) {
      await rm(path, { recursive: true })
      await run('sh', ['-c', `${make} "$1"`, 'sh', path])
      const { stdout } = await host.ask('install\n', { shell: ['sh', '/etc/ssh/blind'] })
      expect(stdout).toContain(`${ED25519}-cert.pub ${why}`)
      expect(await host.installed()).toEqual({})
    }
  })

  test.each([
    { name: 'is too slow', does: 'sleep 6' },
    { name: 'is killed', does: 'kill -KILL $$' },
  ])('a dd that $name says nothing about the certificate', async ({ does }) => {
    await using host = await makeHelperHost()
    await host.stage(ED25519)
    const before = inFrontOf('/usr/bin/dd', `case $* in *-cert.pub*) ${does} ;; esac`)
    const { stdout } = await host.ask('install\n', { before })
    expect(stdout).toMatch(answer('error STORE_FAILED', ` : could not read /\\S*/${ED25519}-cert.pub`))
  })
})
