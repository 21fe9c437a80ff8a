import { describe, expect, test } from 'vitest'
import type { Login } from '../../agent/config/config.ts'
import { loginRemedy } from '../../agent/doctor/login-remedies.ts'
import { LONGEST_FINDING } from '../../agent/issuer/exchange-protocol.ts'

const common = { organization: null, identityId: { value: 'ID' } } as const
const keys = { accessKeyIdFile: '/c/id', secretAccessKeyFile: '/c/secret', sessionTokenFile: null }
const file = { file: '/c/jwt' }

interface Case {
  readonly name: string
  readonly auth: Login
  /** The remedies for ISSUER_UNAUTHORIZED, and for ISSUER_FORBIDDEN. */
  readonly refused: RegExp
  readonly forbidden: RegExp
  /** For LOGIN_PLATFORM as the issuer reports it, and of this host's own; by default the message says it. */
  readonly platform?: RegExp
  readonly noProof?: RegExp
}

const MESSAGE = /^fix what the message says$/
const ADDRESS = /^at the issuer, allow the identity to log in from this host's address$/

const CASES: readonly Case[] = [
  {
    name: 'universal-auth',
    auth: {
      method: 'universal-auth',
      organization: null,
      clientId: { file: '/c/id' },
      clientSecretFile: '/c/secret',
    },
    refused: /^check \/c\/id, create .* write it to \/c\/secret; .*unlocked after 5 minutes$/,
    forbidden: ADDRESS,
  },
  {
    name: 'a token',
    auth: { method: 'token', tokenFile: '/c/token' },
    refused: /^write a new access token of the identity to \/c\/token; access tokens expire$/,
    forbidden: ADDRESS,
  },
  {
    name: 'kubernetes',
    auth: { ...common, method: 'kubernetes', tokenFile: '/c/token' },
    refused:
      /^check that \/c\/token is .* check that auth\.identity_id \(ID\) exists .* namespaces.* may create TokenReviews/,
    forbidden: /^at the issuer, check the allowed namespaces.* If the message is about the address, allow/,
    platform: /^check that the issuer can reach the API server/,
    noProof: /^project a service account token into this pod at \/c\/token /,
  },
  {
    name: 'aws, a role',
    auth: { ...common, method: 'aws', region: null, keys: null },
    refused: /aws sts get-caller-identity.* principal ARNs/,
    forbidden: /principal ARNs/,
    platform: /^check the clock with `timedatectl`/,
    noProof: /^attach a role .* hop limit of 2/,
  },
  {
    name: 'aws, keys',
    auth: { ...common, method: 'aws', region: null, keys },
    refused: /^check the keys in \/c\/id and \/c\/secret\./,
    forbidden: /principal ARNs/,
    platform: /keys in \/c\/id are active/,
  },
  {
    name: 'gcp, the metadata service',
    auth: { ...common, method: 'gcp', keyFile: null },
    refused: /type is gce,.* zones$/,
    forbidden: /type is gce/,
    platform: /^check at the issuer that the type of the login is gce; .* clock/,
    noProof: /^attach a service account/,
  },
  {
    name: 'gcp, a key',
    auth: { ...common, method: 'gcp', keyFile: '/c/key' },
    refused: /^check that the key in \/c\/key .* type is iam, and the allowed service accounts$/,
    forbidden: /type is iam/,
    platform: /^check that the service account of \/c\/key still exists/,
  },
  {
    name: 'azure',
    auth: { ...common, method: 'azure', resource: 'https://r/', clientId: 'CLIENT' },
    refused: /auth\.client_id CLIENT.* tenant id, that the audience is https:\/\/r\//,
    forbidden: /object id/,
    platform: /^check the tenant id/,
    noProof: /^assign the managed identity CLIENT.* 169\.254\.169\.254$/,
  },
  {
    name: 'azure, the identity of the machine',
    auth: { ...common, method: 'azure', resource: 'https://r/', clientId: null },
    refused: /^check which managed identity this machine has, auth\.resource \(.*\), and the clock/,
    forbidden: /object id/,
    platform: /^check the tenant id/,
    noProof: /^enable the system-assigned/,
  },
  {
    name: 'oidc',
    auth: { ...common, method: 'oidc', jwt: { command: ['/bin/print-jwt', 'x'] } },
    refused: /^check the claims of the JWT that \/bin\/print-jwt prints.* discovery URL/,
    forbidden: /bound issuer, subject/,
    noProof: /^check auth\.jwt_command: run it as the user hostcertd-exchange;/,
  },
  {
    name: 'spiffe',
    auth: { ...common, method: 'spiffe', jwt: file },
    refused: /JWT-SVID in \/c\/jwt.* trust domain/,
    forbidden: /trust bundle/,
    noProof: /^check that \/c\/jwt holds one JWT-SVID/,
  },
  {
    name: 'jwt, of another signer',
    auth: { ...common, method: 'jwt', jwt: file },
    refused: /JWT in \/c\/jwt.* JWKS/,
    forbidden: /JWKS/,
    platform: /^check that the JWKS of the identity has the key/,
    noProof: /^check that \/c\/jwt holds one JWT,/,
  },
  {
    name: "jwt, the host's own",
    auth: {
      ...common,
      method: 'jwt',
      jwt: { keyFile: '/c/key', issuer: 'I', subject: 'S', audience: 'A' },
    },
    refused: /^check auth\.issuer \(I\), auth\.subject \(S\), auth\.audience \(A\).* public half of \/c\/key/,
    forbidden: /static keys/,
  },
  {
    name: 'ldap',
    auth: { ...common, method: 'ldap', username: { value: 'web1' }, passwordFile: '/c/password' },
    refused: /^check auth\.username \(web1\), .* \/c\/password;.* search filter.* unlocked after 5 minutes$/,
    forbidden: /allowed fields/,
  },
  {
    name: 'tls-cert',
    auth: {
      ...common,
      method: 'tls-cert',
      certificateFile: '/c/cert',
      keyFile: '/c/key',
      loginUrl: 'https://i:8443',
    },
    refused: /openssl x509 -in \/c\/cert .* auth\.login_url \(https:\/\/i:8443\).* common names/,
    forbidden: /common names/,
    noProof: /^replace the certificate in \/c\/cert and its key in \/c\/key if it has expired; .* clock/,
  },
  {
    name: 'oci',
    auth: {
      ...common,
      method: 'oci',
      user: 'ocid1.user',
      tenancy: 'ocid1.tenancy',
      fingerprint: '20:3b',
      region: 'r',
      keyFile: '/c/key',
    },
    refused: /ocid1\.user still has the API key 20:3b, .* tenancy/,
    forbidden: /allowed user names/,
    platform: /auth\.tenancy and auth\.region/,
  },
  {
    name: 'alicloud',
    auth: {
      ...common,
      method: 'alicloud',
      accessKeyId: { value: 'LTAI' },
      accessKeySecretFile: '/c/secret',
    },
    refused: /auth\.access_key_id \(LTAI\) and the secret in \/c\/secret.* ARNs/,
    forbidden: /ARNs/,
    platform: /auth\.access_key_id \(LTAI\) is active/,
  },
]

test.each(CASES.filter(({ name }) => name !== 'a token'))(
  '$name: with an organization, it may be the wrong one',
  ({ auth }) => {
    const within = { ...auth, organization: 'acme' } as Login
    expect(loginRemedy(within, { code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' })).toContain(
      ', and that auth.organization (acme) is the slug of an organization that it belongs to',
    )
  },
)

describe.each(CASES)('$name', ({ auth, ...want }) => {
  test.each([
    ['ISSUER_UNAUTHORIZED', 'login-backoff', want.refused],
    ['ISSUER_FORBIDDEN', 'login-backoff', want.forbidden],
    ['LOGIN_PLATFORM', 'login-backoff', want.platform ?? MESSAGE],
    ['LOGIN_PLATFORM', 'local', want.noProof ?? MESSAGE],
    [
      'LOGIN_LOCKED',
      'login-backoff',
      /^wait 5 minutes: .*If it still refuses the secret then, (?:check|write) /,
    ],
  ] as const)('%s, %s', (code, next, remedy) => {
    const text = loginRemedy(auth, { code, next })
    expect(text).toMatch(remedy)
    expect(text).toMatch(/^[a-z].*[^.;]$/)
    // Room for longer paths and names.
    expect(text?.length).toBeLessThan(LONGEST_FINDING * 0.7)
  })

  test('a failure that the method has no part in', () => {
    expect(loginRemedy(auth, { code: 'ISSUER_BUSY', next: 'issuer-backoff' })).toBeNull()
  })
})
