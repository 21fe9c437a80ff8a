import type { Login } from '../config/config.ts'

export type LoginMethodName = Login['method']

/** A setting of `auth` as an option of `enroll`: `client_secret_file` is `--client-secret-file`. */
export interface LoginOption {
  /** By the name of the file. */
  readonly setting: string
  /**
   * - `value`: as it is
   * - `secret`: a file, `-` or a prompt; its content is kept in the credential folder
   * - `file`: the platform renews that file, so its path is kept
   * - `command`: a program and its arguments
   */
  readonly form: 'value' | 'secret' | 'file' | 'command'
  /** For the help, and for the prompt: `client secret`. */
  readonly what: string
}

const option = (setting: string, form: LoginOption['form'], what: string): LoginOption => ({
  setting,
  form,
  what,
})

const organization = option('organization', 'value', 'slug of the organization')
const clientId = [
  option('client_id', 'value', 'client id'),
  option('client_id_file', 'file', 'file of the client id'),
]
const region = option('region', 'value', 'region')
const keyFile = option('key_file', 'secret', 'private key')
const jwt = [
  option('jwt_file', 'file', 'file of the JWT'),
  option(
    'jwt_command',
    'command',
    'program that prints the JWT, and its arguments (--jwt-command=-x for one that begins with a hyphen)',
  ),
]
const identity = [
  organization,
  option('identity_id', 'value', 'id of the machine identity'),
  option('identity_id_file', 'file', 'file of that id'),
]

/** What each method takes, in the order of the interface's table. The first secret of a method is asked for. */
export const LOGIN_OPTIONS: Readonly<Record<LoginMethodName, readonly LoginOption[]>> = {
  'universal-auth': [organization, ...clientId, option('client_secret_file', 'secret', 'client secret')],
  token: [organization, option('token_file', 'secret', 'access token')],
  kubernetes: [...identity, option('token_file', 'file', 'file of the service account token')],
  aws: [
    ...identity,
    region,
    option('access_key_id_file', 'secret', 'access key id'),
    option('secret_access_key_file', 'secret', 'secret access key'),
    option('session_token_file', 'file', 'file of the session token'),
  ],
  gcp: [...identity, option('key_file', 'secret', 'service account key')],
  azure: [...identity, option('resource', 'value', 'resource'), ...clientId],
  oidc: [...identity, ...jwt],
  jwt: [
    ...identity,
    ...jwt,
    keyFile,
    option('issuer', 'value', 'issuer'),
    option('subject', 'value', 'subject'),
    option('audience', 'value', 'audience'),
  ],
  spiffe: [...identity, ...jwt],
  ldap: [
    ...identity,
    option('username', 'value', 'user name'),
    option('username_file', 'file', 'file of the user name'),
    option('password_file', 'secret', 'password'),
  ],
  'tls-cert': [
    ...identity,
    option('certificate_file', 'file', 'client certificate'),
    option('key_file', 'file', 'key of the client certificate'),
    option('login_url', 'value', 'URL of the login'),
  ],
  oci: [
    ...identity,
    option('user', 'value', 'OCID of the user'),
    option('tenancy', 'value', 'OCID of the tenancy'),
    option('fingerprint', 'value', 'fingerprint of the key'),
    region,
    keyFile,
  ],
  alicloud: [
    ...identity,
    option('access_key_id', 'value', 'access key id'),
    option('access_key_secret_file', 'secret', 'access key secret'),
    option('access_key_id_file', 'secret', 'access key id'),
  ],
}

const ALTERNATIVES = [
  [['client_id'], ['client_id_file']],
  [['identity_id'], ['identity_id_file']],
  [['username'], ['username_file']],
  [['access_key_id'], ['access_key_id_file']],
  [['jwt_file'], ['jwt_command'], ['key_file', 'issuer', 'subject', 'audience']],
]

/** The settings that exclude one: to give it is to take them back. */
export function excludedBy(setting: string): readonly string[] {
  const ways = ALTERNATIVES.find((sets) => sets.flat().includes(setting)) ?? []
  return ways.filter((set) => !set.includes(setting)).flat()
}

export const LOGIN_METHODS = Object.keys(LOGIN_OPTIONS) as readonly LoginMethodName[]

/** `client_secret_file`: `client-secret`, the name of the credential. */
export function credentialNameOf(setting: string): string {
  return setting.replace(/_file$/, '').replaceAll('_', '-')
}

/** `client_secret_file`: `--client-secret-file`. */
export function flagOf(setting: string): string {
  return `--${setting.replaceAll('_', '-')}`
}

/** `client_secret_file`: `clientSecretFile`, by which commander has it. */
export function attributeOf(setting: string): string {
  return setting.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
}
