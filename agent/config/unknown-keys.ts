import { AUTH_SECTIONS, methodOf } from './auth-section.ts'
import { nearest } from './nearest.ts'
import { pathText, type KeyPath, type KeyProblem } from './problem.ts'
import { entriesOf, type AnySchema } from './section.ts'
import { hasPath, isTree, ownValue, type Tree } from './tree.ts'

const INLINE_SECRETS: ReadonlyMap<string, string> = new Map([
  ['client_secret', 'client_secret_file'],
  ['token', 'token_file'],
])

/** Every key that the schema does not know, with a guess at what was meant; a secret in the open is one. */
export function findUnknownKeys(schema: AnySchema, tree: Tree): KeyProblem[] {
  const unknown = [...unknownKeys(schema, tree, [])]
    .filter(({ keys: [name, key] }) => name !== 'auth' || !INLINE_SECRETS.has(String(key)))
    .map(({ keys, siblings }) => ({
      keys,
      message: explainAuthKey(keys, tree) ?? `unknown key${guess(schema, keys, siblings)}`,
    }))
  return [...findSecrets(tree), ...unknown]
}

/** Told whatever the method is: anybody may read the file that it is in. */
function findSecrets(tree: Tree): KeyProblem[] {
  return [...INLINE_SECRETS]
    .filter(([key]) => hasPath(tree, ['auth', key]))
    .map(([key, inFile]) => ({
      keys: ['auth', key],
      message: `a secret is never in the configuration: put it in a file, and name that with ${inFile}`,
    }))
}

interface UnknownKey {
  readonly keys: KeyPath
  /** The keys that are known in this place. */
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

/** A key of another method. */
function explainAuthKey([name, key, ...below]: KeyPath, tree: Tree): string | null {
  if (name !== 'auth' || typeof key !== 'string' || below.length > 0) return null
  for (const [method, schema] of Object.entries(AUTH_SECTIONS)) {
    if (Object.hasOwn(entriesOf(schema, {}) ?? {}, key))
      return `belongs to the method ${method}, and the method is ${String(methodOf(ownValue(tree, 'auth')))}`
  }
  return null
}
