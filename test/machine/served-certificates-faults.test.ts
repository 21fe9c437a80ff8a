import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PublicKey } from '../../agent/cert/public-key.ts'
import { createServedCertificates } from '../../agent/host/served-certificates.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { ask, askAny, never, presentedTo, reasonFor, strangeKey } from './asking-sshd.ts'
import { BANNER, disconnect, keyExchangeInit, startHostileServer } from './hostile-server.ts'

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

describe('no answer, or a hostile one', () => {
  let key: PublicKey
  let second: PublicKey
  beforeEach(async () => {
    key = await strangeKey(folder.path)
    second = await strangeKey(folder.path, 'ecdsa-521')
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
    { name: 'silent behind its banner', banner: BANNER, reason: /did not finish within 2 s/ },
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
    await using server = await startHostileServer((socket) => socket.end())
    const down = await askAny(['127.0.0.1:1', '127.0.0.2:1'], [key])
    expect(down.state).toBe('down')
    expect(reasonFor(key, down)).toBe('127.0.0.1:1: Connection refused; 127.0.0.2:1: Connection refused')
    const mixed = await askAny(['127.0.0.1:1', `127.0.0.1:${server.port}`], [key])
    expect(mixed.state).toBe('unknown')
    expect(reasonFor(key, mixed)).toContain(`127.0.0.1:1: Connection refused; 127.0.0.1:${server.port}: `)
  })

  test('refused where sshd might listen, but is not known to: that proves nothing', async () => {
    const answer = await askAny([], [key])
    expect(answer.state).toBe('unknown')
    expect(reasonFor(key, answer)).toMatch(/^where sshd listens is not known; 127\.0\.0\.1:22: /)
  })

  test('four addresses at most', async () => {
    const servers = await Promise.all(
      Array.from({ length: 5 }, () => startHostileServer((socket) => socket.end(BANNER))),
    )
    const listen = servers.map(({ port }) => `127.0.0.1:${port}`)
    await askAny(listen, [key])
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
