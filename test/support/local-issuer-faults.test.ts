import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startLocalIssuer, type Fault, type LocalIssuer } from './local-issuer.ts'
import { generateKey, listCertificate } from './ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'

let folder: TemporaryFolder
let issuer: LocalIssuer
let hostId: string
let key: string

beforeEach(async () => {
  folder = await makeTemporaryFolder()
  issuer = await startLocalIssuer({ folder: folder.path })
  hostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
  key = await generateKey(join(folder.path, 'host_key'), 'ed25519', 'root@host1')
})

afterEach(async () => {
  await issuer.stop()
  await folder.remove()
})

async function issue(signal: AbortSignal = AbortSignal.timeout(15_000)): Promise<Response> {
  return await fetch(`${issuer.url}/api/v1/ssh/hosts/${hostId}/issue-host-cert`, {
    method: 'POST',
    headers: { authorization: `Bearer ${issuer.addToken()}`, 'content-type': 'application/json' },
    body: JSON.stringify({ publicKey: key }),
    redirect: 'manual',
    signal,
  })
}

async function signedKey(response: Response): Promise<string> {
  const body = (await response.json()) as { signedKey: string }
  return body.signedKey
}

test.each<{ name: string; fault: Fault; issued: number }>([
  { name: 'a reset', fault: { kind: 'reset' }, issued: 0 },
  { name: 'a reset after the work', fault: { kind: 'reset', done: true }, issued: 1 },
  { name: 'half a body', fault: { kind: 'half-body' }, issued: 1 },
])('$name breaks the exchange, with $issued issued', async ({ fault, issued }) => {
  issuer.failNext(fault)
  await expect(issue().then(signedKey)).rejects.toThrow(/fetch failed|terminated/)
  expect(issuer.issued).toHaveLength(issued)
  expect((await issue()).status).toBe(200)
})

test('a hang ends with the patience of the client, and is recorded without a status', async () => {
  issuer.failNext({ kind: 'hang' })
  await expect(issue(AbortSignal.timeout(200))).rejects.toThrow(/timeout/)
  expect(issuer.requests).toMatchObject([{ method: 'POST', authorization: true, status: null }])
})

test('an endless body can be left', async () => {
  issuer.failNext({ kind: 'huge' })
  const response = await issue()
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    if (length > 2 ** 22) break
  }
  expect(length).toBeGreaterThan(2 ** 22)
})

test('a page, a redirect, a slow answer, another date', async () => {
  issuer.failNext({ kind: 'html', status: 503 })
  const page = await issue()
  expect([page.status, page.headers.get('content-type')]).toEqual([503, 'text/html'])
  issuer.failNext({ kind: 'redirect', location: 'http://127.0.0.1:9/' })
  const redirect = await issue()
  expect([redirect.status, redirect.headers.get('location')]).toEqual([302, 'http://127.0.0.1:9/'])
  issuer.failNext({ kind: 'skew', seconds: -7200 })
  const skewed = Date.parse((await issue()).headers.get('date') ?? '')
  expect(Math.abs(Date.now() - 7_200_000 - skewed)).toBeLessThan(60_000)
  issuer.failNext({ kind: 'date', value: null })
  expect((await issue()).headers.get('date')).toBeNull()
  issuer.failNext({ kind: 'slow', milliseconds: 100 })
  const before = performance.now()
  expect((await issue()).status).toBe(200)
  expect(performance.now() - before).toBeGreaterThan(90)
})

test('a tampered answer leaves the record of what was issued alone', async () => {
  issuer.failNext({ kind: 'tamper', edit: (line) => line.replace('root@host1', 'evil') })
  const tampered = await signedKey(await issue())
  expect(tampered).toMatch(/ evil\n$/)
  expect(issuer.issued[0]?.line).toMatch(/ root@host1\n$/)
})

test('a pause lets the CA be rotated within a request', async () => {
  const gate = Promise.withResolvers<void>()
  issuer.failNext({ kind: 'pause', until: gate.promise })
  const response = issue()
  await expect.poll(() => issuer.requests.length).toBe(1)
  await issuer.rotateCa('ecdsa')
  gate.resolve()
  expect(await listCertificate(await signedKey(await response))).toContain('Signing CA: ECDSA')
})

test('faults befall their route only, so often or until healed', async () => {
  const login = async () =>
    (await fetch(`${issuer.url}/api/v1/auth/universal-auth/login`, { method: 'POST' })).status
  issuer.failAlways({ status: 503 }, 'login')
  issuer.failNext({ status: 500 }, 2, 'issue')
  expect([await login(), (await issue()).status]).toEqual([503, 500])
  expect([await login(), (await issue()).status]).toEqual([503, 500])
  expect([await login(), (await issue()).status]).toEqual([503, 200])
  issuer.heal()
  expect(await login()).toBe(422)
})

test('down, with a request in hand, and back on the same port', async () => {
  const { url } = issuer
  issuer.failNext({ kind: 'hang' })
  const pending = issue()
  const stop = async () => {
    await expect.poll(() => issuer.requests.length).toBe(1)
    await issuer.stop()
  }
  const stopped = stop()
  await expect(pending).rejects.toThrow('fetch failed')
  await stopped
  await expect(issue()).rejects.toThrow('fetch failed')
  await issuer.start()
  expect(issuer.url).toBe(url)
  expect((await issue()).status).toBe(200)
})
