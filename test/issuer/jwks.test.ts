import { createHmac, createPublicKey, sign } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { encode, makeJwtSigner, verifiedClaims } from '../support/platform/jwks.ts'
import {
  azureLogin,
  gcpKeyLogin,
  gcpLogin,
  jwtLogin,
  kubernetesLogin,
  oidcLogin,
  spiffeLogin,
} from '../support/platform/login-methods.ts'

const NOW = 1_795_759_200
const rsa = makeJwtSigner('RS256', 'key-1')
const ec = makeJwtSigner('ES256', 'key-2')
const other = makeJwtSigner('ES256', 'key-3')
/** Has the name of another. */
const stranger = makeJwtSigner('ES256', 'key-2')
const byHand = makeJwtSigner('ES256', null)
const PUBLISHED = [rsa, ec, byHand].map(({ published }) => published)
const CLAIMS = { iss: 'https://tokens.example.com', sub: 'web1', aud: 'hostcertd', exp: NOW + 60 }

const seal = (header: object, signature: (content: string) => string, claims: object = CLAIMS): string => {
  const content = `${encode(header)}.${encode(claims)}`
  return `${content}.${signature(content)}`
}
const es256 = (content: string, { privateKey } = ec): string =>
  sign('sha256', Buffer.from(content), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
/** The trick of RFC 8725, section 2.1: the public key as the secret. */
const hs256 = (content: string): string => {
  const pem = createPublicKey(rsa.privateKey).export({ type: 'spki', format: 'pem' })
  return createHmac('sha256', pem).update(content).digest('base64url')
}

describe('who verifies JWTs in these tests', () => {
  test.each([
    { name: 'by the key that it names', jwt: ec.sign(CLAIMS) },
    { name: 'by another of them', jwt: rsa.sign(CLAIMS) },
    { name: 'by the key without a name', jwt: byHand.sign(CLAIMS) },
    { name: 'valid since this second', jwt: ec.sign({ ...CLAIMS, nbf: NOW }) },
  ])('accepts one that is signed $name', ({ jwt }) => {
    expect(verifiedClaims(jwt, PUBLISHED, NOW)).toMatchObject(CLAIMS)
  })

  test.each([
    { name: 'a key that is not published', jwt: other.sign(CLAIMS), words: 'no such key' },
    { name: 'a key of the same name', jwt: stranger.sign(CLAIMS), words: 'invalid signature' },
    {
      name: 'no key name, but a key that has one',
      jwt: seal({ alg: 'ES256', typ: 'JWT' }, es256),
      words: 'invalid signature',
    },
    {
      name: 'the name of a key of another algorithm',
      jwt: seal({ alg: 'ES256', kid: 'key-1' }, es256),
      words: 'a key of another algorithm',
    },
    {
      name: 'an algorithm that is not that of its key',
      jwt: seal({ alg: 'RS256', kid: 'key-2' }, es256),
      words: 'a key of another algorithm',
    },
    { name: 'alg none', jwt: seal({ alg: 'none', kid: 'key-1' }, () => 'c2ln'), words: 'invalid algorithm' },
    { name: 'alg none, unsigned', jwt: seal({ alg: 'none' }, () => ''), words: 'jwt malformed' },
    {
      name: 'the public key as a secret',
      jwt: seal({ alg: 'HS256', kid: 'key-1' }, hs256),
      words: 'invalid algorithm',
    },
    { name: 'no algorithm', jwt: seal({ kid: 'key-2' }, es256), words: 'invalid algorithm' },
    {
      name: 'another payload',
      jwt: ec.sign(CLAIMS).replace(/\.[^.]+\./, `.${encode({ ...CLAIMS, sub: 'web2' })}.`),
      words: 'invalid signature',
    },
    { name: 'four parts', jwt: `${ec.sign(CLAIMS)}.x`, words: 'jwt malformed' },
    { name: 'no JSON', jwt: 'x.y.z', words: 'jwt malformed' },
    { name: 'its expiry in this second', jwt: ec.sign({ ...CLAIMS, exp: NOW }), words: 'jwt expired' },
    { name: 'no expiry', jwt: ec.sign({ ...CLAIMS, exp: undefined }), words: 'jwt expired' },
    { name: 'an expiry that is a text', jwt: ec.sign({ ...CLAIMS, exp: '9' }), words: 'jwt expired' },
    { name: 'a beginning in a second', jwt: ec.sign({ ...CLAIMS, nbf: NOW + 1 }), words: 'jwt not active' },
  ])('refuses one with $name', ({ jwt, words }) => {
    expect(() => verifiedClaims(jwt, PUBLISHED, NOW)).toThrow(words)
  })

  const rules = { issuer: CLAIMS.iss, subject: CLAIMS.sub, audience: CLAIMS.aud, keys: () => [ec.published] }
  test.each([
    { route: 'oidc-auth', verify: oidcLogin(rules), statuses: [401, 401, 403, 403] },
    { route: 'jwt-auth', verify: jwtLogin(rules), statuses: [401, 403, 403, 403] },
    { route: 'spiffe-auth', verify: spiffeLogin(rules), statuses: [401, 401, 401, 401] },
    {
      route: 'kubernetes-auth',
      verify: kubernetesLogin(rules, { fails: false }),
      statuses: [401, 401, 401, 401],
    },
    { route: 'gcp-auth', verify: gcpLogin(rules), statuses: [500, 500, 403, 500] },
    { route: 'gcp-auth with a key file', verify: gcpKeyLogin(rules), statuses: [403, 403, 403, 401] },
    { route: 'azure-auth', verify: azureLogin(rules), statuses: [403, 403, 401, 403] },
  ])('$route: unverified, issuer, subject, audience: $statuses', ({ route, verify, statuses }) => {
    const jwts = [
      stranger.sign(CLAIMS),
      ...['iss', 'sub', 'aud'].map((name) => ec.sign({ ...CLAIMS, [name]: 'another' })),
    ]
    const login = (jwt: unknown) => () => verify({ route, body: { jwt }, clientName: null, at: NOW * 1000 })
    const statusOf = (jwt: unknown): unknown => {
      try {
        login(jwt)()
      } catch (refusal) {
        return Object(refusal).status
      }
      return 200
    }
    expect(jwts.map(statusOf)).toEqual(statuses)
    expect([ec.sign(CLAIMS), ec.sign({ ...CLAIMS, aud: ['x', CLAIMS.aud] }), 7].map(statusOf)).toEqual([
      200, 200, 422,
    ])
  })
})
