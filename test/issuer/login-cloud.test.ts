import { generateKeyPairSync } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Login } from '../../agent/config/config.ts'
import { openChannel } from '../../agent/issuer/exchange-channel.ts'
import { readCredentialFile } from '../../agent/issuer/logins/credential-file.ts'
import { methodOf } from '../../agent/issuer/logins/methods.ts'
import { platformUrl } from '../../agent/issuer/logins/platform.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { type AwsKey, awsLogin } from '../support/platform/aws.ts'
import { makeJwtSigner } from '../support/platform/jwks.ts'
import { azureLogin, gcpKeyLogin, gcpLogin } from '../support/platform/login-methods.ts'
import { type LoginServer, startLoginServer, type Verify } from '../support/platform/login-server.ts'
import {
  CONTAINER_PATH,
  CONTAINER_TOKEN,
  type Machine,
  type MetadataServer,
  startMetadataServer,
} from '../support/platform/metadata.ts'
import { AZURE_RESOURCE, IDENTITY, makeMachine, RULES } from './every-login.ts'
import {
  closedPort,
  makeSubject,
  NEVER,
  requestFor,
  sendJson,
  startRawServer,
  type Subject,
} from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

const NOW = 1_795_759_200
const google = makeJwtSigner('RS256', 'key-1')
const stranger = makeJwtSigner('RS256', 'key-1')

let setup: Setup
let now: number
let platform: MetadataServer

beforeEach(async () => {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
  now = NOW
  setup = await setUp({ now: () => now * 1000 })
  platform = await startMetadataServer({ ...makeMachine(() => now), jwt: (query) => tokenFor(query) })
  vi.stubEnv('HOSTCERTD_TEST_METADATA', platform.url)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await platform[Symbol.asyncDispose]()
  await setup[Symbol.asyncDispose]()
})

/** What the platform gives this machine. */
function tokenFor(query: URLSearchParams, signer = google, change: object = {}): string {
  const aud = query.get('audience') ?? query.get('resource')
  const { issuer: iss, subject: sub } = RULES
  return signer.sign({ iss, sub, aud, exp: now + 300, ...change })
}

const googleKeys = () => [google.published]
const gcp = gcpLogin({ ...RULES, audience: IDENTITY, keys: googleKeys })
const azure = azureLogin({ ...RULES, audience: AZURE_RESOURCE, keys: googleKeys })

/** A service that is Google's says so. */
const GOOGLE = { 'metadata-flavor': 'Google' }
const common = { organization: null, identityId: { value: IDENTITY } }
const AWS = { ...common, method: 'aws', region: null, keys: null } as const
const GCP = { ...common, method: 'gcp', keyFile: null } as const
const AZURE_LOGIN = { ...common, method: 'azure', resource: AZURE_RESOURCE, clientId: null } as const

const aws = (): Verify => awsLogin(() => [platform.machine.keys], { allowed: true })
const METHODS = {
  aws: { route: 'aws-auth', auth: AWS, verify: aws },
  gcp: { route: 'gcp-auth', auth: GCP, verify: () => gcp },
  azure: { route: 'azure-auth', auth: AZURE_LOGIN, verify: () => azure },
} as const
const NAMES = ['aws', 'gcp', 'azure'] as const

async function serve(route: string, verify: Verify): Promise<LoginServer> {
  return startLoginServer({
    issuer: setup.server,
    methods: { [route]: verify },
    identityId: IDENTITY,
    now: () => now * 1000,
    tokenTtlSeconds: 600,
  })
}

function subjectOf(server: LoginServer, auth: Login): Subject {
  return makeSubject({ url: server.url, sshHostId: setup.hostId, auth, now: () => now })
}

const issue = ({ issuer }: Subject) => issuer.issue(requestFor(setup.publicKey), NEVER)

describe.each(NAMES)('%s', (name) => {
  const { route, auth, verify } = METHODS[name]

  test.each<{ what: string; fault: Machine['fault']; words: RegExp }>([
    { what: 'does not answer', fault: 'silent', words: /no answer within 2 s/ },
    { what: 'answers late', fault: 'slow', words: /no answer within 2 s/ },
    { what: 'stops in the middle of its answer', fault: 'stalled', words: /no answer within 2 s/ },
    { what: 'is no HTTP server', fault: 'not-http', words: /cannot reach the .*metadata service/ },
    { what: 'is switched off', fault: { status: 403 }, words: /403/ },
    {
      what: 'says why it refuses',
      fault: { status: 403, body: 'disabled by an administrator', headers: GOOGLE },
      words: /403: disabled by an administrator/,
    },
    { what: 'has too many requests', fault: { status: 429, headers: GOOGLE }, words: /429/ },
    { what: 'is being replaced', fault: { status: 410, headers: GOOGLE }, words: /410/ },
    { what: 'answers at length', fault: { status: 200, body: 'x'.repeat(70_000) }, words: /64 KiB/ },
    {
      what: 'answers in controls',
      fault: { status: 200, body: '\x1b[2J{"a":', headers: GOOGLE },
      words: /metadata service/,
    },
    {
      what: 'answers with a page',
      fault: { status: 200, body: '<html>Log in</html>', headers: { 'content-type': 'text/html' } },
      words: /metadata service/,
    },
    {
      what: 'answers with an empty text',
      fault: { status: 200, body: ' \n', headers: GOOGLE },
      words: /metadata service/,
    },
  ])('a metadata service that $what: no login', async ({ fault, words }) => {
    platform.machine.fault = fault
    await using server = await serve(route, verify())
    const subject = subjectOf(server, auth)
    const began = performance.now()
    const failure = failureOf(await issue(subject))
    expect(performance.now() - began).toBeLessThan(8000)
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toMatch(words)
    expect(failure.message).not.toMatch(/[\p{Cc}<]/u)
    expect(failure.message.length).toBeLessThan(1000)
    expect(server.logins).toEqual([])
    expect(subject.metrics).toEqual([])
    expect(subject.loginFailures).toEqual([`${auth.method} LOGIN_PLATFORM`])
  })

  test('a redirect of the metadata service is not followed', async () => {
    await using other = await startRawServer((_, response) => sendJson(response, 200, {}))
    platform.machine.fault = { status: 302, headers: { location: other.url, ...GOOGLE } }
    await using server = await serve(route, verify())
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure.code).toBe('LOGIN_PLATFORM')
    expect(failure.message).toMatch(/302/)
    expect(other.seen).toEqual([])
    expect(platform.seen).toHaveLength(1)
  })

  test('the metadata service is asked until the caller gives up, and no longer', async () => {
    platform.machine.fault = 'silent'
    await using server = await serve(route, verify())
    const caller = new AbortController()
    const answer = subjectOf(server, auth).issuer.issue(requestFor(setup.publicKey), caller.signal)
    await expect.poll(() => platform.seen.length).toBe(1)
    const began = performance.now()
    const reason = new Error('the pass is over')
    caller.abort(reason)
    await expect(answer).rejects.toBe(reason)
    expect(performance.now() - began).toBeLessThan(1500)
  })

  test('no metadata service here', async () => {
    vi.stubEnv('HOSTCERTD_TEST_METADATA', `http://127.0.0.1:${String(await closedPort())}`)
    await using server = await serve(route, verify())
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toMatch(/cannot reach the .*metadata service of .*ECONNREFUSED.*; is this /)
  })

  test('the proxy of the environment is not for the metadata service', async () => {
    vi.stubEnv('HTTP_PROXY', 'http://127.0.0.1:1')
    vi.stubEnv('http_proxy', 'http://127.0.0.1:1')
    await using server = await serve(route, verify())
    vi.stubEnv('NO_PROXY', new URL(server.url).host)
    await issue(subjectOf(server, auth))
    expect(platform.seen.length).toBeGreaterThan(0)
    expect(server.logins).toHaveLength(1)
  })
})

describe('refusals', () => {
  const refused = async (auth: Login, route: string, verify: Verify) => {
    await using server = await serve(route, verify)
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(server.logins).toHaveLength(1)
    return failure
  }
  const spoil = (change: Partial<AwsKey>): Verify =>
    awsLogin(() => [{ ...platform.machine.keys, ...change }], { allowed: true })

  test.each([
    { what: 'secret', change: { secretAccessKey: 'another' } },
    { what: 'session token', change: { sessionToken: 'another' } },
    { what: 'key id', change: { accessKeyId: 'another' } },
  ])('AWS knows another $what: most likely AWS, and a wait for the login', async ({ change }) => {
    const failure = await refused(AWS, 'aws-auth', spoil(change))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toMatch(/most likely AWS refused the signed request, or the issuer failed/)
  })

  test('a clock that is wrong by more than a quarter of an hour', async () => {
    await using server = await startLoginServer({
      issuer: setup.server,
      methods: { 'aws-auth': aws() },
      identityId: IDENTITY,
      now: () => (now + 901) * 1000,
    })
    expect(failureOf(await issue(subjectOf(server, AWS)))).toMatchObject({ code: 'LOGIN_PLATFORM' })
  })

  test('a region that there is not', async () => {
    const failure = await refused({ ...AWS, region: 'nowhere' }, 'aws-auth', aws())
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/; check the region \(auth\.region\)$/)
  })

  test('an account that the identity does not allow', async () => {
    const failure = await refused(
      AWS,
      'aws-auth',
      awsLogin(() => [platform.machine.keys], { allowed: false }),
    )
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/allows this account/)
  })

  test('a token that Google Cloud did not sign', async () => {
    platform.machine.jwt = (query) => tokenFor(query, stranger)
    const failure = await refused(GCP, 'gcp-auth', gcp)
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toMatch(/most likely Google Cloud refused/)
  })

  test('the audience of an Azure token: a 403 TokenError, and no second login', async () => {
    const auth = { ...AZURE_LOGIN, resource: 'https://vault.azure.net' }
    const failure = await refused(auth, 'azure-auth', azure)
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/check the clock, and that the audience \(auth\.resource\)/)
  })

  test.each([
    {
      what: 'has expired',
      change: { exp: NOW - 1 },
      words: /jwt expired" \(403 TokenError\); check the clock/,
    },
    { what: 'is of another tenant', change: { iss: 'x' }, words: /TokenError\); .* and the tenant/ },
    {
      what: 'is not that of this principal',
      change: { sub: 'x' },
      words: /\(401 .* this service principal$/,
    },
  ])('an Azure token that $what', async ({ change, words }) => {
    platform.machine.jwt = (query) => tokenFor(query, google, change)
    const failure = await refused(AZURE_LOGIN, 'azure-auth', azure)
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(words)
  })
})

describe('a platform that answers', () => {
  const BUSY = '; the service is busy; hostcertd tries again'
  const IDENTITY_NOT_FOUND = '{"error":"invalid_request","error_description":"Identity not found"}'
  const rows = [
    {
      auth: AZURE_LOGIN,
      status: 400,
      text: IDENTITY_NOT_FOUND,
      end: '; assign a managed identity to this machine, and check auth.resource',
    },
    {
      auth: { ...AZURE_LOGIN, clientId: 'mine' },
      status: 400,
      text: IDENTITY_NOT_FOUND,
      end: '; assign the managed identity of auth.client_id to this machine, and check auth.resource',
    },
    ...[403, 404].map((status) => ({
      auth: AZURE_LOGIN,
      status,
      text: 'no',
      end: ' gives no token (STATUS: no)',
    })),
    ...[410, 429, 500, 503].map((status) => ({
      auth: AZURE_LOGIN,
      status,
      text: '',
      end: `(STATUS)${BUSY}`,
    })),
    { auth: GCP, status: 403, text: 'no', end: ' gives no identity token (STATUS: no)' },
    ...[429, 503].map((status) => ({ auth: GCP, status, text: '<html>', end: `(STATUS)${BUSY}` })),
    { auth: AWS, status: 403, text: '', end: "; switch the instance's metadata service on, with version 2" },
    { auth: AWS, status: 404, text: 'no', end: ' gives no session token (STATUS: no)' },
    { auth: AWS, status: 503, text: '', end: `(STATUS)${BUSY}` },
  ]
  const answering = async (auth: Login, answer: Parameters<typeof startRawServer>[0]) => {
    await using other = await startRawServer(answer)
    vi.stubEnv('HOSTCERTD_TEST_METADATA', other.url)
    await using server = await serve('unused', gcp)
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(server.logins).toEqual([])
    return failure.message
  }

  test.each(rows)('$auth.method $status "$text": $end', async ({ auth, status, text, end }) => {
    const message = await answering(auth, (_, response) => {
      response.writeHead(status, { 'metadata-flavor': 'Google' }).end(text)
    })
    expect(message.endsWith(end.replace('STATUS', String(status)))).toBe(true)
  })

  test('AWS with a code other than Success: its words, and what to do', async () => {
    const code = 'AssumeRoleUnauthorizedAccess'
    const message = await answering(AWS, ({ url = '' }, response) => {
      const keys = JSON.stringify({ Code: code, Message: 'EC2 cannot assume the role web.' })
      response.end(url.endsWith('/api/token') ? 'session' : url.endsWith('/web') ? keys : 'web')
    })
    expect(message).toContain(`(${code}: EC2 cannot assume the role web.); check that the role exists`)
  })

  test.each(NAMES)('%s with a redirect: it is not followed', async (name) => {
    const message = await answering(METHODS[name].auth, (_, response) => {
      response.writeHead(302, { location: platform.url, 'metadata-flavor': 'Google' }).end()
    })
    expect(message).toContain('(302)')
    expect(platform.seen).toEqual([])
  })
})

/** The failure of a login for which the platform gives no proof. */
async function noProof(name: (typeof NAMES)[number], change: Partial<Machine>, over: object = {}) {
  Object.assign(platform.machine, change)
  const { route, auth, verify } = METHODS[name]
  await using server = await serve(route, verify())
  const failure = failureOf(await issue(subjectOf(server, { ...auth, ...over })))
  expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
  expect(failure.message).not.toMatch(/[\p{Cc}]|canary/u)
  expect(server.logins).toEqual([])
  return failure
}

const ROLES = '/latest/meta-data/iam/security-credentials/'
const json = (body: object): Machine['fault'] => ({ status: 200, body })

describe('an AWS instance', () => {
  test.each<{ what: string; change: Partial<Machine>; words: RegExp; last: string }>([
    { what: 'without a role', change: { role: null }, words: /has no role: attach/, last: `GET ${ROLES}` },
    { what: 'with an empty list', change: { role: '' }, words: /has no role/, last: `GET ${ROLES}` },
    {
      what: 'whose role has no keys',
      change: { hasRoleKeys: false },
      words: /gives no keys of the role web-server \(404: Not Found\)/,
      last: `GET ${ROLES}web-server`,
    },
    {
      what: 'that loses the answer at its hop limit',
      change: { fault: 'hop-limit' },
      words: /no answer within 2 s; .*hop limit 2 if this is a container/,
      last: 'PUT /latest/api/token',
    },
    {
      what: 'whose session has expired',
      change: { fault: 'session-expired' },
      words: /names no role \(401\)/,
      last: `GET ${ROLES}`,
    },
    {
      what: 'that gives no session',
      change: { fault: { status: 401 } },
      words: /gives no session token \(401\)/,
      last: 'PUT /latest/api/token',
    },
    {
      what: 'whose session token is several lines',
      change: { fault: { status: 200, body: 'one\r\nX-Header: two' } },
      words: /gives no session token/,
      last: 'PUT /latest/api/token',
    },
    {
      what: 'without a usable region',
      change: { region: 'x.example.com/' },
      words: /the AWS region is not known: set auth\.region/,
      last: 'GET /latest/dynamic/instance-identity/document',
    },
  ])('$what', async ({ change, words, last }) => {
    expect((await noProof('aws', change)).message).toMatch(words)
    expect(platform.seen.at(-1)).toBe(last)
  })

  test.each([
    'web\r\nX-aws-ec2-metadata-token: x',
    'web\r\n\r\nGET /latest/user-data HTTP/1.1',
    '../../user-data',
    'a/b',
    'web?x=y',
    'web#x',
    'web%2f..',
    'web server',
    'rôle',
    'w'.repeat(65),
    '<html>',
  ])('a role named %j: nothing beyond its name is asked for', async (role) => {
    const second = role.split('\n')[0]?.trim() ?? ''
    await noProof('aws', { role })
    const allowed = [`GET ${ROLES}`, `GET ${ROLES}${second}`]
    expect(platform.seen.slice(1).filter((request) => !allowed.includes(request))).toEqual([])
    expect(platform.seen.length).toBeLessThanOrEqual(3)
  })

  test.each([
    { what: 'a list for a token', body: { AccessKeyId: 'A', SecretAccessKey: 'canary', Token: ['x'] } },
    { what: 'an empty secret', body: { AccessKeyId: 'A', SecretAccessKey: '', Token: 'canary' } },
    { what: 'a list', body: [] },
  ])('keys in the form of $what', async ({ body }) => {
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', CONTAINER_PATH)
    const failure = await noProof('aws', { fault: json(body) })
    expect(failure.message).toMatch(
      /container answered without a usable (?:AccessKeyId|SecretAccessKey|Token)/,
    )
  })
})

describe('a machine of Google Cloud', () => {
  const jwt = (): string => tokenFor(new URLSearchParams({ audience: IDENTITY }))

  test.each<{ what: string; change: () => Partial<Machine>; words: RegExp }>([
    {
      what: 'without a service account',
      change: () => ({ jwt: null }),
      words: /^this machine has no service account: attach one to it$/,
    },
    {
      what: 'that does not say that it is Google',
      change: () => ({ fault: { status: 200, body: jwt() } }),
      words: /^something else answers in place of the metadata service of Google Cloud/,
    },
    {
      what: 'that says that it is something else',
      change: () => ({ fault: { status: 200, body: jwt(), headers: { 'metadata-flavor': 'Amazon' } } }),
      words: /^something else answers in place of the metadata service of Google Cloud/,
    },
    {
      what: 'without a service account, which is not Google',
      change: () => ({ fault: { status: 404 } }),
      words: /^something else answers/,
    },
    { what: 'that gives no JWT', change: () => ({ jwt: () => 'canary' }), words: /its answer is no JWT/ },
    {
      what: 'that gives a JWT of 20 KiB',
      change: () => ({ jwt: () => `e30.${'x'.repeat(20_000)}.c2ln` }),
      words: /its answer is no JWT/,
    },
  ])('$what', async ({ change, words }) => {
    const failure = await noProof('gcp', change())
    expect(failure.message).toMatch(words)
    expect(failure.message).not.toContain('eyJ')
  })

  test.each([
    { what: 'has expired', change: { exp: NOW - 1 } },
    { what: 'is for another audience', change: { aud: 'another' } },
    { what: 'is of another issuer', change: { iss: 'https://other.example.com' } },
  ])('a token that $what: most likely Google refused it', async ({ change }) => {
    platform.machine.jwt = (query) => tokenFor(query, google, change)
    await using server = await serve('gcp-auth', gcp)
    const failure = failureOf(await issue(subjectOf(server, GCP)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toMatch(
      /could not check the service account's token: .*; most likely Google Cloud refused it/,
    )
  })

  test('an identity id that needs escaping reaches the audience whole', async () => {
    let audience: string | null = null
    platform.machine.jwt = (query) => {
      audience = query.get('audience')
      return tokenFor(query)
    }
    await using server = await serve('gcp-auth', gcp)
    await issue(subjectOf(server, { ...GCP, identityId: { value: 'a&format=x b' } }))
    expect(audience).toBe('a&format=x b')
  })
})

describe('a machine of Azure', () => {
  test.each<{ what: string; change: Partial<Machine>; over?: object; words: RegExp }>([
    {
      what: 'without a managed identity',
      change: { jwt: null },
      words:
        /400: .*Identity not found.*; assign a managed identity to this machine, and check auth\.resource/,
    },
    {
      what: 'without that managed identity',
      change: { identities: ['one'] },
      over: { clientId: 'another' },
      words: /; assign the managed identity of auth\.client_id to this machine/,
    },
    {
      what: 'with a resource that there is not',
      change: {},
      over: { resource: 'nonsense' },
      words: /400: .*a parameter is missing or invalid.*check auth\.resource/,
    },
    { what: 'with too many requests', change: { fault: { status: 429 } }, words: /gives no token \(429\)/ },
    { what: 'that is being updated', change: { fault: { status: 410 } }, words: /gives no token \(410\)/ },
    {
      what: 'whose token is a list',
      change: { fault: json({ access_token: ['canary'] }) },
      words: /without a usable access_token/,
    },
    {
      what: 'whose token is none',
      change: { fault: json({ access_token: 'canary' }) },
      words: /access_token that is no JWT/,
    },
    {
      what: 'whose error is controls',
      change: { fault: { status: 400, body: { error: '\u001b[2J\n\u202e' } } },
      words: /gives no token \(400: [ -~]*\)/,
    },
  ])('$what', async ({ change, over = {}, words }) => {
    expect((await noProof('azure', change, over)).message).toMatch(words)
  })
})

test('Azure is asked for the managed identity of auth.client_id', async () => {
  platform.machine.identities = ['id of mine&x']
  await using server = await serve('azure-auth', azure)
  const subject = subjectOf(server, { ...AZURE_LOGIN, clientId: 'id of mine&x' })
  expect(await issue(subject)).toMatchObject({ ok: true })
})

describe('the key file of a service account', () => {
  const email = 'web1@example.iam.gserviceaccount.com'
  const gcpKey = gcpKeyLogin({ issuer: email, subject: email, audience: IDENTITY, keys: googleKeys })
  const keyFile = (): string => join(setup.folder, 'account.json')
  const write = async (change: object = {}): Promise<void> => {
    const account = {
      client_email: email,
      private_key_id: 'key-1',
      private_key: google.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    }
    await writeFile(keyFile(), JSON.stringify({ ...account, ...change }))
  }

  test('signs the token', async () => {
    await write()
    await using server = await serve('gcp-auth', gcpKey)
    const subject = subjectOf(server, { ...GCP, keyFile: keyFile() })
    expect(await issue(subject)).toMatchObject({ ok: true })
    const [head = '', claims = ''] = String(server.logins[0]?.body['jwt']).split('.')
    expect(JSON.parse(Buffer.from(head, 'base64url').toString())).toEqual({
      alg: 'RS256',
      typ: 'JWT',
      kid: 'key-1',
    })
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({
      sub: email,
      aud: IDENTITY,
      exp: NOW + 300,
    })
    expect(platform.seen).toEqual([])
  })

  test('that the issuer does not accept is a refused login', async () => {
    await write({ private_key: stranger.privateKey.export({ type: 'pkcs8', format: 'pem' }) })
    await using server = await serve('gcp-auth', gcpKey)
    const failure = failureOf(await issue(subjectOf(server, { ...GCP, keyFile: keyFile() })))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(
      /TokenError\); check the clock of this host, and that the key in auth\.key_file/,
    )
    expect(server.logins).toHaveLength(1)
  })

  test.each([
    { name: 'no key in it', change: { private_key: 'none' } },
    { name: 'no email in it', change: { client_email: 7 } },
    {
      name: 'a short key in it',
      change: { private_key: shortRsaKey() },
      words: 'has 1024 bits; it must be RSA',
    },
  ])('with $name', async ({ change, words = '' }) => {
    await write(change)
    await using server = await serve('gcp-auth', gcpKey)
    const failure = failureOf(await issue(subjectOf(server, { ...GCP, keyFile: keyFile() })))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    expect(failure.message).toContain(keyFile())
    expect(failure.message).toContain(words)
  })
})

function shortRsaKey(): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  return privateKey.export({ type: 'pkcs8', format: 'pem' })
}

describe('where AWS keys come from', () => {
  const login = async (auth: Login): Promise<Awaited<ReturnType<typeof issue>>> => {
    await using server = await serve('aws-auth', aws())
    return await issue(subjectOf(server, auth))
  }

  test('files, and the region of the environment: the platform is not asked', async () => {
    const { accessKeyId, secretAccessKey, sessionToken } = platform.machine.keys
    const path = (name: string): string => join(setup.folder, name)
    await writeFile(path('id'), `${accessKeyId}\n`)
    await writeFile(path('secret'), `${secretAccessKey}\n`)
    await writeFile(path('session'), `${sessionToken}\n`)
    vi.stubEnv('AWS_REGION', 'us-east-1')
    const keys = {
      accessKeyIdFile: path('id'),
      secretAccessKeyFile: path('secret'),
      sessionTokenFile: path('session'),
    }
    expect(await login({ ...AWS, keys })).toMatchObject({ ok: true })
    expect(platform.seen).toEqual([])
  })

  test('files, and no region: that is said, and the platform is not asked', async () => {
    for (const name of ['id', 'secret']) await writeFile(join(setup.folder, name), `canary-${name}\n`)
    const keys = {
      accessKeyIdFile: join(setup.folder, 'id'),
      secretAccessKeyFile: join(setup.folder, 'secret'),
      sessionTokenFile: null,
    }
    const failure = failureOf(await login({ ...AWS, keys }))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toBe('auth.region is required with an access key from files')
    expect(platform.seen).toEqual([])
  })

  test.each([
    { status: 503, words: 'does not say its region (503: no); the service is busy; hostcertd tries again' },
    { status: 404, words: 'the AWS region is not known: set auth.region' },
  ])('the region of an instance whose service answers $status', async ({ status, words }) => {
    await using other = await startRawServer(({ url = '' }, response) => {
      if (url.endsWith('/document')) return void response.writeHead(status).end('no')
      const {
        accessKeyId: AccessKeyId,
        secretAccessKey: SecretAccessKey,
        sessionToken: Token,
      } = platform.machine.keys
      const keys = JSON.stringify({ Code: 'Success', AccessKeyId, SecretAccessKey, Token })
      response.end(url.endsWith('/api/token') ? 'session' : url.endsWith('/web') ? keys : 'web')
    })
    vi.stubEnv('HOSTCERTD_TEST_METADATA', other.url)
    const failure = failureOf(await login(AWS))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toContain(words)
  })

  test.each([
    { variable: 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', value: () => CONTAINER_PATH },
    { variable: 'AWS_CONTAINER_CREDENTIALS_FULL_URI', value: () => `${platform.url}${CONTAINER_PATH}` },
  ])('$variable', async ({ variable, value }) => {
    vi.stubEnv(variable, value())
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN', CONTAINER_TOKEN)
    expect(await login({ ...AWS, region: 'eu-west-1' })).toMatchObject({ ok: true })
    expect(platform.seen).toEqual(['GET /container-keys'])
  })

  test('the token of a container from its file, which is replaced; a wrong one is told', async () => {
    const file = join(setup.folder, 'container-token')
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `${platform.url}${CONTAINER_PATH}`)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', file)
    await writeFile(file, 'wrong-token')
    const failure = failureOf(await login({ ...AWS, region: 'eu-west-1' }))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM' })
    expect(failure.message).toMatch(/gives no keys \(401: .*bad token/)
    await writeFile(file, CONTAINER_TOKEN)
    expect(await login({ ...AWS, region: 'eu-west-1' })).toMatchObject({ ok: true })
  })

  test("the file of the container's token cannot be read: that is for the platform to correct", async () => {
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `${platform.url}/container-keys`)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', join(setup.folder, 'missing'))
    const failure = failureOf(await login({ ...AWS, region: 'eu-west-1' }))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toMatch(/AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE from \S+missing: no such file/)
  })

  test('variables that are empty count as not set', async () => {
    for (const name of ['REGION', 'DEFAULT_REGION', 'CONTAINER_CREDENTIALS_FULL_URI'])
      vi.stubEnv(`AWS_${name}`, '')
    for (const name of ['CREDENTIALS_RELATIVE_URI', 'AUTHORIZATION_TOKEN_FILE', 'AUTHORIZATION_TOKEN'])
      vi.stubEnv(`AWS_CONTAINER_${name}`, '')
    expect(await login(AWS)).toMatchObject({ ok: true })
    expect(platform.seen.at(-1)).toBe('GET /latest/dynamic/instance-identity/document')
  })

  test('an access key id that is more than one word is not used', async () => {
    const id = join(setup.folder, 'id')
    const secret = join(setup.folder, 'secret')
    await writeFile(id, 'two words')
    await writeFile(secret, 'canary')
    const keys = { accessKeyIdFile: id, secretAccessKeyFile: secret, sessionTokenFile: null }
    const fromFile = failureOf(await login({ ...AWS, keys }))
    expect(fromFile).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    expect(fromFile.message).toBe(`the access key id in ${id} is not one word of printable characters`)
    platform.machine.keys = { ...platform.machine.keys, accessKeyId: 'two words' }
    const given = failureOf(await login(AWS))
    expect(given).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(given.message).toContain('without a usable AccessKeyId')
  })

  test('what doctor shows: the key, the role and the region', async () => {
    const tools = {
      secrets: new Secrets(),
      clock: { now: () => now },
      log: { info: () => {} },
      environment: process.env,
      readFile: readCredentialFile,
    }
    const { claims } = await (await methodOf(AWS, tools)).prove(NEVER)
    expect(claims).toEqual(['access key ASIA…0000', 'role web-server', 'region eu-central-1'])
  })

  test.each([
    'http://192.0.2.1/keys',
    'https://127.0.0.1/keys',
    'http://127.0.0.1.example.com/',
    'http://169.254.170.2.example.com/x',
    'http://169.254.170.2@192.0.2.1/x',
    'nonsense',
    '/x',
  ])('the token of a container is not sent to %s', async (address) => {
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', address)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN', CONTAINER_TOKEN)
    const failure = failureOf(await login(AWS))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM' })
    expect(failure.message).toMatch(/AWS_CONTAINER_CREDENTIALS_FULL_URI is not an http:\/\/ address/)
  })

  test('the keys and the region of an instance come by one session of its metadata service', async () => {
    expect(await login(AWS)).toMatchObject({ ok: true })
    expect(platform.seen.filter((request) => request.startsWith('PUT '))).toEqual(['PUT /latest/api/token'])
  })

  test.each([
    { from: 'the configuration', region: 'eu-west-3', environment: { AWS_REGION: 'us-east-1' } },
    {
      from: 'AWS_REGION',
      region: null,
      environment: { AWS_REGION: 'eu-west-3', AWS_DEFAULT_REGION: 'us-east-1' },
    },
    { from: 'AWS_DEFAULT_REGION', region: null, environment: { AWS_DEFAULT_REGION: 'eu-west-3' } },
  ])('the region of $from, without a question', async ({ region, environment }) => {
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value)
    await using server = await serve('aws-auth', aws())
    expect(await issue(subjectOf(server, { ...AWS, region }))).toMatchObject({ ok: true })
    const headers = Buffer.from(String(server.logins[0]?.body['iamRequestHeaders']), 'base64').toString()
    expect(headers).toContain('"host":"sts.eu-west-3.amazonaws.com"')
    expect(platform.seen.join(' ')).not.toContain('identity/document')
  })

  test('AWS_REGION that is none is not sent anywhere', async () => {
    vi.stubEnv('AWS_REGION', 'evil.example.com/')
    const failure = failureOf(await login(AWS))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toMatch(/region/)
  })

  test('keys that last, without a session token; and a secret that is several lines', async () => {
    const [id, secret] = [join(setup.folder, 'id'), join(setup.folder, 'secret')]
    const lasting = { accessKeyId: 'AKIALASTING', secretAccessKey: 'canary-lasting', sessionToken: null }
    const auth = {
      ...AWS,
      region: 'eu-west-1',
      keys: { accessKeyIdFile: id, secretAccessKeyFile: secret, sessionTokenFile: null },
    }
    await writeFile(id, `${lasting.accessKeyId}\n`)
    await writeFile(secret, `${lasting.secretAccessKey}\n`)
    await using server = await serve(
      'aws-auth',
      awsLogin(() => [lasting], { allowed: true }),
    )
    expect(await issue(subjectOf(server, auth))).toMatchObject({ ok: true })
    await writeFile(secret, 'another\n')
    expect(failureOf(await issue(subjectOf(server, auth))).code).toBe('LOGIN_PLATFORM')
    expect(server.refusals).toEqual(['SignatureDoesNotMatch'])
    expect(platform.seen).toEqual([])
  })

  test('the token of a container that no header can carry', async () => {
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `${platform.url}${CONTAINER_PATH}`)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN', 'canary\r\nx-header: 1')
    const failure = failureOf(await login({ ...AWS, region: 'eu-west-1' }))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).not.toMatch(/canary|x-header/)
    expect(platform.seen).toEqual([])
  })

  test('China has a domain of its own', async () => {
    expect(await login({ ...AWS, region: 'cn-north-1' })).toMatchObject({ ok: true })
  })
})

describe('the variables that a platform sets', () => {
  const PASSED = [
    'AWS_REGION',
    'AWS_DEFAULT_REGION',
    'AWS_CONTAINER_CREDENTIALS_FULL_URI',
    'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
    'AWS_CONTAINER_AUTHORIZATION_TOKEN',
    'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  ]

  test('reach an exchange that is a child; keys do not', async () => {
    for (const name of [...PASSED, 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'])
      vi.stubEnv(name, 'x')
    const script = "process.stdin.once('data', () => console.log(Object.keys(process.env).join(' ')))"
    const program = [process.execPath, '-e', script]
    const channel = openChannel({ program, socket: null, mayBeChild: true }, '{}')
    const names = (await channel.ask('', NEVER))?.split(' ') ?? []
    channel.kill()
    expect(names.filter((name) => name.startsWith('AWS_')).sort()).toEqual(PASSED.toSorted())
  })

  test('none of the tests reaches a packaged host', async () => {
    for (const unit of ['hostcertd.service', 'hostcertd-exchange@.service'])
      expect(await readFile(`systemd/${unit}`, 'utf8')).toMatch(
        /^UnsetEnvironment=(?:.* )?HOSTCERTD_TEST_METADATA(?: .*)?$/m,
      )
  })

  test.each([
    'http://192.0.2.1:80',
    'http://127.0.0.1.example.com:80',
    'https://127.0.0.1:8080',
    'http://127.0.0.1:80/path',
    'http://user@127.0.0.1:80',
    'nonsense',
    undefined,
  ])('HOSTCERTD_TEST_METADATA=%s does not move a metadata service', (given) => {
    const address = 'http://169.254.169.254/latest/api/token'
    const environment = { HOSTCERTD_TEST_METADATA: given }
    expect(platformUrl(address, { environment }).href).toBe(address)
  })
})
