import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ERROR_ROW_NAMES, errorRow, type ErrorRowName } from '../support/local-issuer.ts'
import { NEVER, requestFor } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

let setup: Setup

beforeAll(async () => {
  setup = await setUp()
})
afterAll(() => setup[Symbol.asyncDispose]())
beforeEach(() => {
  setup.server.heal()
  setup.server.requests.length = 0
})

const AGAIN = 'login issue login issue'
const ONCE = 'login issue'

/** Every row, as the answer to "issue" each time it is asked. */
const WHEN_ISSUING: Readonly<
  Record<ErrorRowName, readonly [code: string, next: string, requests: string, retryAfter?: number]>
> = {
  'unsupported-key': ['ISSUER_REJECTED', 'key-backoff', ONCE],
  'unparsable-key': ['ISSUER_REJECTED', 'key-backoff', ONCE],
  'token-missing': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'token-unknown': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'token-used-up': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'wrong-secret': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'identity-locked': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'token-expired': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'token-malformed': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'token-signature': ['ISSUER_UNAUTHORIZED', 'login-backoff', AGAIN],
  'permission-denied': ['ISSUER_FORBIDDEN', 'administrator', ONCE],
  'not-member': ['ISSUER_FORBIDDEN', 'administrator', ONCE],
  'forbidden-access': ['ISSUER_FORBIDDEN', 'administrator', ONCE],
  'forbidden-ip': ['ISSUER_FORBIDDEN', 'administrator', ONCE],
  'host-not-found': ['ISSUER_NOT_FOUND', 'administrator', ONCE],
  'unknown-client-id': ['ISSUER_NOT_FOUND', 'administrator', ONCE],
  'route-not-found': ['ISSUER_NOT_FOUND', 'administrator', ONCE],
  validation: ['ISSUER_REJECTED', 'key-backoff', ONCE],
  'rate-limited': ['ISSUER_BUSY', 'issuer-backoff', ONCE, 54],
  'server-error': ['ISSUER_BUSY', 'issuer-backoff', ONCE],
}

/** And as the answer to the login. */
const WHEN_LOGGING_IN: Readonly<
  Record<ErrorRowName, readonly [code: string, next: string, retryAfter?: number]>
> = {
  'unsupported-key': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'unparsable-key': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'token-missing': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'token-unknown': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'token-used-up': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'wrong-secret': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'identity-locked': ['LOGIN_LOCKED', 'login-backoff'],
  'token-expired': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'token-malformed': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'token-signature': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'permission-denied': ['ISSUER_FORBIDDEN', 'login-backoff'],
  'not-member': ['ISSUER_FORBIDDEN', 'login-backoff'],
  'forbidden-access': ['ISSUER_FORBIDDEN', 'login-backoff'],
  'forbidden-ip': ['ISSUER_FORBIDDEN', 'login-backoff'],
  'host-not-found': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'unknown-client-id': ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'route-not-found': ['ISSUER_NOT_FOUND', 'administrator'],
  validation: ['ISSUER_UNAUTHORIZED', 'login-backoff'],
  'rate-limited': ['ISSUER_BUSY', 'issuer-backoff', 54],
  'server-error': ['ISSUER_BUSY', 'issuer-backoff'],
}

describe.each(ERROR_ROW_NAMES)('%s', (name) => {
  test('to issue', async () => {
    const row = errorRow(name)
    const [code, next, requests, retryAfterSeconds = null] = WHEN_ISSUING[name]
    setup.server.failAlways(row, 'issue')
    const { issuer, logged, metrics } = setup.subject()
    const failure = failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER))
    const requestId = requestIdOf(row.body)
    expect(failure).toEqual({ code, next, retryAfterSeconds, requestId, message: failure.message })
    expect(failure.message).toMatch(/^127\.0\.0\.1:\d+ [^\n]+[^.\n]$/)
    expect(setup.routes()).toBe(requests)
    expect(metrics.at(-1)).toMatchObject({ route: 'issue', code: String(row.status) })
    expect(logged.at(-1)?.fields).toMatchObject({
      route: 'issue',
      status: String(row.status),
      request_id: requestId,
    })
    expect(issuer.health().reachable).toBe(true)
  })

  test('to log in', async () => {
    const row = errorRow(name)
    const [code, next, retryAfterSeconds = null] = WHEN_LOGGING_IN[name]
    setup.server.failAlways(row, 'login')
    const { issuer } = setup.subject()
    const failure = failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure).toMatchObject({ code, next, retryAfterSeconds, requestId: requestIdOf(row.body) })
    expect(setup.routes()).toBe('login')
  })
})

test.each([
  { status: 402, code: 'ISSUER_REJECTED', next: 'administrator' },
  { status: 405, code: 'ISSUER_REJECTED', next: 'administrator' },
  { status: 407, code: 'ISSUER_REJECTED', next: 'administrator' },
  { status: 408, code: 'ISSUER_BUSY', next: 'issuer-backoff' },
  { status: 502, code: 'ISSUER_BUSY', next: 'issuer-backoff' },
  { status: 503, code: 'ISSUER_BUSY', next: 'issuer-backoff' },
  { status: 403, code: 'ISSUER_FORBIDDEN', next: 'administrator' },
  { status: 404, code: 'ISSUER_NOT_FOUND', next: 'administrator' },
  { status: 200, code: 'ISSUER_INVALID_RESPONSE', next: 'key-backoff' },
])('a web page with status $status', async ({ status, code, next }) => {
  setup.server.failAlways({ kind: 'html', status }, 'issue')
  const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
  expect(failure).toMatchObject({ code, next, requestId: null })
  expect(failure.message).not.toContain('<')
  expect(setup.routes()).toBe(ONCE)
})

describe('what a message says', () => {
  test('the words of a list', async () => {
    setup.server.failNext(errorRow('validation'), 1, 'issue')
    const { message } = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(message).toContain('rejected the request: "body.publicKey: Required" (422 ValidationFailure)')
  })

  test.each([
    {
      name: 'for another host',
      details: undefined,
      says: `the identity's permissions for this: issue-host-cert on ssh-hosts where {"hostname":{"$eq":"web2.example.com"}}`,
    },
    { name: 'none', details: [], says: "the identity's permissions for this: none" },
    {
      name: 'lists of actions and subjects, and a prohibition',
      details: [
        { action: ['read', 'issue-host-cert'], subject: ['ssh-hosts'] },
        { action: 'issue-host-cert', subject: 'ssh-hosts', inverted: true, conditions: {} },
      ],
      says: "the identity's permissions for this: read, issue-host-cert on ssh-hosts; not issue-host-cert on ssh-hosts",
    },
    { name: 'of another form', details: ['a', { b: 1 }], says: 'details: ["a",{"b":1}]' },
  ])('what the identity is permitted: $name', async ({ details, says }) => {
    const row = errorRow('permission-denied', details === undefined ? {} : { details })
    setup.server.failNext(row, 1, 'issue')
    const { message } = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    const refusal =
      'does not permit it: "You are not allowed to issue-host-cert on ssh-hosts" (403 PermissionDenied)'
    expect(message.slice(message.indexOf(' ') + 1)).toBe(`${refusal}; ${says}`)
  })

  test('no permissions where the answer is not about them', async () => {
    setup.server.failNext({ status: 400, body: { error: 'BadRequest', details: [] } }, 1, 'issue')
    const { message } = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(message).toMatch(/^\S+ rejected the request \(400 BadRequest\)$/)
  })

  test.each([
    { status: 408, words: 'did not receive the request in time' },
    { status: 429, words: 'limits the rate of requests' },
    { status: 500, words: 'has an internal error' },
    { status: 503, words: 'has an internal error' },
  ])('why it is busy: $status', async ({ status, words }) => {
    setup.server.failNext({ status, body: {} }, 1, 'issue')
    const { message } = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(message).toMatch(new RegExp(`^\\S+ ${words} \\(${status}\\)$`))
  })

  test('a wrong address', async () => {
    const wrong = setup.subject({ url: `${setup.server.url}/wrong` })
    const { message, code } = failureOf(await wrong.issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(code).toBe('ISSUER_NOT_FOUND')
    expect(message).toMatch(
      /has nothing at \/wrong\/api\/v1\/auth\/universal-auth\/login: issuer\.url is wrong/,
    )
  })

  test('nothing that could forge a log line or fill it', async () => {
    const message = `a\nb\u001b[31m\u009b\u202e${'xxx '.repeat(2500)}`
    setup.server.failNext(errorRow('forbidden-ip', { message }), 1, 'issue')
    const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure.message).toContain(String.raw`"a\nb\u001b[31m\u009b\u202exxx`)
    expect(failure.message).toMatch(/^[\x20-\x7e…]{100,500}$/)
  })

  test('nor details that could', async () => {
    const details = [{ action: `a\nb\u001b[31m\u202e${'xxx '.repeat(2500)}`, subject: 'ssh-hosts' }]
    setup.server.failNext(errorRow('permission-denied', { details }), 1, 'issue')
    const { message } = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(message).toContain(String.raw`for this: a b\u001b[31m\u202exxx`)
    expect(message).toMatch(/^[\x20-\x7e…]{100,500}$/)
  })
})

test('a time in Retry-After is counted from the Date of the answer', async () => {
  const headers = { 'retry-after': 'Sun, 06 Nov 1994 08:51:07 GMT', date: 'Sun, 06 Nov 1994 08:49:37 GMT' }
  setup.server.failNext({ status: 503, headers }, 1, 'issue')
  const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
  expect(failure).toMatchObject({ code: 'ISSUER_BUSY', retryAfterSeconds: 90 })
})

test.each([
  { status: 429, want: 54 },
  { status: 503, want: 54 },
  // A fault, whatever it says.
  { status: 500, want: null },
  { status: 502, want: null },
  { status: 504, want: null },
  { status: 408, want: null },
])('Retry-After with status $status: $want', async ({ status, want }) => {
  setup.server.failNext({ status, headers: { 'retry-after': '54' } }, 1, 'issue')
  const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
  expect(failure).toMatchObject({ code: 'ISSUER_BUSY', retryAfterSeconds: want })
})

test.each([
  { kind: 'reset' } as const,
  { kind: 'reset', done: true } as const,
  { kind: 'half-body' } as const,
])('$kind $done', async (fault) => {
  setup.server.failNext(fault, 1, 'issue')
  const { issuer } = setup.subject()
  expect(failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER))).toMatchObject({
    code: 'ISSUER_UNREACHABLE',
    next: 'issuer-backoff',
  })
  expect(issuer.health().reachable).toBe(false)
  expect((await issuer.issue(requestFor(setup.publicKey), NEVER)).ok).toBe(true)
})

function requestIdOf(body: unknown): string | null {
  return typeof body === 'object' && body !== null && 'reqId' in body ? String(body.reqId) : null
}
