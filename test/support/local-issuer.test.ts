import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import * as client from './issuer-client.ts'
import { issuerPaths } from './issuer-client.ts'
import { startLocalIssuer, type LocalIssuer } from './local-issuer.ts'
import { generateKey, listCertificate } from './ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'

/** 2026-03-01T12:34:56Z */
const NOW = Date.UTC(2026, 2, 1, 12, 34, 56)
const REQUEST_ID = /^req-[0-9A-Za-z]{14}$/

let folder: TemporaryFolder
let issuer: LocalIssuer
let hostId: string
let key: string
let now: number

beforeEach(async () => {
  now = NOW
  folder = await makeTemporaryFolder()
  issuer = await startLocalIssuer({ folder: folder.path, now: () => now, lockAfterFailures: 3 })
  hostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
  key = await generateKey(join(folder.path, 'host_key'), 'ed25519', 'root@host1')
})

afterEach(async () => {
  await issuer.stop()
  await folder.remove()
})

const get = (path: string, authorization?: string) => client.get(issuer, path, authorization)
const post = (path: string, body: unknown, authorization?: string) =>
  client.post(issuer, path, body, authorization)
const issue = (publicKey = key, token = issuer.addToken()) => client.issue(issuer, hostId, publicKey, token)

describe('a certificate', () => {
  test('is dated back 59 s to the full minute, and ends a ttl from now', async () => {
    const { status, body } = await issue()
    expect(status).toBe(200)
    const listing = await listCertificate(String(body['signedKey']))
    expect(listing).toContain('from 2026-03-01T12:33:00 to 2026-03-01T13:34:56')
    now = Date.UTC(2026, 2, 1, 12, 34, 59, 999)
    const later = await issue()
    expect(await listCertificate(String(later.body['signedKey']))).toContain('from 2026-03-01T12:34:00')
  })

  test('is for one principal, with a key id and a serial that no number holds', async () => {
    const { body } = await issue()
    const listing = await listCertificate(String(body['signedKey']))
    expect(listing).toContain('host certificate')
    expect(listing).toContain(`Key ID: "host-${hostId}"`)
    expect(listing).toMatch(/Principals: \n +web1\.example\.com\n +Critical Options: \(none\)/)
    expect(listing).toContain(`Serial: ${String(body['serialNumber'])}`)
    const serial = BigInt(String(body['serialNumber']))
    expect(serial > 2n ** 53n && serial < 2n ** 63n).toBe(true)
    expect(issuer.issued).toEqual([{ hostId, serial: String(serial), line: body['signedKey'] }])
  })

  test('has the comment of the posted key, or a path of the server', async () => {
    expect((await issue()).body['signedKey']).toMatch(/ root@host1\n$/)
    expect((await issue(`${key}\n`)).body['signedKey']).toMatch(/[^\n] root@host1\n$/)
    const bare = key.split(' ').slice(0, 2).join(' ')
    expect((await issue(bare)).body['signedKey']).toMatch(/^\S+ \S+ \/\S+\n$/)
  })

  test('is made for the first of two lines', async () => {
    const other = await generateKey(join(folder.path, 'other_key'), 'ecdsa-384', 'other')
    expect((await issue(`${key}\n${other}\n`)).body['signedKey']).toMatch(
      /^ssh-ed25519-cert\S+ \S+ root@host1\n$/,
    )
    expect((await issue(other)).body['signedKey']).toMatch(/^ecdsa-sha2-nistp384-cert/)
  })

  test.each([
    { name: 'a leading space', edit: (line: string) => ` ${line}`, want: 'unsupported key type.' },
    { name: 'an options prefix', edit: (line: string) => `no-pty ${line}`, want: 'unsupported key type.' },
    { name: 'another type', edit: () => 'ssh-dss AAAAB3NzaC1kc3MAAA', want: 'unsupported key type.' },
    { name: 'a damaged key', edit: () => 'ssh-ed25519 AAAA', want: 'could not be parsed.' },
  ])('is refused for $name', async ({ edit, want }) => {
    const { status, body } = await issue(edit(key))
    expect(status).toBe(400)
    expect(body).toEqual({
      reqId: expect.stringMatching(REQUEST_ID),
      statusCode: 400,
      error: 'BadRequest',
      message: `Failed to validate SSH public key format: ${want}`,
    })
    expect(issuer.issued).toHaveLength(0)
  })

  test('is refused for a P-521 key and for a certificate', async () => {
    const large = await generateKey(join(folder.path, 'large_key'), 'ecdsa-521', 'large')
    expect((await issue(large)).status).toBe(400)
    expect((await issue(String((await issue()).body['signedKey']))).status).toBe(400)
  })

  test.each(['rsa', 'ecdsa'] as const)(
    'can be signed by an %s CA, and by the next after a rotation',
    async (type) => {
      await issuer.rotateCa(type)
      const ca = issuer.caPublicKey
      expect((await get(issuerPaths.hostCa(hostId))).text).toBe(ca)
      const listing = await listCertificate(String((await issue()).body['signedKey']))
      expect(listing).toContain(type === 'rsa' ? 'Signing CA: RSA' : 'Signing CA: ECDSA')
    },
  )

  test('with a ttl beyond 31 bits is a 500', async () => {
    issuer.setTtl(hostId, 2 ** 31 + 1)
    expect((await issue()).status).toBe(500)
  })
})

describe('a token', () => {
  test('comes from a login, and expires', async () => {
    const identity = issuer.addIdentity({ tokenTtlSeconds: 60 })
    const { status, body } = await post(issuerPaths.login, identity)
    expect(status).toBe(200)
    expect(body).toEqual({
      accessToken: expect.any(String),
      expiresIn: 60,
      accessTokenMaxTTL: 60,
      tokenType: 'Bearer',
    })
    const token = String(body['accessToken'])
    now += 59_000
    expect((await issue(key, token)).status).toBe(200)
    now += 1_000
    const expired = await issue(key, token)
    expect(expired.status).toBe(403)
    expect(expired.body).toMatchObject({
      error: 'TokenError',
      message: 'Your token has expired. Please re-authenticate.',
    })
  })

  test('that is missing or unknown is a 401; malformed or forged a 403', async () => {
    expect((await post(issuerPaths.issue(hostId), { publicKey: key })).body).toMatchObject({
      statusCode: 401,
      message: 'Token missing',
    })
    const token = issuer.addToken()
    issuer.revokeTokens()
    expect((await issue(key, token)).body).toMatchObject({
      statusCode: 401,
      message: 'No identity access token found',
    })
    expect((await issue(key, 'nonsense')).body).toMatchObject({ statusCode: 403, error: 'TokenError' })
    expect((await issue(key, `${token}x`)).body).toMatchObject({
      statusCode: 403,
      message: 'invalid signature',
    })
  })

  test('that is bad is a 403 on public routes and on login too', async () => {
    const token = issuer.addToken()
    issuer.expireTokens()
    for (const bad of ['Bearer nonsense', `Bearer ${token}`, 'Basic Og==']) {
      expect((await get(issuerPaths.hostCa(hostId), bad)).status).toBe(403)
      expect((await get('/api/status', bad)).status).toBe(403)
      expect((await post(issuerPaths.login, issuer.addIdentity(), bad)).status).toBe(403)
    }
    expect((await get(issuerPaths.hostCa(hostId), `Bearer ${issuer.addToken()}`)).status).toBe(200)
  })

  test('is deleted by a renewal', async () => {
    const token = issuer.addToken()
    expect((await post('/api/v1/auth/token/renew', { accessToken: token })).status).toBe(401)
    expect((await issue(key, token)).status).toBe(401)
  })
})

describe('a login', () => {
  test('of an unknown client is a 404, with a wrong secret a 401, locked after three for 300 s', async () => {
    const identity = issuer.addIdentity()
    const wrong = { ...identity, clientSecret: 'wrong' }
    expect((await post(issuerPaths.login, { ...identity, clientId: 'unknown' })).body).toMatchObject({
      statusCode: 404,
      message: 'No identity with specified client ID was found',
    })
    for (let attempt = 0; attempt < 3; attempt += 1)
      expect((await post(issuerPaths.login, wrong)).body).toMatchObject({
        statusCode: 401,
        message: 'Invalid credentials',
      })
    now += 299_000
    expect((await post(issuerPaths.login, identity)).body).toMatchObject({
      statusCode: 401,
      message: 'This identity auth method is temporarily locked, please try again later',
    })
    now += 1_000
    expect((await post(issuerPaths.login, identity)).status).toBe(200)
  })
})
