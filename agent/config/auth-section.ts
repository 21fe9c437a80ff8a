import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import * as v from 'valibot'
import { isTree, ownValue, type CredentialSource, type Login } from './config.ts'
import {
  isAbsolutePath,
  mustBeUnquoted,
  oneOf,
  readWord,
  section,
  textAs,
  value,
  type Reading,
} from './values.ts'

/** All that the interface names, so that a method of a later version is not reported as a typing error. */
const AUTH_METHODS = [
  'universal-auth',
  'token',
  'kubernetes',
  'aws',
  'gcp',
  'azure',
  'oidc',
  'jwt',
  'spiffe',
  'ldap',
  'tls-cert',
  'oci',
  'alicloud',
] as const

type AuthMethod = (typeof AUTH_METHODS)[number]

const DEFAULT_METHOD = 'universal-auth'
const DEFAULT_CLIENT_SECRET = 'credential:client-secret'

const credentialFile = textAs(readCredentialReference)

const universalAuth = v.pipe(
  section({
    method: v.optional(v.literal('universal-auth'), DEFAULT_METHOD),
    client_id: v.optional(textAs(readWord)),
    client_id_file: v.optional(credentialFile),
    client_secret_file: v.optional(credentialFile, DEFAULT_CLIENT_SECRET),
  }),
  // Not `check`, which is left out when another key has a problem.
  v.rawCheck(({ dataset: { value: input }, addIssue }) => {
    if (!isTree(input)) return
    const byValue = ownValue(input, 'client_id') !== undefined
    const byFile = ownValue(input, 'client_id_file') !== undefined
    if (byValue !== byFile) return
    const key = byFile ? 'client_id_file' : 'client_id'
    const message = byFile ? 'conflicts with client_id; set only one' : 'is required, or client_id_file'
    addIssue({ message, path: [{ type: 'object', origin: 'value', input: { ...input }, key, value: null }] })
  }),
)

const token = section({ method: v.literal('token'), token_file: credentialFile })

/** What each method that is built takes. */
export const AUTH_SECTIONS = { 'universal-auth': universalAuth, token } as const

/** The method cannot be used, so the other keys cannot be checked. Accepts nothing. */
const unusable = v.pipe(
  v.looseObject({
    method: v.pipe(
      oneOf(AUTH_METHODS),
      v.check(
        (method) => Object.hasOwn(AUTH_SECTIONS, method),
        ({ input }) =>
          `${input} is not supported by this version; ${Object.keys(AUTH_SECTIONS).join(' and ')} are`,
      ),
    ),
  }),
  v.rawTransform<{ readonly method: AuthMethod }, never>(({ NEVER }) => NEVER),
)

/** `auth`: its keys depend on the method. */
export const auth = v.lazy((input) => {
  switch (methodOf(input)) {
    case 'universal-auth':
      return universalAuth
    case 'token':
      return token
    default:
      return unusable
  }
})

/** The method that a section names, valid or not; the default if it names none. */
export function methodOf(input: unknown): unknown {
  return (isTree(input) ? ownValue(input, 'method') : undefined) ?? (DEFAULT_METHOD satisfies AuthMethod)
}

/** What `credential:NAME` depends on. */
export interface CredentialContext {
  /** Of the main configuration file. */
  readonly folder: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** What a login may be set to. */
type AuthSettings = v.InferOutput<typeof universalAuth> | v.InferOutput<typeof token>

/** The login by the names that the program uses. */
export function toLogin(settings: AuthSettings, { folder, environment }: CredentialContext): Login {
  const pathOf = (reference: CredentialReference): string => credentialPath(reference, folder, environment)
  if (settings.method === 'token') return { method: 'token', tokenFile: pathOf(settings.token_file) }
  return {
    method: 'universal-auth',
    clientId: clientIdOf(settings, pathOf),
    clientSecretFile: pathOf(settings.client_secret_file),
  }
}

function clientIdOf(
  settings: Extract<AuthSettings, { method: 'universal-auth' }>,
  pathOf: (reference: CredentialReference) => string,
): CredentialSource {
  const { client_id: id, client_id_file: file } = settings
  // The schema lets through exactly one of them.
  return file === undefined ? { value: id ?? '' } : { file: pathOf(file) }
}

/** Where a secret is kept: `*_file` of the configuration. */
export type CredentialReference =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'credential'; readonly name: string }

const PREFIX = 'credential:'
/** Main folder of an installed host. */
const PACKAGED_FOLDER = '/etc/hostcertd'
/** systemd's stores (systemd.exec(5), `ImportCredential=`), as far as what is in them is not encrypted. */
export const CREDENTIAL_STORES = ['/etc/credstore', '/run/credstore', '/usr/lib/credstore']

/** An absolute path, or `credential:NAME`. The message does not quote the text: it may be the secret itself. */
export function readCredentialReference(text: string): Reading<CredentialReference> {
  if (text.startsWith(PREFIX)) {
    const name = text.slice(PREFIX.length)
    if (!/^[\w.-]{1,200}$/.test(name) || name.includes('..') || name === '.')
      return mustBeUnquoted('credential: and a name of letters, digits, dots, dashes and underscores')
    return value({ kind: 'credential', name })
  }
  if (!isAbsolutePath(text))
    return mustBeUnquoted('the absolute path of a file that holds it, or credential:NAME')
  return value({ kind: 'path', path: text })
}

/**
 * The file that a reference means. Whether it can be read shows at its use, as CREDENTIAL_UNREADABLE: most verbs need
 * no credential, and they run where none can be read.
 *
 * Under systemd it is `$CREDENTIALS_DIRECTORY/hostcertd_NAME`: systemd.exec(5), `LoadCredential=` of the folder
 * /etc/hostcertd/credentials. A verb run by hand has no such folder and takes `credentials/NAME` beside the main
 * configuration file, which is what systemd copies from; only root may read it. When there is none on an installed host,
 * the credential comes from one of systemd's stores.
 *
 * @param folder of the main configuration file
 * @param isThere whether a file exists, as far as this user can see
 */
export function credentialPath(
  reference: CredentialReference,
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  isThere: (path: string) => boolean = existsSync,
): string {
  if (reference.kind === 'path') return reference.path
  const given = environment['CREDENTIALS_DIRECTORY']
  const systemds = `hostcertd_${reference.name}`
  if (given !== undefined && isAbsolute(given)) return join(given, systemds)
  const own = join(folder, 'credentials', reference.name)
  if (folder !== PACKAGED_FOLDER || isThere(own)) return own
  return CREDENTIAL_STORES.map((store) => join(store, systemds)).find(isThere) ?? own
}
