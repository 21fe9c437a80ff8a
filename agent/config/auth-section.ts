import * as v from 'valibot'
import type { Login } from './config.ts'
import {
  type Alternatives,
  type AuthSchema,
  credentialFile,
  jwt,
  login,
  ofIdentity,
  optionalFile,
  optionalWord,
  organization,
  type Way,
  word,
} from './login-schema.ts'
import { isTree, ownValue } from './problem.ts'
import { mustBe, oneOf, type Reading, readIssuerUrl, textAs, value } from './values.ts'

const DEFAULT_METHOD = 'universal-auth'

const JWT: Alternatives = { oneOf: ['jwt_file', 'jwt_command'] }
const SIGNER: Way = { together: ['key_file', 'issuer', 'subject', 'audience'] }
const AWS_KEYS: Alternatives = {
  oneOf: [{ together: ['access_key_id_file', 'secret_access_key_file'], optional: ['session_token_file'] }],
  isOptional: true,
}

/** What each method takes. Built when it is needed: a configuration has one of them. */
const SECTIONS = {
  'universal-auth': () =>
    login(
      {
        method: v.optional(v.literal('universal-auth'), DEFAULT_METHOD),
        ...organization,
        client_id: optionalWord,
        client_id_file: optionalFile,
        client_secret_file: v.optional(credentialFile, 'credential:client-secret'),
      },
      [{ oneOf: ['client_id', 'client_id_file'] }],
      (settings, resolve) => ({
        method: settings.method,
        organization: settings.organization ?? null,
        clientId: resolve.source(settings.client_id, settings.client_id_file),
        clientSecretFile: resolve.path(settings.client_secret_file),
      }),
    ),
  token: () =>
    login(
      { method: v.literal('token'), ...organization, token_file: credentialFile },
      [],
      ({ method, token_file: file }, resolve) => ({ method, tokenFile: resolve.path(file) }),
    ),
  kubernetes: () =>
    ofIdentity(
      'kubernetes',
      { token_file: v.optional(credentialFile, '/var/run/secrets/kubernetes.io/serviceaccount/token') },
      [],
      (own, common, resolve) => ({ ...common, tokenFile: resolve.path(own.token_file) }),
    ),
  aws: () =>
    ofIdentity(
      'aws',
      {
        region: v.optional(textAs(readRegion)),
        access_key_id_file: optionalFile,
        secret_access_key_file: optionalFile,
        session_token_file: optionalFile,
      },
      [AWS_KEYS],
      (
        { region = null, access_key_id_file: id, secret_access_key_file: secret, ...own },
        common,
        resolve,
      ) => {
        if (id === undefined || secret === undefined) return { ...common, region, keys: null }
        const keys = {
          accessKeyIdFile: resolve.path(id),
          secretAccessKeyFile: resolve.path(secret),
          sessionTokenFile: resolve.pathOrNull(own.session_token_file),
        }
        return { ...common, region, keys }
      },
    ),
  gcp: () =>
    ofIdentity('gcp', { key_file: optionalFile }, [], (own, common, resolve) => ({
      ...common,
      keyFile: resolve.pathOrNull(own.key_file),
    })),
  azure: () =>
    ofIdentity(
      'azure',
      { resource: v.optional(word, 'https://management.azure.com/'), client_id: optionalWord },
      [],
      ({ resource, client_id: clientId = null }, common) => ({ ...common, resource, clientId }),
    ),
  oidc: () =>
    ofIdentity('oidc', jwt, [JWT], (own, common, resolve) => ({ ...common, jwt: resolve.jwt(own) })),
  jwt: () =>
    ofIdentity(
      'jwt',
      { ...jwt, key_file: optionalFile, issuer: optionalWord, subject: optionalWord, audience: optionalWord },
      [{ oneOf: [...JWT.oneOf, SIGNER] }],
      ({ key_file: key, issuer = '', subject = '', audience = '', ...own }, common, resolve) => ({
        ...common,
        jwt: key === undefined ? resolve.jwt(own) : { keyFile: resolve.path(key), issuer, subject, audience },
      }),
    ),
  spiffe: () =>
    ofIdentity('spiffe', jwt, [JWT], (own, common, resolve) => ({ ...common, jwt: resolve.jwt(own) })),
  ldap: () =>
    ofIdentity(
      'ldap',
      { username: optionalWord, username_file: optionalFile, password_file: credentialFile },
      [{ oneOf: ['username', 'username_file'] }],
      (own, common, resolve) => ({
        ...common,
        username: resolve.source(own.username, own.username_file),
        passwordFile: resolve.path(own.password_file),
      }),
    ),
  'tls-cert': () =>
    ofIdentity(
      'tls-cert',
      {
        certificate_file: credentialFile,
        key_file: credentialFile,
        login_url: v.optional(textAs(readLoginUrl)),
      },
      [],
      (own, common, resolve) => ({
        ...common,
        certificateFile: resolve.path(own.certificate_file),
        keyFile: resolve.path(own.key_file),
        loginUrl: own.login_url ?? mutualTlsUrlOf(resolve.context.issuerUrl),
      }),
    ),
  oci: () =>
    ofIdentity(
      'oci',
      {
        user: textAs(readOcid),
        tenancy: textAs(readOcid),
        fingerprint: textAs(readFingerprint),
        region: textAs(readRegion),
        key_file: credentialFile,
      },
      [],
      ({ user, tenancy, fingerprint, region, key_file: key }, common, resolve) => {
        return { ...common, user, tenancy, fingerprint, region, keyFile: resolve.path(key) }
      },
    ),
  alicloud: () =>
    ofIdentity(
      'alicloud',
      {
        access_key_id: optionalWord,
        access_key_id_file: optionalFile,
        access_key_secret_file: credentialFile,
      },
      [{ oneOf: ['access_key_id', 'access_key_id_file'] }],
      (own, common, resolve) => ({
        ...common,
        accessKeyId: resolve.source(own.access_key_id, own.access_key_id_file),
        accessKeySecretFile: resolve.path(own.access_key_secret_file),
      }),
    ),
} as const satisfies Readonly<Record<Login['method'], () => AuthSchema>>

type AuthMethod = keyof typeof SECTIONS

export const AUTH_METHODS = Object.keys(SECTIONS) as [AuthMethod, ...AuthMethod[]]

const built = new Map<AuthMethod, AuthSchema>()

/** What a method takes. */
export function authSectionOf(method: AuthMethod): AuthSchema {
  const schema = built.get(method) ?? SECTIONS[method]()
  built.set(method, schema)
  return schema
}

/** The method is none of ours, so the other keys cannot be checked. Accepts nothing. */
const unusable = v.pipe(
  v.looseObject({ method: oneOf(AUTH_METHODS) }),
  v.rawTransform<{ readonly method: AuthMethod }, never>(({ NEVER }) => NEVER),
)

/** `auth`: its keys depend on the method. */
export const auth = v.lazy((input) => {
  const method = AUTH_METHODS.find((one) => one === namedMethod(input))
  return method === undefined ? unusable : authSectionOf(method)
})

/** The method that a section names, valid or not; the default if it names none. */
export function namedMethod(input: unknown): unknown {
  return (isTree(input) ? ownValue(input, 'method') : undefined) ?? (DEFAULT_METHOD satisfies AuthMethod)
}

/** What becomes a part of a host name: `eu-central-1`. */
function readRegion(text: string): Reading<string> {
  return /^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(text) ? value(text) : mustBe('a region such as eu-central-1', text)
}

/** It becomes a part of a URL and of a header. */
function readOcid(text: string): Reading<string> {
  return /^ocid[\w.:-]{1,250}$/.test(text)
    ? value(text)
    : mustBe('an OCID such as ocid1.user.oc1..aaaa', text)
}

/** Of an API key of Oracle Cloud. @returns in lower case */
function readFingerprint(text: string): Reading<string> {
  return /^(?:[0-9a-f]{2}:){15}[0-9a-f]{2}$/i.test(text)
    ? value(text.toLowerCase())
    : mustBe('16 bytes in hexadecimal with colons between them', text)
}

/** A client certificate is shown by TLS only. */
function readLoginUrl(text: string): Reading<string> {
  return text.startsWith('https://') ? readIssuerUrl(text) : mustBe('an https:// URL', text)
}

/** Infisical's cloud asks for client certificates on a port of its own. */
function mutualTlsUrlOf(issuerUrl: string): string {
  const url = new URL(issuerUrl)
  if (!/(?:^|\.)infisical\.com$/.test(url.hostname) || url.port !== '') return issuerUrl
  url.port = '8443'
  return url.href.replace(/\/+$/, '')
}
