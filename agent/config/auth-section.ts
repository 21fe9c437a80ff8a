import * as v from 'valibot'
import type { CredentialSource, JwtSource, Login } from './config.ts'
import {
  type CredentialContext,
  credentialPath,
  type CredentialReference,
  readCredentialReference,
} from './credential-reference.ts'
import { isTree, ownValue, type Tree } from './problem.ts'
import {
  command,
  mustBe,
  oneOf,
  type Reading,
  readIssuerUrl,
  readWord,
  section,
  textAs,
  value,
} from './values.ts'

const DEFAULT_METHOD = 'universal-auth'

const credentialFile = textAs(readCredentialReference)
const word = textAs(readWord)
const organization = { organization: v.optional(word) }

const identity = {
  ...organization,
  identity_id: v.optional(word),
  identity_id_file: v.optional(credentialFile),
}

/** One way to give a setting: a key, or several that are needed together. */
type Way = string | { readonly together: readonly string[]; readonly optional?: readonly string[] }

/** A setting that is given in one of several ways. */
interface Alternatives {
  readonly oneOf: readonly Way[]
  /** Nothing is needed: there is a default. */
  readonly isOptional?: boolean
}

const ANY_IDENTITY: Alternatives = { oneOf: ['identity_id', 'identity_id_file'] }

/** A section of which some keys exclude each other, and some are needed together. */
function withAlternatives<const E extends v.ObjectEntries>(
  entries: E,
  alternatives: readonly Alternatives[],
) {
  return v.pipe(
    section(entries),
    // Not `check`, which is left out when another key has a problem.
    v.rawCheck(({ dataset: { value: input }, addIssue }) => {
      if (!isTree(input)) return
      for (const { key, message } of alternatives.flatMap((one) => problemsOf(one, input)))
        addIssue({
          message,
          path: [{ type: 'object', origin: 'value', input: { ...input }, key, value: null }],
        })
    }),
  )
}

function problemsOf({ oneOf: ways, isOptional = false }: Alternatives, input: Tree) {
  const isSet = (key: string): boolean => ownValue(input, key) !== undefined
  const all = ways.map((way) => (typeof way === 'string' ? { together: [way] } : way))
  const [chosen, ...others] = all
    .map(({ together, optional = [] }) => ({ together, set: [...together, ...optional].filter(isSet) }))
    .filter(({ set }) => set.length > 0)
  if (chosen === undefined) {
    const [first = '', ...rest] = all.map(({ together }) => together[0] ?? '')
    return isOptional ? [] : [{ key: first, message: `is required, or ${rest.join(' or ')}` }]
  }
  const missing = chosen.together.filter((key) => !isSet(key))
  const surplus = others.flatMap(({ set }) => set)
  return [
    ...surplus.map((key) => ({ key, message: `conflicts with ${chosen.set[0]}; set only one` })),
    ...missing.map((key) => ({ key, message: `is required with ${chosen.set[0]}` })),
  ]
}

const JWT: Alternatives = { oneOf: ['jwt_file', 'jwt_command'] }
const jwt = { jwt_file: v.optional(credentialFile), jwt_command: v.optional(command) }

/** What each method takes. */
export const AUTH_SECTIONS = {
  'universal-auth': withAlternatives(
    {
      method: v.optional(v.literal('universal-auth'), DEFAULT_METHOD),
      ...organization,
      client_id: v.optional(word),
      client_id_file: v.optional(credentialFile),
      client_secret_file: v.optional(credentialFile, 'credential:client-secret'),
    },
    [{ oneOf: ['client_id', 'client_id_file'] }],
  ),
  token: section({ method: v.literal('token'), ...organization, token_file: credentialFile }),
  kubernetes: withAlternatives(
    {
      method: v.literal('kubernetes'),
      ...identity,
      token_file: v.optional(credentialFile, '/var/run/secrets/kubernetes.io/serviceaccount/token'),
    },
    [ANY_IDENTITY],
  ),
  aws: withAlternatives(
    {
      method: v.literal('aws'),
      ...identity,
      region: v.optional(textAs(readRegion)),
      access_key_id_file: v.optional(credentialFile),
      secret_access_key_file: v.optional(credentialFile),
      session_token_file: v.optional(credentialFile),
    },
    [
      ANY_IDENTITY,
      {
        oneOf: [
          { together: ['access_key_id_file', 'secret_access_key_file'], optional: ['session_token_file'] },
        ],
        isOptional: true,
      },
    ],
  ),
  gcp: withAlternatives({ method: v.literal('gcp'), ...identity, key_file: v.optional(credentialFile) }, [
    ANY_IDENTITY,
  ]),
  azure: withAlternatives(
    {
      method: v.literal('azure'),
      ...identity,
      resource: v.optional(word, 'https://management.azure.com/'),
      client_id: v.optional(word),
    },
    [ANY_IDENTITY],
  ),
  oidc: withAlternatives({ method: v.literal('oidc'), ...identity, ...jwt }, [ANY_IDENTITY, JWT]),
  jwt: withAlternatives(
    {
      method: v.literal('jwt'),
      ...identity,
      ...jwt,
      key_file: v.optional(credentialFile),
      issuer: v.optional(word),
      subject: v.optional(word),
      audience: v.optional(word),
    },
    [ANY_IDENTITY, { oneOf: [...JWT.oneOf, { together: ['key_file', 'issuer', 'subject', 'audience'] }] }],
  ),
  spiffe: withAlternatives({ method: v.literal('spiffe'), ...identity, ...jwt }, [ANY_IDENTITY, JWT]),
  ldap: withAlternatives(
    {
      method: v.literal('ldap'),
      ...identity,
      username: v.optional(word),
      username_file: v.optional(credentialFile),
      password_file: credentialFile,
    },
    [ANY_IDENTITY, { oneOf: ['username', 'username_file'] }],
  ),
  'tls-cert': withAlternatives(
    {
      method: v.literal('tls-cert'),
      ...identity,
      certificate_file: credentialFile,
      key_file: credentialFile,
      login_url: v.optional(textAs(readIssuerUrl)),
    },
    [ANY_IDENTITY],
  ),
  oci: withAlternatives(
    {
      method: v.literal('oci'),
      ...identity,
      user: textAs(readOcid),
      tenancy: textAs(readOcid),
      fingerprint: textAs(readFingerprint),
      region: textAs(readRegion),
      key_file: credentialFile,
    },
    [ANY_IDENTITY],
  ),
  alicloud: withAlternatives(
    {
      method: v.literal('alicloud'),
      ...identity,
      access_key_id: v.optional(word),
      access_key_id_file: v.optional(credentialFile),
      access_key_secret_file: credentialFile,
    },
    [ANY_IDENTITY, { oneOf: ['access_key_id', 'access_key_id_file'] }],
  ),
} as const

type AuthMethod = keyof typeof AUTH_SECTIONS

const AUTH_METHODS = Object.keys(AUTH_SECTIONS) as [AuthMethod, ...AuthMethod[]]

/** The method is none of ours, so the other keys cannot be checked. Accepts nothing. */
const unusable = v.pipe(
  v.looseObject({ method: oneOf(AUTH_METHODS) }),
  v.rawTransform<{ readonly method: AuthMethod }, never>(({ NEVER }) => NEVER),
)

/** `auth`: its keys depend on the method. */
export const auth = v.lazy((input) => {
  const method = AUTH_METHODS.find((one) => one === methodOf(input))
  return method === undefined ? unusable : AUTH_SECTIONS[method]
})

/** The method that a section names, valid or not; the default if it names none. */
export function methodOf(input: unknown): unknown {
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

/** What a login may be set to. */
type AuthSettings = v.InferOutput<(typeof AUTH_SECTIONS)[AuthMethod]>

/**
 * The login by the names that the program uses.
 *
 * @param issuerUrl a client certificate is shown there unless `login_url` says otherwise
 */
export function toLogin(
  settings: AuthSettings,
  issuerUrl: string,
  { folder, environment }: CredentialContext,
): Login {
  const pathOf = (reference: CredentialReference): string => credentialPath(reference, folder, environment)
  const pathOrNull = (reference: CredentialReference | undefined): string | null =>
    reference === undefined ? null : pathOf(reference)
  // The schema lets through exactly one of them.
  const sourceOf = (given: string | undefined, file: CredentialReference | undefined): CredentialSource =>
    file === undefined ? { value: given ?? '' } : { file: pathOf(file) }
  if (settings.method === 'token') return { method: 'token', tokenFile: pathOf(settings.token_file) }
  const organizationOrNull = settings.organization ?? null
  if (settings.method === 'universal-auth')
    return {
      method: 'universal-auth',
      organization: organizationOrNull,
      clientId: sourceOf(settings.client_id, settings.client_id_file),
      clientSecretFile: pathOf(settings.client_secret_file),
    }
  const common = {
    organization: organizationOrNull,
    identityId: sourceOf(settings.identity_id, settings.identity_id_file),
  }
  const jwtOf = (given: {
    readonly jwt_file?: CredentialReference | undefined
    readonly jwt_command?: readonly string[] | undefined
  }): JwtSource =>
    given.jwt_file === undefined ? { command: given.jwt_command ?? [] } : { file: pathOf(given.jwt_file) }
  switch (settings.method) {
    case 'kubernetes':
      return { ...common, method: settings.method, tokenFile: pathOf(settings.token_file) }
    case 'aws': {
      const { access_key_id_file: id, secret_access_key_file: secret, session_token_file: session } = settings
      const keys =
        id === undefined || secret === undefined
          ? null
          : {
              accessKeyIdFile: pathOf(id),
              secretAccessKeyFile: pathOf(secret),
              sessionTokenFile: pathOrNull(session),
            }
      return { ...common, method: settings.method, region: settings.region ?? null, keys }
    }
    case 'gcp':
      return { ...common, method: settings.method, keyFile: pathOrNull(settings.key_file) }
    case 'azure':
      return {
        ...common,
        method: settings.method,
        resource: settings.resource,
        clientId: settings.client_id ?? null,
      }
    case 'oidc':
    case 'spiffe':
      return { ...common, method: settings.method, jwt: jwtOf(settings) }
    case 'jwt': {
      const { key_file: key, issuer = '', subject = '', audience = '' } = settings
      const from = key === undefined ? jwtOf(settings) : { keyFile: pathOf(key), issuer, subject, audience }
      return { ...common, method: settings.method, jwt: from }
    }
    case 'ldap':
      return {
        ...common,
        method: settings.method,
        username: sourceOf(settings.username, settings.username_file),
        passwordFile: pathOf(settings.password_file),
      }
    case 'tls-cert':
      return {
        ...common,
        method: settings.method,
        certificateFile: pathOf(settings.certificate_file),
        keyFile: pathOf(settings.key_file),
        loginUrl: settings.login_url ?? mutualTlsUrlOf(issuerUrl),
      }
    case 'oci': {
      const { user, tenancy, fingerprint, region } = settings
      return {
        ...common,
        method: settings.method,
        user,
        tenancy,
        fingerprint,
        region,
        keyFile: pathOf(settings.key_file),
      }
    }
    case 'alicloud':
      return {
        ...common,
        method: settings.method,
        accessKeyId: sourceOf(settings.access_key_id, settings.access_key_id_file),
        accessKeySecretFile: pathOf(settings.access_key_secret_file),
      }
  }
}

/** Infisical's cloud asks for client certificates on a port of its own. */
function mutualTlsUrlOf(issuerUrl: string): string {
  const url = new URL(issuerUrl)
  if (!/(?:^|\.)infisical\.com$/.test(url.hostname) || url.port !== '') return issuerUrl
  url.port = '8443'
  return url.href.replace(/\/+$/, '')
}
