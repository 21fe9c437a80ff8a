import * as v from 'valibot'
import type { CredentialSource, JwtSource, Login } from './config.ts'
import {
  type CredentialContext,
  credentialPath,
  type CredentialReference,
  readCredentialReference,
} from './credential-reference.ts'
import { isTree, ownValue, type Tree } from './problem.ts'
import { command, readWord, section, textAs } from './values.ts'

/** What the settings of a login are read against. */
export interface LoginContext extends CredentialContext {
  /** A client certificate is shown there unless `login_url` says otherwise. */
  readonly issuerUrl: string
}

/** Checks the settings of a method; its output makes the login of them, by the names that the program uses. */
export type AuthSchema = v.GenericSchema<unknown, (context: LoginContext) => Login>

export const credentialFile = textAs(readCredentialReference)
export const word = textAs(readWord)
export const optionalFile = v.optional(credentialFile)
export const optionalWord = v.optional(word)
export const organization = { organization: optionalWord }
const identity = { ...organization, identity_id: optionalWord, identity_id_file: optionalFile }
export const jwt = { jwt_file: optionalFile, jwt_command: v.optional(command) }

/** One way to give a setting: a key, or several that are needed together. */
export type Way = string | { readonly together: readonly string[]; readonly optional?: readonly string[] }

/** A setting that is given in one of several ways. */
export interface Alternatives {
  readonly oneOf: readonly Way[]
  /** Nothing is needed: there is a default. */
  readonly isOptional?: boolean
}

const IDENTITY: Alternatives = { oneOf: ['identity_id', 'identity_id_file'] }

type Output<E extends v.ObjectEntries> = v.InferOutput<v.ObjectSchema<E, undefined>>

/** A section of which some keys exclude each other, and some are needed together. */
export function login<const E extends v.ObjectEntries>(
  entries: E,
  alternatives: readonly Alternatives[],
  toLogin: (settings: Output<E>, resolve: Resolver) => Login,
): AuthSchema {
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
    v.transform((settings) => (context: LoginContext) => toLogin(settings, new Resolver(context))),
  )
}

/** What the settings mean on this host. */
class Resolver {
  readonly context: LoginContext

  constructor(context: LoginContext) {
    this.context = context
  }

  path(reference: CredentialReference): string {
    const { folder, environment, keepsCredentialNames = false } = this.context
    if (keepsCredentialNames && reference.kind === 'credential') return `credential:${reference.name}`
    return credentialPath(reference, folder, environment)
  }

  pathOrNull(reference: CredentialReference | undefined): string | null {
    return reference === undefined ? null : this.path(reference)
  }

  /** The schema lets through exactly one of them. */
  source(given: string | undefined, file: CredentialReference | undefined): CredentialSource {
    return file === undefined ? { value: given ?? '' } : { file: this.path(file) }
  }

  /** As {@link source}. */
  jwt({ jwt_file: file, jwt_command: program = [] }: Output<typeof jwt>): JwtSource {
    return file === undefined ? { command: program } : { file: this.path(file) }
  }
}

/** As {@link login}, of a method that needs the id of an identity. */
export function ofIdentity<const Method extends Login['method'], const E extends v.ObjectEntries>(
  method: Method,
  entries: E,
  alternatives: readonly Alternatives[],
  toLogin: (own: Output<E>, common: Common<Method>, resolve: Resolver) => Login,
): AuthSchema {
  return login(
    { method: v.literal(method), ...identity, ...entries },
    [IDENTITY, ...alternatives],
    (settings, resolve) => {
      // No method has a setting of its own by one of these names.
      const given = settings as Output<typeof identity>
      const identityId = resolve.source(given.identity_id, given.identity_id_file)
      const common = { method, organization: given.organization ?? null, identityId }
      return toLogin(settings, common, resolve)
    },
  )
}

interface Common<Method> {
  readonly method: Method
  readonly organization: string | null
  readonly identityId: CredentialSource
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
