import * as v from 'valibot'
import { readCredentialReference } from './credentials.ts'
import { isTree, ownValue } from './problem.ts'
import { section } from './section.ts'
import { oneOf, readWord, textAs } from './values.ts'

/** All that the interface names, so that a method yet to come is told from a slip of the pen. */
const AUTH_METHODS = [
  'universal-auth',
  'token',
  'kubernetes',
  'aws',
  'gcp',
  'azure',
  'oidc',
  'jwt',
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
  v.rawCheck(({ dataset: { value }, addIssue }) => {
    if (!isTree(value)) return
    const byValue = ownValue(value, 'client_id') !== undefined
    const byFile = ownValue(value, 'client_id_file') !== undefined
    if (byValue !== byFile) return
    const key = byFile ? 'client_id_file' : 'client_id'
    const message = byFile ? 'is one too many: client_id is given already' : 'is required, or client_id_file'
    addIssue({ message, path: [{ type: 'object', origin: 'value', input: { ...value }, key, value: null }] })
  }),
)

const token = section({ method: v.literal('token'), token_file: credentialFile })

/** What each method that is built takes. */
export const AUTH_SECTIONS = { 'universal-auth': universalAuth, token } as const

/** The method is no good, so nothing can be said of the other keys. Lets nothing through. */
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

/** `auth`: which keys it takes hangs on its method. */
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

/** The method that a section names, whether it is known or not; the default one when it names none. */
export function methodOf(input: unknown): unknown {
  return (isTree(input) ? ownValue(input, 'method') : undefined) ?? (DEFAULT_METHOD satisfies AuthMethod)
}
