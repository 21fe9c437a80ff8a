import crypto, { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Login, LoginBy } from '../../agent/config/config.ts'
import { readCredentialFile } from '../../agent/issuer/logins/credential-file.ts'
import { oci } from '../../agent/issuer/logins/oci.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { alicloudRefusal } from '../support/platform/alicloud.ts'
import { alicloudLogin, ociLogin } from '../support/platform/login-methods.ts'
import { type LoginServer, startLoginServer, type Verify } from '../support/platform/login-server.ts'
import { ociRefusal } from '../support/platform/oci.ts'
import { IDENTITY, md5 } from './every-login.ts'
import { NEVER, requestFor, type Subject } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

const NOW = 1_795_759_200.5
const USER = 'ocid1.user.oc1..aaaauser'
const TENANCY = 'ocid1.tenancy.oc1..aaaatenancy'
const ACCESS_KEY = { id: 'LTAI5tExample', secret: "canary-s'(e)c*r!e~t/+" }

let setup: Setup
let server: LoginServer

beforeEach(async () => {
  setup = await setUp()
})
afterEach(async () => {
  await server[Symbol.asyncDispose]()
  await setup[Symbol.asyncDispose]()
})

async function start(route: string, verify: Verify): Promise<void> {
  const methods = { [route]: verify }
  const now = (): number => NOW * 1000
  server = await startLoginServer({
    issuer: setup.server,
    methods,
    identityId: IDENTITY,
    organization: 'acme',
    now,
  })
}

const bodies = () => server.logins.map(({ body }) => body)

function subjectOf(auth: Login, now: () => number = () => NOW): Subject {
  return setup.subject({ url: server.url, auth, now })
}

async function issue({ issuer }: Subject) {
  return issuer.issue(requestFor(setup.publicKey), NEVER)
}

function strings(value: unknown): Record<string, string> {
  const entries = Object.entries(Object(value) as object)
  expect(entries.filter(([, one]) => typeof one !== 'string')).toEqual([])
  return Object.fromEntries(entries) as Record<string, string>
}

interface ApiKey {
  readonly pem: string
  readonly publicKey: KeyObject
  readonly fingerprint: string
}

function makeApiKey(): ApiKey {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
  return { pem, publicKey, fingerprint: md5(publicKey) }
}

const [KEY, OTHER_KEY] = [makeApiKey(), makeApiKey()]

describe('oci', () => {
  let keyFile: string
  /** What Oracle Cloud knows. */
  let known: ApiKey

  const auth = (over: Partial<LoginBy<'oci'>> = {}): LoginBy<'oci'> => ({
    method: 'oci',
    organization: null,
    identityId: { value: IDENTITY },
    user: USER,
    tenancy: TENANCY,
    fingerprint: KEY.fingerprint,
    region: 'eu-frankfurt-1',
    keyFile,
    ...over,
  })

  beforeEach(async () => {
    keyFile = join(setup.folder, 'api-key.pem')
    await writeFile(keyFile, KEY.pem)
    known = KEY
    const keyId = (): string => `${TENANCY}/${USER}/${known.fingerprint}`
    await start(
      'oci-auth',
      ociLogin(() => ({ publicKey: known.publicKey, keyId: keyId() })),
    )
  })

  test('signs what Oracle Cloud accepts, and the issuer issues', async () => {
    expect((await issue(subjectOf(auth()))).ok).toBe(true)
    const date = new Date(NOW * 1000).toUTCString()
    expect(bodies()).toEqual([
      {
        identityId: IDENTITY,
        userOcid: USER,
        headers: {
          authorization: expect.stringMatching(
            /^Signature version="1",keyId="[^"]+",algorithm="rsa-sha256",headers="x-date \(request-target\) host",signature="[\w+/]+=*"$/,
          ),
          host: 'identity.eu-frankfurt-1.oraclecloud.com',
          'x-date': date,
          date,
        },
      },
    ])
  })

  test('an organization is sent along, and the identity may be in a file', async () => {
    const file = join(setup.folder, 'identity-id')
    await writeFile(file, `${IDENTITY}\n`)
    await issue(subjectOf(auth({ organization: 'acme', identityId: { file } })))
    expect(bodies()).toMatchObject([{ organizationSlug: 'acme', identityId: IDENTITY }])
  })

  test('a traditional RSA key (PKCS#1) will do', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    await writeFile(keyFile, privateKey.export({ type: 'pkcs1', format: 'pem' }))
    known = { pem: '', publicKey, fingerprint: md5(publicKey) }
    expect((await issue(subjectOf(auth({ fingerprint: known.fingerprint })))).ok).toBe(true)
  })

  test('the key is read anew at each login', async () => {
    known = OTHER_KEY
    const subject = subjectOf(auth({ fingerprint: OTHER_KEY.fingerprint }))
    expect(failureOf(await issue(subject)).code).toBe('CREDENTIAL_UNREADABLE')
    await writeFile(keyFile, OTHER_KEY.pem)
    expect((await issue(subject)).ok).toBe(true)
  })

  test('another key than the one of the fingerprint is not used: both are named', async () => {
    await writeFile(keyFile, OTHER_KEY.pem)
    const failure = failureOf(await issue(subjectOf(auth())))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    for (const part of [keyFile, KEY.fingerprint, OTHER_KEY.fingerprint])
      expect(failure.message).toContain(part)
    expect(server.logins).toEqual([])
  })

  test('where OpenSSL refuses MD5, as in FIPS mode, the fingerprint is sent without a comparison', async () => {
    const { createHash: original } = crypto
    const refusing = vi.spyOn(crypto, 'createHash').mockImplementation((algorithm, options) => {
      if (algorithm === 'md5') throw new Error('error:0308010C:digital envelope routines::unsupported')
      return original(algorithm, options)
    })
    syncBuiltinESMExports()
    try {
      expect((await issue(subjectOf(auth()))).ok).toBe(true)
      const tools = {
        secrets: new Secrets(),
        clock: { now: () => NOW },
        log: { info: () => {} },
        environment: {},
        readFile: readCredentialFile,
      }
      const { claims } = await oci(auth(), tools).prove(NEVER)
      expect(claims.at(-1)).toMatch(/^not compared with \S+api-key\.pem: the fingerprint needs MD5/)
    } finally {
      refusing.mockRestore()
      syncBuiltinESMExports()
    }
  })

  test.each([
    { name: 'no key', content: () => 'hunter2', words: 'is not a private key in PEM form' },
    {
      name: 'a public key',
      content: () => KEY.publicKey.export({ type: 'spki', format: 'pem' }),
      words: 'is not a private key in PEM form',
    },
    {
      name: 'a key with a passphrase',
      content: () =>
        generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
          type: 'pkcs8',
          format: 'pem',
          cipher: 'aes-256-cbc',
          passphrase: 'x',
        }),
      words: 'without a passphrase',
    },
    {
      name: 'an elliptic key',
      content: () =>
        generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
          type: 'pkcs8',
          format: 'pem',
        }),
      words: 'is not an RSA key',
    },
    {
      name: 'a short RSA key',
      content: () =>
        generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({
          type: 'pkcs8',
          format: 'pem',
        }),
      words: 'has 1024 bits; it must be RSA with at least 2048 bits',
    },
  ])('$name in the file', async ({ content, words }) => {
    await writeFile(keyFile, content())
    const subject = subjectOf(auth())
    const failure = failureOf(await issue(subject))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    expect(failure.message).toContain(keyFile)
    expect(failure.message).toContain(words)
    expect(JSON.stringify([failure, subject.logged])).not.toContain('hunter2')
  })

  test.each([
    { name: 'a key that was deleted', reason: 'no such key', spoil: () => void (known = OTHER_KEY) },
    {
      name: 'another key of that fingerprint',
      reason: 'a bad signature',
      spoil: () => void (known = { ...OTHER_KEY, fingerprint: KEY.fingerprint }),
    },
  ])('$name: the platform refused it', async ({ reason, spoil }) => {
    spoil()
    const failure = failureOf(await issue(subjectOf(auth())))
    expect(server.refusals).toEqual([reason])
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toContain('most likely Oracle Cloud refused')
  })

  test('a clock that is wrong: the platform refused it', async () => {
    const failure = failureOf(await issue(subjectOf(auth(), () => NOW + 301)))
    expect(server.refusals).toEqual(['a date too far away'])
    expect(failure.code).toBe('LOGIN_PLATFORM')
    expect(failure.message).toContain('clock')
  })
})

describe('alicloud', () => {
  let secretFile: string

  const auth = (over: Partial<LoginBy<'alicloud'>> = {}): LoginBy<'alicloud'> => ({
    method: 'alicloud',
    organization: null,
    identityId: { value: IDENTITY },
    accessKeyId: { value: ACCESS_KEY.id },
    accessKeySecretFile: secretFile,
    ...over,
  })

  beforeEach(async () => {
    secretFile = join(setup.folder, 'access-key-secret')
    await writeFile(secretFile, `${ACCESS_KEY.secret}\n`)
    await start(
      'alicloud-auth',
      alicloudLogin(() => ACCESS_KEY),
    )
  })

  test('signs what Alibaba Cloud accepts, and the issuer issues', async () => {
    expect((await issue(subjectOf(auth()))).ok).toBe(true)
    expect(bodies()).toEqual([
      {
        identityId: IDENTITY,
        Action: 'GetCallerIdentity',
        Format: 'JSON',
        Version: '2015-04-01',
        AccessKeyId: ACCESS_KEY.id,
        SignatureMethod: 'HMAC-SHA1',
        Timestamp: '2026-11-27T06:00:00Z',
        SignatureVersion: '1.0',
        SignatureNonce: expect.stringMatching(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
        Signature: expect.stringMatching(/^[\w+/]{27}=$/),
      },
    ])
  })

  test.each(["(key)'*!", 'a~b+c/d=e&f%2F'])('an access key id that needs encoding: %s', async (id) => {
    const file = join(setup.folder, 'access-key-id')
    await writeFile(file, `${id}\r\n`)
    await issue(subjectOf(auth({ accessKeyId: { file } })))
    const { identityId: _, ...parameters } = server.logins[0]?.body ?? {}
    expect(alicloudRefusal(strings(parameters), { ...ACCESS_KEY, id }, NOW)).toBeNull()
  })

  test.each(['two words', 'a\u0000b', '\ud800'])('an access key id that is none: %j', async (value) => {
    const failure = failureOf(await issue(subjectOf(auth({ accessKeyId: { value } }))))
    expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
    expect(failure.message).toContain('access key id')
    expect(server.logins).toEqual([])
  })

  test('the secret is read anew at each login, and the nonce is another', async () => {
    await writeFile(secretFile, 'another')
    const subject = subjectOf(auth())
    const failure = failureOf(await issue(subject))
    expect(server.refusals).toEqual(['SignatureDoesNotMatch'])
    expect(failure).toMatchObject({ code: 'LOGIN_PLATFORM', next: 'login-backoff' })
    expect(failure.message).toContain('most likely Alibaba Cloud refused')
    await writeFile(secretFile, ACCESS_KEY.secret)
    expect((await issue(subject)).ok).toBe(true)
    expect(new Set(bodies().map((body) => body['SignatureNonce'])).size).toBe(2)
  })

  test('a clock that is wrong: the platform refused it', async () => {
    const failure = failureOf(await issue(subjectOf(auth(), () => NOW - 901)))
    expect(server.refusals).toEqual(['InvalidTimeStamp.Expired'])
    expect(failure.code).toBe('LOGIN_PLATFORM')
    expect(failure.message).toContain('clock')
  })
})

describe.each(['oci', 'alicloud'] as const)('%s: its secret file', (method) => {
  let auth: Login

  beforeEach(async () => {
    const common = { organization: null, identityId: { value: IDENTITY } }
    const file = join(setup.folder, 'credential')
    await writeFile(file, method === 'oci' ? KEY.pem : ACCESS_KEY.secret)
    const { fingerprint } = KEY
    const oracle = { user: USER, tenancy: TENANCY, fingerprint, region: 'eu-frankfurt-1', keyFile: file }
    const alibaba = { accessKeyId: { value: ACCESS_KEY.id }, accessKeySecretFile: file }
    auth = method === 'oci' ? { method, ...common, ...oracle } : { method, ...common, ...alibaba }
    await start(`${method}-auth`, () => {})
  })

  test('a file that is missing or empty', async () => {
    const missing = join(setup.folder, 'nowhere')
    const empty = join(setup.folder, 'empty')
    await writeFile(empty, '\n')
    for (const file of [missing, empty]) {
      const over = auth.method === 'oci' ? { keyFile: file } : { accessKeySecretFile: file }
      const failure = failureOf(await issue(subjectOf({ ...auth, ...over })))
      expect(failure).toMatchObject({ code: 'CREDENTIAL_UNREADABLE', next: 'local' })
      expect(failure.message).toContain(file)
    }
    expect(server.logins).toEqual([])
  })
})

describe('the platforms of these tests accept the examples of the vendors, and nothing else', () => {
  // The key that the HTTP Signatures draft and Oracle's documentation have in common.
  const publicKey = createPublicKey(`-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDCFENGw33yGihy92pDjZQhl0C3
6rPJj+CvfSC8+q28hxA161QFNUd13wuCTUcq0Qd2qsBe/2hFyc2DCJJg0h1L78+6
Z4UMR7EOcpfdUE9Hf3m/hs+FUR45uBJeDK1HSFHD8bHKD6kv8FPGfJTotc+2xjJw
oYi+1hqp1fIekaxsyQIDAQAB
-----END PUBLIC KEY-----`)
  const fingerprint = '73:61:a2:21:67:e0:df:be:7e:4b:93:1e:15:98:a5:b7'
  const date = 'Thu, 05 Jan 2014 21:31:40 GMT'
  const keyId = `ocid1.tenancy.oc1..aaaaaaaaba3pv6wkcr4jqae5f15p2b2m2yt2j6rx32uzr4h25vqstifsfdsq/ocid1.user.oc1..aaaaaaaat5nvwcna5j6aqzjcaty5eqbb6qt2jvpkanghtgdaqedqw3rynjq/${fingerprint}`
  const signature =
    'GBas7grhyrhSKHP6AVIj/h5/Vp8bd/peM79H9Wv8kjoaCivujVXlpbKLjMPeDUhxkFIWtTtLBj3sUzaFj34XE6YZAHc9r2DmE4pMwOAy/kiITcZxa1oHPOeRheC0jP2dqbTll8fmTZVwKZOKHYPtrLJIJQHJjNvxFWeHQjMaR7M='
  const request = {
    method: 'get',
    path: '/20160918/instances?availabilityDomain=Pjwf%3A%20PHX-AD-1&compartmentId=ocid1.compartment.oc1..aaaaaaaam3we6vgnherjq5q2idnccdflvjsnog7mlr6rtdb25gilchfeyjxa&displayName=TeamXInstances&volumeId=ocid1.volume.oc1.phx.abyhqljrgvttnlx73nmrwfaux7kcvzfs3s66izvxf2h4lgvyndsdsnoiwr5q',
    headers: {
      date,
      host: 'iaas.us-phoenix-1.oraclecloud.com',
      authorization: `Signature version="1",headers="date (request-target) host",keyId="${keyId}",algorithm="rsa-sha256",signature="${signature}"`,
    },
  }

  beforeEach(() => start('unused', () => {}))

  test('Oracle Cloud', () => {
    const [key, now] = [{ keyId, publicKey }, Date.parse(date) / 1000]
    expect(ociRefusal(request, key, now)).toBeNull()
    expect(ociRefusal({ ...request, path: '/20160918/instances' }, key, now)).toBe('a bad signature')
    expect(md5(publicKey)).toBe(fingerprint)
  })

  test('Alibaba Cloud', () => {
    const parameters = {
      Timestamp: '2016-02-23T12:46:24Z',
      Format: 'XML',
      AccessKeyId: 'testid',
      Action: 'DescribeRegions',
      SignatureMethod: 'HMAC-SHA1',
      SignatureNonce: '3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf',
      Version: '2014-05-26',
      SignatureVersion: '1.0',
      Signature: 'OLeaidS1JvxuMvnyHOwuJ+uX5qY=',
    }
    const [key, now] = [{ id: 'testid', secret: 'testsecret' }, Date.parse(parameters.Timestamp) / 1000]
    expect(alicloudRefusal(parameters, key, now)).toBeNull()
    expect(alicloudRefusal({ ...parameters, Format: 'JSON' }, key, now)).toBe('SignatureDoesNotMatch')
  })
})
