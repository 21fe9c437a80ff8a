import { createHash, sign } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createServedCertificates } from '../../agent/adapters/served-certificate.ts'
import { evidenceOf, type Presented } from '../../agent/core/evidence.ts'
import type { PublicKey } from '../../agent/core/public-key.ts'
import { tryParse } from '../../agent/core/verify-issued.ts'
import type { SshdAnswer } from '../../agent/renewal/ports.ts'
import { createPace } from '../../agent/system/pace.ts'
import {
  blobOf,
  certificateFields,
  craftCertificate,
  craftKey,
  lineOf,
  sshString,
  uint32,
  type CraftedKey,
} from '../core/craft.ts'
import { keyIn } from '../core/key-ring.ts'
import { startPrivateSshd, type HostKeyType, type PrivateSshd } from '../support/private-sshd.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { generateKey, signCertificate, type SignOptions } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { BANNER, disconnect, keyExchangeInit, startHostileServer } from './hostile-server.ts'

const never = new AbortController().signal
/** Servers of these tests do not punish anybody. */
const pace = createPace(1000, 1)

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

async function ask(
  port: number,
  keys: readonly PublicKey[],
  more: { timeoutSeconds?: number; program?: string; host?: string } = {},
): Promise<SshdAnswer> {
  const { host = '127.0.0.1', ...options } = more
  const served = createServedCertificates({ address: { host, port }, pace, ...options })
  return await served.ask({ keys, listen: [] }, never)
}

function presentedTo(key: PublicKey, { presented }: SshdAnswer): Presented {
  const one = presented.get(key.fingerprint)
  if (one === undefined) throw new Error('no entry for the key')
  return one
}

function reasonFor(key: PublicKey, answer: SshdAnswer): string {
  const one = presentedTo(key, answer)
  return one.kind === 'unknown' ? one.reason : `known: ${one.kind}`
}

/** A key that no server here has. */
async function strangeKey(type: 'ed25519' | 'ecdsa-521' = 'ed25519'): Promise<PublicKey> {
  return keyIn(await generateKey(join(folder.path, `strange-${type}`), type))
}

describe.skipIf(!existsSync('/usr/sbin/sshd'))('of a real sshd (needs /usr/sbin/sshd)', () => {
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
    const strange = await strangeKey('ecdsa-521')
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
    // One line each, and none of them about a user.
    await expect
      .poll(async () =>
        (await sshd.log())
          .slice(logged)
          .trim()
          .split('\n')
          .filter((line) => !line.startsWith('Could not load host certificate')),
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
    { name: 'a CA in a security key', craft: craftWithSecurityKey },
  ]
  test.each(unparsable)('the exact bytes of one that our parser refuses: $name', async ({ craft }) => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
    const key = await keyOf(sshd, 'ed25519')
    const line = craft({ ...craftKey(), point: key.blob.subarray(-32), blob: key.blob })
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
      await strangeKey('ecdsa-521'),
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
    function auto(listen: readonly string[], keys: readonly PublicKey[]): Promise<SshdAnswer> {
      return createServedCertificates({ address: 'auto', pace, timeoutSeconds: 1 }).ask(
        { keys, listen },
        never,
      )
    }

    test('those of the helper in turn, any-address as loopback, what is no address left out', async () => {
      await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
      const key = await keyOf(sshd, 'ed25519')
      const useless = ['$(reboot):22', '-oProxyCommand=x:22', '127.0.0.1:0', '127.0.0.1:65536', '127.0.0.1:1']
      for (const any of ['0.0.0.0', '*']) {
        const answer = await auto([...useless, `${any}:${sshd.port}`], [key])
        expect(presentedTo(key, answer)).toEqual({ kind: 'plain', blob: key.blob })
      }
    })

    test('IPv6, any-address and by name', async () => {
      const port = await freePort()
      const extraConfig = 'ListenAddress ::1'
      const options = { folder: folder.path, hostKeyTypes: ['ed25519'], extraConfig, port } as const
      await using sshd = await startPrivateSshd(options)
      const key = await keyOf(sshd, 'ed25519')
      for (const listen of [`[::1]:${port}`, `[::]:${port}`, `localhost:${port}`]) {
        expect(presentedTo(key, await auto([listen], [key]))).toEqual({ kind: 'plain', blob: key.blob })
      }
      expect((await ask(port, [key], { host: '::1' })).state).toBe('up')
    })

    test('another server first: the one with a key of ours counts, whole', async () => {
      await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
      await using root = await makeTemporaryFolder()
      await using other = await startPrivateSshd({ folder: root.path, hostKeyTypes: ['ed25519', 'rsa'] })
      const blob = await certify(sshd, 'ed25519')
      const [key, rsa] = [await keyOf(sshd, 'ed25519'), await keyOf(other, 'rsa')]
      const answer = await auto([`127.0.0.1:${other.port}`, `127.0.0.1:${sshd.port}`], [key])
      expect(presentedTo(key, answer)).toEqual({ kind: 'certificate', blob })
      // What the other one has of ours too is taken from there, and then nothing from here.
      const both = await auto([`127.0.0.1:${other.port}`, `127.0.0.1:${sshd.port}`], [key, rsa])
      expect(presentedTo(rsa, both)).toEqual({ kind: 'plain', blob: rsa.blob })
      expect(evidenceOf([key, rsa], both.presented).get(key.fingerprint)?.kind).toBe('other-key')
    })

    test('only another server: it is up, and nothing is known of ours', async () => {
      await using root = await makeTemporaryFolder()
      await using other = await startPrivateSshd({ folder: root.path, hostKeyTypes: ['ed25519', 'rsa'] })
      const [strange, curve] = [await strangeKey(), await strangeKey('ecdsa-521')]
      const answer = await auto(['127.0.0.1:1', `127.0.0.1:${other.port}`], [strange, curve])
      expect(answer.state).toBe('up')
      expect([strange, curve].map((key) => presentedTo(key, answer).kind)).toEqual(['plain', 'not-offered'])
      const shown = evidenceOf([strange, curve], answer.presented)
      expect([...shown.values()].map(({ kind }) => kind)).toEqual(['unknown', 'unknown'])
    })

    test('once a key of ours was shown, no further address is asked', async () => {
      await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
      await using second = await startHostileServer((socket) => socket.end())
      const [key, strange] = [await keyOf(sshd, 'ed25519'), await strangeKey('ecdsa-521')]
      await auto([`127.0.0.1:${sshd.port}`, `127.0.0.1:${second.port}`], [key, strange])
      expect(second.connections).toBe(0)
    })
  })
})

/** PROTOCOL.u2f: the signature of an `sk-ssh-ed25519` key is over hashes, flags and a counter. */
function craftWithSecurityKey(key: CraftedKey): string {
  const type = sshString('sk-ssh-ed25519@openssh.com')
  const application = 'ssh:'
  const ca = craftKey()
  const caBlob = Buffer.concat([type, sshString(ca.point), sshString(application)])
  const body = Buffer.concat(Object.values({ ...certificateFields(key, ca), ca: sshString(caBlob) }))
  const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest()
  const flagsAndCounter = Buffer.concat([Buffer.of(1), uint32(5)])
  const signed = Buffer.concat([sha256(application), flagsAndCounter, sha256(body)])
  const signature = Buffer.concat([type, sshString(sign(null, signed, ca.privateKey)), flagsAndCounter])
  return lineOf(Buffer.concat([body, sshString(signature)]))
}

describe('no answer, or a hostile one', () => {
  let key: PublicKey
  let second: PublicKey
  beforeEach(async () => {
    key = await strangeKey()
    second = await strangeKey('ecdsa-521')
  })

  const noMatch = (port: number) =>
    `Unable to negotiate with 127.0.0.1 port ${port}: no matching host key type found. Their offer: ssh-rsa`
  const forged = (blob: Buffer) => `${'0'.repeat(32)} ${blob.toString('base64')} ${'0'.repeat(32)}`

  const faults: { name: string; act: (socket: Socket, port: number) => unknown; reason: RegExp }[] = [
    { name: 'hangs up', act: (socket) => socket.end(), reason: /closed by/ },
    { name: 'resets', act: (socket) => socket.resetAndDestroy(), reason: /(reset|closed) by/ },
    {
      name: 'MaxStartups of sshd',
      act: (socket) => socket.end('Exceeded MaxStartups\r\n'),
      reason: /closed by/,
    },
    {
      name: 'penalties of sshd',
      act: (socket) => socket.end('Not allowed at this time\r\n'),
      reason: /closed by/,
    },
    { name: 'hangs up behind the banner', act: (socket) => socket.end(BANNER), reason: /closed by/ },
    {
      name: 'resets behind the banner',
      act: (socket) => {
        socket.write(BANNER)
        socket.once('data', () => socket.resetAndDestroy())
      },
      reason: /(reset|closed) by/,
    },
    {
      name: 'speaks HTTP',
      act: (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
      reason: /closed by/,
    },
    { name: 'speaks SSH 1', act: (socket) => socket.end('SSH-1.5-x\r\n'), reason: /Protocol major versions/ },
    {
      name: 'never says a banner',
      act: (socket) => socket.end('x\r\n'.repeat(2000)),
      reason: /banner|identification/,
    },
    {
      name: 'writes the line before its banner',
      act: (socket, port) => socket.end(`${noMatch(port)}\r\n${BANNER}`),
      reason: /closed by/,
    },
    {
      name: 'writes the line into its banner',
      act: (socket, port) => socket.end(`SSH-2.0-${noMatch(port)}\r\n`),
      reason: /closed by/,
    },
    {
      name: 'writes the line into a disconnect message',
      act: (socket, port) =>
        socket.write(Buffer.concat([Buffer.from(BANNER), disconnect(`x\r\n${noMatch(port)}\r\n`)])),
      reason: /^[^;]*Received disconnect/,
    },
    {
      name: 'forges a marker',
      act: (socket) =>
        socket.write(Buffer.concat([Buffer.from(BANNER), disconnect(`x\r\n${forged(key.blob)}\r\n`)])),
      reason: /^[^;]*Received disconnect/,
    },
    {
      name: 'says that nobody listens',
      act: (socket, port) =>
        socket.write(
          Buffer.concat([
            Buffer.from(BANNER),
            disconnect(`x\r\nssh: connect to host 127.0.0.1 port ${port}: Connection refused\r\n`),
          ]),
        ),
      reason: /^[^;]*Received disconnect/,
    },
    {
      name: 'offers a list of several lines',
      act: (socket) =>
        socket.write(Buffer.concat([Buffer.from(BANNER), keyExchangeInit({ hostKeys: 'ssh-rsa\r\nx' })])),
      reason: /no matching host key type/,
    },
    {
      name: 'offers nothing',
      act: (socket) => socket.write(Buffer.concat([Buffer.from(BANNER), keyExchangeInit({ hostKeys: '' })])),
      reason: /no matching host key type/,
    },
    {
      name: 'knows no cipher of ours',
      act: (socket) =>
        socket.write(
          Buffer.concat([
            Buffer.from(BANNER),
            keyExchangeInit({ hostKeys: 'ssh-ed25519,ecdsa-sha2-nistp521', cipher: 'rot13' }),
          ]),
        ),
      reason: /no matching cipher found. Their offer: rot13/,
    },
    {
      name: 'knows no key exchange of ours, and no type either',
      act: (socket) =>
        socket.write(
          Buffer.concat([Buffer.from(BANNER), keyExchangeInit({ hostKeys: 'ssh-rsa', kex: 'none' })]),
        ),
      reason: /no matching key exchange method found/,
    },
  ]
  test.each(faults)('unknown, with the reason in a line: a server that $name', async ({ act, reason }) => {
    await using server = await startHostileServer((socket) => act(socket, server.port))
    const answer = await ask(server.port, [key, second])
    expect(answer.state).toBe('unknown')
    for (const one of [key, second]) {
      const said = reasonFor(one, answer)
      expect(said.startsWith(`127.0.0.1:${server.port}: `)).toBe(true)
      expect(said).toMatch(reason)
      expect(said).toMatch(/^\P{Cc}{1,300}$/u)
    }
  })

  test.each([
    { name: 'silent', banner: '', reason: /timed out/ },
    { name: 'silent behind its banner', banner: BANNER, reason: /was not done after 2 s/ },
  ])('a server that is $name costs the time of one connection, not of each', async ({ banner, reason }) => {
    await using server = await startHostileServer((socket) => socket.write(banner))
    const answer = await ask(server.port, [key, second], { timeoutSeconds: 1 })
    expect(answer.state).toBe('unknown')
    expect([key, second].map((one) => reasonFor(one, answer))).toEqual([
      expect.stringMatching(reason),
      expect.stringMatching(reason),
    ])
    expect(server.connections).toBe(1)
  })

  test('a connection that is dropped is tried once more, and not for each key', async () => {
    await using server = await startHostileServer((socket) => socket.end())
    await ask(server.port, [key, second])
    expect(server.connections).toBe(3)
  })

  test('dropped by chance: the second try counts', async () => {
    await using server = await startHostileServer((socket) => {
      if (server.connections === 1) socket.end()
      else socket.write(Buffer.concat([Buffer.from(BANNER), keyExchangeInit({ hostKeys: 'ssh-rsa' })]))
    })
    const answer = await ask(server.port, [key])
    expect(answer).toEqual({
      state: 'up',
      presented: new Map([[key.fingerprint, { kind: 'not-offered', offer: 'ssh-rsa' }]]),
    })
  })

  test('a list longer than ssh prints is cut, and still a list', async () => {
    const hostKeys = `ssh-rsa,${'x'.repeat(3000)}`
    const bytes = Buffer.concat([Buffer.from(BANNER), keyExchangeInit({ hostKeys })])
    await using server = await startHostileServer((socket) => socket.write(bytes))
    const one = presentedTo(key, await ask(server.port, [key]))
    if (one.kind !== 'not-offered') throw new Error(one.kind)
    expect(hostKeys.startsWith(one.offer)).toBe(true)
    expect(one.offer.length).toBeLessThan(1024)
  })

  test('several addresses that do not answer: the reasons of all, and down only when each is refused', async () => {
    const [free, other] = [await freePort(), await freePort()]
    await using server = await startHostileServer((socket) => socket.end())
    const served = createServedCertificates({ address: 'auto', pace })
    const down = await served.ask({ keys: [key], listen: [`127.0.0.1:${free}`, `[::1]:${other}`] }, never)
    expect(down.state).toBe('down')
    const bothRefused = `127.0.0.1:${free}: Connection refused; [::1]:${other}: Connection refused`
    expect(reasonFor(key, down)).toBe(bothRefused)
    const listen = [`127.0.0.1:${free}`, `127.0.0.1:${server.port}`]
    const mixed = await served.ask({ keys: [key], listen }, never)
    expect(mixed.state).toBe('unknown')
    expect(reasonFor(key, mixed)).toContain(
      `127.0.0.1:${free}: Connection refused; 127.0.0.1:${server.port}: `,
    )
  })

  test('four addresses at most', async () => {
    const servers = await Promise.all(
      Array.from({ length: 5 }, () => startHostileServer((socket) => socket.end(BANNER))),
    )
    const listen = servers.map(({ port }) => `127.0.0.1:${port}`)
    await createServedCertificates({ address: 'auto', pace }).ask({ keys: [key], listen }, never)
    expect(servers.map(({ connections }) => connections > 0)).toEqual([true, true, true, true, false])
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()))
  })

  test('a name that no resolver knows is unknown, not down', async () => {
    const answer = await ask(22, [key], { host: 'no-such-host.invalid' })
    expect(answer.state).toBe('unknown')
    expect(reasonFor(key, answer)).toMatch(/^no-such-host\.invalid:22: .*resolve/)
  })

  test('asking is switched off, or there is nothing to ask about', async () => {
    const served = createServedCertificates({ address: 'none' })
    expect(served.enabled).toBe(false)
    const answer = await served.ask({ keys: [key], listen: ['127.0.0.1:22'] }, never)
    expect(answer).toEqual({
      state: 'unknown',
      presented: new Map([[key.fingerprint, { kind: 'unknown', reason: 'sshd.address is none' }]]),
    })
    await using server = await startHostileServer((socket) => socket.end())
    expect(await ask(server.port, [])).toEqual({ state: 'unknown', presented: new Map() })
    expect(server.connections).toBe(0)
  })
})

describe('the program', () => {
  let key: PublicKey
  beforeEach(async () => {
    key = await strangeKey()
  })

  /** Stands in for ssh: `query` answers `-Q`, `handshake` all else. */
  async function standIn(query: string, handshake: string): Promise<string> {
    const program = join(folder.path, 'stand-in')
    await writeFile(program, `#!/bin/sh\nif [ "$1" = -Q ]; then ${query}\nelse ${handshake}\nfi\n`)
    await chmod(program, 0o755)
    return program
  }
  const KNOWN = 'printf "%s\\n" ssh-ed25519 ssh-ed25519-cert-v01@openssh.com'

  test('is not there', async () => {
    const answer = await ask(1, [key], { program: 'no-such-ssh' })
    expect(answer.state).toBe('unknown')
    expect(reasonFor(key, answer)).toMatch(/^cannot run no-such-ssh: no such file or directory/)
  })

  test('does not know the type of a key, and is still asked about the others', async () => {
    const rsaOnly = 'printf "%s\\n" rsa-sha2-512 rsa-sha2-512-cert-v01@openssh.com'
    const program = await standIn(rsaOnly, 'exit 255')
    const rsa = keyIn(await generateKey(join(folder.path, 'rsa'), 'rsa'))
    const answer = await ask(1, [key, rsa], { program })
    expect(reasonFor(key, answer)).toBe('ssh on this host does not know ssh-ed25519 with its certificates')
    expect(reasonFor(rsa, answer)).toBe('127.0.0.1:1: ssh ended with status 255 and no message')
    const noCertificates = await standIn('echo ssh-ed25519', 'exit 255')
    expect(reasonFor(key, await ask(1, [key], { program: noCertificates }))).toMatch(/does not know/)
  })

  test('fails to list what it knows, and the next question finds it repaired', async () => {
    const broken = join(folder.path, 'broken')
    await writeFile(broken, '')
    const refused = "printf 'ssh: connect to host ::1 port 1: Connection refused\\r\\n' >&2; exit 255"
    const query = `if [ -e ${broken} ]; then echo no >&2; exit 1; else ${KNOWN}; fi`
    const program = await standIn(query, refused)
    const served = createServedCertificates({ address: { host: '::1', port: 1 }, pace, program })
    const first = await served.ask({ keys: [key], listen: [] }, never)
    expect(reasonFor(key, first)).toBe('ssh -Q HostKeyAlgorithms ended with status 1: no')
    expect(first.state).toBe('unknown')
    await rm(broken)
    expect((await served.ask({ keys: [key], listen: [] }, never)).state).toBe('down')
  })

  test('knows a key exchange that it cannot list: the reason is the first', async () => {
    const line = 'Unable to negotiate with 127.0.0.1 port 1: no matching cipher found. Their offer: x'
    const query = `if [ "$2" = HostKeyAlgorithms ]; then ${KNOWN}; else exit 1; fi`
    const program = await standIn(query, `printf '%s\\r\\n' '${line}' >&2; exit 255`)
    expect(reasonFor(key, await ask(1, [key], { program }))).toBe(`127.0.0.1:1: ${line}`)
  })

  test('gets an environment of named variables only, and no terminal to ask at', async () => {
    const seen = join(folder.path, 'environment')
    const program = await standIn(
      KNOWN,
      `tr '\\0' '\\n' </proc/$$/environ >${seen}; readlink /proc/$$/fd/0 >>${seen}; exit 255`,
    )
    process.env['HOSTCERTD_TEST_SECRET'] = 'secret'
    try {
      await ask(1, [key], { program })
    } finally {
      delete process.env['HOSTCERTD_TEST_SECRET']
    }
    const lines = (await readFile(seen, 'utf8')).trim().split('\n')
    expect(lines.map((line) => line.replace(/=.*/, '')).sort()).toEqual([
      '/dev/null',
      'HOSTCERTD_NONCE',
      'LC_ALL',
      'PATH',
    ])
    expect(lines.find((line) => line.startsWith('HOSTCERTD_NONCE='))).toMatch(/=[0-9a-f]{32}$/)
  })

  test('an abort rejects with its reason and ends the program with what it started', async () => {
    const pids = join(folder.path, 'pids')
    const program = await standIn(KNOWN, `sleep 60 & echo $$ $! >${pids}; wait`)
    const controller = new AbortController()
    const served = createServedCertificates({ address: { host: '::1', port: 1 }, pace, program })
    const asked = served.ask({ keys: [key], listen: [] }, controller.signal).catch((error: unknown) => error)
    await expect.poll(() => existsSync(pids), { timeout: 10_000 }).toBe(true)
    const reason = new Error('shutting down')
    controller.abort(reason)
    expect(await asked).toBe(reason)
    const started = (await readFile(pids, 'utf8')).trim().split(' ')
    await expect
      .poll(() => started.filter((pid) => existsSync(`/proc/${pid}`)), { timeout: 10_000 })
      .toEqual([])
  })
})

describe('the pace', () => {
  test('so many at once, and the next when the first is long enough ago', async () => {
    const twice = createPace(2, 400)
    const startedAt = performance.now()
    await twice(never)
    await sleep(100)
    await twice(never)
    const before = performance.now() - startedAt
    await twice(never)
    await twice(never)
    const after = performance.now() - startedAt
    expect(before).toBeLessThan(400)
    expect(after).toBeGreaterThanOrEqual(500 - 2)
  })

  test('an abort ends the wait with its reason', async () => {
    const onceAMinute = createPace(1, 60_000)
    await onceAMinute(never)
    const controller = new AbortController()
    const waiting = onceAMinute(controller.signal).catch((error: unknown) => error)
    const reason = new Error('enough')
    controller.abort(reason)
    expect(await waiting).toBe(reason)
  })

  test('the whole process has one by default: the thirteenth connection waits', async () => {
    await using server = await startHostileServer((socket) =>
      socket.write(Buffer.concat([Buffer.from(BANNER), keyExchangeInit({ hostKeys: 'ssh-rsa' })])),
    )
    const address = { host: '127.0.0.1', port: server.port }
    const key = await strangeKey()
    const controller = new AbortController()
    const question = { keys: [key], listen: [] }
    for (let asked = 0; asked < 12; asked++) {
      expect((await createServedCertificates({ address }).ask(question, controller.signal)).state).toBe('up')
    }
    const thirteenth = createServedCertificates({ address })
      .ask(question, controller.signal)
      .catch((error: unknown) => error)
    await sleep(500)
    expect(server.connections).toBe(12)
    const reason = new Error('enough')
    controller.abort(reason)
    expect(await thirteenth).toBe(reason)
  })
})
