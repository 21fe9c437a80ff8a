import type * as v from 'valibot'
import { AUTH_METHODS, authSectionOf, namedMethod } from './auth-section.ts'
import { hasPath, isTree, type KeyPath, type KeyProblem, ownValue, pathText, type Tree } from './problem.ts'

const INLINE_SECRETS: ReadonlyMap<string, string> = new Map([
  ['client_secret', 'client_secret_file'],
  ['token', 'token_file'],
  ['access_token', 'token_file'],
  ['password', 'password_file'],
  ['secret_access_key', 'secret_access_key_file'],
  ['access_key_secret', 'access_key_secret_file'],
  ['session_token', 'session_token_file'],
  ['jwt', 'jwt_file'],
  ['key', 'key_file'],
  ['private_key', 'key_file'],
])

/** A file with more unknown keys is another file by mistake, and guesses take time. */
const MOST_GUESSES = 100

/** Every key that the schema does not have, with a guess at what was meant; a secret in the configuration is one. */
export function findUnknownKeys(schema: AnySchema, tree: Tree): KeyProblem[] {
  const unknown = [...unknownKeys(schema, tree, [])]
    .filter(({ keys: [name, key] }) => name !== 'auth' || !INLINE_SECRETS.has(String(key)))
    .map(({ keys, siblings }, index) => ({
      keys,
      message:
        explainAuthKey(keys, tree) ??
        `unknown key${index < MOST_GUESSES ? guess(schema, keys, siblings) : ''}`,
    }))
  return [...findSecrets(tree), ...unknown]
}

/** Reported for every method: everyone can read the configuration. */
function findSecrets(tree: Tree): KeyProblem[] {
  return [...INLINE_SECRETS]
    .filter(([key]) => hasPath(tree, ['auth', key]))
    .map(([key, inFile]) => ({
      keys: ['auth', key],
      message: `do not write a secret into the configuration: put it into a file, and set ${inFile}`,
    }))
}

interface UnknownKey {
  readonly keys: KeyPath
  /** The keys that the schema has in this place. */
  readonly siblings: readonly string[]
}

function* unknownKeys(schema: AnySchema, value: unknown, above: KeyPath): Generator<UnknownKey> {
  const entries = isTree(value) ? entriesOf(schema, value) : null
  if (entries === null || !isTree(value)) return
  for (const [key, below] of Object.entries(value)) {
    const keys = [...above, key]
    const known = Object.hasOwn(entries, key) ? entries[key] : undefined
    if (known === undefined) yield { keys, siblings: Object.keys(entries) }
    else yield* unknownKeys(known, below, keys)
  }
}

/** `; did you mean …?` with a key of the same map, or else the key of that name in another. */
function guess(schema: AnySchema, keys: KeyPath, siblings: readonly string[]): string {
  const key = String(keys.at(-1))
  const sibling = nearest(key, siblings)
  const meant = sibling === null ? placeOf(schema, key) : [...keys.slice(0, -1), sibling]
  return meant === null ? '' : `; did you mean ${pathText(meant)}?`
}

function placeOf(schema: AnySchema, key: string): KeyPath | null {
  for (const [name, below] of Object.entries(entriesOf(schema, {}) ?? {})) {
    const entries = entriesOf(below, {}) ?? {}
    if (Object.hasOwn(entries, key)) return [name, key]
  }
  return Object.hasOwn(entriesOf(schema, {}) ?? {}, key) ? [key] : null
}

/** A key of another method, or of several. */
function explainAuthKey([name, key, ...below]: KeyPath, tree: Tree): string | null {
  if (name !== 'auth' || typeof key !== 'string' || below.length > 0) return null
  const methods = AUTH_METHODS.filter((method) =>
    Object.hasOwn(entriesOf(authSectionOf(method), {}) ?? {}, key),
  )
  const [first, ...others] = methods
  if (first === undefined) return null
  const named =
    others.length === 0
      ? `method ${first}`
      : `methods ${methods.slice(0, -1).join(', ')} and ${methods.at(-1)}`
  return `belongs to the ${named}, and the method is ${String(namedMethod(ownValue(tree, 'auth')))}`
}

/** A guess that differs by more than this is no help. */
const MAX_DISTANCE = 2
/** A longer word is not a typing error, and need not be compared. */
const MAX_LENGTH = 64

/**
 * The word that was probably meant: `sshHostId` and `ssh-host-id` for `ssh_host_id`, or a slip or two.
 *
 * @returns null when none is near
 */
export function nearest(typed: string, names: readonly string[]): string | null {
  if (typed.length > MAX_LENGTH) return null
  let best: string | null = null
  // At most a third of the letters: `log` is not meant by `xyz`.
  let bestDistance = Math.min(MAX_DISTANCE, Math.floor(typed.length / 3)) + 1
  for (const word of names) {
    const apart = distance(plain(typed), plain(word))
    if (apart < bestDistance) {
      best = word
      bestDistance = apart
    }
  }
  return best
}

function plain(word: string): string {
  return word.replaceAll(/[-_ ]/g, '').toLowerCase()
}

/** Letters to insert, remove, replace or swap with the next to make one word the other (optimal string alignment). */
function distance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(beforeLast, j - 2) + 1)
      row.push(least)
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity
}

/** What {@link entriesOf} can look into: a schema, of whichever kind. */
export type AnySchema = v.GenericSchema

/**
 * The keys that a section has; null for the schema of a plain value, and for one that takes any key.
 *
 * @param input decides which section is meant where that depends on a value (`auth.method`)
 */
export function entriesOf(schema: AnySchema, input: unknown): Readonly<Record<string, AnySchema>> | null {
  if (isOptional(schema)) return entriesOf(schema.wrapped, input)
  if (isLazy(schema)) return entriesOf(schema.getter(input), input)
  if (isObject(schema)) return schema.entries
  if (!isPipe(schema)) return null
  for (const part of schema.pipe) {
    const entries = entriesOf(part, input)
    if (entries !== null) return entries
  }
  return null
}

/** The value that a key has when it is left out, as it would be written; undefined when there is none. */
export function defaultOf(schema: AnySchema): unknown {
  return isOptional(schema) ? schema.default : undefined
}

function isOptional(schema: AnySchema): schema is v.OptionalSchema<AnySchema, unknown> {
  return schema.type === 'optional'
}

function isLazy(schema: AnySchema): schema is v.LazySchema<AnySchema> {
  return schema.type === 'lazy'
}

function isPipe(schema: AnySchema): schema is AnySchema & { readonly pipe: readonly AnySchema[] } {
  return 'pipe' in schema && Array.isArray(schema.pipe)
}

function isObject(schema: AnySchema): schema is v.ObjectSchema<Record<string, AnySchema>, undefined> {
  return schema.type === 'object' && 'entries' in schema
}
