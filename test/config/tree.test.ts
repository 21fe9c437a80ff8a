import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { hasPath, isTree, mergeTrees, type Tree, type TreeValue } from '../../agent/config/config.ts'

const { tree } = fc.letrec<{ tree: Tree; value: TreeValue }>((tie) => ({
  tree: fc.dictionary(
    fc.oneof(fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor'), fc.string()),
    tie('value'),
    {
      maxKeys: 4,
      noNullPrototype: true,
    },
  ),
  value: fc.oneof(
    { maxDepth: 3 },
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.array(fc.string(), { maxLength: 3 }),
    tie('tree'),
  ),
}))

describe('mergeTrees', () => {
  test.each<{ name: string; base: Tree; over: Tree; want: Tree }>([
    {
      name: 'maps merge',
      base: { a: { x: '1', y: '2' } },
      over: { a: { y: '3' } },
      want: { a: { x: '1', y: '3' } },
    },
    { name: 'lists replace', base: { a: ['1', '2'] }, over: { a: ['3'] }, want: { a: ['3'] } },
    { name: 'scalars replace', base: { a: '1' }, over: { a: '2' }, want: { a: '2' } },
    { name: 'a map replaces a scalar', base: { a: '1' }, over: { a: { b: '2' } }, want: { a: { b: '2' } } },
    { name: 'a scalar replaces a map', base: { a: { b: '2' } }, over: { a: '1' }, want: { a: '1' } },
    {
      name: 'an empty map takes nothing away',
      base: { a: { b: '2' } },
      over: { a: {} },
      want: { a: { b: '2' } },
    },
  ])('$name', ({ base, over, want }) => {
    expect(mergeTrees(base, over)).toEqual(want)
  })

  test('nothing over a tree, and a tree over nothing, is the tree', () => {
    fc.assert(
      fc.property(fc.record({ a: tree }), ({ a }) => {
        expect(mergeTrees(a, {})).toEqual(a)
        expect(mergeTrees({}, a)).toEqual(a)
      }),
    )
  })

  test('the same file again changes nothing', () => {
    fc.assert(
      fc.property(fc.record({ a: tree, b: tree }), ({ a, b }) => {
        const once = mergeTrees(a, b)
        expect(mergeTrees(once, b)).toEqual(once)
      }),
    )
  })

  test('keeps every key of both, and what is over wins', () => {
    fc.assert(
      fc.property(fc.record({ a: tree, b: tree }), ({ a, b }) => {
        const merged = mergeTrees(a, b)
        expect(new Set(Object.keys(merged))).toEqual(new Set([...Object.keys(a), ...Object.keys(b)]))
        const replacing = Object.entries(b).filter(([, value]) => !isTree(value))
        for (const [key, value] of replacing) expect(merged[key]).toEqual(value)
      }),
    )
  })

  test('changes neither of them, nor any prototype', () => {
    fc.assert(
      fc.property(fc.record({ a: tree, b: tree }), ({ a, b }) => {
        const before = structuredClone([a, b])
        mergeTrees(a, b)
        expect([a, b]).toEqual(before)
        expect(Object.keys(Object.prototype)).toEqual([])
      }),
    )
  })

  test('a key called __proto__ is a key', () => {
    const over = JSON.parse('{"__proto__": {"polluted": "yes"}}') as Tree
    const merged = mergeTrees({ a: '1' }, over)
    expect(Object.keys(merged)).toEqual(['a', '__proto__'])
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype)
  })
})

test.each([
  { keys: ['a', 'b', 1], want: true },
  { keys: ['a', 'b', 2], want: false },
  { keys: ['a'], want: true },
  { keys: ['a', 'constructor'], want: false },
  { keys: ['c'], want: false },
])('hasPath $keys: $want', ({ keys, want }) => {
  expect(hasPath({ a: { b: ['x', 'y'] } }, keys)).toBe(want)
})
