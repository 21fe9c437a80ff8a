import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, onTestFinished, test } from 'vitest'
import { HEALTH_LIMITS } from '../../agent/health/server.ts'
import { ask, GOOD, open, started } from '../support/health-server.ts'

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

test('requests that come together are answered one after the other, and only so many may wait', async () => {
  const gates: (() => void)[] = []
  let asked = 0
  const metricsText = async (): Promise<string> => {
    asked += 1
    await new Promise<void>((resolve) => gates.push(resolve))
    return `${asked}\n`
  }
  const { port } = await started({ sources: { metricsText }, limits: { outstanding: 4 } })
  const patient = await open(port)
  patient.setEncoding('utf8')
  patient.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(4))
  for (let turn = 1; turn <= 4; turn += 1) {
    await expect.poll(() => asked).toBe(turn)
    gates[turn - 1]?.()
    await once(patient, 'data')
  }
  const greedy = await open(port)
  const closed = new Promise((resolve) => greedy.once('close', resolve))
  greedy.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(5))
  await closed
  gates[4]?.()
  expect(greedy.bytesRead).toBe(0)
  expect(asked).toBeLessThanOrEqual(5)
})

test('a connection that was ended for another gets no answer any more', async () => {
  const gate = Promise.withResolvers<void>()
  let asked = 0
  const metricsText = async (): Promise<string> => {
    asked += 1
    await gate.promise
    return 'late\n'
  }
  const { port } = await started({ sources: { metricsText }, limits: { connections: 1 } })
  const first = await open(port)
  first.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3))
  await expect.poll(() => asked).toBe(1)
  const closed = new Promise((resolve) => first.once('close', resolve))
  first.resume()
  expect((await ask({ port }, '/livez')).status).toBe(200)
  await closed
  gate.resolve()
  expect((await ask({ port }, '/metrics')).body).toBe('late\n')
  expect(first.bytesRead).toBe(0)
  expect(asked).toBe(2)
})

test('a connection is closed after so many bytes, with its answer complete', async () => {
  const { port } = await started({
    sources: { metricsText: async () => 'x'.repeat(1000) },
    limits: { bytesPerConnection: 1500 },
  })
  const socket = await open(port)
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3))
  const answer = await text(socket)
  expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(2)
  expect(answer.match(/x{1000}/g)).toHaveLength(2)
})

test('the page and /status are rendered once for all who ask, until something has changed', async () => {
  let renderings = 0
  let status = GOOD
  let now = 1_795_438_800
  const counted = (): typeof GOOD => ({
    ...GOOD,
    // Reached by what renders the whole document, and by nothing else.
    get notes() {
      renderings += 1
      return []
    },
  })
  status = counted()
  const { port } = await started({ sources: { status: () => status, now: () => now } })
  const askAll = async (path: string): Promise<string[]> =>
    Promise.all([1, 2, 3].map(async () => (await ask({ port }, path)).body))
  for (const path of ['/', '/status']) {
    await askAll(path)
    renderings = 0
    expect(new Set(await askAll(path)).size).toBe(1)
    expect(renderings).toBe(0)
    status = counted()
    await askAll(path)
    expect(renderings).toBe(1)
  }
  const before = await askAll('/')
  now += 1
  expect(await askAll('/')).not.toEqual(before)
})
