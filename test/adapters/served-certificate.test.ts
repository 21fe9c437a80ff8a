import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createServedCertificates } from '../../agent/adapters/served-certificate.ts'
import { parsePublicKeyLine } from '../../agent/core/public-key.ts'
import { startPrivateSshd, type PrivateSshd } from '../support/private-sshd.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const never = new AbortController().signal
const ED25519 = 'ssh-ed25519'
const P256 = 'ecdsa-sha2-nistp256'
const P384 = 'ecdsa-sha2-nistp384'
const RSA = 'ssh-rsa'

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

describe.skipIf(!existsSync('/usr/sbin/sshd'))('of a real sshd (needs /usr/sbin/sshd)', () => {
  async function certify(publicKeyFile: string, certificate: string, serial: bigint): Promise<void> {
    const ca = join(folder.path, 'ca')
    if (!existsSync(ca)) await generateKey(ca, 'ed25519')
    const line = await signCertificate({ ca, publicKey: publicKeyFile, principals: ['host1'], serial })
    await writeFile(certificate, `${line}\n`)
  }

  function offersOf(sshd: PrivateSshd) {
    return createServedCertificates({ address: { host: '127.0.0.1', port: sshd.port } })
  }

  test('a certificate, a bare key, and nothing', async () => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519', 'ecdsa'] })
    await certify(`${sshd.hostKeyPath('ed25519')}.pub`, sshd.certificatePath('ed25519'), 2n ** 63n)
    await sshd.stop()
    await sshd.start()
    const seen = await offersOf(sshd).observe(
      { keyTypes: [ED25519, P256, RSA], listen: [], bareKeys: true },
      never,
    )
    if (seen.kind !== 'answered') throw new Error(seen.detail)
    const offer = seen.offers.get(ED25519)
    if (offer?.kind !== 'certificate') throw new Error('no certificate')
    expect(offer.certificate).toMatchObject({ kind: 'host', serial: 2n ** 63n, principals: ['host1'] })
    const key = parsePublicKeyLine(await readFile(`${sshd.hostKeyPath('ecdsa')}.pub`, 'utf8'))
    expect(seen.offers.get(P256)).toEqual({ kind: 'key', blob: key.blob })
    expect(seen.offers.get(RSA)).toBeNull()
  })

  test('another curve hides the one asked for, as key and as certificate', async () => {
    const extraKey = join(folder.path, 'p384')
    await generateKey(extraKey, 'ecdsa-384')
    await certify(`${extraKey}.pub`, `${extraKey}-cert.pub`, 1n)
    const extraConfig = `HostKey ${extraKey}`
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ecdsa'], extraConfig })
    const bare = await offersOf(sshd).observe({ keyTypes: [P256, P384], listen: [], bareKeys: true }, never)
    if (bare.kind !== 'answered') throw new Error(bare.detail)
    expect(bare.offers.get(P256)?.kind).toBe('key')
    expect(bare.offers.get(P384)).toEqual({ kind: 'hidden' })

    await certify(`${sshd.hostKeyPath('ecdsa')}.pub`, sshd.certificatePath('ecdsa'), 2n)
    await sshd.stop()
    await sshd.start()
    const certified = await offersOf(sshd).observe(
      { keyTypes: [P384, P256], listen: [], bareKeys: true },
      never,
    )
    if (certified.kind !== 'answered') throw new Error(certified.detail)
    expect(certified.offers.get(P256)?.kind).toBe('certificate')
    expect(certified.offers.get(P384)).toEqual({ kind: 'hidden' })

    const brief = await offersOf(sshd).observe({ keyTypes: [P384, RSA], listen: [], bareKeys: false }, never)
    if (brief.kind !== 'answered') throw new Error(brief.detail)
    expect(brief.offers).toEqual(
      new Map([
        [P384, { kind: 'hidden' }],
        [RSA, { kind: 'no-certificate' }],
      ]),
    )
  })

  test('with auto the addresses of the helper are tried in turn, any-address as loopback', async () => {
    await using sshd = await startPrivateSshd({ folder: folder.path, hostKeyTypes: ['ed25519'] })
    const served = createServedCertificates({ address: 'auto' })
    expect(served.enabled).toBe(true)
    const listen = ['$(reboot):22', '127.0.0.1:1', `0.0.0.0:${sshd.port}`]
    const seen = await served.observe({ keyTypes: [ED25519], listen, bareKeys: true }, never)
    if (seen.kind !== 'answered') throw new Error(seen.detail)
    expect(seen.offers.get(ED25519)?.kind).toBe('key')
  })
})

describe('no answer', () => {
  const sockets = new Set<Socket>()
  let server: Server
  let address: { host: string; port: number }
  let onConnection: (socket: Socket) => void

  beforeEach(async () => {
    server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => undefined)
      onConnection(socket)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  })
  afterEach(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  test('nobody listens', async () => {
    server.close()
    const seen = await createServedCertificates({ address }).observe(
      { keyTypes: [ED25519], listen: [], bareKeys: true },
      never,
    )
    const detail = expect.stringContaining(`127.0.0.1:${address.port}`)
    expect(seen).toEqual({ kind: 'no-banner', detail })
  })

  test('sshd drops us before its banner', async () => {
    onConnection = (socket) => socket.end('Exceeded MaxStartups\r\n')
    const seen = await createServedCertificates({ address }).observe(
      { keyTypes: [ED25519], listen: [], bareKeys: true },
      never,
    )
    expect(seen).toMatchObject({ kind: 'no-banner' })
  })

  test('one of two connections is dropped: nothing is concluded', async () => {
    let count = 0
    onConnection = (socket) => (count++ % 2 === 0 ? socket.end('SSH-2.0-test\r\n') : socket.end())
    const seen = await createServedCertificates({ address }).observe(
      { keyTypes: [ED25519, RSA], listen: [], bareKeys: true },
      never,
    )
    expect(seen).toMatchObject({ kind: 'no-banner' })
  })

  test('a banner and then silence: nothing is concluded, and it ends', async () => {
    onConnection = (socket) => socket.write('SSH-2.0-test\r\n')
    const served = createServedCertificates({ address, timeoutSeconds: 1 })
    expect(await served.observe({ keyTypes: [ED25519], listen: [], bareKeys: true }, never)).toMatchObject({
      kind: 'no-banner',
    })
  })

  test('silence from the start ends too, and an abort ends it with its reason', async () => {
    onConnection = () => undefined
    const short = createServedCertificates({ address, timeoutSeconds: 1 })
    expect(await short.observe({ keyTypes: [ED25519], listen: [], bareKeys: true }, never)).toMatchObject({
      kind: 'no-banner',
    })
    const controller = new AbortController()
    const reason = new Error('shutting down')
    const long = createServedCertificates({ address }).observe(
      { keyTypes: [ED25519], listen: [], bareKeys: true },
      controller.signal,
    )
    setTimeout(() => controller.abort(reason), 50)
    await expect(long).rejects.toBe(reason)
  })

  test('no ssh-keyscan', async () => {
    const seen = await createServedCertificates({ address, program: 'no-such-keyscan' }).observe(
      { keyTypes: [ED25519], listen: [], bareKeys: true },
      never,
    )
    if (seen.kind !== 'no-banner') throw new Error('answered')
    expect(seen.detail).toContain('cannot run no-such-keyscan')
  })

  test('asking is switched off', async () => {
    const served = createServedCertificates({ address: 'none' })
    expect(served.enabled).toBe(false)
    expect(await served.observe({ keyTypes: [ED25519], listen: [], bareKeys: true }, never)).toMatchObject({
      kind: 'no-banner',
    })
  })
})

describe('the words of ssh-keyscan', () => {
  /** Stands in for a version that is not on this machine. */
  async function keyscan(certificates: string, keys: string): Promise<string> {
    const program = join(folder.path, 'keyscan')
    await writeFile(
      program,
      `#!/bin/sh\ncase "$*" in -c*) cat <<'E'\n${certificates}\nE\n;; *) cat <<'E'\n${keys}\nE\n;; esac\n`,
    )
    await chmod(program, 0o755)
    return program
  }

  test('OpenSSH 10 prints its banner to stdout', async () => {
    const banner = '# 127.0.0.1:22 SSH-2.0-OpenSSH_10.0p2 Debian-7'
    const program = await keyscan(banner, `${banner}\n127.0.0.1 ssh-ed25519 AAAA`)
    const seen = await createServedCertificates({ address: 'auto', program }).observe(
      { keyTypes: [ED25519], listen: [], bareKeys: true },
      never,
    )
    expect(seen).toEqual({
      kind: 'answered',
      offers: new Map([[ED25519, { kind: 'key', blob: Buffer.from('AAAA', 'base64') }]]),
    })
  })

  test('a certificate that cannot be read is hidden', async () => {
    const banner = '# 127.0.0.1:22 SSH-2.0-OpenSSH_10.0p2'
    const program = await keyscan(`${banner}\nssh-ed25519-cert-v01@openssh.com AAAA`, banner)
    const seen = await createServedCertificates({ address: 'auto', program }).observe(
      { keyTypes: [ED25519], listen: [], bareKeys: true },
      never,
    )
    expect(seen).toEqual({ kind: 'answered', offers: new Map([[ED25519, { kind: 'hidden' }]]) })
  })
})
