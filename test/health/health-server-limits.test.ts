import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import { HEALTH_LIMITS } from '../../agent/health/server.ts'
import { ask, open, started } from '../support/health-server.ts'

test('a request with a body is refused, the body not read', async () => {
  const { port } = await started()
  const socket = await open(port)
  socket.write('GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome')
  const answer = await text(socket)
  expect(answer).toMatch(/^HTTP\/1\.1 413 [^]*\r\nconnection: close\r\n/i)
})

test.each([
  { name: 'garbage', bytes: '\u0000\u0001garbage\r\n\r\n', want: /^HTTP\/1\.1 400 / },
  { name: 'a TLS hello', bytes: Buffer.from('16030100a5010000a1', 'hex'), want: /^HTTP\/1\.1 400 / },
  { name: 'no Host', bytes: 'GET /livez HTTP/1.1\r\n\r\n', want: /^HTTP\/1\.1 400 / },
  {
    name: 'two lengths',
    bytes: 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    want: /^HTTP\/1\.1 400 /,
  },
  {
    name: 'headers over 8 KiB',
    bytes: `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(8200)}\r\n\r\n`,
    want: /^HTTP\/1\.1 431 /,
  },
])('$name is answered and harms nobody', async ({ bytes, want }) => {
  const { port } = await started()
  const socket = await open(port)
  socket.write(bytes)
  expect(await text(socket)).toMatch(want)
  expect((await ask({ port }, '/livez')).status).toBe(200)
})

test('200 idle connections do not keep a monitor out', async () => {
  const { port } = await started()
  const ended: Promise<unknown>[] = []
  for (let i = 0; i < 200; i++) {
    const socket = await open(port)
    socket.resume()
    ended.push(once(socket, 'close'))
  }
  expect((await ask({ port }, '/readyz')).status).toBe(200)
  // 64 may stay, the oldest were ended for the others.
  await Promise.all(ended.slice(0, 200 - HEALTH_LIMITS.connections))
})

test('the connection that asks is not the one that is ended', async () => {
  const { port } = await started({ limits: { connections: 3 } })
  const monitor = await open(port)
  const answers: string[] = []
  monitor.setEncoding('utf8').on('data', (chunk: string) => answers.push(chunk))
  for (let i = 0; i < 10; i++) {
    monitor.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(monitor, 'data')
    const idle = await open(port)
    idle.resume()
    await ask({ port }, '/readyz')
  }
  expect(answers.join('').match(/HTTP\/1\.1 200/g)).toHaveLength(10)
})

test.each([
  { name: 'says nothing', bytes: '', want: /^(?:HTTP\/1\.1 408 |$)/ },
  {
    name: 'does not finish its headers',
    bytes: 'GET /livez HTTP/1.1\r\nHost:',
    want: /^(?:HTTP\/1\.1 408 |$)/,
  },
  { name: 'keeps its connection', bytes: 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n', want: /^HTTP\/1\.1 200 / },
])('a client that $name is cut off', async ({ bytes, want }) => {
  const { port } = await started({ limits: { headers: 100, request: 200, keepAlive: 100, check: 50 } })
  const socket = await open(port)
  if (bytes !== '') socket.write(bytes)
  expect(await text(socket)).toMatch(want)
})

test('a client that does not read its answers is cut off', async () => {
  const { port } = await started({
    sources: { metricsText: () => Promise.resolve('x'.repeat(1 << 24)) },
    limits: { silence: 200, request: 60_000 },
  })
  const accepted = nextAccepted()
  const socket = await open(port)
  socket.pause()
  const cut = once(await accepted, 'close')
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n')
  await cut
  socket.resume()
  await once(socket, 'close')
  expect(socket.bytesRead).toBeGreaterThan(0)
  expect(socket.bytesRead).toBeLessThan(1 << 24)
})

/** The server's end of the next connection. */
function nextAccepted(): Promise<Socket> {
  const { promise, resolve } = Promise.withResolvers<Socket>()
  const listener = (message: unknown): void => resolve((message as { socket: Socket }).socket)
  subscribe('net.server.socket', listener)
  onTestFinished(() => {
    unsubscribe('net.server.socket', listener)
  })
  return promise
}

test('a connection takes so many requests and no more', async () => {
  const { port } = await started({ limits: { requestsPerConnection: 3, keepAlive: 100 } })
  const socket = await open(port)
  socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(6))
  expect((await text(socket)).match(/HTTP\/1\.1 200/g)).toHaveLength(3)
})
