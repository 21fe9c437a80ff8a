import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { wrap } from '../../agent/cli/terminal.ts'

test.each([
  { name: 'one line where there is room', columns: Infinity, lines: ['> try `a b c`, then `d`: e'] },
  { name: 'a command stays whole', columns: 13, lines: ['> try', '  `a b c`,', '  then `d`: e'] },
  { name: 'unless no line could hold it', columns: 8, lines: ['> try `a', '  b c`,', '  then', '  `d`: e'] },
  {
    name: 'a word that is too long stands alone',
    columns: 3,
    lines: ['> try', '  `a', '  b', '  c`,', '  then', '  `d`:', '  e'],
  },
])('$name', ({ columns, lines }) => {
  expect(wrap('try `a b c`, then `d`: e', columns, '> ')).toEqual(lines)
})

test('what fits is left as it is, blanks and all', () => {
  expect(wrap('a  b', 6, '> ')).toEqual(['> a  b'])
})

test('nothing is lost, and no line is longer than it may be but for a single word', () => {
  const words = fc.array(fc.stringMatching(/^[a-z`]{1,12}$/), { minLength: 1 })
  fc.assert(
    fc.property(words, fc.integer({ min: 1, max: 60 }), (parts, columns) => {
      const lines = wrap(parts.join(' '), columns, '- ', '   ')
      expect(lines.map((line, index) => line.slice(index === 0 ? 2 : 3)).join(' ')).toBe(parts.join(' '))
      for (const line of lines.filter(({ length }) => length > columns))
        expect(line.trim().replace(/^- /, '')).not.toContain(' ')
    }),
  )
})
