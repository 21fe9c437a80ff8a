import { generateKeyPairSync, type KeyObject, sign, verify as verifySignature } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import aws4 from 'aws4'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Login } from '../../agent/config/config.ts'
import { signRequest } from '../../agent/issuer/logins/aws-signature.ts'
import { readCredentialFile } from '../../agent/issuer/logins/credential-file.ts'
import { methodOf } from '../../agent/issuer/logins/methods.ts'
import { platformUrl } from '../../agent/issuer/logins/platform.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { awsLogin } from '../support/platform/aws.ts'
import {
  LoginRefusal,
  type LoginServer,
  startLoginServer,
  type Verify,
} from '../support/platform/login-server.ts'
import {
  CONTAINER,
  type Machine,
  type MetadataServer,
  startMetadataServer,
} from '../support/platform/metadata.ts'
import { closedPort, makeSubject, NEVER, requestFor, startRawServer, type Subject } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

const IDENTITY = '7a1c2d3e-0000-4000-8000-00000000abcd'
const NOW = 1_795_759_200
const AZURE = 'https://management.azure.com/'
const google = generateKeyPairSync('rsa', { modulusLength: 2048 })
const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 })

let setup: Setup
let now: number
let platform: MetadataServer
let signer: KeyObject

beforeEach(async () => {
  now = NOW
  signer = google.privateKey
  setup = await setUp({ now: () => now * 1000 })
  platform = await startMetadataServer({
    role: 'web-server',
    keys: {
      accessKeyId: 'ASIAEXAMPLE0000000001',
      secretAccessKey: 'canary-secret-access-key',
      sessionToken: 'canary-session-token-of-aws',
    },
    region: 'eu-central-1',
    jwt: (query) => sealed(query.get('audience') ?? query.get('resource') ?? ''),
    fault: null,
  })
  vi.stubEnv('HOSTCERTD_TEST_METADATA', platform.url)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await platform[Symbol.asyncDispose]()
  await setup[Symbol.asyncDispose]()
})

function sealed(audience: string): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url')
  const claims = { iss: 'https://platform.example.com', sub: 'web1', aud: audience, exp: now + 300 }
  const content = `${encode({ alg: 'RS256', typ: 'JWT' })}.${encode(claims)}`
  return `${content}.${sign('sha256', Buffer.from(content), signer).toString('base64url')}`
}

/** A JWT of the platform's, or signed with the key that the platform has of a service account. */
function tokenLogin(
  audience: string,
  refusals: { unverified: LoginRefusal; audience: LoginRefusal },
): Verify {
  return ({ body, at }) => {
    const [head = '', claims = '', signature = ''] = String(body['jwt']).split('.')
    const isSigned = verifySignature(
      'sha256',
      Buffer.from(`${head}.${claims}`),
      google.publicKey,
      Buffer.from(signature, 'base64url'),
    )
    const { aud, exp } = JSON.parse(Buffer.from(claims, 'base64url').toString()) as {
      aud: string
      exp: number
    }
    if (!isSigned || exp * 1000 < at) throw refusals.unverified
    if (aud !== audience) throw refusals.audience
  }
}

const relayed = new LoginRefusal(500, 'InternalServerError', 'Something went wrong')
const gcpLogin = tokenLogin(IDENTITY, { unverified: relayed, audience: relayed })
const gcpKeyLogin = tokenLogin(IDENTITY, {
  unverified: new LoginRefusal(401, 'UnauthorizedError', 'Invalid service account token'),
  audience: new LoginRefusal(403, 'ForbiddenError', 'Access denied'),
})
const azureLogin = tokenLogin(AZURE, {
  unverified: new LoginRefusal(401, 'UnauthorizedError', 'invalid token'),
  audience: new LoginRefusal(403, 'TokenError', 'jwt audience invalid'),
})

const common = { organization: null, identityId: { value: IDENTITY } }
const AWS = { ...common, method: 'aws', region: null, keys: null } as const
const GCP = { ...common, method: 'gcp', keyFile: null } as const
const AZURE_LOGIN = { ...common, method: 'azure', resource: AZURE, clientId: null } as const

const rules = { allowed: true }
const METHODS = {
  aws: { route: 'aws-auth', auth: AWS, verify: () => awsLogin(platform.machine, rules) },
  gcp: { route: 'gcp-auth', auth: GCP, verify: () => gcpLogin },
  azure: { route: 'azure-auth', auth: AZURE_LOGIN, verify: () => azureLogin },
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

  test('logs in, and again with a new proof when the token has expired', async () => {
    await using server = await serve(route, verify())
    const subject = subjectOf(server, auth)
    expect(await issue(subject)).toMatchObject({ ok: true })
    now += 601
    platform.machine.keys = { ...platform.machine.keys, accessKeyId: 'ASIAEXAMPLE0000000002' }
    expect(await issue(subject)).toMatchObject({ ok: true })
    expect(server.routes()).toBe('login issue login issue')
    const [first, second] = server.logins.map(({ body }) => JSON.stringify(body))
    expect(first).not.toBe(second)
    const told = JSON.stringify([subject.logged, subject.metrics])
    expect(told).not.toMatch(/canary|eyJ/)
  })

  test.each([
    { fault: 'silent', words: /no answer within 2 s/ },
    { fault: 'closed', words: /403/ },
    { fault: 'large', words: /64 KiB/ },
    { fault: 'garbage', words: /metadata service/ },
  ] as const)('a metadata service that is $fault: no login', async ({ fault, words }) => {
    platform.machine.fault = fault
    await using server = await serve(route, verify())
    const subject = subjectOf(server, auth)
    const failure = failureOf(await issue(subject))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toMatch(words)
    expect(failure.message).not.toMatch(/[\p{Cc}]/u)
    expect(server.logins).toEqual([])
    expect(subject.metrics).toEqual([])
    expect(subject.loginFailures).toEqual([`${auth.method} LOGIN_PLATFORM`])
  })

  test('no metadata service here', async () => {
    vi.stubEnv('HOSTCERTD_TEST_METADATA', `http://127.0.0.1:${String(await closedPort())}`)
    await using server = await serve(route, verify())
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toMatch(/cannot reach the .*metadata service of .*ECONNREFUSED.*; is this /)
  })

  test('nothing is attached to this machine', async () => {
    platform.machine.role = null
    platform.machine.jwt = null
    await using server = await serve(route, verify())
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure.code).toBe('LOGIN_PLATFORM')
    expect(failure.message).toMatch(/attach|assign/)
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

  test('a server that repeats the proof: nothing of it is passed on', async () => {
    await using server = await serve(route, ({ body }) => {
      const headers = Buffer.from(String(body['iamRequestHeaders']), 'base64').toString('utf8')
      const secrets = /"x-amz-security-token":"([^"]*)"|Signature=(\w+)/g
      const told = name === 'aws' ? [...headers.matchAll(secrets)].flat() : [body['jwt']]
      throw new LoginRefusal(401, 'UnauthorizedError', told.join(' '))
    })
    const subject = subjectOf(server, auth)
    const failure = failureOf(await issue(subject))
    expect(failure.message).toContain('[secret]')
    const all = JSON.stringify([failure, subject.logged, subject.metrics])
    expect(all).not.toMatch(/canary|eyJ|[0-9a-f]{64}/)
  })

  test('a refusal of the platform is told in its words', async () => {
    platform.machine.fault = 'words'
    await using server = await serve(route, verify())
    expect(failureOf(await issue(subjectOf(server, auth))).message).toMatch(
      /403: .*disabled by an administrator/,
    )
  })

  test('an identity without the method', async () => {
    await using server = await serve('other-auth', verify())
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/does not have this method/)
  })
})

describe('refusals', () => {
  const refused = async (auth: Login, route: string, verify: Verify) => {
    await using server = await serve(route, verify)
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(server.logins).toHaveLength(1)
    return failure
  }
  const spoil = (change: Partial<Machine['keys']>): Verify => {
    const machine = { ...platform.machine, keys: { ...platform.machine.keys, ...change } }
    return awsLogin(machine, { allowed: true })
  }

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
      methods: { 'aws-auth': awsLogin(platform.machine, rules) },
      identityId: IDENTITY,
      now: () => (now + 901) * 1000,
    })
    expect(failureOf(await issue(subjectOf(server, AWS)))).toMatchObject({ code: 'LOGIN_PLATFORM' })
  })

  test('a region that there is not', async () => {
    const failure = await refused(
      { ...AWS, region: 'nowhere' },
      'aws-auth',
      awsLogin(platform.machine, rules),
    )
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/; check the region \(auth\.region\)$/)
  })

  test('an account that the identity does not allow', async () => {
    const failure = await refused(AWS, 'aws-auth', awsLogin(platform.machine, { allowed: false }))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/allows this account/)
  })

  test('a token that Google Cloud did not sign', async () => {
    signer = stranger.privateKey
    const failure = await refused(GCP, 'gcp-auth', gcpLogin)
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toMatch(/most likely Google Cloud refused/)
  })

  test('the audience of an Azure token: a 403 TokenError, and no second login', async () => {
    const auth = { ...AZURE_LOGIN, resource: 'https://vault.azure.net' }
    const failure = await refused(auth, 'azure-auth', azureLogin)
    expect(failure).toMatchObject({ code: 'ISSUER_FORBIDDEN', next: 'login-backoff' })
    expect(failure.message).toMatch(/audience \(auth\.resource\)/)
  })

  test('an Azure token that cannot be verified', async () => {
    signer = stranger.privateKey
    expect(await refused(AZURE_LOGIN, 'azure-auth', azureLogin)).toMatchObject({
      code: 'ISSUER_UNAUTHORIZED',
    })
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
    await using server = await serve('unused', gcpLogin)
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
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

test.each([
  'http://192.0.2.1:80',
  'http://127.0.0.1.example.com:80',
  'https://127.0.0.1:80',
  'http://127.0.0.1:80@x/',
  '',
])('the test variable leads to loopback only: not to "%s"', (given) => {
  const address = 'http://169.254.169.254/latest/api/token'
  expect(platformUrl(address, { environment: { HOSTCERTD_TEST_METADATA: given } }).href).toBe(address)
})

test.each(['hostcertd.service', 'hostcertd-exchange@.service'])(
  '%s does not get the test variable',
  async (unit) => {
    expect(await readFile(`systemd/${unit}`, 'utf8')).toMatch(
      /^UnsetEnvironment=.*\bHOSTCERTD_TEST_METADATA\b/m,
    )
  },
)

test('Azure is asked for the managed identity of auth.client_id', async () => {
  let asked: string | null = null
  platform.machine.jwt = (query) => {
    asked = query.get('client_id')
    return sealed(query.get('resource') ?? '')
  }
  await using server = await serve('azure-auth', azureLogin)
  expect(await issue(subjectOf(server, { ...AZURE_LOGIN, clientId: 'id of mine&x' }))).toMatchObject({
    ok: true,
  })
  expect(asked).toBe('id of mine&x')
})

describe('the key file of a service account', () => {
  const keyFile = (): string => join(setup.folder, 'account.json')
  const write = async (change: object = {}): Promise<void> => {
    const account = {
      client_email: 'web1@example.iam.gserviceaccount.com',
      private_key_id: 'key-1',
      private_key: google.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    }
    await writeFile(keyFile(), JSON.stringify({ ...account, ...change }))
  }

  test('signs the token', async () => {
    await write()
    await using server = await serve('gcp-auth', gcpKeyLogin)
    const subject = subjectOf(server, { ...GCP, keyFile: keyFile() })
    expect(await issue(subject)).toMatchObject({ ok: true })
    const [head = '', claims = ''] = String(server.logins[0]?.body['jwt']).split('.')
    expect(JSON.parse(Buffer.from(head, 'base64url').toString())).toEqual({
      alg: 'RS256',
      typ: 'JWT',
      kid: 'key-1',
    })
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString())).toMatchObject({
      sub: 'web1@example.iam.gserviceaccount.com',
      aud: IDENTITY,
      exp: NOW + 300,
    })
    expect(platform.seen).toEqual([])
  })

  test('that the issuer does not accept is a refused login', async () => {
    await write({ private_key: stranger.privateKey.export({ type: 'pkcs8', format: 'pem' }) })
    await using server = await serve('gcp-auth', gcpKeyLogin)
    const failure = failureOf(await issue(subjectOf(server, { ...GCP, keyFile: keyFile() })))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
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
    await using server = await serve('gcp-auth', gcpKeyLogin)
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
    await using server = await serve('aws-auth', awsLogin(platform.machine, rules))
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

  test.each([
    { variable: 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', value: () => '/container-keys' },
    { variable: 'AWS_CONTAINER_CREDENTIALS_FULL_URI', value: () => `${platform.url}/container-keys` },
  ])('$variable', async ({ variable, value }) => {
    vi.stubEnv(variable, value())
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN', CONTAINER.AWS_CONTAINER_AUTHORIZATION_TOKEN)
    expect(await login({ ...AWS, region: 'eu-west-1' })).toMatchObject({ ok: true })
    expect(platform.seen).toEqual(['GET /container-keys'])
  })

  test('the token of a container from its file, which is replaced; a wrong one is told', async () => {
    const file = join(setup.folder, 'container-token')
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `${platform.url}/container-keys`)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', file)
    await writeFile(file, 'wrong-token')
    const failure = failureOf(await login({ ...AWS, region: 'eu-west-1' }))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM' })
    expect(failure.message).toMatch(/gives no keys \(401: .*bad token/)
    await writeFile(file, CONTAINER.AWS_CONTAINER_AUTHORIZATION_TOKEN)
    expect(await login({ ...AWS, region: 'eu-west-1' })).toMatchObject({ ok: true })
  })

  test("the file of the container's token cannot be read: that is for the platform to correct", async () => {
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `${platform.url}/container-keys`)
    vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', join(setup.folder, 'missing'))
    const failure = failureOf(await login({ ...AWS, region: 'eu-west-1' }))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
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
    expect(given).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
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
    expect(claims).toEqual(['access key ASIA…0001', 'role web-server', 'region eu-central-1'])
  })

  test.each(['http://192.0.2.1/keys', 'https://127.0.0.1/keys', 'http://127.0.0.1.example.com/', 'nonsense'])(
    'the token of a container is not sent to %s',
    async (address) => {
      vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', address)
      vi.stubEnv('AWS_CONTAINER_AUTHORIZATION_TOKEN', CONTAINER.AWS_CONTAINER_AUTHORIZATION_TOKEN)
      const failure = failureOf(await login(AWS))
      expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM' })
      expect(failure.message).toMatch(/AWS_CONTAINER_CREDENTIALS_FULL_URI is not an http:\/\/ address/)
    },
  )

  test('the keys and the region of an instance come by one session of its metadata service', async () => {
    expect(await login(AWS)).toMatchObject({ ok: true })
    expect(platform.seen.filter((request) => request.startsWith('PUT '))).toEqual(['PUT /latest/api/token'])
  })

  test('China has a domain of its own', async () => {
    expect(await login({ ...AWS, region: 'cn-north-1' })).toMatchObject({ ok: true })
  })
})

describe('Signature Version 4', () => {
  const keys = {
    accessKeyId: 'AKIDEXAMPLE',
    secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
    sessionToken: null,
  }
  const scope = { region: 'us-east-1', service: 'service', timestamp: '20150830T123600Z' }
  const headers = { host: 'example.amazonaws.com', 'x-amz-date': '20150830T123600Z' }

  // AWS's published test suite: get-vanilla, post-vanilla.
  test.each([
    { method: 'GET', want: '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31' },
    { method: 'POST', want: '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b' },
  ])("AWS's test vector for $method", ({ method, want }) => {
    expect(signRequest({ method, path: '/', headers, body: '' }, scope, keys).signature).toBe(want)
  })

  test('the same as the library aws4, session token included', () => {
    const body = 'Action=GetCallerIdentity&Version=2011-06-15'
    const session = 'token/with+odd=characters'
    const all = {
      'content-length': String(body.length),
      'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
      host: 'sts.eu-west-1.amazonaws.com',
      'x-amz-date': scope.timestamp,
      'x-amz-security-token': session,
    }
    const theirs = aws4.sign(
      { service: 'sts', region: 'eu-west-1', method: 'POST', path: '/', headers: { ...all }, body },
      { accessKeyId: keys.accessKeyId, secretAccessKey: keys.secretAccessKey, sessionToken: session },
    )
    const ours = signRequest(
      { method: 'POST', path: '/', headers: all, body },
      { region: 'eu-west-1', service: 'sts', timestamp: scope.timestamp },
      { ...keys, sessionToken: session },
    )
    expect(theirs.headers?.['Authorization']).toBe(ours.authorization)
  })
})
