import { readFile } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import * as client from './issuer-client.ts'
import { issuerPaths } from './issuer-client.ts'
import { ERROR_ROW_NAMES, errorRow, startLocalIssuer, type LocalIssuer } from './local-issuer.ts'
import { generateKey } from './ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'

/** 2026-03-01T12:34:56Z */
const NOW = Date.UTC(2026, 2, 1, 12, 34, 56)
const REQUEST_ID = /^req-[0-9A-Za-z]{14}$/

let folder: TemporaryFolder
let issuer: LocalIssuer
let hostId: string
let key: string
let now: number

beforeEach(async () => {
  now = NOW
  folder = await makeTemporaryFolder()
  issuer = await startLocalIssuer({ folder: folder.path, now: () => now, lockAfterFailures: 3 })
  hostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
  key = await generateKey(join(folder.path, 'host_key'), 'ed25519', 'root@host1')
})

afterEach(async () => {
  await issuer.stop()
  await folder.remove()
})

const get = (path: string, authorization?: string) => client.get(issuer, path, authorization)
const post = (path: string, body: unknown, authorization?: string) =>
  client.post(issuer, path, body, authorization)
const issue = (publicKey = key, token = issuer.addToken()) => client.issue(issuer, hostId, publicKey, token)

describe('an error', () => {
  test('of permission has details', async () => {
    const another = issuer.addHost({ hostname: 'web2.example.com', ttlSeconds: 3600 })
    const token = issuer.addToken({ mayIssueFor: [another] })
    expect((await issue(key, token)).body).toEqual({
      reqId: expect.stringMatching(REQUEST_ID),
      statusCode: 403,
      error: 'PermissionDenied',
      message: 'You are not allowed to issue-host-cert on ssh-hosts',
      details: [
        {
          action: 'issue-host-cert',
          subject: 'ssh-hosts',
          inverted: false,
          conditions: { hostname: { $eq: 'web2.example.com' } },
        },
      ],
    })
    expect((await issue(key, issuer.addToken({ mayIssueFor: [] }))).body).toMatchObject({ details: [] })
    expect((await get(`/api/v1/ssh/hosts/${hostId}`, `Bearer ${token}`)).status).toBe(403)
  })

  test('of an unknown host is a 404, of an id that is no UUID a 500, of an unknown route a 404 without reqId', async () => {
    const unknown = '5f0c7f64-2f55-4c8e-b8a1-3a1f9f2f7d11'
    const bearer = `Bearer ${issuer.addToken()}`
    expect((await post(issuerPaths.issue(unknown), { publicKey: key }, bearer)).body).toMatchObject({
      statusCode: 404,
      error: 'NotFound',
      message: `SSH host with ID ${unknown} not found`,
    })
    expect((await post(issuerPaths.issue('web1'), { publicKey: key }, bearer)).body).toMatchObject({
      statusCode: 500,
      message: 'Something went wrong',
    })
    expect((await post('/api/v9/nothing', {})).body).toEqual({
      message: 'Route POST:/api/v9/nothing not found',
      error: 'Not Found',
      statusCode: 404,
    })
  })

  test('of the body is a 422 with a list, or a 500 above 1 MiB', async () => {
    const bearer = `Bearer ${issuer.addToken()}`
    const surplus = await post(issuerPaths.issue(hostId), { publicKey: key, ttl: '1y' }, bearer)
    expect(surplus.status).toBe(422)
    expect(surplus.body).toMatchObject({
      error: 'ValidationFailure',
      message: [{ code: 'unrecognized_keys', keys: ['ttl'] }],
    })
    expect((await post(issuerPaths.issue(hostId), {}, bearer)).body).toMatchObject({
      message: [{ code: 'invalid_type', path: ['body', 'publicKey'] }],
    })
    expect((await issue(`${key}${'x'.repeat(2 ** 20)}`)).status).toBe(500)
  })

  test('of the rate has headers that say when to come back', async () => {
    issuer.limitRate({ publicReads: 1 })
    const first = await get(issuerPaths.hostCa(hostId))
    expect(first.headers.get('x-ratelimit-remaining')).toBe('0')
    now += 6_000
    const second = await get(issuerPaths.hostCa(hostId))
    expect(second.status).toBe(429)
    expect(second.headers.get('retry-after')).toBe('54')
    expect(second.body['message']).toBe('Rate limit exceeded. Please try again in 54 seconds')
    now += 54_000
    expect((await get(issuerPaths.hostCa(hostId))).status).toBe(200)
  })

  test.each(ERROR_ROW_NAMES)('%s can be had on demand, once', async (name) => {
    const row = errorRow(name)
    issuer.failNext(row, 1, 'issue')
    const { status, body, headers } = await issue()
    expect(status).toBe(row.status)
    expect(body).toEqual(row.body)
    expect(headers.get('retry-after')).toBe(name === 'rate-limited' ? '54' : null)
    expect(REQUEST_ID.test(String(body['reqId']))).toBe(name !== 'route-not-found')
    expect((await issue()).status).toBe(200)
  })
})

describe('another route', () => {
  test('gives CA keys as plain text without a newline', async () => {
    const { text, headers } = await get(issuerPaths.hostCa(hostId))
    expect(text).toBe(issuer.caPublicKey)
    expect(headers.get('content-type')).toContain('text/plain')
    const user = await get(issuerPaths.hostCa(hostId).replace('host-ca', 'user-ca'))
    expect(user.text).toMatch(/^ssh-ed25519 \S+ \S+$/)
    expect(user.text).not.toBe(text)
  })

  test('shows, makes and lists hosts to who may', async () => {
    const bearer = `Bearer ${issuer.addToken({ mayRead: 'all', mayCreate: true })}`
    expect((await get(`/api/v1/ssh/hosts/${hostId}`, bearer)).body).toMatchObject({
      id: hostId,
      hostname: 'web1.example.com',
      hostCertTtl: '3600s',
    })
    const create = async (hostname: string) =>
      await post('/api/v1/ssh/hosts', { projectId: issuer.projectId, hostname, hostCertTtl: '2h' }, bearer)
    expect((await create('web2.example.com')).body).toMatchObject({ hostCertTtl: '7200s' })
    expect((await create('192.0.2.1')).status).toBe(422)
    const list = await get(`/api/v2/workspace/${issuer.projectId}/ssh-hosts`, bearer)
    expect(list.body['hosts']).toHaveLength(2)
  })
})

describe('hosts of a project', () => {
  const create = async (hostname: string, token: string) =>
    post('/api/v1/ssh/hosts', { projectId: issuer.projectId, hostname }, `Bearer ${token}`)

  test('are listed in one piece, whatever the query asks for', async () => {
    for (let number = 2; number <= 300; number++)
      issuer.addHost({ hostname: `web${number}.example.com`, ttlSeconds: 3600 })
    const bearer = `Bearer ${issuer.addToken({ mayRead: 'all' })}`
    const path = `/api/v1/projects/${issuer.projectId}/ssh-hosts?hostname=web1.example.com&limit=1`
    expect((await get(path, bearer)).body['hosts']).toHaveLength(300)
    const blind = await get(path, `Bearer ${issuer.addToken()}`)
    expect(blind).toMatchObject({ status: 200, body: { hosts: [] } })
    expect((await get(path, `Bearer ${issuer.addToken({ isMember: false })}`)).status).toBe(403)
  })

  test('can have names that differ in case only; one that is taken is a 500', async () => {
    const token = issuer.addToken({ mayCreate: true })
    expect((await create('WEB1.example.com', token)).status).toBe(200)
    const taken = await create('web1.example.com', token)
    expect(taken).toMatchObject({ status: 500, body: { error: 'Create', message: 'Something went wrong' } })
  })

  test('can be registered 200 times a minute', async () => {
    issuer.limitRate({})
    const token = issuer.addToken({ mayCreate: true })
    const statuses = []
    for (let number = 0; number < 201; number++)
      statuses.push((await create(`db${number}.example.com`, token)).status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(200)
    expect(statuses.at(-1)).toBe(429)
  })
})

test('over TLS it is trusted by its CA file, and by nothing else', async () => {
  await issuer.stop()
  issuer = await startLocalIssuer({ folder: folder.path, https: true })
  const status = async (ca: string | undefined) =>
    await new Promise((resolve) => {
      const options = ca === undefined ? {} : { ca }
      httpsRequest(`${issuer.url}/api/status`, options, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
        .on('error', (error: NodeJS.ErrnoException) => resolve(error.code))
        .end()
    })
  expect(await status(await readFile(issuer.tlsCaFile, 'utf8'))).toBe(200)
  expect(await status(undefined)).toBe('DEPTH_ZERO_SELF_SIGNED_CERT')
})
