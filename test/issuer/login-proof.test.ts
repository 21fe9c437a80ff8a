import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { limitOf } from '../../agent/issuer/exchange-client.ts'
import { LONGEST_PROOF_MILLISECONDS } from '../../agent/issuer/exchange-protocol.ts'
import { HttpExchange } from '../../agent/issuer/http-exchange.ts'
import { HealthRecord } from '../../agent/issuer/issuer-health.ts'
import { type LoginMethod, LoginSession } from '../../agent/issuer/logins/login.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { TlsRoots } from '../../agent/issuer/tls-roots.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { errorRow } from '../support/local-issuer.ts'
import { NEVER, requestFor } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

let setup: Setup

beforeEach(async () => {
  setup = await setUp()
})
afterEach(() => setup[Symbol.asyncDispose]())

/** A session of a method whose proof is this one, for logins at the local issuer. */
function sessionOf(prove: LoginMethod['prove'], proofMilliseconds?: number) {
  const secrets = new Secrets()
  const clock = new ManualClock(1_800_000_000)
  const counted: string[] = []
  const metrics = {
    issuerRequest: (route: string, code: string) => void counted.push(`${route} ${code}`),
    loginFailed: (method: string, code: string) => void counted.push(`${method} ${code}`),
  }
  const settings = { url: setup.server.url, timeoutMilliseconds: 5000, version: '1' }
  const ports = { clock, secrets, metrics, log: new RecordingLog() }
  const exchange = new HttpExchange(settings, new TlsRoots(null), new HealthRecord(clock), secrets, ports)
  const method = { route: 'jwt-auth', what: 'the JWT', platform: null, hints: {}, prove }
  const auth = { method: 'jwt', organization: null } as const
  const session = new LoginSession(auth, async () => method, exchange, ports, proofMilliseconds)
  return { session, secrets, counted }
}

describe('a proof that fails on this host', () => {
  test('one that does not come is given up, even if it ignores its signal', async () => {
    const never = Promise.withResolvers<never>()
    const { session, counted } = sessionOf(() => never.promise, 50)
    expect(await session.token(null, NEVER)).toMatchObject({
      kind: 'failed',
      failure: {
        code: 'LOGIN_PLATFORM',
        next: 'local',
        message: 'the proof of identity for the login by jwt did not finish within 0.05 s',
      },
    })
    expect(counted).toEqual(['jwt LOGIN_PLATFORM'])
    expect(setup.routes()).toBe('')
  })

  test('a fault of another kind is a failure in one line, without secrets', async () => {
    const { session, secrets, counted } = sessionOf(async () => {
      secrets.add('hunter2hunter2')
      throw new TypeError('cannot sign\nwith hunter2hunter2\u001b[2J')
    })
    expect(await session.token(null, NEVER)).toMatchObject({
      kind: 'failed',
      failure: {
        code: 'LOGIN_PLATFORM',
        next: 'local',
        message: 'cannot make the proof of identity: cannot sign with [secret] [2J',
      },
    })
    expect(counted).toEqual(['jwt LOGIN_PLATFORM'])
  })

  test('the end of the program is none', async () => {
    const stop = new AbortController()
    const { session, counted } = sessionOf((signal) => {
      stop.abort(new Error('stopping'))
      return Promise.reject(signal.reason as Error)
    })
    await expect(session.token(null, stop.signal)).rejects.toThrow('stopping')
    expect(counted).toEqual([])
  })
})

describe('failed logins are counted', () => {
  test('for want of a credential', async () => {
    const { clientId } = setup
    const clientSecretFile = '/nowhere/client-secret'
    const auth = {
      method: 'universal-auth',
      organization: null,
      clientId: { value: clientId },
      clientSecretFile,
    } as const
    const { issuer, metrics, loginFailures } = setup.subject({ auth })
    expect(failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER))).toMatchObject({ next: 'local' })
    expect(loginFailures).toEqual(['universal-auth CREDENTIAL_UNREADABLE'])
    expect(metrics).toEqual([])
  })

  test('by the refusal of the issuer, once; and none that succeeds', async () => {
    const { issuer, metrics, loginFailures } = setup.subject()
    setup.server.failNext(errorRow('wrong-secret'), 1, 'login')
    await issuer.issue(requestFor(setup.publicKey), NEVER)
    expect(await issuer.issue(requestFor(setup.publicKey), NEVER)).toMatchObject({ ok: true })
    expect(loginFailures).toEqual(['universal-auth ISSUER_UNAUTHORIZED'])
    expect(metrics.map(({ route, code }) => `${route} ${code}`)).toEqual([
      'login 401',
      'login 200',
      'issue 200',
    ])
  })
})

describe('the exchange has time for', () => {
  const hostKey = { name: 'key', publicKey: 'x', inPlace: null }
  const ask = 'diagnose' as const
  const diagnosis = { ask, login: true, pinned: null, principals: null, issueFor: [hostKey] }

  test('two logins, the proofs included, and two requests to issue', () => {
    const limit = limitOf({ ask: 'issue', ...requestFor(setup.publicKey) }, 1000)
    expect(limit).toBeGreaterThan(4 * 1000 + 2 * LONGEST_PROOF_MILLISECONDS)
  })

  test('as much for each key of a diagnosis', () => {
    const [none, one] = [[], [hostKey]].map((issueFor) => limitOf({ ...diagnosis, issueFor }, 1000))
    expect(none).toBeGreaterThan(4 * 1000 + LONGEST_PROOF_MILLISECONDS)
    expect((one ?? 0) - (none ?? 0)).toBe(4 * 1000 + 2 * LONGEST_PROOF_MILLISECONDS)
  })
})
