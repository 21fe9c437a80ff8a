import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { LoginBy } from '../../agent/config/config.ts'
import { readCredentialFile } from '../../agent/issuer/logins/credential-file.ts'
import { tlsCert } from '../../agent/issuer/logins/tls-cert.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import {
  issueTlsCertificate,
  makeTlsCertificate,
  type TlsAuthority,
} from '../support/local-issuer/tls-certificate.ts'
import { startOpensslServer } from '../support/openssl-server.ts'
import { tlsCertLogin } from '../support/platform/login-methods.ts'
import {
  LoginRefusal,
  type LoginServer,
  type LoginServerOptions,
  startLoginServer,
} from '../support/platform/login-server.ts'
import { makeSubject, NEVER, requestFor, startRawServer, type Subject } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

const IDENTITY = '7a1c2d3e-0000-4000-8000-00000000abcd'
const root = issueTlsCertificate({ name: 'clients root' })
const intermediate = issueTlsCertificate({ name: 'clients intermediate', issuer: root })
const client = issueTlsCertificate({ name: 'web1', issuer: intermediate, isCa: false })
const serverTls = makeTlsCertificate()

let setup: Setup
const fileOf = (name: string): string => join(setup.folder, name)

beforeEach(async () => {
  setup = await setUp()
  await writeFile(fileOf('server-ca.pem'), serverTls.certificate)
  await write(client)
})
afterEach(() => setup[Symbol.asyncDispose]())

/** Put a client certificate in place, with the one above it. */
async function write({ certificate, key }: Pick<TlsAuthority, 'certificate' | 'key'>): Promise<void> {
  await writeFile(fileOf('client.pem'), certificate + intermediate.certificate)
  await writeFile(fileOf('client.key'), key)
}

async function serve(wish: Partial<LoginServerOptions> = {}, asks = true): Promise<LoginServer> {
  return startLoginServer({
    issuer: setup.server,
    methods: { 'tls-cert-auth': tlsCertLogin(() => 'web1') },
    identityId: IDENTITY,
    tls: { ...serverTls, asks, clientCa: root.certificate },
    ...wish,
  })
}

function authAt(loginUrl: string): LoginBy<'tls-cert'> {
  return {
    method: 'tls-cert',
    organization: null,
    identityId: { value: IDENTITY },
    certificateFile: fileOf('client.pem'),
    keyFile: fileOf('client.key'),
    loginUrl,
  }
}

/** Logs in at one server, and issues at the local issuer. */
function subjectOf(loginUrl: string, now: () => number = () => Date.now() / 1000): Subject {
  const { url } = setup.server
  const auth = authAt(loginUrl)
  return makeSubject({ url, sshHostId: setup.hostId, auth, caFile: fileOf('server-ca.pem'), now })
}

const issue = (subject: Subject) => subject.issuer.issue(requestFor(setup.publicKey), NEVER)
const portOf = (url: string): string => new URL(url).host

test('logs in at login_url by mutual TLS with its chain, and issues at issuer.url', async () => {
  await using server = await serve()
  expect(await issue(subjectOf(server.url))).toMatchObject({ ok: true })
  expect(server.logins).toMatchObject([{ clientName: 'web1', body: { identityId: IDENTITY } }])
  expect(server.routes()).toBe('login')
  expect(setup.routes()).toBe('issue')
})

test('says whose certificate it is, and until when', async () => {
  const secrets = new Secrets()
  const tools = {
    secrets,
    clock: { now: () => Date.now() / 1000 },
    log: { info: () => {} },
    environment: {},
    readFile: readCredentialFile,
  }
  const { claims } = await tlsCert(authAt('https://127.0.0.1'), tools).prove(NEVER)
  expect(claims.slice(0, 2)).toEqual(['subject CN=web1', 'issuer CN=clients intermediate'])
  expect(claims[2]).toMatch(/^expires \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  const [, line = ''] = client.key.split('\n')
  expect(secrets.redact(line)).toBe('[secret]')
})

describe('refused by the issuer', () => {
  test('nothing in front asked for the certificate', async () => {
    await using server = await serve({}, false)
    const failure = failureOf(await issue(subjectOf(server.url)))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toBe(
      `${portOf(server.url)} refused the client certificate: "Missing TLS certificate in header" (400 BadRequest); most likely nothing in front of the issuer asked for a client certificate; is auth.login_url right?`,
    )
  })

  test('a common name that is not allowed', async () => {
    await write(issueTlsCertificate({ name: 'web2', issuer: intermediate, isCa: false }))
    await using server = await serve()
    const failure = failureOf(await issue(subjectOf(server.url)))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toContain(
      '(401 UnauthorizedError); check that the identity has the CA that signed the client certificate itself',
    )
  })

  test.each([
    { page: 'No required SSL certificate was sent', words: 'requires a client certificate' },
    { page: 'The SSL certificate error', words: 'refused the client certificate' },
  ])('a page of nginx: $page', async ({ page, words }) => {
    await using server = await startRawServer((_, response) => {
      response.writeHead(400, { 'content-type': 'text/html' })
      response.end(`<html><head><title>400 ${page}</title></head></html>`)
    }, serverTls)
    const subject = subjectOf(server.url)
    const failure = failureOf(await issue(subject))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toBe(`127.0.0.1:${server.port} ${words} (400, with a web page)`)
    expect(subject.loginFailures).toEqual(['tls-cert ISSUER_UNAUTHORIZED'])
  })
})

describe('what answers at login_url is another server', () => {
  test.each([
    {
      name: 'without the route',
      status: 404,
      headers: {},
      says: 'has nothing at /api/v1/auth/tls-cert-auth/login: auth.login_url is wrong, or a proxy answered (404)',
    },
    {
      name: 'that redirects',
      status: 302,
      headers: { location: 'https://other.example.com/' },
      says: 'answered with a redirect to "https://other.example.com/", which is not followed; is auth.login_url right? (302)',
    },
  ])('$name', async ({ status, headers, says }) => {
    await using server = await startRawServer(
      (_, response) => response.writeHead(status, headers).end(),
      serverTls,
    )
    const { message } = failureOf(await issue(subjectOf(server.url)))
    expect(message).toBe(`${portOf(server.url)} ${says}`)
  })
})

describe('refused by TLS', () => {
  const untrusted = issueTlsCertificate({ name: 'web1' })
  const ended = issueTlsCertificate({ name: 'web1', issuer: intermediate, isCa: false, endsInDays: -0.5 })
  const yesterday = (): number => Date.now() / 1000 - 86_400 * 0.75

  test.each(['-tls1_2', '-tls1_3'])('by an alert, %s', async (version) => {
    await using server = await startOpensslServer(setup.folder, serverTls, root.certificate, version)
    await write(untrusted)
    const subject = subjectOf(server.url)
    const failure = failureOf(await issue(subject))
    expect(failure).toMatchObject({ code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })
    expect(failure.message).toBe(
      `${portOf(server.url)} refused the client certificate (TLS alert: unknown ca)`,
    )
    expect(subject.issuer.health().reachable).toBeNull()
    await write(ended)
    expect(failureOf(await issue(subjectOf(server.url, yesterday))).message).toMatch(
      /refused the client certificate \(TLS alert: certificate expired\)$/,
    )
  })

  test('by closing the connection', async () => {
    await write(untrusted)
    await using server = await serve()
    const failure = failureOf(await issue(subjectOf(server.url)))
    expect(failure).toMatchObject({ code: 'ISSUER_UNREACHABLE', next: 'issuer-backoff' })
    expect(failure.message).toMatch(
      new RegExp(
        `^cannot reach ${portOf(server.url)}: .*; the server may have refused the client certificate`,
      ),
    )
    expect(server.routes()).toBe('')
  })
})

describe('what the host sees itself is not sent', () => {
  const ec = (): string =>
    generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' })
  const { certificate, key } = client
  const ended = issueTlsCertificate({ name: 'web1', issuer: root, endsInDays: -0.5 })
  const begins = issueTlsCertificate({ name: 'web1', issuer: root, startsInDays: 2 })
  test.each([
    {
      name: 'another key',
      certificate,
      key: ec(),
      code: 'CREDENTIAL_UNREADABLE',
      words: 'the key in KEY does not belong to the client certificate in CERT',
    },
    {
      name: 'no key',
      certificate,
      key: 'hello',
      code: 'CREDENTIAL_UNREADABLE',
      words: 'the key of the client certificate in KEY is not a private key in PEM form',
    },
    {
      name: 'no certificate',
      certificate: key,
      key,
      code: 'CREDENTIAL_UNREADABLE',
      words: 'CERT holds no certificate in PEM form',
    },
    {
      name: 'a damaged one in the chain',
      certificate: `${certificate}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
      key,
      code: 'CREDENTIAL_UNREADABLE',
      words: 'a certificate in CERT is damaged: ',
    },
    {
      name: 'an empty file',
      certificate: '\n',
      key,
      code: 'CREDENTIAL_UNREADABLE',
      words: 'the client certificate file CERT is empty',
    },
    {
      ...ended,
      name: 'expired',
      code: 'LOGIN_PLATFORM',
      words: /CERT expired at 20\d\d-[^ ]*Z: by this host's clock it is 20\d\d-[^ ]*Z; replace it$/,
    },
    {
      ...begins,
      name: 'not valid yet',
      code: 'LOGIN_PLATFORM',
      words: /is not valid before 20\d\d-[^ ]*Z: by this host's clock it is 20\d\d-[^ ]*Z$/,
    },
  ])('$name', async ({ code, words, ...files }) => {
    await writeFile(fileOf('client.pem'), files.certificate)
    await writeFile(fileOf('client.key'), files.key)
    await using server = await serve()
    const failure = failureOf(await issue(subjectOf(server.url)))
    expect(failure).toMatchObject({ code, next: 'local' })
    const message = failure.message
      .replaceAll(fileOf('client.pem'), 'CERT')
      .replaceAll(fileOf('client.key'), 'KEY')
    expect(message).toMatch(words)
    expect(server.routes()).toBe('')
  })

  test('a login_url without TLS', async () => {
    const failure = failureOf(await issue(subjectOf(setup.server.url)))
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'local' })
    expect(failure.message).toBe(
      `auth.login_url ${setup.server.url} must be https: to show a client certificate`,
    )
    expect(setup.routes()).toBe('')
  })
})

test('no part of the key in what is logged or returned, even if the server repeats it', async () => {
  const lines = client.key.split('\n').filter((line) => line.length > 16 && !line.startsWith('-'))
  const said: unknown[] = []
  for (const line of lines) {
    await using server = await serve({
      methods: {
        'tls-cert-auth': () => {
          throw new LoginRefusal(401, `Error ${line}`, `refused ${line}`)
        },
      },
    })
    const subject = subjectOf(server.url)
    said.push(failureOf(await issue(subject)), subject.logged, subject.metrics)
  }
  const everything = JSON.stringify(said)
  expect(everything).toContain('[secret]')
  for (const line of lines) expect(everything).not.toContain(line)
})
