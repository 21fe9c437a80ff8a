import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import {
  closedPort,
  listen,
  makeSubject,
  NEVER,
  requestFor,
  sendJson,
  startRawServer,
  type Wish,
} from './harness.ts'
import { failureOf } from './local-setup.ts'

const TOKEN = 'st.very-secret-token'
const GOOD = { serialNumber: '5699169736243703393', signedKey: 'ssh-ed25519-cert-v01@openssh.com AAAA c\n' }

let folder: TemporaryFolder
let auth: Wish['auth']

beforeEach(async () => {
  folder = await makeTemporaryFolder()
  const tokenFile = join(folder.path, 'token')
  await writeFile(tokenFile, `${TOKEN}\n`)
  auth = { method: 'token', tokenFile }
})
afterEach(() => folder.remove())

test('what goes over the wire is what the endpoint takes, and nothing more', async () => {
  await using server = await startRawServer((_, response) => sendJson(response, 200, GOOD))
  const { issuer } = makeSubject({ url: `${server.url}/base`, auth })
  expect(await issuer.issue(requestFor('ssh-ed25519 AAAA c'), NEVER)).toEqual({
    ok: true,
    ...GOOD,
    requestId: null,
  })
  const [request] = server.seen
  expect(request).toMatchObject({
    method: 'POST',
    path: '/base/api/v1/ssh/hosts/8c1efcfc-434c-4c43-80e3-53c9eae6672a/issue-host-cert',
    headers: { authorization: `Bearer ${TOKEN}`, 'user-agent': 'hostcertd/1.2.3' },
  })
})

describe('time', () => {
  test('a server that says nothing', async () => {
    await using server = await startRawServer(() => {})
    const { issuer, metrics } = makeSubject({ url: server.url, auth, timeoutMilliseconds: 200 })
    const failure = failureOf(await issuer.issue(requestFor('k'), NEVER))
    expect(failure).toMatchObject({ code: 'ISSUER_TIMEOUT', next: 'issuer-backoff', retryAfterSeconds: null })
    expect(failure.message).toBe(`127.0.0.1:${server.port} did not answer in full within 0.2 s`)
    expect(metrics).toMatchObject([{ route: 'issue', code: 'ISSUER_TIMEOUT' }])
    expect(issuer.health().reachable).toBe(false)
  })

  test('a body that drips', async () => {
    const timers: NodeJS.Timeout[] = []
    await using server = await startRawServer((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      timers.push(setInterval(() => response.write(' '), 20))
    })
    try {
      const { issuer } = makeSubject({ url: server.url, auth, timeoutMilliseconds: 300 })
      expect(failureOf(await issuer.issue(requestFor('k'), NEVER)).code).toBe('ISSUER_TIMEOUT')
    } finally {
      for (const timer of timers) clearInterval(timer)
    }
  })

  test('a TLS handshake that never ends', async () => {
    await using server = await listen(createServer(() => {}))
    const { issuer } = makeSubject({
      url: `https://127.0.0.1:${server.port}`,
      auth,
      timeoutMilliseconds: 200,
    })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER)).code).toBe('ISSUER_TIMEOUT')
  })

  test("the caller's abort rejects with its reason, and nothing is counted", async () => {
    const controller = new AbortController()
    const reason = new Error('stopping')
    await using server = await startRawServer(() => controller.abort(reason))
    const { issuer, metrics } = makeSubject({ url: server.url, auth })
    await expect(issuer.issue(requestFor('k'), controller.signal)).rejects.toBe(reason)
    expect(metrics).toEqual([])
  })

  test("the caller's abort ends a connection that is being made", async () => {
    const controller = new AbortController()
    const reason = new Error('stopping')
    let closed: Promise<unknown> = Promise.resolve()
    await using server = await listen(
      createServer((socket) => {
        closed = new Promise((resolve) => void socket.resume().on('close', resolve))
        controller.abort(reason)
      }),
    )
    const { issuer } = makeSubject({ url: `https://127.0.0.1:${server.port}`, auth })
    await expect(issuer.issue(requestFor('k'), controller.signal)).rejects.toBe(reason)
    await closed
  })

  test('an abort that came before', async () => {
    const reason = new Error('stopped')
    const { issuer } = makeSubject({ url: 'http://127.0.0.1:9', auth })
    await expect(issuer.issue(requestFor('k'), AbortSignal.abort(reason))).rejects.toBe(reason)
    await expect(issuer.hostCa(AbortSignal.abort(reason))).rejects.toBe(reason)
  })
})

describe('unreachable', () => {
  test('refused', async () => {
    const port = await closedPort()
    const { issuer, metrics, logged } = makeSubject({ url: `http://127.0.0.1:${port}`, auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER))).toEqual({
      code: 'ISSUER_UNREACHABLE',
      next: 'issuer-backoff',
      message: `cannot reach 127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`,
      retryAfterSeconds: null,
      requestId: null,
    })
    expect(metrics).toMatchObject([{ route: 'issue', code: 'ISSUER_UNREACHABLE' }])
    expect(logged).toMatchObject([{ fields: { route: 'issue', status: 'ISSUER_UNREACHABLE' } }])
    expect(issuer.health()).toEqual({ reachable: false, lastSuccess: null, clockSkewSeconds: null })
  })

  test('a name that does not exist', async () => {
    const { issuer } = makeSubject({ url: 'https://issuer.invalid', auth })
    const failure = failureOf(await issuer.issue(requestFor('k'), NEVER))
    expect(failure.code).toBe('ISSUER_UNREACHABLE')
    expect(failure.message).toMatch(/^cannot reach issuer\.invalid:443: getaddrinfo \w+ issuer\.invalid$/)
  })

  test.each([
    { name: 'before the answer', head: '' },
    { name: 'in the headers', head: 'HTTP/1.1 200 OK\r\ncontent-' },
    { name: 'in the body', head: 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"serial' },
  ])('closed $name', async ({ head }) => {
    await using server = await listen(createServer((socket) => socket.once('data', () => socket.end(head))))
    const { issuer } = makeSubject({ url: `http://127.0.0.1:${server.port}`, auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER))).toMatchObject({
      code: 'ISSUER_UNREACHABLE',
      next: 'issuer-backoff',
    })
  })

  test('reset', async () => {
    await using server = await listen(
      createServer((socket) => socket.once('data', () => socket.resetAndDestroy())),
    )
    const { issuer } = makeSubject({ url: `http://127.0.0.1:${server.port}`, auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER)).code).toBe('ISSUER_UNREACHABLE')
  })

  test('http beyond loopback is refused before anything is sent', async () => {
    const { issuer } = makeSubject({ url: 'http://issuer.invalid', auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER))).toMatchObject({
      code: 'CONFIG_INVALID',
      next: 'local',
      message: 'issuer.url http://issuer.invalid is http: to a host that is not loopback',
    })
  })
})
