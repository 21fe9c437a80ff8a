import { expect, test } from 'vitest'
import { cutTo, escapeControls, inOneLine, oneLine } from '../../agent/cert/text.ts'

test.each([
  { name: 'a line end', text: 'a\r\nb', want: 'a b' },
  { name: 'an escape sequence', text: 'a\x1b[2Jb', want: 'a [2Jb' },
  { name: 'a turned reading direction', text: 'a\u202eb', want: 'a b' },
  { name: 'half of a surrogate pair', text: 'a\ud800b\udfff', want: 'a b' },
  { name: 'a whole surrogate pair', text: 'a\u{1f511}b', want: 'a\u{1f511}b' },
])('$name in one line', ({ text, want }) => {
  expect(inOneLine(text)).toBe(want)
})

test.each([1, 2, 3, 4])(
  'a text that is cut behind %i characters holds no half of a surrogate pair',
  (longest) => {
    const cut = cutTo(longest, 'a\u{1f511}b\u{1f511}')
    expect(cut.isWellFormed()).toBe(true)
    expect(cut.length).toBeLessThanOrEqual(longest + 1)
    expect(cut.endsWith('…')).toBe(true)
  },
)

test('what is cut and put in one line can be printed', () => {
  const text = `${'x'.repeat(399)}\u{1f511}\n`
  expect(escapeControls(oneLine(text))).toBe(oneLine(text))
})
