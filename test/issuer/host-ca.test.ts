import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { errorRow } from '../support/local-issuer.ts'
import { NEVER } from './harness.ts'
import { setUp, type Setup } from './local-setup.ts'

let setup: Setup

beforeAll(async () => {
  setup = await setUp()
})
afterAll(() => setup[Symbol.asyncDispose]())
beforeEach(() => setup.server.heal())

test('the CA key, without a login', async () => {
  const { issuer, metrics } = setup.subject()
  const answer = await issuer.hostCa(NEVER)
  if (!answer.ok) throw new Error(answer.failure.message)
  const lines = answer.keys.map(({ type, blob }) => `${type} ${blob.toString('base64')}`)
  expect(lines).toEqual([setup.server.caPublicKey.split(' ').slice(0, 2).join(' ')])
  expect(setup.routes()).toBe('host-ca')
  expect(metrics).toMatchObject([{ route: 'host-ca', code: '200' }])
  expect(issuer.health()).toMatchObject({ reachable: true })
})

describe('when it cannot be had', () => {
  test.each([
    {
      name: 'no such route',
      fault: errorRow('route-not-found'),
      code: 'ISSUER_NOT_FOUND',
      noSuchRoute: true,
    },
    {
      name: 'a load balancer’s page: nothing is there',
      fault: { kind: 'html', status: 404 } as const,
      code: 'ISSUER_NOT_FOUND',
      noSuchRoute: false,
    },
    {
      name: 'a load balancer’s words',
      fault: { status: 404, body: '404 page not found\n' },
      code: 'ISSUER_NOT_FOUND',
      noSuchRoute: false,
    },
    {
      name: 'a gateway’s JSON',
      fault: { status: 404, body: { message: 'no Route matched with those values' } },
      code: 'ISSUER_NOT_FOUND',
      noSuchRoute: false,
    },
    {
      name: 'another server’s JSON',
      fault: { status: 404, body: { statusCode: 404, error: 'Not Found', message: 'Not Found' } },
      code: 'ISSUER_NOT_FOUND',
      noSuchRoute: false,
    },
    {
      name: 'the issuer’s words as a web page',
      fault: { ...errorRow('route-not-found'), headers: { 'content-type': 'text/html' } },
      code: 'ISSUER_NOT_FOUND',
      noSuchRoute: false,
    },
    { name: 'no such host', fault: errorRow('host-not-found'), code: 'ISSUER_NOT_FOUND', noSuchRoute: false },
    { name: 'busy', fault: errorRow('rate-limited'), code: 'ISSUER_BUSY', noSuchRoute: false },
    { name: 'forbidden', fault: errorRow('forbidden-ip'), code: 'ISSUER_FORBIDDEN', noSuchRoute: false },
    {
      name: 'a login is wanted',
      fault: errorRow('token-missing'),
      code: 'ISSUER_UNAUTHORIZED',
      noSuchRoute: false,
    },
    {
      name: 'a web page',
      fault: { kind: 'html', status: 200 } as const,
      code: 'ISSUER_INVALID_RESPONSE',
      noSuchRoute: false,
    },
    {
      name: 'nothing',
      fault: { status: 200, body: '' },
      code: 'ISSUER_INVALID_RESPONSE',
      noSuchRoute: false,
    },
    {
      name: 'something else',
      fault: { status: 200, body: 'ssh-ed25519 AAAA' },
      code: 'ISSUER_INVALID_RESPONSE',
      noSuchRoute: false,
    },
    { name: 'a reset', fault: { kind: 'reset' } as const, code: 'ISSUER_UNREACHABLE', noSuchRoute: false },
  ])('$name', async ({ fault, code, noSuchRoute }) => {
    setup.server.failNext(fault, 1, 'host-ca')
    expect(await setup.subject().issuer.hostCa(NEVER)).toMatchObject({
      ok: false,
      failure: { code },
      noSuchRoute,
    })
  })
})
