import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { listen, makeSubject, NEVER, requestFor, sendJson, startRawServer, type Wish } from './harness.ts'
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

describe('answers that are none', () => {
  test('a body without end is not read to the end', async () => {
    let written = 0
    await using server = await startRawServer((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const pump = (): void => {
        while (!response.destroyed && response.write(' '.repeat(16_384))) written += 16_384
        if (!response.destroyed) response.once('drain', pump)
      }
      pump()
    })
    const { issuer } = makeSubject({ url: server.url, auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER))).toMatchObject({
      code: 'ISSUER_INVALID_RESPONSE',
      next: 'key-backoff',
      message: `127.0.0.1:${server.port} answered 200 with more than an answer can be long`,
    })
    expect(written).toBeLessThan(64 * 1024 * 1024)
  })

  test('an endless page with status 503 is still a 503', async () => {
    await using server = await startRawServer((_, response) => {
      response.writeHead(503, { 'content-type': 'text/html', 'retry-after': '7' })
      response.write('<p>'.repeat(100_000))
    })
    const { issuer } = makeSubject({ url: server.url, auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER))).toMatchObject({
      code: 'ISSUER_BUSY',
      retryAfterSeconds: 7,
      message: `127.0.0.1:${server.port} has an internal error (503, with a web page)`,
    })
  })

  test.each([
    { name: 'a web page', type: 'text/html', body: '<html>sign in</html>' },
    { name: 'nothing', type: 'application/json', body: '' },
    { name: 'half of it', type: 'application/json', body: '{"serialNumber":"1","signed' },
    { name: 'a list', type: 'application/json', body: '[]' },
    { name: 'no signedKey', type: 'application/json', body: '{"serialNumber":"1"}' },
    { name: 'an empty signedKey', type: 'application/json', body: '{"serialNumber":"1","signedKey":""}' },
    {
      name: 'a signedKey of another type',
      type: 'application/json',
      body: '{"serialNumber":"1","signedKey":1}',
    },
    {
      name: 'a serial that is a number',
      type: 'application/json',
      body: '{"serialNumber":1,"signedKey":"k"}',
    },
    { name: 'a serial in hex', type: 'application/json', body: '{"serialNumber":"0x1","signedKey":"k"}' },
  ])('200 with $name', async ({ type, body }) => {
    await using server = await startRawServer((_, response) => {
      response.writeHead(200, { 'content-type': type })
      response.end(body)
    })
    const { issuer } = makeSubject({ url: server.url, auth })
    const failure = failureOf(await issuer.issue(requestFor('k'), NEVER))
    expect(failure).toMatchObject({ code: 'ISSUER_INVALID_RESPONSE', next: 'key-backoff' })
    expect(server.seen).toHaveLength(1)
  })

  test.each([
    { name: '204', status: 204 },
    { name: '201', status: 201 },
    { name: '304', status: 304 },
  ])('$name', async ({ status }) => {
    await using server = await startRawServer((_, response) => void response.writeHead(status).end())
    const { issuer } = makeSubject({ url: server.url, auth })
    expect(failureOf(await issuer.issue(requestFor('k'), NEVER))).toMatchObject({
      code: 'ISSUER_INVALID_RESPONSE',
    })
  })

  test('a redirect is not followed, and the other server never hears of it', async () => {
    await using other = await startRawServer((_, response) => sendJson(response, 200, GOOD))
    await using server = await startRawServer((_, response) => {
      response.writeHead(307, { location: `${other.url}/elsewhere` }).end()
    })
    const { issuer } = makeSubject({ url: server.url, auth })
    const failure = failureOf(await issuer.issue(requestFor('k'), NEVER))
    expect(failure.code).toBe('ISSUER_INVALID_RESPONSE')
    expect(failure.message).toContain(`"${other.url}/elsewhere"`)
    expect(other.seen).toEqual([])
  })

  test('something that is not HTTP', async () => {
    await using server = await listen(createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n')))
    const { issuer } = makeSubject({ url: `http://127.0.0.1:${server.port}`, auth })
    const failure = failureOf(await issuer.issue(requestFor('k'), NEVER))
    expect(failure).toMatchObject({ code: 'ISSUER_INVALID_RESPONSE', next: 'issuer-backoff' })
    expect(failure.message).toContain('not HTTP')
  })
})

describe('health', () => {
  test.each([
    { name: 'equal clocks', at: 1_785_585_600.4, skew: 0 },
    { name: 'theirs ahead', at: 1_785_585_600.9 - 90, skew: 90 },
    { name: 'theirs behind', at: 1_785_585_600.2 + 75, skew: -75 },
  ])('$name', async ({ at, skew }) => {
    const date = new Date(1_785_585_600_000 + (at % 1) * 1000).toUTCString()
    await using server = await startRawServer((_, response) => sendJson(response, 200, GOOD, { date }))
    const { issuer } = makeSubject({ url: server.url, auth, now: () => at })
    await issuer.issue(requestFor('k'), NEVER)
    expect(issuer.health()).toEqual({ reachable: true, lastSuccess: at, clockSkewSeconds: skew })
  })

  test.each([
    { name: 'at once', later: 0, skew: 90 },
    { name: 'after the longest wait', later: 3600, skew: 90 },
    { name: 'after six hours', later: 6 * 3600, skew: 90 },
    { name: 'after more than six hours, either clock may have been mended', later: 6 * 3600 + 1, skew: null },
    { name: 'our clock runs a little slow', later: 3600, set: -0.5, skew: 90 },
    { name: 'our clock was set back', later: 1, set: -60, skew: null },
    { name: 'our clock was set forward', later: 1, set: 60, skew: null },
  ])('clocks that were compared: $name', async ({ later, set = 0, skew }) => {
    let uptime = 0
    let now = 1_785_585_600.9 - 90
    const date = new Date(1_785_585_600_000).toUTCString()
    await using server = await startRawServer((_, response) => sendJson(response, 200, GOOD, { date }))
    const { issuer } = makeSubject({ url: server.url, auth, now: () => now, uptime: () => uptime })
    await issuer.issue(requestFor('k'), NEVER)
    const lastSuccess = now
    uptime += later
    now += later + set
    expect(issuer.health()).toEqual({ reachable: true, lastSuccess, clockSkewSeconds: skew })
    expect(server.seen.length).toBe(1)
  })

  test('an error answer is an answer, but no success; a Date that a cache kept tells nothing', async () => {
    await using server = await startRawServer((_, response) =>
      sendJson(response, 500, {}, { date: 'Sat, 01 Aug 2026 12:00:00 GMT', age: '4000' }),
    )
    const { issuer } = makeSubject({ url: server.url, auth })
    await issuer.issue(requestFor('k'), NEVER)
    expect(issuer.health()).toEqual({ reachable: true, lastSuccess: null, clockSkewSeconds: null })
  })
})
