import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { AgentError } from '../../agent/cert/errors.ts'
import type { JwtSource, Login, LoginBy } from '../../agent/config/config.ts'
import { credentialFiles, readCredentialFile } from '../../agent/issuer/logins/credential-file.ts'
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

const apiServer = { fails: false, forbidsReviews: false }
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

function makeTools(): LoginTools {
  return {
    secrets: new Secrets(),
    clock: { now: () => now },
    log: { info: () => {} },
    environment: process.env,
    readFile: readCredentialFile,
  }
}

async function prove(auth: Case['auth'], tools: Partial<LoginTools> = {}): Promise<Proof> {
  return (await methodOf(auth, { ...makeTools(), ...tools })).prove(NEVER)
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

test('kubernetes-auth: the issuer may not review tokens', async () => {
  const { auth, verify, write, good } = caseOf('kubernetes-auth')
  await using server = await serve('kubernetes-auth', verify)
  await write(good())
  apiServer.forbidsReviews = true
  try {
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toMatch(/, and that the token reviewer of the issuer may create TokenReviews$/)
  } finally {
    apiServer.forbidsReviews = false
  }
})

test('kubernetes-auth: the issuer gets no review', async () => {
  const { auth, verify, write, good } = caseOf('kubernetes-auth')
  await using server = await serve('kubernetes-auth', verify)
  await write(good())
  apiServer.fails = true
  try {
    const failure = failureOf(await issue(subjectOf(server, auth)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toMatch(
      /could not check the service account token: "connect ECONNREFUSED [^"]*" \(400 BadRequest\); the issuer got no review of it: check the address of the Kubernetes API server that the identity has$/,
    )
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
    expect(failure).toMatchObject({ code, next: 'local' })
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
  const OTHER_OUTPUT =
    'must print a token (three parts in base64url, separated by dots) and nothing else; it wrote'
  test.each([
    { name: 'an exit status', text: 'exit 3', words: 'get-jwt failed with exit status 3' },
    { name: 'no output', text: ':', words: `${OTHER_OUTPUT} nothing` },
    {
      name: 'a JWT and a word',
      text: `echo ${JWT_OF_NOW} canary`,
      words: `${OTHER_OUTPUT} ${JWT_OF_NOW.length + 7} bytes with spaces between them`,
    },
    { name: 'a word that is no JWT', text: 'echo canary', words: `${OTHER_OUTPUT} 6 bytes` },
    { name: 'lines', text: 'echo canary one; echo canary two', words: `${OTHER_OUTPUT} 2 lines` },
    {
      name: 'a flood',
      text: 'head -c 20000 /dev/zero | tr "\\0" x',
      words: `${OTHER_OUTPUT} more than 16 KiB`,
    },
    { name: 'a signal', text: 'kill -9 $$', words: 'get-jwt was killed by SIGKILL' },
    {
      name: 'an expired JWT',
      text: `echo ${sealed({ exp: NOW - 1 })}`,
      words:
        "expired at 2026-11-27T05:59:59Z: by this host's clock it is 2026-11-27T06:00:00Z; the program must get a new one",
    },
  ])('$name: the message ends with its shape, and has nothing of its content', async ({ text, words }) => {
    const auth = await script(text)
    const { code, message } = await refusalBy(prove(auth))
    expect(code).toBe('LOGIN_PLATFORM')
    expect(message.endsWith(words)).toBe(true)
    expect(message).not.toMatch(/canary|eyJ|\[secret\]/)
  })

  test.each(['exit 3', 'kill -9 $$', ':'])(
    'ends with `%s`: its standard error is in the log, not in the message',
    async (end) => {
      await using server = await serve('oidc-auth', oidcLogin(rules))
      const auth = await script(
        `for i in 1 2 3 4 5 6; do echo "canary $i \u001b[31m ${'x'.repeat(1000)}" >&2; done; echo got ${JWT_OF_NOW} >&2; ${end}`,
      )
      const subject = subjectOf(server, auth)
      const { message } = failureOf(await issue(subject))
      expect(message).toMatch(/; see the log$/)
      expect(message).not.toContain('canary')
      const lines = subject.logged.map((line) => line.message)
      expect(lines).toHaveLength(5)
      expect(lines.at(-1)).toBe('got [secret]')
      for (const line of lines) expect(line).toMatch(/^[^\p{Cc}]{1,401}$/u)
      expect(subject.logged[0]?.fields).toEqual({ program: fileOf('get-jwt') })
    },
  )

  const jwtWith = (header: string): string =>
    [header, `{"sub": "canary"}`, 'canary of a signature']
      .map((part) => Buffer.from(part).toString('base64url'))
      .join('.')
  const linesOf = async (text: string): Promise<readonly string[]> => {
    const logged: string[] = []
    const log = { info: (_: object, message: string) => void logged.push(message) }
    await refusalBy(prove(await script(text), { log }))
    return logged
  }

  test.each([
    '{"alg":"ES256"}',
    '{ "alg": "ES256" }',
    '{\n "alg": "ES256"}',
    '{\r\n"alg":"ES256"}',
    '{\t"alg":1}',
  ])('a trace of the shell with a JWT whose header is %j: not in the log', async (header) => {
    const jwt = jwtWith(header)
    expect(
      await linesOf(`echo "+ TOKEN=${jwt} host=example-host-1.production-2.example.com" >&2; exit 1`),
    ).toEqual(['+ TOKEN=[secret] host=example-host-1.production-2.example.com'])
  })

  test('the signature of a JWT among other output is not in the log', async () => {
    const [, , signature] = JWT_OF_NOW.split('.')
    expect(await linesOf(`echo "token: ${JWT_OF_NOW}"; echo "signed ${signature}" >&2`)).toEqual([
      'signed [secret]',
    ])
  })

  test.each([
    {
      what: 'its last lines',
      text: 'yes more | head -n 20000; echo the reason',
      logged: ['more', 'more', 'more', 'more', 'the reason'],
    },
    {
      what: 'no line whose beginning is missing',
      text: `echo ${'y'.repeat(16_300)}${JWT_OF_NOW}; echo the reason`,
      logged: ['the reason'],
    },
    {
      what: 'no line that is too long',
      text: "head -c 20000 /dev/zero | tr '\\0' x",
      logged: ['one line of more than 16 KiB'],
    },
  ])('of a long standard error there is in the log $what', async ({ text, logged }) => {
    expect(await linesOf(`{ ${text}; } >&2; exit 1`)).toEqual(logged)
  })

  test.each([
    { when: 'it ends', end: `until test -s pids; do :; done; echo ${JWT_OF_NOW}` },
    { when: 'the login is stopped', end: 'wait' },
  ])('a child that ignores SIGTERM does not outlive it when $when', async ({ end }) => {
    const auth = await script(
      `sh -c 'trap "" TERM; echo $$ > ${fileOf('pids')}; sleep 600' &\n${end.replace('pids', fileOf('pids'))}`,
    )
    const stop = new AbortController()
    const method = await methodOf(auth, makeTools())
    const proof = method.prove(stop.signal).then(
      () => 'a proof',
      (error: unknown) => error,
    )
    const pids = await pidsIn(fileOf('pids'))
    const stopped = new Error('stopped')
    if (end === 'wait') stop.abort(stopped)
    expect(await proof).toBe(end === 'wait' ? stopped : 'a proof')
    await expect.poll(() => pids.filter(isRunning)).toEqual([])
  })

  test('a child that ignores SIGTERM is killed when the time is over, though its parent ends', async () => {
    const auth = await script(`sh -c 'trap "" TERM; echo $$ > ${fileOf('pids')}; sleep 600' &\nwait`)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const refusal = refusalBy(prove(auth))
      const pids = await pidsIn(fileOf('pids'))
      await vi.advanceTimersByTimeAsync(10_000)
      await refusal
      await expect.poll(() => pids.filter(isRunning)).toEqual([])
    } finally {
      vi.useRealTimers()
    }
  })

  test('that does not end within 10 s is stopped, and the child that holds its output too', async () => {
    const auth = await script(`sleep 600 &\necho $$ $! > ${fileOf('pids')}; wait`)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const refusal = refusalBy(prove(auth))
      const pids = await pidsIn(fileOf('pids'))
      expect(pids.filter(isRunning)).toEqual(pids)
      await vi.advanceTimersByTimeAsync(10_000)
      expect((await refusal).message).toMatch(/^jwt_command failed: \S+get-jwt did not finish within 10 s$/)
      await expect.poll(() => pids.filter(isRunning)).toEqual([])
    } finally {
      vi.useRealTimers()
    }
  })

  test('that is missing', async () => {
    const proof = prove(authOf(fileOf('nothing-here')))
    await expect(proof).rejects.toMatchObject({ code: 'LOGIN_PLATFORM' })
    await expect(proof).rejects.toThrow('no such file or directory (ENOENT)')
  })

  test('gets some variables and no others', async () => {
    const logged: string[] = []
    const log = { info: (_: object, message: string) => void logged.push(message) }
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
    await expect(prove(auth, { environment, log })).rejects.toThrow('failed with exit status 1; see the log')
    expect(logged.join(' ')).toMatch(
      /^CREDENTIALS_DIRECTORY HOME LANG PATH (?:PWD )?(?:SHLVL )?(?:_ )?https_proxy$/,
    )
  })

  test('is stopped with the login', async () => {
    const auth = await script(`sleep 60`)
    const stop = new AbortController()
    const proof = (await methodOf(auth, makeTools())).prove(stop.signal)
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
    await expect(jwtMethod(signer(), makeTools()).prove(NEVER)).rejects.toThrow(
      'cannot read the signing key from',
    )
  })
})

describe('of each credential file it is known whether it is one line, and whether others may read it', () => {
  const FILES = { certificateFile: '/cert', keyFile: '/key', loginUrl: 'https://x.example' }
  test.each<{ auth: Login; want: readonly string[] }>([
    { auth: { ...common, method: 'kubernetes', tokenFile: '/t' }, want: ['/t line public'] },
    {
      auth: { ...common, method: 'tls-cert', ...FILES },
      want: ['/cert text public', '/key text secret'],
    },
    { auth: { ...common, method: 'gcp', keyFile: '/key' }, want: ['/key text secret'] },
    { auth: { ...common, method: 'oidc', jwt: { file: '/jwt' } }, want: ['/jwt line secret'] },
    {
      auth: { ...common, method: 'ldap', username: { file: '/user' }, passwordFile: '/password' },
      want: ['/user line public', '/password line secret'],
    },
  ])('$auth.method', ({ auth, want }) => {
    const files = credentialFiles(auth).map(
      ({ path, isOneLine, isSecret }) =>
        `${path} ${isOneLine ? 'line' : 'text'} ${isSecret ? 'secret' : 'public'}`,
    )
    expect(files).toEqual(want)
  })
})

async function refusalBy(proof: Promise<Proof>): Promise<AgentError> {
  const refusal: unknown = await proof.then(
    () => null,
    (error: unknown) => error,
  )
  if (refusal instanceof AgentError) return refusal
  throw new Error('it was not refused')
}

/** The process ids that a script writes into a file, once they are there. */
async function pidsIn(path: string): Promise<number[]> {
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => '')
    if (text.endsWith('\n')) return text.trim().split(' ').map(Number)
    await setImmediate()
  }
}

/** What has ended and waits for its parent is not running. */
function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

function payloadOf(jwt: string): Readonly<Record<string, unknown>> {
  const text = Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString('utf8')
  return JSON.parse(text) as Readonly<Record<string, unknown>>
}
