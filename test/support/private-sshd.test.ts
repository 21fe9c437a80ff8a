import { execFile } from 'node:child_process'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { certAuthorityLine, startPrivateSshd, type PrivateSshd } from './private-sshd.ts'
import { generateKey, signCertificate } from './ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'

const run = promisify(execFile)
const HOSTNAME = 'web1.example.com'

let folder: TemporaryFolder
let sshd: PrivateSshd
let ca: string
let trusted: string

beforeEach(async () => {
  folder = await makeTemporaryFolder()
  sshd = await startPrivateSshd({
    folder: folder.path,
    hostKeyTypes: ['ed25519', 'ecdsa'],
    hostname: 'host1',
  })
  ca = join(folder.path, 'ca')
  trusted = certAuthorityLine(HOSTNAME, await generateKey(ca, 'ed25519', 'ca'))
})

afterEach(async () => {
  await sshd.stop()
  await folder.remove()
})

async function certify(principal: string): Promise<void> {
  const line = await signCertificate({
    ca,
    publicKey: `${sshd.hostKeyPath('ed25519')}.pub`,
    principals: [principal],
    validity: '-5m:+1h',
  })
  await writeFile(sshd.certificatePath('ed25519'), `${line}\n`)
}

test('a client that trusts the CA logs in with a certificate, and only with one', async () => {
  const wish = { knownHosts: trusted, hostname: HOSTNAME }
  const without = await sshd.connect(wish)
  expect([without.status, without.stderr]).toEqual([255, expect.stringContaining('verification failed')])
  await certify(HOSTNAME)
  await run(sshd.reloadScript)
  await expect
    .poll(() => sshd.scan('ed25519'), { timeout: 10_000 })
    .toMatch(/^ssh-ed25519-cert-v01@openssh\.com AAAA/)
  expect(await sshd.scan('ecdsa')).toBeNull()
  expect(await sshd.connect(wish)).toMatchObject({ status: 0 })
  expect(await sshd.connect({ ...wish, hostname: 'web2.example.com' })).toMatchObject({ status: 255 })
  await certify('web3.example.com')
  await run(sshd.reloadScript)
  await expect.poll(async () => (await sshd.connect(wish)).status, { timeout: 10_000 }).toBe(255)
})

test('a reload keeps the listener and is counted', async () => {
  const { pid } = sshd
  await run(sshd.reloadScript)
  await expect.poll(() => sshd.log()).toMatch(/Received SIGHUP; restarting/)
  expect(await sshd.reloadCount()).toBe(1)
  expect([sshd.running, sshd.pid]).toEqual([true, pid])
})

test('a broken configuration is not loaded: 78, and why', async () => {
  await sshd.breakConfig()
  await expect(run(sshd.reloadScript)).rejects.toMatchObject({
    code: 78,
    stderr: expect.stringContaining('NoSuchKeyword'),
  })
  expect([await sshd.reloadCount(), sshd.running]).toEqual([0, true])
  await sshd.mendConfig()
  await run(sshd.reloadScript)
  expect(await sshd.reloadCount()).toBe(1)
})

test('it stops, and comes back on the same port', async () => {
  await certify(HOSTNAME)
  await sshd.stop()
  expect(sshd.running).toBe(false)
  expect(await sshd.scan('ed25519')).toBeNull()
  await expect(run(sshd.reloadScript)).rejects.toMatchObject({ code: 1 })
  await sshd.start()
  expect(await sshd.connect({ knownHosts: trusted, hostname: HOSTNAME })).toMatchObject({ status: 0 })
})

test('host keys are rotated in place, by rename, or deleted', async () => {
  const path = `${sshd.hostKeyPath('ed25519')}.pub`
  const look = async () => ({ line: await readFile(path, 'utf8'), inode: (await stat(path)).ino })
  const first = await look()
  await sshd.rotateKey('ed25519', 'in-place')
  const second = await look()
  expect(second.line).not.toBe(first.line)
  expect(second).toMatchObject({ line: expect.stringMatching(/ root@host1\n$/), inode: first.inode })
  await sshd.rotateKey('ed25519', 'rename')
  const third = await look()
  expect(third.line).not.toBe(second.line)
  expect(third.inode).not.toBe(first.inode)
  await sshd.rotateKey('ed25519', 'delete')
  await expect(look()).rejects.toThrow('ENOENT')
})
