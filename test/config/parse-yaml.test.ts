import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseYaml } from '../../agent/config/read-files.ts'

describe('what is a map', () => {
  test.each([
    { name: 'an empty file', text: '', want: {} },
    { name: 'comments only', text: '# nothing yet\n', want: {} },
    { name: 'a document end', text: '---\na: x\n...\n', want: { a: 'x' } },
    { name: 'a byte order mark', text: '\uFEFFa: x', want: { a: 'x' } },
    { name: 'YAML 1.2 booleans', text: 'a: yes\nb: true\nc: off', want: { a: 'yes', b: true, c: 'off' } },
    { name: 'YAML 1.2 whatever a file says', text: '%YAML 1.1\n---\na: yes', want: { a: 'yes' } },
    { name: 'no base 60', text: 'a: 12:30:45', want: { a: '12:30:45' } },
    { name: 'an alias', text: 'a: &x [1]\nb: *x', want: { a: [1], b: [1] } },
    { name: 'no merge keys', text: '<<: {a: x}', want: { '<<': { a: 'x' } } },
    { name: 'a core tag', text: 'a: !!str 5', want: { a: '5' } },
  ])('$name', ({ text, want }) => {
    expect(parseYaml(text, 'F')).toEqual({ tree: want, problems: [] })
  })
})

describe('what is not', () => {
  test.each([
    { name: 'a key twice', text: 'a: 1\nb: 2\na: 3', path: 'F:3:1', message: /twice/ },
    { name: 'a second document', text: 'a: 1\n---\nb: 2', path: 'F:2:1', message: /second document/ },
    { name: 'a tag', text: 'a: !env HOME', path: 'F:1:4', message: /quotes/ },
    { name: 'a tag beyond the core', text: 'a: !!binary aGk=', path: 'F:1:4', message: /quotes/ },
    { name: 'an unquoted cron expression', text: 'tick: * * *', path: 'F:1:7', message: /quotes/ },
    { name: 'an alias of nothing', text: 'a: *mysecret', path: 'F', message: /alias/ },
    { name: 'a list as a key', text: '? [a]\n: 3', path: 'F:1:3', message: /a key must be a text/ },
    { name: 'a missing quote', text: 'a:\n  "x', path: 'F:2:5', message: /quote/ },
    { name: 'tabs', text: 'a:\n\tb: 1', path: 'F:2:1', message: /Tabs/ },
    { name: 'a list at the top', text: '- a', path: 'F', message: /must be a map/ },
    { name: 'a scalar at the top', text: 'hello', path: 'F', message: /must be a map/ },
    { name: 'very deep nesting', text: '['.repeat(5000), path: /^F/, message: /./ },
    { name: 'very wide nesting', text: `a: [${'x,'.repeat(20_000)}]`, path: 'F', message: /more than 10000/ },
    { name: 'an alias bomb', text: bomb(), path: 'F', message: /alias/ },
    {
      name: 'an alias that contains itself twice',
      text: 'a: &a [*a, *a]',
      path: 'F',
      message: /more than 10000/,
    },
  ])('$name', ({ text, path, message }) => {
    const { tree, problems } = parseYaml(text, 'F')
    expect(tree).toBeNull()
    expect(problems.length).toBeLessThanOrEqual(20)
    expect(problems[0]!.path).toMatch(path)
    expect(problems[0]!.message).toMatch(message)
  })

  test('a key without a value is a problem of that key, and the rest is read', () => {
    expect(parseYaml('a:\nb: [x, ~, y]\nc: {d: null}', 'F')).toEqual({
      tree: { b: ['x', '', 'y'], c: {} },
      problems: ['a', 'b[1]', 'c.d'].map((path) => ({
        path,
        file: 'F',
        message: expect.stringMatching(/no value/),
      })),
    })
  })

  test('an alias that contains itself ends', () => {
    expect(parseYaml('a: &a [*a]', 'F').problems[0]!.message).toBe('is nested too deep')
  })
})

test.each([
  's: "hunter2" x',
  's: "hunter2',
  's: *hunter2',
  's: |hunter2\n  y',
  's: !hunter2 x',
  '- hunter2\n- b: *x',
])('a problem does not quote the file: %j', (text) => {
  const { problems } = parseYaml(text, 'F')
  expect(problems).not.toEqual([])
  expect(JSON.stringify(problems)).not.toContain('hunter2')
})

const PIECES = [
  'a',
  ': ',
  '\n',
  '  ',
  '- ',
  '[',
  ']',
  '{',
  '}',
  '"',
  "'",
  '&x',
  '*x',
  '!t',
  '|',
  '>',
  '#',
  '---\n',
  '~',
]

test('any text: never throws, every problem has a path, and there is no tree without a reason', () => {
  fc.assert(
    fc.property(
      fc.record({
        text: fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.array(fc.constantFrom(...PIECES)).map((a) => a.join('')),
        ),
      }),
      ({ text }) => {
        const { tree, problems } = parseYaml(text, 'F')
        expect(tree === null && problems.length === 0).toBe(false)
        for (const { path, message } of problems) expect([path, message]).not.toContain('')
      },
    ),
  )
})

function bomb(): string {
  const lines = ['a0: &a0 [x, x]']
  for (let i = 1; i < 30; i++) lines.push(`a${i}: &a${i} [*a${i - 1}, *a${i - 1}]`)
  return lines.join('\n')
}
