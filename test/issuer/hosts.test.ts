import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Login } from '../../agent/config/config.ts'
import { createExchangeClient, type ExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { errorRow, startLocalIssuer, type Fault, type LocalIssuer } from '../support/local-issuer.ts'
import type { FaultRoute } from '../support/local-issuer/faults.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { NEVER, requestFor } from './harness.ts'

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

let folder: TemporaryFolder
let server: LocalIssuer
/** An identity that may do everything, and hosts that it may read. */
let all: ExchangeClient
let projectId: string
const open: ExchangeClient[] = []

/** An exchange that has its secrets in memory, as `enroll` starts it. */
function exchangeFor(
  auth: Login,
  credentials: Readonly<Record<string, string>>,
  wish: { readonly stderr?: string; readonly url?: string; readonly proxy?: Record<string, string> } = {},
) {
  const { stderr = '/dev/null', url = server.url, proxy } = wish
  const command = [process.execPath, MAIN, 'exchange']
  const requests: string[] = []
  const client = createExchangeClient({
    program: ['/bin/sh', '-c', `export no_proxy='*'; exec "$@" 2>>'${stderr}'`, 'sh', ...command],
    socket: null,
    mayBeChild: true,
    settings: {
      issuer: { kind: 'http', url, sshHostId: '', caFile: null, timeoutMilliseconds: 20_000, auth },
      log: { level: 'trace', format: 'json' },
      credentials,
      proxy,
    },
    clock: { now: () => Date.now() / 1000, uptime: () => 0, dice: () => 0, sleep: async () => {} },
    metrics: { issuerRequest: (route) => void requests.push(route), loginFailed: () => {} },
  })
  open.push(client)
  return { client, requests }
}

/** As an administrator's access token is used: a token from memory. */
function withToken(permissions: Parameters<LocalIssuer['addToken']>[0]): ExchangeClient {
  const auth = { method: 'token', tokenFile: 'credential:admin-token' } as const
  return exchangeFor(auth, { 'admin-token': server.addToken(permissions) }).client
}

function loginOf(clientId: string): Login {
  return {
    method: 'universal-auth',
    organization: null,
    clientId: { value: clientId },
    clientSecretFile: 'credential:client-secret',
  }
}

const CREATE = { reqId: 'req-1', statusCode: 500, message: 'Something went wrong', error: 'Create' }
const ALL = { mayRead: 'all', mayCreate: true, mayDelete: 'all' } as const

beforeAll(async () => {
  folder = await makeTemporaryFolder()
  server = await startLocalIssuer({ folder: folder.path })
  ;({ projectId } = server)
  const { clientId, clientSecret } = server.addIdentity(ALL)
  all = exchangeFor(loginOf(clientId), { 'client-secret': clientSecret }).client
})
afterAll(async () => {
  for (const client of open) client.end()
  await server.stop()
  await folder.remove()
})
beforeEach(() => {
  server.heal()
  server.requests.length = 0
})

let names = 0
/** A name that no test has used. */
const freshName = (): string => `web${++names}.example.com`
const add = (hostname: string, alias?: string): string =>
  server.addHost({ hostname, ttlSeconds: 3600, ...(alias === undefined ? {} : { alias }) })
const byName = (hostname: string, project = projectId) =>
  ({ by: { kind: 'name', project, hostname } }) as const
const byId = (id: string) => ({ by: { kind: 'id', id } }) as const
const wishFor = (hostname: string, wish: { alias?: string; ttl?: string; project?: string } = {}) => ({
  project: projectId,
  hostname,
  alias: null,
  ttl: null,
  ...wish,
})
const paths = (): string[] => server.requests.map(({ method, path }) => `${method} ${path}`)
const failure = (code: string, message: RegExp | string, more: object = {}) => ({
  kind: 'failed',
  failure: { code, message: expect.stringMatching(message), ...more },
})

describe('a host is found', () => {
  test('by its id, and certificates are for it from then on', async () => {
    const name = freshName()
    const id = add(name)
    const { client } = exchangeFor(...secretOf())
    const key = await generateKey(join(folder.path, name), 'ed25519')
    expect(await client.issue(requestFor(key), NEVER)).toMatchObject({
      failure: { code: 'CONFIG_INVALID', message: 'no host was found or registered at the issuer yet' },
    })
    expect(await client.findHost(byId(id), NEVER)).toEqual({
      kind: 'found',
      project: { id: projectId, slug: null },
      host: { id, projectId, hostname: name, alias: null, hostCertTtl: '3600s' },
      similar: [],
      visible: 1,
    })
    expect(await client.issue(requestFor(key), NEVER)).toMatchObject({ ok: true })
    expect(server.issued.at(-1)?.hostId).toBe(id)
    expect(paths().filter((path) => path.endsWith('/login'))).toHaveLength(1)
  })

  test.each(['id', 'slug'])('by its name in any case, and the %s of its project', async (kind) => {
    const name = freshName()
    const id = add(name)
    const project = kind === 'id' ? projectId : server.projectSlug
    expect(await all.findHost(byName(name.toUpperCase(), project), NEVER)).toMatchObject({
      kind: 'found',
      project: { id: projectId, slug: server.projectSlug },
      host: { id, hostname: name },
    })
  })

  test('where the server has the old routes, and where it has the new ones', async () => {
    const name = freshName()
    add(name)
    const routeNotFound = errorRow('route-not-found')
    server.failAlways(routeNotFound, 'workspaces')
    expect(await all.findHost(byName(name, server.projectSlug), NEVER)).toMatchObject({ kind: 'found' })
    server.heal()
    server.failAlways(routeNotFound, 'project-hosts')
    expect(await all.findHost(byName(name), NEVER)).toMatchObject({ kind: 'found', host: { hostname: name } })
    expect(paths().at(-1)).toBe(`GET /api/v2/workspace/${projectId}/ssh-hosts`)
    server.failAlways(routeNotFound, 'workspace-hosts')
    expect(await all.findHost(byName(name), NEVER)).toMatchObject(
      failure('ISSUER_NOT_FOUND', /has nothing at/),
    )
  })

  test('names that only look like it are shown, and are not it', async () => {
    const name = freshName()
    add(name.toUpperCase())
    const other = freshName()
    add(other, name)
    expect(await all.findHost(byName(name), NEVER)).toMatchObject({
      host: null,
      similar: [name.toUpperCase(), other],
    })
    const id = add(name)
    expect(await all.findHost(byName(name), NEVER)).toMatchObject({ host: { id } })
  })

  test('in a project that is not in the list, if its id is given', async () => {
    server.failAlways({ status: 200, body: { workspaces: [] } }, 'workspaces')
    const name = freshName()
    add(name)
    expect(await all.findHost(byName(name), NEVER)).toMatchObject({
      project: { id: projectId, slug: null },
      host: { hostname: name },
    })
    expect(await all.findHost(byName(name, 'other'), NEVER)).toMatchObject(
      failure('ISSUER_NOT_FOUND', /shows this identity no project "other".*\(it is of none\)/, {
        next: 'administrator',
      }),
    )
  })
})

describe('a host is not found', () => {
  test('an empty list says nothing: no right to read, or no hosts', async () => {
    const name = freshName()
    add(name)
    const blind = withToken({})
    expect(await blind.findHost(byName(name), NEVER)).toMatchObject({ host: null, similar: [], visible: 0 })
  })

  test('among others', async () => {
    const answer = await all.findHost(byName(freshName()), NEVER)
    expect(answer).toMatchObject({ host: null, visible: expect.any(Number) })
    expect(answer.kind === 'found' && answer.visible).toBeGreaterThan(0)
  })

  test('by one who is not a member of the project, or may not read it', async () => {
    const id = add(freshName())
    const stranger = withToken({ isMember: false })
    expect(await stranger.findHost(byName(freshName()), NEVER)).toMatchObject(
      failure('ISSUER_FORBIDDEN', /not a member of the specified project/, { next: 'administrator' }),
    )
    expect(await stranger.findHost(byId(id), NEVER)).toMatchObject(
      failure('ISSUER_FORBIDDEN', /does not permit reading this host: .*permissions for this: none/),
    )
  })

  test('by an id that there is not', async () => {
    expect(await all.findHost(byId(randomUUID()), NEVER)).toMatchObject(
      failure('ISSUER_NOT_FOUND', /has no host [\da-f-]{36}: /, { next: 'administrator' }),
    )
  })
})

test('one of 10,000 hosts, in one answer of some megabytes', { timeout: 120_000 }, async () => {
  await using many = await startLocalIssuer({ folder: folder.path })
  const hosts = Array.from({ length: 10_000 }, (_, number) => {
    const hostname = `node-${number}.region-${number % 7}.compute.internal.example.com`
    return { hostname, ttlSeconds: 31_557_600, alias: `node-${number}`, id: randomUUID() }
  })
  for (const host of hosts) many.addHost(host)
  const auth = { method: 'token', tokenFile: 'credential:t' } as const
  const { client } = exchangeFor(auth, { t: many.addToken(ALL) }, { url: many.url })
  const [wanted] = hosts.slice(-1)
  expect(await client.findHost(byName(wanted?.hostname ?? '', many.projectId), NEVER)).toMatchObject({
    host: { id: wanted?.id, alias: 'node-9999' },
    visible: 10_000,
  })
})

describe('registering a host', () => {
  test('brings its id; the lifetime is passed on, and the name in lower case', async () => {
    const name = freshName()
    const answer = await all.registerHost(wishFor(name.toUpperCase(), { ttl: '30d', alias: 'one' }), NEVER)
    expect(answer).toMatchObject({
      kind: 'registered',
      host: { hostname: name, alias: 'one', projectId, hostCertTtl: '2592000s' },
    })
    expect(paths()).toEqual(['POST /api/v1/ssh/hosts'])
  })

  test('by the slug of its project, without the list of all its hosts', async () => {
    const name = freshName()
    const answer = await all.registerHost(wishFor(name, { project: server.projectSlug }), NEVER)
    expect(answer).toMatchObject({ kind: 'registered', host: { hostname: name, projectId } })
    expect(paths()).toEqual(['GET /api/v1/workspace', 'POST /api/v1/ssh/hosts'])
    expect(await all.registerHost(wishFor(name, { project: server.projectSlug }), NEVER)).toMatchObject({
      kind: 'taken',
      host: { hostname: name },
    })
    expect(await all.registerHost(wishFor(freshName(), { project: 'other' }), NEVER)).toMatchObject(
      failure('ISSUER_NOT_FOUND', /shows this identity no project "other"/, { next: 'administrator' }),
    )
  })

  test('by an identity that may do nothing but create this one, and a request of enroll is not counted', async () => {
    const name = freshName()
    const { clientId, clientSecret } = server.addIdentity({ mayCreate: [name] })
    const { client, requests } = exchangeFor(loginOf(clientId), { 'client-secret': clientSecret })
    expect(await client.registerHost(wishFor(freshName()), NEVER)).toMatchObject(
      failure('ISSUER_FORBIDDEN', `does not permit registering .*create on ssh-hosts where .*${name}`, {
        next: 'administrator',
      }),
    )
    expect(await client.registerHost(wishFor(name), NEVER)).toMatchObject({ kind: 'registered' })
    const key = await generateKey(join(folder.path, name), 'ed25519')
    expect(await client.issue(requestFor(key), NEVER)).toMatchObject({ ok: true })
    expect(requests).toEqual(['login', 'issue'])
  })

  test('a name that is taken: its host', async () => {
    const name = freshName()
    const id = add(name)
    const answer = await all.registerHost(wishFor(name), NEVER)
    expect(answer).toMatchObject({ kind: 'taken', what: 'hostname', host: { id, hostname: name } })
    expect(paths()).toEqual(['POST /api/v1/ssh/hosts', `GET /api/v1/projects/${projectId}/ssh-hosts`])
  })

  test('an alias that is taken: the host that has it', async () => {
    const other = freshName()
    const id = add(other, 'taken-alias')
    const answer = await all.registerHost(wishFor(freshName(), { alias: 'taken-alias' }), NEVER)
    expect(answer).toMatchObject({ kind: 'taken', what: 'alias', host: { id, hostname: other } })
  })

  test('a name that another case of is registered is not taken', async () => {
    const name = freshName()
    add(name.toUpperCase())
    expect(await all.registerHost(wishFor(name), NEVER)).toMatchObject({ kind: 'registered' })
  })

  test('a name that is taken by a host that is not to be read: both is said', async () => {
    const name = freshName()
    add(name)
    const creator = withToken({ mayCreate: true })
    expect(await creator.registerHost(wishFor(name), NEVER)).toMatchObject(
      failure(
        'ISSUER_BUSY',
        `either ${name} is taken by a host that this identity cannot read, or the server has an internal error: "Something went wrong" \\(500 Create\\)`,
        { next: 'issuer-backoff' },
      ),
    )
  })

  test('and when the list cannot be had either, that too', async () => {
    const name = freshName()
    add(name)
    server.failNext({ kind: 'html' }, 1, 'project-hosts')
    expect(await all.registerHost(wishFor(name), NEVER)).toMatchObject(
      failure('ISSUER_BUSY', /is taken by a host .*, and then: .* has an internal error/),
    )
  })

  test('an answer that was lost: the name is taken', async () => {
    const name = freshName()
    server.failNext({ kind: 'reset', done: true }, 1, 'register')
    expect(await all.registerHost(wishFor(name), NEVER)).toMatchObject(failure('ISSUER_UNREACHABLE', /./))
    expect(await all.registerHost(wishFor(name), NEVER)).toMatchObject({
      kind: 'taken',
      host: { hostname: name },
    })
  })

  test.each([
    { name: 'a limit of the rate', fault: errorRow('rate-limited'), mayBeRegistered: false },
    { name: 'a refusal', fault: errorRow('validation'), mayBeRegistered: false },
    { name: 'a name that cannot be had', fault: { status: 500, body: CREATE }, mayBeRegistered: false },
    { name: 'a fault of the server', fault: errorRow('server-error'), mayBeRegistered: true },
    { name: 'a page of a gateway', fault: { kind: 'html', status: 504 }, mayBeRegistered: true },
    { name: 'a request that took too long', fault: { status: 408 }, mayBeRegistered: true },
    { name: 'half an answer', fault: { kind: 'half-body' }, mayBeRegistered: true },
    { name: 'no answer', fault: { kind: 'reset', done: true }, mayBeRegistered: true },
    { name: 'an answer that is none', fault: { status: 200, body: {} }, mayBeRegistered: true },
  ] as const)('$name: it may be registered: $mayBeRegistered', async ({ fault, mayBeRegistered }) => {
    server.failNext(fault, 1, 'register')
    const answer = await all.registerHost(wishFor(freshName()), NEVER)
    expect(answer).toMatchObject({ kind: 'failed', mayBeRegistered })
    expect(paths()).toContain('POST /api/v1/ssh/hosts')
  })

  test('what was never sent is not registered: no connection, no TLS, no login, no project', async () => {
    const { clientId } = server.addIdentity(ALL)
    const wrong = { 'client-secret': 'wrong' }
    const none = `http://127.0.0.1:${await freePort()}`
    const token = { method: 'token', tokenFile: 'credential:admin-token' } as const
    const credentials = { 'admin-token': server.addToken(ALL) }
    for (const [client, question] of [
      [exchangeFor(token, credentials, { url: none }).client, wishFor(freshName())],
      // It speaks no TLS.
      [
        exchangeFor(token, credentials, { url: server.url.replace('http:', 'https:') }).client,
        wishFor(freshName()),
      ],
      [exchangeFor(token, credentials, { url: 'https://nowhere.invalid' }).client, wishFor(freshName())],
      // It refuses to be a proxy.
      [
        exchangeFor(token, credentials, {
          url: 'https://nowhere.invalid',
          proxy: { HTTPS_PROXY: server.url },
        }).client,
        wishFor(freshName()),
      ],
      [exchangeFor(token, {}).client, wishFor(freshName())],
      [exchangeFor(loginOf(clientId), wrong).client, wishFor(freshName())],
      [all, wishFor(freshName(), { project: 'other' })],
      [all, wishFor('web1')],
    ] as const)
      expect(await client.registerHost(question, NEVER)).toMatchObject({
        kind: 'failed',
        mayBeRegistered: false,
      })
    expect(paths()).not.toContain('POST /api/v1/ssh/hosts')
  })

  test('a grant that counts later', async () => {
    const name = freshName()
    const grantedAt = Date.now() + 10_000
    const early = withToken({ mayCreate: true, grantedAt })
    const ask = async () => early.registerHost(wishFor(name), NEVER)
    expect(await ask()).toMatchObject(
      failure('ISSUER_FORBIDDEN', /permissions for this: none/, { next: 'administrator' }),
    )
    await expect.poll(async () => (await ask()).kind, { timeout: 30_000 }).toBe('registered')
    expect(Date.now()).toBeGreaterThanOrEqual(grantedAt)
  })

  test('an unknown project, and a server that refuses the request', async () => {
    expect(await all.registerHost(wishFor(freshName(), { project: randomUUID() }), NEVER)).toMatchObject(
      failure('ISSUER_NOT_FOUND', /has no project "[\da-f-]{36}": "Project with ID/, {
        next: 'administrator',
      }),
    )
    const message = [{ path: ['body', 'hostname'], message: 'Hostname must be a valid hostname' }]
    server.failNext(errorRow('validation', { message }), 1, 'register')
    expect(await all.registerHost(wishFor(freshName()), NEVER)).toMatchObject(
      failure('ISSUER_REJECTED', /"body\.hostname: Hostname must be a valid hostname" \(422/, {
        next: 'local',
      }),
    )
  })

  test('a limit of the rate is passed on, and the request is not repeated', async () => {
    server.failNext(errorRow('rate-limited'), 1, 'register')
    expect(await all.registerHost(wishFor(freshName()), NEVER)).toMatchObject(
      failure('ISSUER_BUSY', /limits the rate/, { retryAfterSeconds: 54 }),
    )
    expect(paths()).toEqual(['POST /api/v1/ssh/hosts'])
  })

  test('names and lifetimes that cannot be are refused before the server sees them', async () => {
    expect(await all.registerHost(wishFor('web1'), NEVER)).toMatchObject(
      failure('CONFIG_INVALID', /^the host name "web1" is a short name/, { next: 'local' }),
    )
    expect(await all.registerHost(wishFor(freshName(), { ttl: '69y' }), NEVER)).toMatchObject(
      failure('CONFIG_INVALID', /^the lifetime "69y" is longer than 68 years/),
    )
    expect(await all.findHost(byName('*.example.com'), NEVER)).toMatchObject(
      failure('CONFIG_INVALID', /is a wildcard/),
    )
    expect(paths()).toEqual([])
  })

  test('a token that is refused is replaced, once', async () => {
    server.expireTokens()
    const answer = await all.registerHost(wishFor(freshName()), NEVER)
    expect(answer).toMatchObject({ kind: 'registered' })
    expect(paths()).toEqual([
      'POST /api/v1/ssh/hosts',
      'POST /api/v1/auth/universal-auth/login',
      'POST /api/v1/ssh/hosts',
    ])
  })
})

describe('deleting a host', () => {
  test('and again: it is gone already', async () => {
    const hostId = add(freshName())
    expect(await all.deleteHost({ hostId }, NEVER)).toEqual({ kind: 'deleted', wasThere: true })
    expect(await all.deleteHost({ hostId }, NEVER)).toEqual({ kind: 'deleted', wasThere: false })
  })

  test('needs a right of its own', async () => {
    const hostId = add(freshName())
    const creator = withToken({ mayCreate: true, mayRead: 'all' })
    expect(await creator.deleteHost({ hostId }, NEVER)).toMatchObject(
      failure('ISSUER_FORBIDDEN', /does not permit deleting this host: "You are not allowed to delete/),
    )
  })

  test('a 404 that is not the issuer’s says nothing about the host', async () => {
    const hostId = add(freshName())
    for (const fault of [{ kind: 'html', status: 404 } as const, errorRow('route-not-found')]) {
      server.failNext(fault, 1, 'delete')
      expect(await all.deleteHost({ hostId }, NEVER)).toMatchObject(
        failure('ISSUER_NOT_FOUND', /has nothing at/),
      )
    }
  })
})

describe('the user CA', () => {
  test('comes without a login', async () => {
    const hostId = add(freshName())
    const answer = await all.userCa({ hostId }, NEVER)
    if (answer.kind !== 'user-ca') throw new Error(answer.failure.message)
    const { type, blob } = answer.key
    expect(server.userCaPublicKey.startsWith(`${type} ${blob.toString('base64')}`)).toBe(true)
    expect(server.requests).toMatchObject([{ authorization: false }])
  })

  const key = async (): Promise<string> => generateKey(join(folder.path, randomUUID()), 'ed25519')
  test.each([
    { name: 'nothing', body: async () => '', says: /an empty user CA/ },
    { name: 'a web page', body: async () => '<html></html>', says: /something else than a user CA/ },
    {
      name: 'a private key',
      body: async () => {
        const path = join(folder.path, randomUUID())
        await generateKey(path, 'ed25519')
        return readFile(path, 'utf8')
      },
      says: /it is a private key/,
    },
    { name: 'two keys', body: async () => `${await key()}\n${await key()}\n`, says: /several lines/ },
    { name: 'a key with options', body: async () => `cert-authority ${await key()}`, says: /with options/ },
    {
      name: 'a damaged key',
      body: async () => (await key()).slice(0, 40),
      says: /something else than a user CA/,
    },
    { name: 'a comment', body: async () => '# none', says: /a comment instead/ },
    {
      name: 'a long line',
      body: async () => `${await key()} ${'x'.repeat(16 * 1024)}`,
      says: /more than 16 KiB/,
    },
  ])('$name is none', async ({ body, says }) => {
    server.failNext({ status: 200, body: await body() }, 1, 'user-ca')
    const answer = await all.userCa({ hostId: add(freshName()) }, NEVER)
    expect(answer).toMatchObject(failure('USER_CA_INVALID', says))
    expect(JSON.stringify(answer)).not.toContain('b3BlbnNzaC1rZXk')
  })

  test('a page from in between, and an answer without end', async () => {
    const hostId = add(freshName())
    server.failNext({ kind: 'html', status: 200 }, 1, 'user-ca')
    expect(await all.userCa({ hostId }, NEVER)).toMatchObject(failure('USER_CA_INVALID', /a web page/))
    server.failNext({ kind: 'huge' }, 1, 'user-ca')
    expect(await all.userCa({ hostId }, NEVER)).toMatchObject(failure('USER_CA_INVALID', /more than 16 KiB/))
  })

  test('of a host that there is not, behind a login, and too often', async () => {
    const hostId = randomUUID()
    expect(await all.userCa({ hostId }, NEVER)).toMatchObject(failure('ISSUER_NOT_FOUND', /has no host/))
    server.failNext(errorRow('token-missing'), 1, 'user-ca')
    expect(await all.userCa({ hostId }, NEVER)).toMatchObject(
      failure('ISSUER_UNAUTHORIZED', /requires a login for its user CA/),
    )
    server.limitRate({ publicReads: 0 })
    expect(await all.userCa({ hostId }, NEVER)).toMatchObject(
      failure('ISSUER_BUSY', /limits the rate/, { retryAfterSeconds: 60 }),
    )
    server.limitRate(null)
  })
})

describe('an answer that is not the issuer’s', () => {
  const id = randomUUID()
  const host = (changes: object) => ({
    id,
    projectId,
    hostname: 'web.example.com',
    alias: null,
    hostCertTtl: '1y',
    ...changes,
  })
  const find: { readonly route: FaultRoute; readonly ask: () => Promise<object> } = {
    route: 'host',
    ask: async () => all.findHost(byId(id), NEVER),
  }
  const list: typeof find = {
    route: 'project-hosts',
    ask: async () => all.findHost(byName('web.example.com'), NEVER),
  }
  const register: typeof find = {
    route: 'register',
    ask: async () => all.registerHost(wishFor('web.example.com'), NEVER),
  }
  const listed = (...hosts: object[]): Fault => ({ status: 200, body: { hosts } })
  const table: { name: string; of: typeof find; fault: () => Fault; says: RegExp }[] = [
    { name: 'a web page', of: find, fault: () => ({ kind: 'html', status: 200 }), says: /with a web page/ },
    {
      name: 'without end',
      of: find,
      fault: () => ({ kind: 'huge' }),
      says: /more than an answer can be long/,
    },
    { name: 'no JSON', of: find, fault: () => ({ status: 200, body: 'hello' }), says: /no JSON object/ },
    {
      name: 'nothing',
      of: find,
      fault: () => ({ status: 200, body: {} }),
      says: /id is missing.*hostname is missing/,
    },
    {
      name: 'another host than asked for',
      of: find,
      fault: () => ({ status: 200, body: host({ id: randomUUID() }) }),
      says: /with the host [\da-f-]{36} instead of/,
    },
    {
      name: 'a host without an id',
      of: register,
      fault: () => ({ status: 200, body: host({ id: undefined }) }),
      says: /without a valid host: id is missing or damaged$/,
    },
    {
      name: 'an id that is no UUID',
      of: register,
      fault: () => ({ status: 200, body: host({ id: '../../etc' }) }),
      says: /without a valid host: id is missing or damaged$/,
    },
    {
      name: 'another name than asked for',
      of: register,
      fault: () => ({ status: 200, body: host({ hostname: 'evil.example.com' }) }),
      says: /with the host evil\.example\.com instead of web\.example\.com/,
    },
    {
      name: 'controls in the name',
      of: register,
      fault: () => ({ status: 200, body: host({ hostname: 'web.example.com\u001b[2J\n' }) }),
      says: /without a valid host: hostname is missing or damaged$/,
    },
    {
      name: 'a list that is none',
      of: list,
      fault: () => ({ status: 200, body: { hosts: {} } }),
      says: /without the list hosts/,
    },
    {
      name: 'a list without end',
      of: list,
      fault: () => ({ kind: 'huge' }),
      says: /longer than 16 MiB; name the host by its id/,
    },
    {
      name: 'a web page for a list',
      of: list,
      fault: () => ({ kind: 'html', status: 200 }),
      says: /with a web page/,
    },
    {
      name: 'the name twice',
      of: list,
      fault: () => listed(host({}), host({ id: randomUUID() })),
      says: /two hosts web\.example\.com/,
    },
    {
      name: 'the name with a damaged id',
      of: list,
      fault: () => listed(host({ id: 7 })),
      says: /a damaged host web\.example\.com: id is/,
    },
    {
      name: 'a host of another project',
      of: list,
      fault: () => listed(host({ projectId: randomUUID() })),
      says: /the host web\.example\.com of another project/,
    },
    {
      name: 'a list that would take a gigabyte of memory',
      of: list,
      fault: () => ({ status: 200, body: `{"hosts":[${'{},'.repeat(5_000_000)}{}]}` }),
      says: /more than a list of hosts can hold/,
    },
    {
      name: 'a list that is deep',
      of: list,
      fault: () => ({ status: 200, body: '['.repeat(400_000) }),
      says: /no JSON object/,
    },
  ]
  test.each(table)('$name', async ({ of, fault, says }) => {
    server.failAlways(fault(), of.route)
    expect(await of.ask()).toMatchObject(failure('ISSUER_INVALID_RESPONSE', says))
  })

  test('what is odd about another host in a list does not matter; nor do an alias and a lifetime that are odd', async () => {
    const odd = host({ projectId, alias: 'a\u001b[2J', hostCertTtl: { a: 1 } })
    server.failNext(listed(7 as never, null as never, { hostname: 'x'.repeat(1e6) }, odd), 1, 'project-hosts')
    expect(await list.ask()).toMatchObject({ host: { id, alias: null, hostCertTtl: null }, visible: 4 })
  })

  test('at most eight similar names, and no controls in them', async () => {
    const odd = { ...host({ projectId, hostname: 'evil\u001b[2J' }), alias: 'web.example.com' }
    const similar = Array.from({ length: 20 }, () => host({ projectId, hostname: 'WEB.example.com' }))
    server.failNext(listed(odd, ...similar), 1, 'project-hosts')
    expect(await list.ask()).toMatchObject({ host: null, similar: Array(8).fill('WEB.example.com') })
  })
})

describe('what an exchange that is not ours any more says', () => {
  const id = randomUUID()
  const host = { id, projectId: 'p', hostname: 'web.example.com', alias: null, hostCertTtl: null }
  const found = { kind: 'found', project: null, host, similar: [], visible: 1 }
  const says = (answer: object): ExchangeClient => {
    const health = { reachable: true, lastSuccess: null, clockSkewSeconds: null }
    const line = JSON.stringify({ id: 1, answer, health, requests: [], loginFailures: [] })
    const program = ['/bin/sh', '-c', `read -r a; read -r b; printf '%s\\n' '${line}'; cat >/dev/null`]
    const auth = { method: 'token', tokenFile: '/t' } as const
    const client = createExchangeClient({
      program,
      socket: null,
      mayBeChild: true,
      settings: {
        issuer: {
          kind: 'http',
          url: 'http://127.0.0.1:1',
          sshHostId: '',
          caFile: null,
          timeoutMilliseconds: 1000,
          auth,
        },
        log: { level: 'error', format: 'json' },
      },
      clock: { now: () => 0, uptime: () => 0, dice: () => 0, sleep: async () => {} },
      metrics: { issuerRequest: () => {}, loginFailed: () => {} },
    })
    open.push(client)
    return client
  }
  const register = async (answer: object) => says(answer).registerHost(wishFor('web.example.com'), NEVER)
  const find = async (answer: object) => says(answer).findHost(byName('web.example.com'), NEVER)

  test('what fits the question', async () => {
    expect(await find(found)).toEqual(found)
    expect(await register({ kind: 'taken', what: 'hostname', host })).toMatchObject({ kind: 'taken' })
  })

  const refusedReply = failure(
    'ISSUER_INVALID_RESPONSE',
    /^the exchange with the issuer sent an invalid reply/,
  )
  test.each([
    {
      name: 'another name',
      ask: async () => find({ ...found, host: { ...host, hostname: 'evil.example.com' } }),
    },
    { name: 'another id', ask: async () => says(found).findHost(byId(randomUUID()), NEVER) },
    { name: 'no host for an id', ask: async () => says({ ...found, host: null }).findHost(byId(id), NEVER) },
    { name: 'an id that is none', ask: async () => find({ ...found, host: { ...host, id: 'x' } }) },
    { name: 'controls', ask: async () => find({ ...found, similar: ['a\u001b[2J'] }) },
    { name: 'nine similar names', ask: async () => find({ ...found, similar: Array(9).fill('a.b') }) },
    { name: 'a fraction of hosts', ask: async () => find({ ...found, visible: 0.5 }) },
    { name: 'another answer', ask: async () => register(found) },
    {
      name: 'another name registered',
      ask: async () => register({ kind: 'registered', host: { ...host, hostname: 'evil.example.com' } }),
    },
    {
      name: 'another name taken',
      ask: async () => register({ kind: 'taken', what: 'hostname', host: { ...host, hostname: 'a.b' } }),
    },
  ])('$name: refused', async ({ ask }) => {
    expect(await ask()).toMatchObject(refusedReply)
  })

  test('a user CA that is no key', async () => {
    const client = says({ kind: 'user-ca', key: 'ssh-ed25519 AAAA' })
    expect(await client.userCa({ hostId: id }, NEVER)).toMatchObject({ kind: 'failed' })
  })
})

describe('secrets that are in memory only', () => {
  test('are in no answer and no log line at any level, even when the server repeats them', async () => {
    const canary = `canary-${randomUUID()}`
    const { clientId, clientSecret } = server.addIdentity(ALL)
    const credentials = { 'client-secret': clientSecret, unused: canary }
    const stderr = join(folder.path, 'stderr')
    const { client } = exchangeFor(loginOf(clientId), credentials, { stderr })
    const name = freshName()
    const answers: unknown[] = []
    const workspaces = [{ id: 'p', slug: clientSecret }]
    server.failNext({ status: 200, body: { workspaces } }, 1, 'workspaces')
    answers.push(await client.findHost(byName(name, 'other'), NEVER))
    const body = { error: clientSecret, message: clientSecret, details: clientSecret, reqId: 'req-1' }
    server.failNext({ status: 403, body }, 1, 'register')
    answers.push(await client.registerHost(wishFor(name), NEVER))
    const host = { id: randomUUID(), projectId, hostname: name, alias: clientSecret }
    server.failNext({ status: 200, body: host }, 1, 'register')
    answers.push(await client.registerHost(wishFor(name), NEVER))
    expect(answers).toMatchObject([{ kind: 'failed' }, { kind: 'failed' }, { kind: 'registered' }])
    expect(JSON.stringify(answers).match(/\[secret\]/g)?.length).toBeGreaterThan(2)
    client.end()
    const logged = await readFile(stderr, 'utf8')
    expect(logged).toContain('asked the issuer')
    for (const text of [JSON.stringify(answers), logged])
      for (const secret of [clientSecret, canary]) expect(text).not.toContain(secret)
  })

  test('one that was not given, or is no token, is named and not shown', async () => {
    const auth = { method: 'token', tokenFile: 'credential:admin-token' } as const
    const ask = async (credentials: Record<string, string>) =>
      exchangeFor(auth, credentials).client.findHost(byId(randomUUID()), NEVER)
    expect(await ask({})).toMatchObject(
      failure('CREDENTIAL_UNREADABLE', /access token from credential:admin-token: it was not given/),
    )
    const answer = await ask({ 'admin-token': 'two words' })
    expect(answer).toMatchObject(failure('CREDENTIAL_UNREADABLE', /not one word/))
    expect(JSON.stringify(answer)).not.toContain('two words')
  })
})

test('proxies that are given count, and those of the environment do not', async () => {
  const auth = { method: 'token', tokenFile: 'credential:t' } as const
  const url = 'https://issuer.example.com'
  const password = `proxy-${randomUUID()}`
  const proxy = { HTTPS_PROXY: `http://u:${password}@127.0.0.1:1` }
  const { client } = exchangeFor(auth, { t: 'token' }, { url, proxy })
  const answer = await client.findHost(byId(randomUUID()), NEVER)
  expect(answer).toMatchObject(failure('ISSUER_UNREACHABLE', /127\.0\.0\.1:1|ECONNREFUSED/))
  expect(JSON.stringify(answer)).not.toContain(password)
})

/** A further login of an identity that may do everything. */
function secretOf(): [Login, Record<string, string>] {
  const { clientId, clientSecret } = server.addIdentity(ALL)
  return [loginOf(clientId), { 'client-secret': clientSecret }]
}
