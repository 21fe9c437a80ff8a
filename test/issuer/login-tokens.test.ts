import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { chmod, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { JwtSource, Login, LoginBy } from '../../agent/config/config.ts'
import { readCredentialFile } from '../../agent/issuer/logins/credential-file.ts'
import { jwt as jwtMethod } from '../../agent/issuer/logins/jwt.ts'
import type { LoginTools, Proof } from '../../agent/issuer/logins/login.ts'
import { methodOf } from '../../agent/issuer/logins/methods.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { makeJwtSigner } from '../support/platform/jwks.ts'
import {
  jwtLogin,
  kubernetesLogin,
  ldapLogin,
  oidcLogin,
  spiffeLogin,
} from '../support/platform/login-methods.ts'
import { type LoginServer, startLoginServer, type Verify } from '../support/platform/login-server.ts'
import { IDENTITY, RULES } from './every-login.ts'
import { makeSubject, NEVER, requestFor, type Subject } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

const NOW = 1_795_759_200
const PASSWORD = 'canary-password-of-the-directory'

/** A key pair that the issuer finds by its name, and those that were given to it by hand. */
const named = makeJwtSigner('ES256', 'key-1')
const rsa = makeJwtSigner('RS256', null)
const p256 = makeJwtSigner('ES256', null)
const stranger = makeJwtSigner('ES256', null)

let setup: Setup
let now: number

beforeEach(async () => {
  now = NOW
  setup = await setUp({ now: () => now * 1000 })
})
afterEach(() => setup[Symbol.asyncDispose]())

/** A JWT that is good for an hour, unless told otherwise. */
function sealed(claims: object = {}): string {
  const usual = { iss: RULES.issuer, sub: RULES.subject, aud: RULES.audience, exp: NOW + 3600 }
  return named.sign({ ...usual, ...claims })
}

/** A method with a good proof in place, and a server that accepts it. */
interface Case {
  readonly auth: Exclude<Login, { readonly method: 'token' }>
  readonly verify: Verify
  /** Put a proof in place. */
  readonly write: (proof: string) => Promise<void>
  readonly good: () => string
}

const rules = { ...RULES, keys: () => [named.published] }
const fileOf = (name: string): string => join(setup.folder, name)
const identityId = { value: IDENTITY }
const common = { organization: null, identityId }
const jwtCase = (auth: Case['auth'], verify: Verify, claims: object = {}): Case => ({
  auth,
  verify,
  write: (proof) => writeFile(fileOf('proof'), `${proof}\n`),
  good: () => sealed(claims),
})

const apiServer = { fails: false }
const CASES: Readonly<Record<string, () => Case>> = {
  'kubernetes-auth': () =>
    jwtCase(
      { ...common, method: 'kubernetes', tokenFile: fileOf('proof') },
      kubernetesLogin(rules, apiServer),
      { aud: [RULES.audience] },
    ),
  'oidc-auth': () => jwtCase({ ...common, method: 'oidc', jwt: { file: fileOf('proof') } }, oidcLogin(rules)),
  'jwt-auth': () => jwtCase({ ...common, method: 'jwt', jwt: { file: fileOf('proof') } }, jwtLogin(rules)),
  'spiffe-auth': () =>
    jwtCase({ ...common, method: 'spiffe', jwt: { file: fileOf('proof') } }, spiffeLogin(rules)),
  'ldap-auth': () => ({
    auth: { ...common, method: 'ldap', username: { value: 'web1' }, passwordFile: fileOf('proof') },
    verify: ldapLogin(() => ({ username: 'web1', password: PASSWORD })),
    write: (proof) => writeFile(fileOf('proof'), `${proof}\n`),
    good: () => PASSWORD,
  }),
}

function caseOf(route: string): Case {
  const made = CASES[route]?.()
  if (made === undefined) throw new Error(`no such case: ${route}`)
  return made
}

async function serve(route: string, verify: Verify, tokenTtlSeconds = 2_592_000): Promise<LoginServer> {
  return startLoginServer({
    issuer: setup.server,
    methods: { [route]: verify },
    identityId: IDENTITY,
    organization: 'example',
    now: () => now * 1000,
    tokenTtlSeconds,
  })
}

function subjectOf(server: LoginServer, auth: Login): Subject {
  return makeSubject({ url: server.url, sshHostId: setup.hostId, auth, now: () => now })
}

async function prove(auth: Case['auth'], tools: Partial<LoginTools> = {}): Promise<Proof> {
  const all = {
    secrets: new Secrets(),
    clock: { now: () => now },
    environment: process.env,
    readFile: readCredentialFile,
    ...tools,
  }
  return (await methodOf(auth, all)).prove(NEVER)
}

const issue = (subject: Subject) => subject.issuer.issue(requestFor(setup.publicKey), NEVER)

const NOT_OURS = { sub: 'web2' }
test.each([
  {
    route: 'kubernetes-auth',
    name: 'an audience that is not allowed',
    claims: { aud: ['other'] },
    code: 'ISSUER_UNAUTHORIZED',
    words:
      /refused the service account token: "[^"]+" \(401 UnauthorizedError\); check that the identity allows the audience/,
  },
  {
    route: 'kubernetes-auth',
    name: 'another service account',
    claims: { aud: [RULES.audience], ...NOT_OURS },
    code: 'ISSUER_UNAUTHORIZED',
    words: /subject not allowed\." \(401 UnauthorizedError\); check that the identity allows/,
  },
  {
    route: 'oidc-auth',
    name: 'an issuer that is not allowed',
    claims: { iss: 'https://other.example.com' },
    code: 'ISSUER_UNAUTHORIZED',
    words: /refused the token: "[^"]+" \(401 UnauthorizedError\); check the OIDC discovery URL/,
  },
  {
    route: 'oidc-auth',
    name: 'a subject that is not allowed',
    claims: NOT_OURS,
    code: 'ISSUER_FORBIDDEN',
    words:
      /does not permit the login: "[^"]+" \(403 ForbiddenError\); check that the identity allows the subject/,
  },
  {
    route: 'oidc-auth',
    name: 'an audience that is not allowed',
    claims: { aud: 'other' },
    code: 'ISSUER_FORBIDDEN',
    words: /audience not allowed\." \(403/,
  },
  ...[{ iss: 'https://other.example.com' }, NOT_OURS, { aud: 'other' }].map((claims) => ({
    route: 'jwt-auth',
    name: `${Object.keys(claims)[0]} that is not allowed`,
    claims,
    code: 'ISSUER_FORBIDDEN',
    words:
      /does not permit the login: "[^"]+" \(403 ForbiddenError\); check that the identity allows the issuer/,
  })),
  {
    route: 'jwt-auth',
    name: 'not valid yet',
    claims: { nbf: NOW + 60 },
    code: 'ISSUER_UNAUTHORIZED',
    words: /refused the JWT: "[^"]+" \(401 UnauthorizedError\); check that the identity has the public key/,
  },
  ...[NOT_OURS, { aud: 'other' }].map((claims) => ({
    route: 'spiffe-auth',
    name: `${Object.keys(claims)[0]} that is not allowed`,
    claims,
    code: 'ISSUER_UNAUTHORIZED',
    words:
      /refused the JWT-SVID: "[^"]+" \(401 UnauthorizedError\); check that the identity has the trust domain/,
  })),
])('$route refused: $name', async ({ route, claims, code, words }) => {
  const { auth, verify, write } = caseOf(route)
  await using server = await serve(route, verify)
  await write(sealed(claims))
  const failure = failureOf(await issue(subjectOf(server, auth)))
  expect(failure).toMatchObject({ code, next: 'login-backoff' })
  expect(failure.message).toMatch(words)
  expect(failure.requestId).toMatch(/^req-/)
  expect(server.routes()).toBe('login')
})

test('kubernetes-auth: the API server refuses the review', async () => {
  const { auth, verify, write, good } = caseOf('kubernetes-auth')
  await using server = await serve('kubernetes-auth', verify)
  await write(good())
  apiServer.fails = true
  try {
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toContain('says that the Kubernetes API server refused the service account token')
  } finally {
    apiServer.fails = false
  }
})

test('ldap-auth: three failures within 30 s lock the identity for 300 s', async () => {
  const { auth, verify, write, good } = caseOf('ldap-auth')
  await using server = await serve('ldap-auth', verify)
  const subject = subjectOf(server, auth)
  const codes: string[] = []
  await write('wrong')
  for (let times = 0; times < 3; times++) codes.push(failureOf(await issue(subject)).code)
  await write(good())
  codes.push(failureOf(await issue(subject)).code)
  now += 301
  expect(codes).toEqual([...Array<string>(3).fill('ISSUER_UNAUTHORIZED'), 'LOGIN_LOCKED'])
  expect(await issue(subject)).toMatchObject({ ok: true })
})

test('ldap-auth: user name and identity id from files', async () => {
  const { auth, verify, write, good } = caseOf('ldap-auth')
  await using server = await serve('ldap-auth', verify)
  await write(good())
  await writeFile(fileOf('user'), 'web1\n')
  await writeFile(fileOf('identity'), `${IDENTITY}\n`)
  const username = { file: fileOf('user') }
  const fromFiles = { ...auth, username, identityId: { file: fileOf('identity') } } as LoginBy<'ldap'>
  expect(await issue(subjectOf(server, fromFiles))).toMatchObject({ ok: true })
  expect((await prove(fromFiles)).claims).toEqual(['user web1'])
})

describe('what the host sees itself is not sent', () => {
  const PAST = sealed({ exp: NOW - 1 })
  const JWT_FLAWS = [
    { name: 'empty', content: '\n', code: 'CREDENTIAL_UNREADABLE', words: 'file FILE is empty' },
    { name: 'no JWT', content: 'hello', code: 'LOGIN_PLATFORM', words: 'FILE does not hold a' },
    {
      name: 'two of them',
      content: `${PAST}\n${PAST}`,
      code: 'LOGIN_PLATFORM',
      words: 'FILE does not hold a',
    },
    {
      name: 'expired',
      content: PAST,
      code: 'LOGIN_PLATFORM',
      words: 'in FILE expired at 2026-11-27T05:59:59Z',
    },
    {
      name: 'expires this second',
      content: sealed({ exp: NOW }),
      code: 'LOGIN_PLATFORM',
      words: 'in FILE expired at 2026-11-27T06:00:00Z',
    },
    {
      name: 'huge',
      content: `${'x'.repeat(17_000)}.y.z`,
      code: 'CREDENTIAL_UNREADABLE',
      words: 'larger than 16 KiB',
    },
  ]
  const rows = ['oidc-auth', 'jwt-auth', 'spiffe-auth', 'kubernetes-auth'].flatMap((route) =>
    JWT_FLAWS.map((flaw) => Object.assign({ route }, flaw)),
  )
  const others = [
    { route: 'oidc-auth', code: 'CREDENTIAL_UNREADABLE', words: 'FILE: no such file or directory (ENOENT)' },
    { route: 'ldap-auth', code: 'CREDENTIAL_UNREADABLE', words: 'FILE: no such file or directory (ENOENT)' },
    {
      route: 'kubernetes-auth',
      code: 'LOGIN_PLATFORM',
      words: 'no service account token at FILE: is one projected into this pod?',
    },
  ].map((row) => Object.assign(row, { name: 'missing', content: null }))
  const tooLong = {
    route: 'kubernetes-auth',
    name: 'longer than 8 KiB',
    content: `${'x'.repeat(8200)}.y.z`,
    code: 'LOGIN_PLATFORM',
    words: 'in FILE is larger than 8 KiB',
  }
  test.each([...rows, ...others, tooLong])('$route: $name', async ({ route, content, code, words }) => {
    const { auth, verify, write } = caseOf(route)
    await using server = await serve(route, verify)
    if (content !== null) await write(content)
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure.message).toContain(words.replace('FILE', fileOf('proof')))
    expect(failure).toMatchObject({ code, next: code === 'LOGIN_PLATFORM' ? 'login-backoff' : 'local' })
    expect(server.routes()).toBe('')
  })

  test('a payload that cannot be read is sent as it is', async () => {
    const { auth, write } = caseOf('jwt-auth')
    await write('eyJ.not-json.c2ln')
    expect((await prove(auth)).body).toHaveProperty('jwt', 'eyJ.not-json.c2ln')
  })
})

describe('jwt_command', () => {
  const authOf = (...command: string[]): LoginBy<'oidc'> => ({
    ...common,
    method: 'oidc',
    jwt: { command } satisfies JwtSource,
  })
  const script = async (text: string): Promise<LoginBy<'oidc'>> => {
    const path = fileOf('get-jwt')
    await writeFile(path, `#!/bin/sh\n${text}\n`)
    await chmod(path, 0o755)
    return authOf(path)
  }

  test('its output is the JWT, run anew at each login', async () => {
    await using server = await serve('oidc-auth', oidcLogin(rules), 1000)
    await writeFile(fileOf('current'), sealed())
    const subject = subjectOf(server, authOf('/bin/cat', fileOf('current')))
    expect(await issue(subject)).toMatchObject({ ok: true })
    now += 1001
    const next = sealed({ jti: 'next' })
    await writeFile(fileOf('current'), `${next}\n`)
    expect(await issue(subject)).toMatchObject({ ok: true })
    expect(server.logins[1]?.body['jwt']).toBe(next)
  })

  const JWT_OF_NOW = sealed()
  test.each([
    {
      name: 'an exit status',
      text: 'echo one >&2; echo "two \x1b[31m" >&2; exit 3',
      words: 'failed with exit status 3: "two \\u001b[31m"',
    },
    { name: 'no output', text: 'echo why >&2', words: 'wrote no token to its standard output: "why"' },
    { name: 'two words', text: `echo ${JWT_OF_NOW} more`, words: 'wrote more than one word' },
    { name: 'no JWT', text: 'echo hello', words: 'wrote something that is not a token' },
    { name: 'a flood', text: 'head -c 20000 /dev/zero | tr "\\0" x', words: 'wrote more than 16 KiB' },
    { name: 'a signal', text: 'kill -9 $$', words: 'was killed by SIGKILL' },
    {
      name: 'an expired JWT',
      text: `echo ${sealed({ exp: NOW - 1 })}`,
      words: 'expired at 2026-11-27T05:59:59Z; the program must get a new one',
    },
    {
      name: 'a JWT in what it says',
      text: `echo got ${JWT_OF_NOW} >&2; exit 1`,
      words: 'failed with exit status 1: "got [secret]"',
    },
  ])('$name', async ({ text, words }) => {
    const auth = await script(text)
    const proof = prove(auth)
    await expect(proof).rejects.toMatchObject({ code: 'LOGIN_PLATFORM' })
    await expect(proof).rejects.toThrow(words)
  })

  test('that is missing', async () => {
    const proof = prove(authOf(fileOf('nothing-here')))
    await expect(proof).rejects.toMatchObject({ code: 'LOGIN_PLATFORM' })
    await expect(proof).rejects.toThrow('no such file or directory (ENOENT)')
  })

  test('gets some variables and no others', async () => {
    const auth = await script(`env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; exit 1`)
    const environment = {
      PATH: process.env['PATH'],
      LANG: 'C',
      HOME: '/',
      CREDENTIALS_DIRECTORY: '/run/x',
      https_proxy: 'http://proxy.example.com',
      AWS_SECRET: 'x',
      NODE_OPTIONS: '',
    }
    await expect(prove(auth, { environment })).rejects.toThrow(
      /: "CREDENTIALS_DIRECTORY HOME LANG PATH (?:PWD )?(?:SHLVL )?(?:_ )?https_proxy"$/,
    )
  })

  test('is stopped with the login', async () => {
    const auth = await script(`sleep 60`)
    const stop = new AbortController()
    const method = await methodOf(auth, {
      secrets: new Secrets(),
      clock: { now: () => now },
      environment: process.env,
      readFile: readCredentialFile,
    })
    const proof = method.prove(stop.signal)
    stop.abort(new Error('stopped'))
    await expect(proof).rejects.toThrow('stopped')
  })
})

describe('jwt-auth signed by the host', () => {
  const signer = (): LoginBy<'jwt'> => ({
    ...common,
    method: 'jwt',
    jwt: { keyFile: fileOf('key.pem'), ...RULES },
  })
  const write = async (key: KeyObject, type: 'pkcs8' | 'pkcs1' | 'sec1' = 'pkcs8'): Promise<string> => {
    const pem = String(key.export({ type, format: 'pem' } as never))
    await writeFile(fileOf('key.pem'), pem)
    return pem
  }

  test.each([
    { name: 'RS256', pair: rsa, type: 'pkcs8' },
    { name: 'RS256 of PKCS #1', pair: rsa, type: 'pkcs1' },
    { name: 'ES256', pair: p256, type: 'pkcs8' },
    { name: 'ES256 of SEC1', pair: p256, type: 'sec1' },
  ] as const)('$name', async ({ pair, type }) => {
    await write(pair.privateKey, type)
    await using server = await serve('jwt-auth', jwtLogin({ ...RULES, keys: () => [pair.published] }), 1000)
    const subject = subjectOf(server, signer())
    expect(await issue(subject)).toMatchObject({ ok: true })
    now += 1001
    expect(await issue(subject)).toMatchObject({ ok: true })
    const [first, second] = server.logins.map(({ body }) => payloadOf(String(body['jwt'])))
    expect(first).toMatchObject({ iat: NOW, nbf: NOW - 30, exp: NOW + 300 })
    expect(second).toMatchObject({ iat: NOW + 1001 })
    expect(second?.['jti']).not.toBe(first?.['jti'])
  })

  test('a key that the identity does not have', async () => {
    await write(stranger.privateKey)
    await using server = await serve('jwt-auth', jwtLogin(rules))
    const failure = failureOf(await issue(subjectOf(server, signer())))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toContain('check that the identity has the public key of its signer')
  })

  test('says in its claims that it signed them itself', async () => {
    await write(p256.privateKey)
    expect((await prove(signer())).claims).toEqual([
      'issuer https://tokens.example.com',
      'subject web1',
      'audience hostcertd',
      'expires 2026-11-27T06:05:00Z',
      "signed by this host's own key",
    ])
  })

  test.each([
    {
      name: 'Ed25519',
      key: () => generateKeyPairSync('ed25519').privateKey,
      words: '(ed25519) cannot be used',
    },
    {
      name: 'P-384',
      key: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
      words: '(ec, secp384r1) cannot be used',
    },
    {
      name: 'a short RSA key',
      key: () => generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey,
      words:
        '(RSA, 1024 bits) cannot be used: it must be RSA with at least 2048 bits, or EC on the curve P-256',
    },
  ])('$name is refused', async ({ key, words }) => {
    await write(key())
    const proof = prove(signer())
    await expect(proof).rejects.toMatchObject({ code: 'CREDENTIAL_UNREADABLE' })
    await expect(proof).rejects.toThrow(words)
  })

  test.each([
    { name: 'garbage', text: () => 'hello', words: 'there is no BEGIN PRIVATE KEY line in it' },
    {
      name: 'a public key',
      text: () => createPublicKey(p256.privateKey).export({ type: 'spki', format: 'pem' }),
      words: 'it is a public one',
    },
    {
      name: 'encrypted',
      text: () =>
        p256.privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' }),
      words: 'it is encrypted with a passphrase',
    },
    {
      name: 'damaged',
      text: () => '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
      words: 'is not a private key in PEM form: ',
    },
  ])('$name is no key', async ({ text, words }) => {
    await writeFile(fileOf('key.pem'), text())
    const proof = prove(signer())
    await expect(proof).rejects.toMatchObject({ code: 'CREDENTIAL_UNREADABLE' })
    await expect(proof).rejects.toThrow(words)
  })

  test('a key that is gone', async () => {
    await rm(fileOf('key.pem'), { force: true })
    const tools = {
      secrets: new Secrets(),
      clock: { now: () => now },
      environment: {},
      readFile: readCredentialFile,
    }
    await expect(jwtMethod(signer(), tools).prove(NEVER)).rejects.toThrow('cannot read the signing key from')
  })
})

function payloadOf(jwt: string): Readonly<Record<string, unknown>> {
  const text = Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8')
  return JSON.parse(text) as Readonly<Record<string, unknown>>
}
