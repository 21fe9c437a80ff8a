import { writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Login } from '../../agent/config/config.ts'
import { diagnoseIssuer } from '../../agent/doctor/issuer-diagnosis.ts'
import { craftKey } from '../cert/craft.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { NEVER, sendJson, startRawServer } from '../issuer/harness.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const HOST_ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const PROJECT = '0f1d5c1e-9a5e-4e3f-8f2f-0a1b2c3d4e5f'
const PASSWORD = 'correct horse battery staple'
const THIS = { id: HOST_ID, hostname: 'web1.example.com' }
const OTHER = { id: '41ea2756-88ac-43bf-8929-42b71ec7742e', hostname: 'web2.example.com' }

type Send = (response: ServerResponse) => void
const json =
  (status: number, body: object): Send =>
  (response) =>
    sendJson(response, status, body)
const refused =
  (status: number, error: string, message: string): Send =>
  (response) =>
    sendJson(response, status, { reqId: 'req-1', statusCode: status, error, message })

const LOGGED_IN = json(200, { accessToken: 'a-token', expiresIn: 60, tokenType: 'Bearer' })
const READABLE = json(200, { ...THIS, projectId: PROJECT })

interface Answers {
  readonly login?: Send
  readonly host?: Send
  readonly list?: Send
  /** What remedies are about; by default what logs in. */
  readonly shownAuth?: Login
  readonly username?: string
  /** By default by ldap. */
  readonly auth?: Login
}

/** What doctor finds about login and permission; and what was asked of the issuer. */
async function diagnose({ login = LOGGED_IN, host = READABLE, list, username = 'web1', ...wish }: Answers) {
  await using folder = await makeTemporaryFolder()
  const passwordFile = join(folder.path, 'password')
  await writeFile(passwordFile, PASSWORD)
  const ldap = {
    method: 'ldap',
    organization: null,
    identityId: { value: OTHER.id },
    username: { value: username },
    passwordFile,
  } as const
  const { auth = ldap, shownAuth = auth } = wish
  const ca = craftKey().line
  await using server = await startRawServer(({ url = '' }, response) => {
    if (url.endsWith('/host-ca-public-key')) response.end(ca)
    else if (/^\/api\/v1\/auth\/(?:ldap|jwt)-auth\/login$/.test(url)) login(response)
    else if (url === `/api/v1/ssh/hosts/${HOST_ID}`) host(response)
    else if (url === `/api/v1/projects/${PROJECT}/ssh-hosts`) (list ?? json(200, { hosts: [THIS] }))(response)
    else sendJson(response, 404, {})
  })
  const { url } = server
  const issuer = {
    kind: 'http',
    url,
    sshHostId: HOST_ID,
    caFile: null,
    timeoutMilliseconds: 2000,
    auth,
  } as const
  const clock = new ManualClock(Date.now() / 1000)
  const way = { issuer, shownAuth, environment: {}, clock, signal: NEVER }
  const question = { login: true, pinned: null, principals: null, issueFor: [] }
  const findings = await diagnoseIssuer(way, question, { version: '1', log: new RecordingLog() })
  const asked = server.seen.map(({ method, path }) => `${method} ${path}`)
  return { findings: findings.filter(({ step }) => step === 'login' || step === 'permission'), asked }
}

test('a login that succeeds names the method and what the proof said', async () => {
  const { findings } = await diagnose({})
  expect(findings).toEqual([
    { step: 'login', status: 'ok', message: 'logged in by ldap as: user web1', remedy: null },
    { step: 'permission', status: 'ok', message: `host ${HOST_ID} is web1.example.com`, remedy: null },
  ])
})

test.each([
  {
    name: 'refused',
    login: refused(401, 'UnauthorizedError', 'LDAP authentication failed'),
    message: /^ISSUER_UNAUTHORIZED: .*\(401 UnauthorizedError\)\. The proof of identity: user web1$/,
    remedy: /^check auth\.username \(web1\)/,
  },
  {
    name: 'locked',
    login: refused(401, 'UnauthorizedError', 'This identity auth method is temporarily locked, please try'),
    message: /^LOGIN_LOCKED: .* The proof of identity: user web1$/,
    remedy: /^wait 5 minutes: .*check auth\.username \(web1\)/,
  },
  {
    name: 'forbidden',
    login: refused(403, 'ForbiddenError', 'Access denied'),
    message: /^ISSUER_FORBIDDEN: .* The proof of identity: user web1$/,
    remedy: /^at the issuer, check the search filter/,
  },
  {
    name: 'of an unknown identity',
    login: refused(404, 'NotFound', 'Identity not found'),
    message: /does not have this method: .* The proof of identity: user web1$/,
    remedy: /check that auth\.identity_id \(41ea2756-.*\) exists/,
  },
  {
    name: 'not judged, as the issuer is busy',
    login: refused(429, 'RateLimitExceeded', 'Rate limit exceeded'),
    message: /^ISSUER_BUSY: [^]*\(429 RateLimitExceeded\)$/,
    remedy: /./,
  },
])('a login that is $name', async ({ login, message, remedy }) => {
  const { findings } = await diagnose({ login })
  expect(findings[0]).toMatchObject({ step: 'login', status: 'failure' })
  expect(findings[0]?.message).toMatch(message)
  expect(findings[0]?.remedy).toMatch(remedy)
  expect(findings[1]).toMatchObject({ step: 'permission', status: 'skipped' })
})

test('what a proof said is one line of limited length, without secrets', async () => {
  const { findings } = await diagnose({ username: `web1\u001B[2J\n${PASSWORD}${'x'.repeat(5000)}` })
  const message = findings[0]?.message ?? ''
  // eslint-disable-next-line no-control-regex
  expect(message).not.toMatch(/[\u0000-\u001F]/)
  expect(message).not.toContain(PASSWORD)
  expect(message.length).toBeLessThan(500)
})

test('the expiry of a proof is shown, however long the rest of it is', async () => {
  await using folder = await makeTemporaryFolder()
  const claims = { iss: 'i'.repeat(200), sub: 's'.repeat(200), aud: Array(6).fill('a'.repeat(200)), exp: 4e9 }
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const file = join(folder.path, 'jwt')
  await writeFile(file, `${part({ alg: 'RS256' })}.${part(claims)}.c2ln`)
  const auth = { method: 'jwt', organization: null, identityId: { value: OTHER.id }, jwt: { file } } as const
  for (const login of [LOGGED_IN, refused(401, 'UnauthorizedError', 'no')]) {
    const { findings } = await diagnose({ login, auth })
    expect(findings[0]?.message).toMatch(
      /: issuer i{100}…, subject s{100}…, .*…, expires 2096-10-02T07:06:40Z$/,
    )
  }
})

test('a JWT that the host signs itself is a warning, whatever the identity may read', async () => {
  const jwt = { keyFile: '/etc/hostcertd/credentials/jwt-key', issuer: 'I', subject: 'S', audience: 'A' }
  const shownAuth = { method: 'jwt', organization: null, identityId: { value: 'ID' }, jwt } as const
  for (const host of [READABLE, refused(403, 'PermissionDenied', 'no')]) {
    const { findings } = await diagnose({ shownAuth, host })
    expect(findings.filter(({ status }) => status === 'warning')).toEqual([
      {
        step: 'permission',
        status: 'warning',
        message: expect.stringMatching(/^this host signs its own JWT: .*credentials\/jwt-key, and nothing/),
        remedy: expect.stringMatching(/^give each host a key and an identity of its own, and use no claim/),
      },
    ])
  }
  const other = { ...shownAuth, jwt: { file: '/jwt' } } as const
  const { findings } = await diagnose({ shownAuth: other })
  expect(findings.map(({ status }) => status)).toEqual(['ok', 'ok'])
})

const huge = (begin: string): Send => json(200, JSON.parse(`${begin}"${'x'.repeat(70_000)}"}`) as object)

test.each<{ name: string; list: Send; sees: RegExp }>([
  { name: 'one', list: json(200, { hosts: [THIS, OTHER] }), sees: /^this identity can see 1 other host of/ },
  {
    name: 'the same one twice',
    list: json(200, { hosts: [OTHER, { ...OTHER, id: OTHER.id.toUpperCase() }] }),
    sees: /can see 1 other host of/,
  },
  {
    name: 'more than fit into an answer',
    list: json(200, { hosts: Array.from({ length: 2000 }, () => OTHER) }),
    sees: /^this identity can see many other hosts of/,
  },
])('an identity that sees other hosts: $name', async ({ list, sees }) => {
  const { findings, asked } = await diagnose({ list })
  expect(findings.map(({ step, status }) => `${step} ${status}`)).toEqual([
    'login ok',
    'permission ok',
    'permission warning',
  ])
  expect(findings[2]?.message).toMatch(sees)
  expect(findings[2]?.remedy).toContain('{"hostname":{"$eq":"web1.example.com"}}')
  expect(asked.filter((request) => request.startsWith('POST'))).toEqual(['POST /api/v1/auth/ldap-auth/login'])
})

test.each<{ name: string; list: Send }>([
  { name: 'nothing', list: json(200, { hosts: [] }) },
  { name: 'itself in another case', list: json(200, { hosts: [{ id: HOST_ID.toUpperCase() }] }) },
])('an identity that sees no other hosts: $name', async ({ list }) => {
  const { findings } = await diagnose({ list })
  expect(findings.map(({ step, status }) => `${step} ${status}`)).toEqual(['login ok', 'permission ok'])
})

test.each<{ name: string; list?: Send; host?: Send }>([
  { name: 'a refusal with a list', list: json(403, { hosts: [THIS, OTHER] }) },
  { name: 'not a member', list: refused(403, 'ForbiddenError', 'not a member') },
  { name: 'no such route', list: json(404, { message: 'Route not found' }) },
  { name: 'a fault', list: refused(500, 'InternalServerError', 'Something went wrong') },
  { name: 'a list that is none', list: json(200, { hosts: { id: 'x' } }) },
  { name: 'hosts that are none', list: json(200, { hosts: [null, 1, 'x', {}, { id: 7 }, []] }) },
  { name: 'an answer without end that is no list', list: huge('{"a":') },
  { name: 'a page', list: (response) => response.writeHead(200).end('<html>') },
  { name: 'no answer', list: (response) => response.destroy() },
  { name: 'silence', list: () => {} },
  { name: 'a host without a project', host: json(200, THIS) },
  { name: 'a project that is a path', host: json(200, { ...THIS, projectId: '../../admin' }) },
  {
    name: 'a host name to copy that is none',
    list: json(200, { hosts: [OTHER] }),
    host: json(200, { hostname: '"}}, $(reboot)', projectId: PROJECT }),
  },
])('what does not show which other hosts it sees: $name', async (answers) => {
  const { findings } = await diagnose(answers)
  expect(findings.map(({ step, status }) => `${step} ${status}`)).toEqual([
    'login ok',
    'permission ok',
    'permission unknown',
  ])
})
