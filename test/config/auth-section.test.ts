import { describe, expect, test } from 'vitest'
import { AUTH_METHODS } from '../../agent/config/auth-section.ts'
import type { Login } from '../../agent/config/config.ts'
import { pathText } from '../../agent/config/problem.ts'
import { parseYaml } from '../../agent/config/read-files.ts'
import { checkTree, toConfig } from '../../agent/config/schema.ts'

const REST = 'host_keys: /nowhere/*.pub'

function check(auth: string, url = 'https://x.example') {
  const issuer = `issuer: {url: ${url}, ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}`
  return checkTree(parseYaml(`${issuer}\nauth: {${auth}}\n${REST}`, 'F').tree ?? {})
}

/** `path: message` of every problem. */
function problemsOf(auth: string): string[] {
  const checked = check(auth)
  return checked.ok ? [] : checked.problems.map(({ keys, message }) => `${pathText(keys)}: ${message}`)
}

function loginOf(auth: string, url?: string): Login {
  const checked = check(auth, url)
  if (!checked.ok) throw new Error(checked.problems.map(({ message }) => message).join('\n'))
  const context = { folder: '/f', environment: {}, defaultHostCaFile: null }
  const { issuer } = toConfig(checked.settings, context)
  if (issuer.kind === 'command') throw new Error('there is an issuer')
  return issuer.auth
}

const ID = { organization: null, identityId: { value: 'me' } }
const OCI = {
  user: 'ocid1.user.oc1..aaaa',
  tenancy: 'ocid1.tenancy.oc1..bbbb',
  fingerprint: '73:61:a2:21:67:e0:df:be:7e:4b:93:1e:15:98:a5:b7',
  region: 'eu-frankfurt-1',
}
const OCI_TEXT = `user: ${OCI.user}, tenancy: ${OCI.tenancy}, fingerprint: "${OCI.fingerprint.toUpperCase()}", region: ${OCI.region}`
const SIGNER = 'key_file: /k, issuer: i, subject: s, audience: a'

const COMPLETE: readonly {
  readonly method: Login['method']
  readonly auth: string
  readonly want: object
}[] = [
  {
    method: 'universal-auth',
    auth: 'client_id: i',
    want: { organization: null, clientId: { value: 'i' }, clientSecretFile: '/f/credentials/client-secret' },
  },
  {
    method: 'universal-auth',
    auth: 'organization: acme, client_id_file: /i, client_secret_file: /s',
    want: { organization: 'acme', clientId: { file: '/i' }, clientSecretFile: '/s' },
  },
  { method: 'token', auth: 'token_file: /t', want: { tokenFile: '/t' } },
  {
    method: 'kubernetes',
    auth: 'identity_id: me',
    want: { ...ID, tokenFile: '/var/run/secrets/kubernetes.io/serviceaccount/token' },
  },
  {
    method: 'kubernetes',
    auth: 'organization: acme, identity_id_file: credential:id, token_file: /t',
    want: { organization: 'acme', identityId: { file: '/f/credentials/id' }, tokenFile: '/t' },
  },
  { method: 'aws', auth: 'identity_id: me', want: { ...ID, region: null, keys: null } },
  {
    method: 'aws',
    auth: 'identity_id: me, region: eu-central-1, access_key_id_file: /i, secret_access_key_file: /s',
    want: {
      ...ID,
      region: 'eu-central-1',
      keys: { accessKeyIdFile: '/i', secretAccessKeyFile: '/s', sessionTokenFile: null },
    },
  },
  {
    method: 'aws',
    auth: 'identity_id: me, access_key_id_file: /i, secret_access_key_file: /s, session_token_file: /t',
    want: {
      ...ID,
      region: null,
      keys: { accessKeyIdFile: '/i', secretAccessKeyFile: '/s', sessionTokenFile: '/t' },
    },
  },
  { method: 'gcp', auth: 'identity_id: me', want: { ...ID, keyFile: null } },
  { method: 'gcp', auth: 'identity_id: me, key_file: /k', want: { ...ID, keyFile: '/k' } },
  {
    method: 'azure',
    auth: 'identity_id: me',
    want: { ...ID, resource: 'https://management.azure.com/', clientId: null },
  },
  {
    method: 'azure',
    auth: 'identity_id: me, resource: "api://x", client_id: c',
    want: { ...ID, resource: 'api://x', clientId: 'c' },
  },
  { method: 'oidc', auth: 'identity_id: me, jwt_file: /j', want: { ...ID, jwt: { file: '/j' } } },
  {
    method: 'oidc',
    auth: 'identity_id: me, jwt_command: [/bin/jwt, -x]',
    want: { ...ID, jwt: { command: ['/bin/jwt', '-x'] } },
  },
  { method: 'jwt', auth: 'identity_id: me, jwt_file: /j', want: { ...ID, jwt: { file: '/j' } } },
  {
    method: 'jwt',
    auth: 'identity_id: me, jwt_command: [/bin/jwt]',
    want: { ...ID, jwt: { command: ['/bin/jwt'] } },
  },
  {
    method: 'jwt',
    auth: `identity_id: me, ${SIGNER}`,
    want: { ...ID, jwt: { keyFile: '/k', issuer: 'i', subject: 's', audience: 'a' } },
  },
  { method: 'spiffe', auth: 'identity_id: me, jwt_file: /j', want: { ...ID, jwt: { file: '/j' } } },
  {
    method: 'spiffe',
    auth: 'identity_id: me, jwt_command: [/bin/svid]',
    want: { ...ID, jwt: { command: ['/bin/svid'] } },
  },
  {
    method: 'ldap',
    auth: 'identity_id: me, username: web1, password_file: /p',
    want: { ...ID, username: { value: 'web1' }, passwordFile: '/p' },
  },
  {
    method: 'ldap',
    auth: 'identity_id: me, username_file: /u, password_file: /p',
    want: { ...ID, username: { file: '/u' }, passwordFile: '/p' },
  },
  {
    method: 'tls-cert',
    auth: 'identity_id: me, certificate_file: /c, key_file: /k, login_url: "https://mtls.example/"',
    want: { ...ID, certificateFile: '/c', keyFile: '/k', loginUrl: 'https://mtls.example' },
  },
  {
    method: 'oci',
    auth: `identity_id: me, ${OCI_TEXT}, key_file: /k`,
    want: { ...ID, ...OCI, keyFile: '/k' },
  },
  {
    method: 'alicloud',
    auth: 'identity_id: me, access_key_id: LTAI1, access_key_secret_file: /s',
    want: { ...ID, accessKeyId: { value: 'LTAI1' }, accessKeySecretFile: '/s' },
  },
  {
    method: 'alicloud',
    auth: 'identity_id: me, access_key_id_file: /i, access_key_secret_file: /s',
    want: { ...ID, accessKeyId: { file: '/i' }, accessKeySecretFile: '/s' },
  },
]

test.each(COMPLETE)('$method: $auth', ({ method, auth, want }) => {
  expect(loginOf(`method: ${method}, ${auth}`)).toEqual({ method, ...want })
})

test('each method is among them', () => {
  expect([...new Set(COMPLETE.map(({ method }) => method))].sort()).toEqual(AUTH_METHODS.toSorted())
})

test.each([
  { url: 'https://us.infisical.com', want: 'https://us.infisical.com:8443' },
  { url: 'https://infisical.com/', want: 'https://infisical.com:8443' },
  { url: 'https://us.infisical.com:444', want: 'https://us.infisical.com:444' },
  { url: 'https://notinfisical.com', want: 'https://notinfisical.com' },
  { url: 'https://vault.example/sub', want: 'https://vault.example/sub' },
])('a client certificate is shown at $want when the issuer is $url', ({ url, want }) => {
  const auth = 'method: tls-cert, identity_id: me, certificate_file: /c, key_file: /k'
  expect(loginOf(auth, url)).toMatchObject({ loginUrl: want })
})

test('a login_url without TLS is refused', () => {
  const auth = 'method: tls-cert, identity_id: me, certificate_file: /c, key_file: /k'
  expect(() => loginOf(`${auth}, login_url: "http://127.0.0.1:8080"`)).toThrow('https://')
})

const NO_IDENTITY = 'auth.identity_id: is required, or identity_id_file'

describe('what is missing is reported all at once', () => {
  test.each([
    { method: 'universal-auth', want: ['auth.client_id: is required, or client_id_file'] },
    { method: 'token', want: ['auth.token_file: is required'] },
    { method: 'kubernetes', want: [NO_IDENTITY] },
    { method: 'aws', want: [NO_IDENTITY] },
    { method: 'gcp', want: [NO_IDENTITY] },
    { method: 'azure', want: [NO_IDENTITY] },
    { method: 'oidc', want: [NO_IDENTITY, 'auth.jwt_file: is required, or jwt_command'] },
    { method: 'jwt', want: [NO_IDENTITY, 'auth.jwt_file: is required, or jwt_command or key_file'] },
    { method: 'spiffe', want: [NO_IDENTITY, 'auth.jwt_file: is required, or jwt_command'] },
    {
      method: 'ldap',
      want: [NO_IDENTITY, 'auth.username: is required, or username_file', 'auth.password_file: is required'],
    },
    {
      method: 'tls-cert',
      want: [NO_IDENTITY, 'auth.certificate_file: is required', 'auth.key_file: is required'],
    },
    {
      method: 'oci',
      want: [
        NO_IDENTITY,
        ...['user', 'tenancy', 'fingerprint', 'region', 'key_file'].map((key) => `auth.${key}: is required`),
      ],
    },
    {
      method: 'alicloud',
      want: [
        NO_IDENTITY,
        'auth.access_key_id: is required, or access_key_id_file',
        'auth.access_key_secret_file: is required',
      ],
    },
  ])('$method', ({ method, want }) => {
    expect(problemsOf(`method: ${method}`).sort()).toEqual(want.toSorted())
  })
})

describe('two sources of one value, and half of what belongs together', () => {
  const KEY_ID = 'auth.access_key_id_file: is required with'
  const SECRET = 'auth.secret_access_key_file: is required with'
  test.each([
    {
      auth: 'method: kubernetes, identity_id: me, identity_id_file: /i',
      want: ['auth.identity_id_file: conflicts with identity_id; set only one'],
    },
    {
      auth: 'method: oidc, identity_id: me, jwt_file: /j, jwt_command: [/bin/jwt]',
      want: ['auth.jwt_command: conflicts with jwt_file; set only one'],
    },
    {
      auth: 'method: spiffe, identity_id: me, jwt_file: /j, jwt_command: [/bin/jwt]',
      want: ['auth.jwt_command: conflicts with jwt_file; set only one'],
    },
    {
      auth: `method: jwt, identity_id: me, jwt_file: /j, jwt_command: [/bin/jwt], ${SIGNER}`,
      want: ['jwt_command', 'key_file', 'issuer', 'subject', 'audience'].map(
        (key) => `auth.${key}: conflicts with jwt_file; set only one`,
      ),
    },
    {
      auth: 'method: jwt, identity_id: me, jwt_file: /j, subject: s',
      want: ['auth.subject: conflicts with jwt_file; set only one'],
    },
    {
      auth: 'method: jwt, identity_id: me, issuer: i, subject: s, audience: a',
      want: ['auth.key_file: is required with issuer'],
    },
    {
      auth: 'method: jwt, identity_id: me, key_file: /k, subject: s',
      want: ['auth.issuer: is required with key_file', 'auth.audience: is required with key_file'],
    },
    {
      auth: 'method: ldap, identity_id: me, username: u, username_file: /u, password_file: /p',
      want: ['auth.username_file: conflicts with username; set only one'],
    },
    {
      auth: 'method: alicloud, identity_id: me, access_key_id: a, access_key_id_file: /a, access_key_secret_file: /s',
      want: ['auth.access_key_id_file: conflicts with access_key_id; set only one'],
    },
    {
      auth: 'method: aws, identity_id: me, access_key_id_file: /i',
      want: [`${SECRET} access_key_id_file`],
    },
    {
      auth: 'method: aws, identity_id: me, secret_access_key_file: /s, session_token_file: /t',
      want: [`${KEY_ID} secret_access_key_file`],
    },
    {
      auth: 'method: aws, identity_id: me, session_token_file: /t',
      want: [`${KEY_ID} session_token_file`, `${SECRET} session_token_file`],
    },
    {
      auth: 'method: aws, identity_id: me, identity_id_file: /i, region: "a/b", session_token_file: t',
      want: [
        'auth.region: must be a region such as eu-central-1, is "a/b"',
        'auth.session_token_file: must be the absolute path of a file that holds it, or credential:NAME',
        'auth.identity_id_file: conflicts with identity_id; set only one',
        `${KEY_ID} session_token_file`,
        `${SECRET} session_token_file`,
      ],
    },
  ])('$auth', ({ auth, want }) => {
    expect(problemsOf(auth)).toEqual(want)
  })
})

describe('a setting of another method', () => {
  const EVERY_IDENTITY =
    'belongs to the methods kubernetes, aws, gcp, azure, oidc, jwt, spiffe, ldap, tls-cert, oci and alicloud'
  test.each([
    {
      auth: 'method: token, token_file: /t, identity_id: me',
      want: `auth.identity_id: ${EVERY_IDENTITY}, and the method is token`,
    },
    {
      auth: 'method: aws, identity_id: me, jwt_file: /j',
      want: 'auth.jwt_file: belongs to the methods oidc, jwt and spiffe, and the method is aws',
    },
    {
      auth: 'method: gcp, identity_id: me, region: us-east-1',
      want: 'auth.region: belongs to the methods aws and oci, and the method is gcp',
    },
    {
      auth: 'method: oidc, identity_id: me, jwt_file: /j, key_file: /k',
      want: 'auth.key_file: belongs to the methods gcp, jwt, tls-cert and oci, and the method is oidc',
    },
    {
      auth: 'method: ldap, identity_id: me, username: u, password_file: /p, client_id: c',
      want: 'auth.client_id: belongs to the methods universal-auth and azure, and the method is ldap',
    },
    {
      auth: 'method: azure, identity_id: me, client_id_file: /c',
      want: 'auth.client_id_file: belongs to the method universal-auth, and the method is azure',
    },
  ])('$auth', ({ auth, want }) => {
    expect(problemsOf(auth)).toEqual([want])
  })

  test.each(AUTH_METHODS)('with %s is reported, and what is missing too', (method) => {
    const key = method === 'token' || method === 'kubernetes' ? 'client_secret_file' : 'token_file'
    const [line, ...others] = problemsOf(`method: ${method}, ${key}: /x`)
    expect(line).toMatch(
      new RegExp(`^auth\\.${key}: belongs to the methods? .* and the method is ${method}$`),
    )
    expect(others).toEqual(problemsOf(`method: ${method}`))
    expect(others).not.toEqual([])
  })
})

test.each([
  { key: 'user', text: 'someone' },
  { key: 'user', text: 'ocid1.user.oc1/../x' },
  { key: 'tenancy', text: String.raw`ocid1.tenancy\"` },
  { key: 'fingerprint', text: '73:61' },
  { key: 'region', text: 'x.attacker.example/' },
])('oci refuses $text as $key', ({ key, text }) => {
  const good = OCI_TEXT.replace(new RegExp(`${key}: [^,]+`), `${key}: "${text}"`)
  const [line, ...others] = problemsOf(`method: oci, identity_id: me, ${good}, key_file: /k`)
  expect(line).toMatch(new RegExp(`^auth\\.${key}: must be `))
  expect(others).toEqual([])
})
