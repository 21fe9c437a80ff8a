import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PublicKey } from '../../agent/cert/public-key.ts'
import { tryParse } from '../../agent/cert/verify-issued.ts'
import { evidenceOf } from '../../agent/renewal/ask-sshd.ts'
import type { Presented } from '../../agent/renewal/ports.ts'
import { blobOf, craftCertificate, craftKey, sshString, type CraftedKey } from '../cert/craft.ts'
import { keyIn } from '../cert/key-ring.ts'
import { startPrivateSshd, type HostKeyType, type PrivateSshd } from '../support/private-sshd.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { runsIf } from '../support/skip.ts'
import { generateKey, signCertificate, type SignOptions } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { ask, askAny, presentedTo, reasonFor, strangeKey } from './asking-sshd.ts'
import { startHostileServer } from './hostile-server.ts'

const hasIPv6 = Object.values(networkInterfaces())
  .flat()
  .some((one) => one?.address === '::1')

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

describe('of a real sshd', runsIf(existsSync('/usr/sbin/sshd'), '/usr/sbin/sshd is missing'), () => {
  async function keyOf(sshd: PrivateSshd, type: HostKeyType): Promise<PublicKey> {
    return keyIn(await readFile(`${sshd.hostKeyPath(type)}.pub`, 'utf8'))
  }

  /** Sign a host key as wished, put the certificate in place, and restart sshd. */
  async function certify(
    sshd: PrivateSshd,
    type: HostKeyType,
    wish: Partial<SignOptions> = {},
  ): Promise<Buffer> {
    const ca = wish.ca ?? join(folder.path, 'ca')
    if (!existsSync(ca)) await generateKey(ca, 'ed25519')
    const publicKey = `${sshd.hostKeyPath(type)}.pub`
    return await serve(sshd, type, await signCertificate({ principals: ['host1'], publicKey, ...wish, ca }))
  }

  async function serve(sshd: PrivateSshd, type: HostKeyType, line: string): Promise<Buffer> {
    await writeFile(sshd.certificatePath(type), `${line}\n`)
    await sshd.stop()
    await sshd.start()
    return blobOf(line)
  }

  test('certificates, plain keys, each curve, and what is not offered, without any try to log in', async () => {
    const p384 = join(folder.path, 'p384')
    const p384Key = keyIn(await generateKey(p384, 'ecdsa-384'))
    await using sshd = await startPrivateSshd({ folder: folder.path, extraConfig: `HostKey ${p384}` })
    const certificate = await certify(sshd, 'ecdsa')
    const rsaCertificate = await certify(sshd, 'rsa')
    const [ed25519, p256, rsa] = [
      await keyOf(sshd, 'ed25519'),
      await keyOf(sshd, 'ecdsa'),
      await keyOf(sshd, 'rsa'),
    ]
    const strange = await strangeKey(folder.path, 'ecdsa-521')
    const logged = (await sshd.log()).length
    const answer = await ask(sshd.port, [ed25519, p384Key, p256, rsa, strange])
    expect(answer).toEqual({
      state: 'up',
      presented: new Map<string, Presented>([
        [ed25519.fingerprint, { kind: 'plain', blob: ed25519.blob }],
        [p384Key.fingerprint, { kind: 'plain', blob: p384Key.blob }],
        [p256.fingerprint, { kind: 'certificate', blob: certificate }],
        [rsa.fingerprint, { kind: 'certificate', blob: rsaCertificate }],
        [
          strange.fingerprint,
          { kind: 'not-offered', offer: expect.stringContaining('ssh-ed25519') as string },
        ],
      ]),
    })
    // One line each, in the order in which the processes of sshd come to write, and none of them about a user.
    await expect
      .poll(async () =>
        (await sshd.log())
          .slice(logged)
          .trim()
          .split('\n')
          .filter((line) => !line.startsWith('Could not load host certificate'))
          .toSorted(),
      )
      .toEqual([
        ...Array.from({ length: 4 }, () =>
          expect.stringMatching(/^Connection (closed|reset) by 127\.0\.0\.1 port \d+ \[preauth\]/),
        ),
        expect.stringMatching(
          /^Unable to negotiate with 127\.0\.0\.1 port \d+: no matching host key type found/,
        ),
      ])
  })

  const odd: { name: string; wish: Partial<SignOptions> }[] = [
    { name: 'expired', wish: { validity: '20200101000000:20200102000000' } },
    { name: 'not valid yet', wish: { validity: '+10d:+20d' } },
    { name: 'for a user', wish: { kind: 'user' } },
    { name: 'without principals', wish: { principals: [] } },
    { name: 'with a critical option', wish: { options: ['critical:force-command=true'] } },
    {
      name: 'with 200 principals',
      wish: { principals: Array.from({ length: 200 }, (_, n) => `host${n}.example.com`) },
    },
  ]
  test.each(odd)('the exact bytes of a certificate that is odd: $name', async ({ wish }) => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
    const blob = await certify(sshd, 'ed25519', wish)
    const key = await keyOf(sshd, 'ed25519')
    expect(presentedTo(key, await ask(sshd.port, [key]))).toEqual({ kind: 'certificate', blob })
  })

  test('a certificate signed with SHA-1', async () => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
    const ca = join(folder.path, 'rsa-ca')
    await generateKey(ca, 'rsa')
    const blob = await certify(sshd, 'ed25519', { ca, algorithm: 'ssh-rsa' })
    const key = await keyOf(sshd, 'ed25519')
    expect(presentedTo(key, await ask(sshd.port, [key]))).toEqual({ kind: 'certificate', blob })
  })

  const unparsable: { name: string; craft: (key: CraftedKey) => string }[] = [
    {
      name: 'a key id in Latin-1',
      craft: (key) =>
        craftCertificate(key, craftKey(), { keyId: sshString(Buffer.from('h\u00F4te', 'latin1')) }),
    },
    {
      name: 'a principal in Latin-1',
      craft: (key) =>
        craftCertificate(key, craftKey(), { principals: sshString(sshString(Buffer.of(0xf4))) }),
    },
  ]
  test.each(unparsable)('the exact bytes of one that our parser refuses: $name', async ({ craft }) => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
    const key = await keyOf(sshd, 'ed25519')
    const line = craft({ ...craftKey(), blob: key.blob })
    expect(tryParse(line).ok).toBe(false)
    const blob = await serve(sshd, 'ed25519', line)
    const answer = await ask(sshd.port, [key])
    expect(presentedTo(key, answer)).toEqual({ kind: 'certificate', blob })
    expect(evidenceOf([key], answer.presented).get(key.fingerprint)).toEqual({ kind: 'certificate', blob })
  })

  test('of two HostCertificate lines for a key the last that loads', async () => {
    const [second, garbage, absent] = ['second', 'garbage', 'absent'].map((name) => join(folder.path, name))
    await using sshd = await startPrivateSshd({
      folder: folder.path,
      hostKeyTypes: ['ed25519'],
    })
    const first = await certify(sshd, 'ed25519', { serial: 1n })
    const key = await keyOf(sshd, 'ed25519')
    const line = await signCertificate({
      ca: join(folder.path, 'ca'),
      publicKey: `${sshd.hostKeyPath('ed25519')}.pub`,
      serial: 2n,
    })
    await writeFile(String(second), `${line}\n`)
    await writeFile(String(garbage), 'garbage\n')
    const config = await readFile(sshd.configPath, 'utf8')
    const more = [second, garbage, absent].map((path) => `HostCertificate ${path}\n`).join('')
    await writeFile(sshd.configPath, config + more)
    await sshd.stop()
    await sshd.start()
    expect(blobOf(line)).not.toEqual(first)
    expect(presentedTo(key, await ask(sshd.port, [key]))).toEqual({ kind: 'certificate', blob: blobOf(line) })
  })

  // The first is bugs/probe-cannot-negotiate.
  test.each([
    'MACs hmac-sha1-96\nCiphers aes256-cbc',
    'MACs hmac-sha1-96\nCiphers aes128-ctr',
    'KexAlgorithms diffie-hellman-group1-sha1',
    'KexAlgorithms diffie-hellman-group1-sha1\nCiphers 3des-cbc\nMACs hmac-md5-96',
  ])('with nothing of what ssh uses by default: %s', async (extraConfig) => {
    await using sshd = await startPrivateSshd({
      folder: folder.path,
      hostKeyTypes: ['ed25519', 'ecdsa'],
      extraConfig,
    })
    const blob = await certify(sshd, 'ecdsa')
    const [ed25519, p256, strange] = [
      await keyOf(sshd, 'ed25519'),
      await keyOf(sshd, 'ecdsa'),
      await strangeKey(folder.path, 'ecdsa-521'),
    ]
    const answer = await ask(sshd.port, [ed25519, strange, p256])
    expect(presentedTo(ed25519, answer)).toEqual({ kind: 'plain', blob: ed25519.blob })
    expect(presentedTo(p256, answer)).toEqual({ kind: 'certificate', blob })
    expect(presentedTo(strange, answer).kind).toBe('not-offered')
  })

  // bugs/per-source-max-startups
  test('PerSourceMaxStartups 1, again and again', async () => {
    await using sshd = await startPrivateSshd({
      folder: folder.path,
      extraConfig: 'PerSourceMaxStartups 1',
    })
    const keys = [await keyOf(sshd, 'ed25519'), await keyOf(sshd, 'ecdsa'), await keyOf(sshd, 'rsa')]
    for (let round = 0; round < 5; round++) {
      const answer = await ask(sshd.port, keys)
      expect(keys.map((key) => presentedTo(key, answer).kind)).toEqual(['plain', 'plain', 'plain'])
    }
  })

  test('another connection takes all that MaxStartups allows: unknown; and then it is known again', async () => {
    await using sshd = await startPrivateSshd({
      folder: folder.path,
      hostKeyTypes: ['ed25519'],
    })
    const config = await readFile(sshd.configPath, 'utf8')
    await writeFile(sshd.configPath, config.replace(/^MaxStartups .*$/m, 'MaxStartups 1:100:1'))
    await sshd.stop()
    await sshd.start()
    const key = await keyOf(sshd, 'ed25519')
    const other: Socket = connect(sshd.port, '127.0.0.1')
    await once(other, 'data')
    const answer = await ask(sshd.port, [key])
    expect(answer.state).toBe('unknown')
    expect(reasonFor(key, answer)).toMatch(new RegExp(`^127\\.0\\.0\\.1:${sshd.port}: .*(closed|reset) by`))
    other.destroy()
    await expect.poll(async () => (await ask(sshd.port, [key])).state, { timeout: 10_000 }).toBe('up')
  })

  test('sshd is down, and up again', async () => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519', 'rsa'] })
    const keys = [await keyOf(sshd, 'ed25519'), await keyOf(sshd, 'rsa')]
    await sshd.stop()
    const reason = `127.0.0.1:${sshd.port}: Connection refused`
    const answer = await ask(sshd.port, keys)
    expect(answer.state).toBe('down')
    expect(keys.map((key) => reasonFor(key, answer))).toEqual([reason, reason])
    await sshd.start()
    expect((await ask(sshd.port, keys)).state).toBe('up')
  })

  describe('several addresses', () => {
    test('those of the helper in turn, any-address as loopback, what is no address left out', async () => {
      await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
      const key = await keyOf(sshd, 'ed25519')
      const useless = [
        '$(reboot):22',
        '-oProxyCommand=x:22',
        '127.0.0.1:0',
        '127.0.0.1:65536',
        '127.0.0.2:99999',
        '127.0.0.2:00',
        '127.0.0.1:1',
      ]
      for (const any of ['0.0.0.0', '*']) {
        const answer = await askAny([...useless, `${any}:${sshd.port}`], [key])
        expect(presentedTo(key, answer)).toEqual({ kind: 'plain', blob: key.blob })
      }
    })

    test('IPv6, any-address and by name', runsIf(hasIPv6, 'this machine has no address ::1'), async () => {
      const port = await freePort()
      const extraConfig = 'ListenAddress ::1'
      const options = { folder: folder.path, hostKeyTypes: ['ed25519'], extraConfig, port } as const
      await using sshd = await startPrivateSshd(options)
      const key = await keyOf(sshd, 'ed25519')
      for (const listen of [`[::1]:${port}`, `[::]:${port}`, `localhost:${port}`]) {
        expect(presentedTo(key, await askAny([listen], [key]))).toEqual({ kind: 'plain', blob: key.blob })
      }
      expect((await ask(port, [key], { host: '::1' })).state).toBe('up')
    })

    test('another server first: the one with a key of ours counts, whole', async () => {
      await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
      await using root = await makeTemporaryFolder()
      await using other = await startPrivateSshd({ folder: root.path, hostKeyTypes: ['ed25519', 'rsa'] })
      const blob = await certify(sshd, 'ed25519')
      const [key, rsa] = [await keyOf(sshd, 'ed25519'), await keyOf(other, 'rsa')]
      const answer = await askAny([`127.0.0.1:${other.port}`, `127.0.0.1:${sshd.port}`], [key])
      expect(presentedTo(key, answer)).toEqual({ kind: 'certificate', blob })
      // What the other one has of ours too is taken from there, and then nothing from here.
      const both = await askAny([`127.0.0.1:${other.port}`, `127.0.0.1:${sshd.port}`], [key, rsa])
      expect(presentedTo(rsa, both)).toEqual({ kind: 'plain', blob: rsa.blob })
      expect(evidenceOf([key, rsa], both.presented).get(key.fingerprint)?.kind).toBe('other-key')
    })

    test('only another server: it is up, and nothing is known of ours', async () => {
      await using root = await makeTemporaryFolder()
      await using other = await startPrivateSshd({ folder: root.path, hostKeyTypes: ['ed25519', 'rsa'] })
      const [strange, curve] = [await strangeKey(folder.path), await strangeKey(folder.path, 'ecdsa-521')]
      const answer = await askAny(['127.0.0.1:1', `127.0.0.1:${other.port}`], [strange, curve])
      expect(answer.state).toBe('up')
      expect([strange, curve].map((key) => presentedTo(key, answer).kind)).toEqual(['plain', 'not-offered'])
      const shown = evidenceOf([strange, curve], answer.presented)
      expect([...shown.values()].map(({ kind }) => kind)).toEqual(['unknown', 'unknown'])
    })

    test('once a key of ours was shown, no further address is asked', async () => {
      await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
      await using second = await startHostileServer((socket) => socket.end())
      const [key, strange] = [await keyOf(sshd, 'ed25519'), await strangeKey(folder.path, 'ecdsa-521')]
      await askAny([`127.0.0.1:${sshd.port}`, `127.0.0.1:${second.port}`], [key, strange])
      expect(second.connections).toBe(0)
    })
  })
})
