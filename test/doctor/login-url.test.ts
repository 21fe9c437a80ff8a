import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { diagnoseIssuer } from '../../agent/doctor/issuer-diagnosis.ts'
import { craftKey } from '../cert/craft.ts'
import { ManualClock } from '../fakes/manual-clock.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { closedPort, NEVER, type RawServer, sendJson, startRawServer } from '../issuer/harness.ts'
import { issueTlsCertificate, makeTlsCertificate } from '../support/local-issuer/tls-certificate.ts'
import { startOpensslServer } from '../support/openssl-server.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const HOST_ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const client = issueTlsCertificate({ name: 'web1', isCa: false })
const serverTls = makeTlsCertificate()

let folder: TemporaryFolder
let issuer: RawServer

beforeEach(async () => {
  folder = await makeTemporaryFolder()
  await writeFile(join(folder.path, 'client.pem'), client.certificate)
  await writeFile(join(folder.path, 'client.key'), client.key)
  await writeFile(join(folder.path, 'ca.pem'), serverTls.certificate)
  const ca = craftKey().line
  issuer = await startRawServer(({ url = '' }, response) => {
    if (url.endsWith('/host-ca-public-key')) response.end(ca)
    else sendJson(response, 403, { reqId: 'req-1', error: 'PermissionDenied', message: 'no' })
  })
})
afterEach(async () => {
  await issuer[Symbol.asyncDispose]()
  await folder.remove()
})

/** `STEP STATUS: MESSAGE` of each finding but those about the issuer itself, and all remedies. */
async function diagnose(loginUrl: string) {
  const auth = {
    method: 'tls-cert',
    organization: null,
    identityId: { value: 'ID' },
    certificateFile: join(folder.path, 'client.pem'),
    keyFile: join(folder.path, 'client.key'),
    loginUrl,
  } as const
  const config = {
    kind: 'http',
    url: issuer.url,
    sshHostId: HOST_ID,
    caFile: join(folder.path, 'ca.pem'),
    timeoutMilliseconds: 5000,
    auth,
  } as const
  const clock = new ManualClock(Date.now() / 1000)
  const way = { issuer: config, shownAuth: auth, environment: {}, clock, signal: NEVER }
  const question = { login: true, pinned: null, principals: null, issueFor: [] }
  return diagnoseIssuer(way, question, { version: '1', log: new RecordingLog() })
}

const GRANTED = { accessToken: 'a-token', expiresIn: 60, tokenType: 'Bearer' }

test('the way to login_url is examined too', async () => {
  await using server = await startRawServer((_, response) => sendJson(response, 200, GRANTED), serverTls)
  const findings = await diagnose(server.url)
  const steps = findings.map(({ step, status }) => `${step} ${status}`)
  expect(steps.slice(0, 6)).toEqual(['name ok', 'tcp ok', 'tls skipped', 'name ok', 'tcp ok', 'tls ok'])
  expect(findings[4]?.message).toBe(`127.0.0.1:${server.port} accepts connections`)
  expect(steps.at(-2)).toBe('login ok')
})

test('not if it is where the issuer is', async () => {
  const findings = await diagnose(`${issuer.url}/tls`)
  expect(findings.map(({ step }) => step).filter((step) => step === 'tcp')).toEqual(['tcp'])
})

test('nothing listens there: only what needs the login is skipped', async () => {
  const port = await closedPort()
  const findings = await diagnose(`https://127.0.0.1:${port}`)
  expect(findings).toContainEqual({
    step: 'tcp',
    status: 'failure',
    message: expect.stringContaining(`cannot connect to 127.0.0.1:${port}`),
    remedy: expect.stringMatching(/^nothing listens there: .* the port of auth\.login_url$/),
  })
  expect(findings.map(({ step, status }) => `${step} ${status}`)).toEqual(
    expect.arrayContaining(['issuer ok', 'clock ok', 'login skipped', 'permission skipped']),
  )
})

test('a certificate for another name', async () => {
  const tls = makeTlsCertificate('127.0.0.9')
  await writeFile(join(folder.path, 'ca.pem'), tls.certificate)
  await using server = await startRawServer((_, response) => sendJson(response, 200, GRANTED), tls)
  expect(await diagnose(server.url)).toContainEqual({
    step: 'tls',
    status: 'failure',
    message: expect.stringContaining('not for 127.0.0.1'),
    remedy: expect.stringMatching(/^set auth\.login_url to a name that the certificate is for/),
  })
})

test.each([
  {
    name: 'has no such route',
    status: 404,
    body: {},
    remedy: /^check auth\.login_url \(https:\/\/127\.0\.0\.1:\d+\), and whether a proxy/,
  },
  {
    name: 'refuses the client certificate',
    status: 401,
    body: { reqId: 'req-1', error: 'UnauthorizedError', message: 'no' },
    remedy: /^check with `openssl x509 -in .*client\.pem/,
  },
])('a server that $name', async ({ status, body, remedy }) => {
  await using server = await startRawServer((_, response) => sendJson(response, status, body), serverTls)
  const login = (await diagnose(server.url)).find(({ step }) => step === 'login')
  expect(login).toMatchObject({ status: 'failure', remedy: expect.stringMatching(remedy) })
})

test('a server that requires a client certificate in the handshake: only the login shows one', async () => {
  const other = issueTlsCertificate({ name: 'clients root' }).certificate
  await using server = await startOpensslServer(folder.path, serverTls, other, '-tls1_2')
  const findings = await diagnose(server.url)
  expect(findings).toContainEqual({
    step: 'tls',
    status: 'unknown',
    message: expect.stringMatching(
      /^127\.0\.0\.1:\d+ may require a client certificate \(.*\), and this check has none$/,
    ),
    remedy: 'see the step login',
  })
  expect(findings.find(({ step }) => step === 'login')).toMatchObject({
    status: 'failure',
    message: expect.stringMatching(
      /^ISSUER_UNAUTHORIZED: .* refused the client certificate \(TLS alert: unknown ca\)\. The proof of identity: subject CN=web1/,
    ),
    remedy: expect.stringMatching(/^check with `openssl x509 -in .*client\.pem/),
  })
})

test('a connection that is cut', async () => {
  await using server = await startRawServer((_, response) => response.destroy(), serverTls)
  const login = (await diagnose(server.url)).find(({ step }) => step === 'login')
  expect(login?.remedy).toContain(`in front of ${server.url}, and try again`)
})
