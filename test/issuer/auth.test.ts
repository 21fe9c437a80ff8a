import { execFile } from 'node:child_process'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { errorRow } from '../support/local-issuer.ts'
import { NEVER, requestFor, sendJson, startRawServer } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

let setup: Setup

beforeEach(async () => {
  setup = await setUp()
})
afterEach(() => setup[Symbol.asyncDispose]())

describe('universal-auth', () => {
  test('logs in once, and issues with the token from then on', async () => {
    const { issuer, metrics } = setup.subject()
    const answer = await issuer.issue(requestFor(setup.publicKey), NEVER)
    expect(answer).toMatchObject({ ok: true, serialNumber: String(setup.server.issued[0]?.serial) })
    expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
    expect(setup.routes()).toBe('login issue issue')
    expect(metrics.map(({ route, code }) => `${route} ${code}`)).toEqual([
      'login 200',
      'issue 200',
      'issue 200',
    ])
  })

  test('sends Authorization on the issue route only', async () => {
    const { issuer } = setup.subject()
    await issuer.issue(requestFor(setup.publicKey), NEVER)
    await issuer.hostCa(NEVER)
    expect(setup.server.requests.map(({ authorization }) => authorization)).toEqual([false, true, false])
  })

  test.each([
    { name: 'an expired token', spoil: () => setup.server.expireTokens() },
    { name: 'a token that the server forgot', spoil: () => setup.server.revokeTokens() },
  ])('$name: one login more, one request more', async ({ spoil }) => {
    const { issuer } = setup.subject()
    await issuer.issue(requestFor(setup.publicKey), NEVER)
    spoil()
    expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
    expect(setup.routes()).toBe('login issue issue login issue')
  })

  test('a wrong secret: exactly one login', async () => {
    await writeFile(setup.clientSecretFile, 'wrong')
    const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(
      /refused the client id or secret: "Invalid credentials" \(401 UnauthorizedError\)$/,
    )
    expect(setup.routes()).toBe('login')
  })

  test('a wrong secret when the token has expired: one login more, no second request', async () => {
    const { issuer } = setup.subject()
    await issuer.issue(requestFor(setup.publicKey), NEVER)
    setup.server.expireTokens()
    setup.server.setClientSecret(setup.clientId, 'another')
    expect(failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER)).code).toBe('ISSUER_UNAUTHORIZED')
    expect(setup.routes()).toBe('login issue issue login')
  })

  test('calls that overlap share one login', async () => {
    await writeFile(setup.clientSecretFile, 'wrong')
    const { issuer } = setup.subject()
    const answers = await Promise.all([1, 2, 3].map(() => issuer.issue(requestFor(setup.publicKey), NEVER)))
    expect(answers.map(({ ok }) => ok)).toEqual([false, false, false])
    expect(setup.routes()).toBe('login')
  })

  test('the secret is read anew at each login', async () => {
    const { issuer } = setup.subject()
    await writeFile(setup.clientSecretFile, 'wrong')
    expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(false)
    await writeFile(setup.clientSecretFile, `${setup.clientSecret}\r\n`)
    expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
  })

  test('the client id may be in a file', async () => {
    const file = join(setup.folder, 'client-id')
    await writeFile(file, `${setup.clientId}\n`)
    const { clientSecretFile } = setup
    const auth = {
      method: 'universal-auth',
      organization: null,
      clientId: { file },
      clientSecretFile,
    } as const
    expect((await setup.subject({ auth }).issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
  })

  test.each([
    { name: 'far from its end', life: 1000, later: 939, requests: 'login issue issue' },
    { name: 'near its end', life: 1000, later: 941, requests: 'login issue login issue' },
    { name: 'short and young', life: 10, later: 8.9, requests: 'login issue issue' },
    { name: 'short and nearly over', life: 10, later: 9.1, requests: 'login issue login issue' },
    { name: 'without end', life: 0, later: 1e9, requests: 'login issue issue' },
  ])('a token $name', async ({ life, later, requests }) => {
    await using own = await setUp({ tokenTtlSeconds: life })
    let now = 1_785_585_600
    const { issuer } = own.subject({ now: () => now })
    await issuer.issue(requestFor(own.publicKey), NEVER)
    now += later
    expect((await issuer.issue(requestFor(own.publicKey), NEVER)).ok).toBe(true)
    expect(own.routes()).toBe(requests)
  })

  test.each([
    { name: 'no token', body: { expiresIn: 5 } },
    { name: 'a token that no header can carry', body: { accessToken: 'a\r\nb', expiresIn: 5 } },
  ])('a login answered with $name', async ({ body }) => {
    setup.server.failNext({ status: 200, body }, 1, 'login')
    const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code: 'ISSUER_INVALID_RESPONSE', next: 'issuer-backoff' })
    expect(setup.routes()).toBe('login')
  })

  test('a login that is redirected shows the secret to nobody else', async () => {
    await using other = await startRawServer((_, response) => sendJson(response, 200, {}))
    setup.server.failNext({ kind: 'redirect', location: other.url, status: 308 }, 1, 'login')
    const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure.code).toBe('ISSUER_INVALID_RESPONSE')
    expect(other.seen).toEqual([])
  })
})

describe('token', () => {
  let tokenFile: string
  const subject = () => setup.subject({ auth: { method: 'token', tokenFile } })

  beforeEach(async () => {
    tokenFile = join(setup.folder, 'token')
    await writeFile(tokenFile, `${setup.server.addToken()}\n`)
  })

  test('needs no login, and reads the file each time', async () => {
    const { issuer } = subject()
    expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
    setup.server.revokeTokens()
    await writeFile(tokenFile, setup.server.addToken())
    expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
    expect(setup.routes()).toBe('issue issue')
  })

  test('a refused token is not sent twice', async () => {
    setup.server.expireTokens()
    const failure = failureOf(await subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(setup.routes()).toBe('issue')
  })

  test('one that was replaced in the meantime is tried, once', async () => {
    const { server } = setup
    const proceed = Promise.withResolvers<void>()
    server.expireTokens()
    server.failNext({ kind: 'pause', until: proceed.promise }, 1, 'issue')
    const answer = subject().issuer.issue(requestFor(setup.publicKey), NEVER)
    await expect.poll(() => server.requests.length).toBe(1)
    await writeFile(tokenFile, server.addToken())
    proceed.resolve()
    expect((await answer).ok).toBe(true)
    expect(setup.routes()).toBe('issue issue')
  })
})

describe('credential files', () => {
  const subject = () => {
    const auth = { method: 'token', tokenFile: join(setup.folder, 'credential') } as const
    return setup.subject({ auth })
  }

  test.each([
    { name: 'missing', content: null, words: 'no such file or directory' },
    { name: 'empty', content: ' \n', words: 'is empty' },
    { name: 'of several lines', content: 'a\nb\n', words: 'not one word of printable characters' },
    { name: 'huge', content: 'x'.repeat(100_000), words: 'larger than 16 KiB' },
  ])('$name', async ({ content, words }) => {
    const file = join(setup.folder, 'credential')
    if (content !== null) await writeFile(file, content)
    const failure = failureOf(await subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    expect(failure.message).toContain(file)
    expect(failure.message).toContain(words)
    expect(setup.routes()).toBe('')
  })

  test('a FIFO does not hang the agent', async () => {
    await promisify(execFile)('mkfifo', [join(setup.folder, 'credential')])
    const failure = failureOf(await subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE' })
    expect(failure.message).toContain('not a regular file')
  })

  test('a secret that is gone: no login', async () => {
    await rm(setup.clientSecretFile)
    const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    expect(setup.routes()).toBe('')
  })
})

test('no secret in what is logged or reported, even if the server repeats it', async () => {
  const token = setup.server.addToken()
  const tokenFile = join(setup.folder, 'token')
  await writeFile(tokenFile, token)
  const byToken = setup.subject({ auth: { method: 'token', tokenFile } })
  const byLogin = setup.subject()
  const said: unknown[] = []
  for (const secret of [token, setup.clientSecret]) {
    const rows = [
      errorRow('token-expired', { message: `bad token ${secret}` }),
      errorRow('validation', { message: [{ path: ['body', secret], message: `not ${secret}` }] }),
      { status: 400, body: { error: `Error${secret}`, message: secret, reqId: 'req-1' } },
      { kind: 'redirect', location: `https://issuer.invalid/?token=${secret}` } as const,
    ]
    for (const row of rows) {
      const subject = secret === token ? byToken : byLogin
      setup.server.failNext(row, 1)
      said.push(failureOf(await subject.issuer.issue(requestFor(setup.publicKey), NEVER)))
    }
  }
  expect((await byLogin.issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
  const everything = JSON.stringify([said, byToken.logged, byLogin.logged])
  expect(everything).toContain('[secret]')
  expect(everything).not.toContain(token)
  expect(everything).not.toContain(setup.clientSecret)
  expect(everything).not.toContain('Bearer')
})
