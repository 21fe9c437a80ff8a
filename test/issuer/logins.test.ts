import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Login } from '../../agent/config/config.ts'
import { diagnoseIssuer } from '../../agent/doctor/issuer-diagnosis.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { errorRow } from '../support/local-issuer.ts'
import type { RawAnswer } from '../support/local-issuer/error-rows.ts'
import { type LoginRequest, type LoginServer, startLoginServer } from '../support/platform/login-server.ts'
import { type MetadataServer, startMetadataServer } from '../support/platform/metadata.ts'
import { IDENTITY, type LoginCase, makeMachine, METHODS } from './every-login.ts'
import { makeSubject, NEVER, requestFor, type Subject } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

const NAMES = Object.keys(METHODS)
/** Those with a login. */
const LOGINS = NAMES.filter((name) => name !== 'token')
const TOKEN_SECONDS = 1000

let now: number
let setup: Setup
let platform: MetadataServer
let server: LoginServer
let method: LoginCase

beforeAll(async () => {
  setup = await setUp({ now: () => now * 1000 })
})
afterAll(() => setup[Symbol.asyncDispose]())
beforeEach(async () => {
  // TLS goes by the system's clock.
  now = Math.floor(Date.now() / 1000)
  platform = await startMetadataServer(makeMachine(() => now))
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
  vi.stubEnv('HOSTCERTD_TEST_METADATA', platform.url)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await server[Symbol.asyncDispose]()
  await platform[Symbol.asyncDispose]()
})

async function begin(name: string): Promise<Subject> {
  const made = METHODS[name]?.({ setup, platform, now: () => now })
  if (made === undefined) throw new Error(`no such method: ${name}`)
  method = made
  server = await startLoginServer({
    issuer: setup.server,
    methods: method.route === null ? {} : { [method.route]: method.verify },
    identityId: IDENTITY,
    organization: 'example',
    now: () => now * 1000,
    tokenTtlSeconds: TOKEN_SECONDS,
    ...(method.tls === undefined ? {} : { tls: method.tls }),
  })
  await method.give(0)
  if (method.tls !== undefined) await writeFile(serverCa(), method.tls.certificate)
  return subject()
}

const serverCa = (): string => join(setup.folder, 'server-ca.pem')
/** The server of a login by mutual TLS does nothing else. */
const issuerUrl = (): string => (method.tls === undefined ? server.url : setup.server.url)

function subject(auth: Login = method.auth(server)): Subject {
  const caFile = method.tls === undefined ? null : serverCa()
  return makeSubject({ url: issuerUrl(), sshHostId: setup.hostId, auth, caFile, now: () => now })
}

const issue = ({ issuer }: Subject) => issuer.issue(requestFor(setup.publicKey), NEVER)

describe.each(NAMES)('%s', (name) => {
  const logins = name === 'token' ? 0 : 1

  test('logs in, and issues with the token from then on', async () => {
    const one = await begin(name)
    expect(await issue(one)).toMatchObject({ ok: true })
    expect(await issue(one)).toMatchObject({ ok: true })
    expect(server.logins).toHaveLength(logins)
  })

  test('the proof is replaced, and the access token expires: it logs in again with the new proof', async () => {
    const one = await begin(name)
    expect(await issue(one)).toMatchObject({ ok: true })
    now += TOKEN_SECONDS + 1
    method.expect(1)
    const between = await issue(one)
    expect(between.ok).toBe(method.isReplaced === false)
    expect(between.ok ? 'login-backoff' : between.failure.next).toBe('login-backoff')
    expect(server.logins).toHaveLength(2 * logins)
    await method.give(1)
    expect(await issue(one)).toMatchObject({ ok: true })
    // A token whose end is known is not tried any more.
    const refused = one.metrics.filter(({ route, code }) => route === 'issue' && code !== '200')
    expect(refused).toHaveLength(1 - logins)
  })

  // A token has no login.
  if (name === 'token') return

  test.each([
    { what: 'expires', spoil: () => setup.server.expireTokens() },
    { what: 'is deleted', spoil: () => setup.server.revokeTokens() },
  ])('the access token $what at the issuer: one more login, with a new proof', async ({ spoil }) => {
    const one = await begin(name)
    expect(await issue(one)).toMatchObject({ ok: true })
    spoil()
    method.expect(1)
    await method.give(1)
    expect(await issue(one)).toMatchObject({ ok: true })
    expect(server.logins).toHaveLength(2)
  })

  test('names the organization', async () => {
    await begin(name)
    const auth = { ...method.auth(server), organization: 'example' } as Login
    expect(await issue(subject(auth))).toMatchObject({ ok: true })
    expect(server.logins).toMatchObject([{ route: method.route, body: { organizationSlug: 'example' } }])
  })
})

/** By method: what the issuer refuses, and the status by which it says that it could not check it, and why most likely. */
const REFUSED: Readonly<Record<string, { what: string; platform?: [status: number, likely: string] }>> = {
  'universal-auth': { what: 'the client id or secret' },
  kubernetes: { what: 'the service account token', platform: [400, 'the issuer got no review of it'] },
  oidc: { what: 'the token' },
  jwt: { what: 'the JWT', platform: [500, 'most likely the issuer could not get the key of its signer'] },
  spiffe: { what: 'the JWT-SVID' },
  'jwt signed by the host': { what: 'the JWT' },
  aws: {
    what: 'the signed request',
    platform: [500, 'most likely AWS refused the signed request, or the issuer failed'],
  },
  gcp: { what: "the service account's token", platform: [500, 'most likely Google Cloud refused it'] },
  azure: {
    what: "the managed identity's token",
    platform: [500, 'most likely the issuer could not get the keys of the tenant'],
  },
  'gcp with a key file': {
    what: "the service account's token",
    platform: [500, 'most likely the issuer could not get the keys of this service account'],
  },
  ldap: { what: 'the user name or password' },
  'tls-cert': { what: 'the client certificate' },
  oci: {
    what: "the signature of this host's API key",
    platform: [500, 'most likely Oracle Cloud refused it'],
  },
  alicloud: {
    what: "the signature of this host's access key",
    platform: [500, 'most likely Alibaba Cloud refused it'],
  },
}

interface Refusal {
  readonly says: string
  readonly answer: RawAnswer
  readonly code: string
  readonly next: string
  readonly words: string
}

const answered = (statusCode: number, error: string, message: string): RawAnswer => ({
  status: statusCode,
  body: { reqId: 'req-1', statusCode, error, message },
})

function refusalsOf(name: string): readonly Refusal[] {
  const { what, platform: judge } = REFUSED[name] ?? { what: '' }
  const refused = { code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff', words: `refused ${what}` }
  const forbidden = { code: 'ISSUER_FORBIDDEN', next: 'login-backoff', words: 'does not permit the login' }
  const busy = { code: 'ISSUER_BUSY', next: 'issuer-backoff', words: 'internal error' }
  const byPlatform = {
    code: 'LOGIN_PLATFORM',
    next: 'login-backoff',
    words: judge?.[1] ?? '',
  }
  const no = 'Access denied: not allowed'
  return [
    {
      says: '400',
      answer: answered(400, 'BadRequest', no),
      ...(judge?.[0] === 400 ? byPlatform : refused),
    },
    { says: '401', answer: answered(401, 'UnauthorizedError', no), ...refused },
    { says: '403', answer: answered(403, 'ForbiddenError', no), ...forbidden },
    { says: '403 TokenError', answer: answered(403, 'TokenError', 'jwt expired'), ...refused },
    { says: '404', answer: errorRow('unknown-client-id'), ...refused, words: 'does not have this method' },
    { says: '422', answer: errorRow('validation'), ...refused },
    {
      says: '429',
      answer: errorRow('rate-limited'),
      code: 'ISSUER_BUSY',
      next: 'issuer-backoff',
      words: 'limits the rate',
    },
    {
      says: 'a lock',
      answer: errorRow('identity-locked'),
      code: 'LOGIN_LOCKED',
      next: 'login-backoff',
      words: 'has locked the login of this identity',
    },
    { says: '500', answer: errorRow('server-error'), ...(judge?.[0] === 500 ? byPlatform : busy) },
    {
      says: '500, by something in between',
      answer: { status: 500, body: { message: 'from a proxy' } },
      ...busy,
    },
    { says: '502, with a web page', answer: { status: 502, body: '<html>Bad Gateway</html>' }, ...busy },
  ]
}

test.each(LOGINS.flatMap((name) => refusalsOf(name).map((refusal) => Object.assign(refusal, { name }))))(
  '$name: the issuer answers $says to the login: $code, $next, after one login',
  async ({ name, answer, code, next, words }) => {
    const one = await begin(name)
    server.instead = () => answer
    const failure = failureOf(await issue(one))
    expect(failure).toMatchObject({ code, next })
    expect(failure.message).toContain(words)
    expect(server.logins).toHaveLength(1)
    expect(one.metrics).toMatchObject([{ route: 'login', code: String(answer.status) }])
  },
)

test.each(LOGINS)('%s: a 404 with an organization: that may be wrong too', async (name) => {
  await begin(name)
  const one = subject({ ...method.auth(server), organization: 'another' } as Login)
  const failure = failureOf(await issue(one))
  expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
  expect(failure.message).toMatch(
    /, or auth\.organization is wrong: "Sub organization with slug another not found" \(404 NotFound\)/,
  )
})

const ENCODINGS: Readonly<Record<string, (text: string) => string>> = {
  raw: (text) => text,
  'in JSON': (text) =>
    JSON.stringify(text)
      .slice(1, -1)
      .replaceAll('/', String.raw`\/`),
  'in a URL': encodeURIComponent,
  'in base64': (text) => Buffer.from(text).toString('base64'),
}
/** A secret may be cut: so much of it is recognized. */
const RECOGNIZED = 24

describe.each(NAMES)('%s: no secret leaves the process', (name) => {
  test.each(Object.entries(ENCODINGS))('when the server repeats it, %s', async (_, encode) => {
    await begin(name)
    const sent = new Set<string>()
    const repeat = (status: number) => (login: LoginRequest | null) => {
      const secrets = method.secrets(login).filter((secret) => secret !== '')
      for (const secret of secrets) sent.add(secret)
      const text = secrets.map(encode).join(' ')
      const body = { reqId: 'req-1', statusCode: status, error: text, message: text, details: [text] }
      return { status, body, headers: { location: `/${encodeURIComponent(text)}` } }
    }
    const everything: unknown[] = []
    for (const status of [302, 400, 401, 403, 404, 422, 429, 500]) {
      const one = subject()
      if (name === 'token') setup.server.failNext(repeat(status)(null), 1, 'issue')
      else server.instead = repeat(status)
      const failure = failureOf(await issue(one))
      // As /status has it, and `hostcertd_issuer_requests_total`.
      everything.push(failure, one.logged, one.metrics, one.issuer.health())
    }
    everything.push(await findings())
    server.instead = null
    const accepted = subject()
    everything.push(await issue(accepted), accepted.logged, accepted.metrics, await findings())
    const said = JSON.stringify(everything)
    expect(said).toContain('[secret]')
    expect(sent.size).toBeGreaterThan(0)
    const written = [...sent, ...server.tokens].flatMap((secret) => [secret, encode(secret)])
    const needles = written.flatMap((text) => [text, JSON.stringify(text).slice(1, -1)])
    expect(needles.filter((needle) => said.includes(needle.slice(0, RECOGNIZED)))).toEqual([])
  })
})

/** What `hostcertd doctor` says about the issuer, and logs at it. */
async function findings(): Promise<unknown> {
  const auth = method.auth(server)
  const issuer = {
    kind: 'http',
    url: issuerUrl(),
    sshHostId: setup.hostId,
    caFile: method.tls === undefined ? null : serverCa(),
    timeoutMilliseconds: 5000,
    auth,
  } as const
  const log = new RecordingLog()
  const way = { issuer, shownAuth: auth, environment: {}, clock: new ManualClock(now), signal: NEVER }
  const question = { login: true, pinned: null, principals: null, issueFor: [] }
  const found = await diagnoseIssuer(way, question, { version: '1', log })
  expect(found.find(({ step }) => step === 'login')).toBeDefined()
  return [found, log]
}
