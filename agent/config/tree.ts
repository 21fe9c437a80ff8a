import type { KeyPath } from './problem.ts'

/** What a configuration file says, before it is checked. Keys are own properties, `__proto__` included. */
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

/** Whether a tree says anything at this path, be it a map. */
export function hasPath(tree: Tree, keys: KeyPath): boolean {
  let value: TreeValue | undefined = tree
  for (const key of keys) {
    if (isTree(value)) value = ownValue(value, String(key))
    else value = Array.isArray(value) && typeof key === 'number' ? value[key] : undefined
    if (value === undefined) return false
  }
  return true
}
