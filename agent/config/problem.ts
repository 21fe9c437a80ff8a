import { quote } from '../cert/text.ts'

/** One thing that is wrong with the configuration. */
export interface Problem {
  /** The key (`issuer.url`, `host_keys[1]`), or the place (`FILE:LINE:COLUMN`, `FILE`) where it is not about a key. */
  readonly path: string
  /** Never quotes what may be a secret. */
  readonly message: string
  /** The file that the value comes from; left out for a required key that is missing. */
  readonly file?: string
}

/** The way from the top of the configuration to one value: keys of maps, indices of lists. */
export type KeyPath = readonly (string | number)[]

/** A problem of a value, before it is known which file the value came from. */
export interface KeyProblem {
  readonly keys: KeyPath
  readonly message: string
}

const PLAIN_KEY = /^[\w-]{1,60}$/

/** `['host_keys', 1]` as `host_keys[1]`; a key that is no plain word is quoted and cut, so any key is safe to print. */
export function pathText(keys: KeyPath): string {
  let text = ''
  for (const key of keys) {
    if (typeof key === 'number') text += `[${key}]`
    else text += `${text === '' ? '' : '.'}${PLAIN_KEY.test(key) ? key : quote(key)}`
  }
  return text
}

/** `issuer.url: is required`, as `config validate` prints it; with the file behind it where the path does not contain it. */
export function problemLine({ path, message, file }: Problem): string {
  const where = file === undefined || path.startsWith(file) ? '' : ` (${file})`
  return `${path}: ${message}${where}`
}

/** The content of a configuration file, before it is checked. Keys are own properties, `__proto__` included. */
export interface Tree {
  readonly [key: string]: TreeValue
}

export type TreeValue = string | number | boolean | bigint | Tree | readonly TreeValue[]

/** Whether a value is a map, and no list or scalar. */
export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value of a key of the map's own; undefined when there is none, also for `constructor` and its like. */
export function ownValue(tree: Tree, key: string): TreeValue | undefined {
  return Object.hasOwn(tree, key) ? tree[key] : undefined
}

/** Lay one file over another: maps merge, lists and scalars replace. Neither is changed. */
export function mergeTrees(base: Tree, over: Tree): Tree {
  const merged = new Map(Object.entries(base))
  for (const [key, value] of Object.entries(over)) {
    const under = merged.get(key)
    merged.set(key, isTree(under) && isTree(value) ? mergeTrees(under, value) : value)
  }
  return Object.fromEntries(merged)
}

/** Whether a tree has a value, or a map, at this path. */
export function hasPath(tree: Tree, keys: KeyPath): boolean {
  let value: TreeValue | undefined = tree
  for (const key of keys) {
    if (isTree(value)) value = ownValue(value, String(key))
    else value = Array.isArray(value) && typeof key === 'number' ? value[key] : undefined
    if (value === undefined) return false
  }
  return true
}
