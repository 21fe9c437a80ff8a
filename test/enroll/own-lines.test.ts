import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { linesNotPutBack, takeOutOwnLines } from '../../agent/enroll/own-lines.ts'
import { cpuMillisecondsSince } from '../support/cpu-time.ts'

const BEFORE = 'Port 22\nHostCertificate /old\n\nMatch all\n'
/** One line added at the top, one replaced, one added at the end. */
const AFTER = 'Include /ours\nPort 22\nHostCertificate /ours\n\nMatch all\nUseDNS no\n'

interface Row {
  readonly name: string
  readonly before?: string
  readonly after?: string
  readonly now: string
  readonly want: string
  /** A part of each thing that is named. */
  readonly left?: readonly string[]
}

const ROWS: readonly Row[] = [
  { name: 'as enroll left it', now: AFTER, want: BEFORE },
  { name: 'a line above', now: `# mine\n${AFTER}`, want: `# mine\n${BEFORE}` },
  { name: 'a line below', now: `${AFTER}# mine\n`, want: `${BEFORE}# mine\n` },
  {
    name: 'a line between',
    now: AFTER.replace('Match', '# mine\nMatch'),
    want: BEFORE.replace('Match', '# mine\nMatch'),
  },
  {
    name: 'a line of ours edited',
    now: AFTER.replace('Include /ours', 'Include /theirs'),
    want: `Include /theirs\n${BEFORE}`,
    left: ['the line "Include /ours" was changed or removed since'],
  },
  {
    name: 'a line of ours edited that replaced one: the old one is not put back beside it',
    now: AFTER.replace('HostCertificate /ours', 'HostCertificate /theirs'),
    want: BEFORE.replace('/old', '/theirs'),
    left: ['the line "HostCertificate /ours" was changed or removed since'],
  },
  {
    name: 'a line of ours repeated elsewhere',
    now: `${AFTER}Include /ours\n`,
    want: `${BEFORE}Include /ours\n`,
  },
  {
    name: 'a line of ours repeated, and none of them beside what it was beside',
    before: 'a\nb\n',
    after: 'a\nX\nb\n',
    now: 'a\n1\nX\n2\nX\n3\nb\n',
    want: 'a\n1\nX\n2\nX\n3\nb\n',
    left: ['the line "X" now occurs several times'],
  },
  {
    name: 'a line of theirs in a group of ours',
    before: 'a\n',
    after: 'a\nX\nY\n',
    now: 'a\nX\n# mine\nY\n',
    want: 'a\n# mine\n',
  },
  {
    name: 'half a group of ours gone: the other half stays',
    before: 'a\n',
    after: 'a\nX\nY\n',
    now: 'a\nY\n',
    want: 'a\nY\n',
    left: ['the line "X" (and 1 more) was changed or removed since'],
  },
  {
    name: 'a line of theirs in the place of a line that we removed',
    before: 'a\nold\nb\n',
    after: 'a\nb\n',
    now: 'a\n# mine\nb\n',
    want: 'a\n# mine\nb\n',
    left: ['lines that enroll removed cannot be put back'],
  },
  {
    name: 'a line that we removed, with an edit elsewhere',
    before: 'a\nold\nb\nc\n',
    after: 'a\nb\nc\n',
    now: 'a\nb\n# mine\nc\n',
    want: 'a\nold\nb\n# mine\nc\n',
  },
  {
    name: 'a line that we removed, and the lines around it copied',
    before: 'a\nold\nb\n',
    after: 'a\nb\n',
    now: 'a\nb\na\nb\n',
    want: 'a\nb\na\nb\n',
    left: ['lines that enroll removed cannot be put back'],
  },
  {
    name: 'a line of theirs between two that replaced one',
    before: 'a\nold\nb\n',
    after: 'a\nX\nY\nb\n',
    now: 'a\nX\n# mine\nY\nb\n',
    want: 'a\nX\n# mine\nY\nb\n',
    left: ['lines that enroll removed cannot be put back'],
  },
  {
    name: 'everything removed that we left',
    now: '',
    want: '',
    left: ['"Include /ours"', '"HostCertificate /ours"', '"UseDNS no"'],
  },
  {
    name: 'carriage returns that were there',
    before: 'a\r\nb\r\n',
    after: 'a\r\nX\nb\r\n',
    now: 'a\r\nX\nb\r\nc\r\n',
    want: 'a\r\nb\r\nc\r\n',
  },
  {
    name: 'carriage returns added: no line of ours is as we wrote it',
    before: 'a\nb\n',
    after: 'a\nX\nb\n',
    now: 'a\r\nX\r\nb\r\n',
    want: 'a\r\nX\r\nb\r\n',
    left: ['the line "X" was changed'],
  },
  {
    name: 'no line feed at the end before',
    before: 'a',
    after: 'a\nX\n',
    now: 'a\nX\n# mine',
    want: 'a\n# mine',
  },
  {
    name: 'no line feed at the end now',
    before: 'a\n',
    after: 'a\nX\n',
    now: '# mine\na\nX',
    want: '# mine\na\n',
  },
  {
    name: 'a last line without a line feed is put back between others',
    before: 'a\nold',
    after: 'a\nX\n',
    now: 'a\nX\n# mine\n',
    want: 'a\nold\n# mine\n',
  },
  {
    name: 'bytes that are not UTF-8',
    before: '\xff\xfe\n',
    after: '\xff\xfe\nX\n',
    now: '\xff\xfe\nX\n\x80\x00\n',
    want: '\xff\xfe\n\x80\x00\n',
  },
]

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')

test.each(ROWS)('$name', ({ before = BEFORE, after = AFTER, now, want, left = [] }) => {
  const taken = takeOutOwnLines(bytes(before), bytes(after), bytes(now), false)
  expect(taken.content.toString('latin1')).toBe(want)
  expect(taken.left).toEqual(left.map((part) => expect.stringContaining(part)))
})

test('a line of a secret file is not quoted, and control characters never are', () => {
  const secret = takeOutOwnLines(bytes(''), bytes('hunter2\n'), bytes('other\n'), true)
  expect(secret.left).toEqual(['a line was changed or removed since'])
  const odd = takeOutOwnLines(bytes(''), bytes('\x1b[2J\n'), bytes('other\n'), false)
  expect(odd.left.join('')).not.toContain('\x1b')
})

test.each([
  { name: 'all of it is back', result: BEFORE, lost: [] },
  { name: 'it is as enroll left it', result: AFTER, lost: ['HostCertificate /old'] },
  { name: 'somebody put it back elsewhere', result: `${AFTER}HostCertificate /old\n`, lost: [] },
  { name: 'nothing is there', result: '', lost: ['HostCertificate /old'] },
  { name: 'one of two', before: 'a\nb\na\n', after: 'a\nb\n', result: 'a\n', lost: ['a'] },
  { name: 'UTF-8', before: '# voil\xc3\xa0\n', after: '', result: '', lost: ['# voilà'] },
  { name: 'without its line feed', before: 'a\nb\n', after: 'a\n', result: 'a\nb', lost: [] },
  {
    name: 'a long line',
    before: `ssh-rsa ${'A'.repeat(700)}\n`,
    after: '',
    result: '',
    lost: [`ssh-rsa ${'A'.repeat(700)}`],
  },
])('lines not put back: $name', ({ before = BEFORE, after = AFTER, result, lost }) => {
  expect(linesNotPutBack(bytes(before), bytes(after), bytes(result))).toEqual(
    lost.map((line) => `enroll removed the line "${line}", which is not put back`),
  )
})

test('files that are too long to compare are left, and soon', () => {
  const many = (word: string): Buffer =>
    bytes(Array.from({ length: 5000 }, (_, index) => `${word} ${index}\n`).join(''))
  const now = many('theirs')
  const began = process.cpuUsage()
  const taken = takeOutOwnLines(many('before'), many('after'), now, false)
  expect(taken).toEqual({ content: now, left: ['it has too many lines to compare'] })
  expect(cpuMillisecondsSince(began)).toBeLessThan(1000)
})

const line = fc.constantFrom('', 'a', 'b', 'c', 'Match all', 'Port 22')
const file = fc.array(line, { maxLength: 12 })
const edits = fc.array(
  fc.record({
    at: fc.nat({ max: 14 }),
    remove: fc.nat({ max: 2 }),
    add: fc.array(fc.constantFrom('', 'a', 'x', 'y', 'z'), { maxLength: 2 }),
  }),
  { maxLength: 4 },
)
type Edits = readonly { readonly at: number; readonly remove: number; readonly add: readonly string[] }[]

function edited(lines: readonly string[], changes: Edits): string[] {
  const result = [...lines]
  for (const { at, remove, add } of changes) result.splice(at % (result.length + 1), remove, ...add)
  return result
}

const text = (lines: readonly string[]): Buffer => bytes(lines.map((one) => `${one}\n`).join(''))

/** How often each line is in a file. */
function counts(lines: readonly string[]): Map<string, number> {
  const result = new Map<string, number>()
  for (const one of lines) result.set(one, (result.get(one) ?? 0) + 1)
  return result
}

test('whatever enroll and others did, no line is lost but those that enroll added', () => {
  const property = fc.property(file, edits, edits, (lines, ours, theirs) => {
    const own = edited(lines, ours)
    const now = edited(own, theirs)
    const { content, left } = takeOutOwnLines(text(lines), text(own), text(now), false)
    const result = counts(content.toString('latin1').split('\n').slice(0, -1))
    const [before, after] = [counts(lines), counts(own)]
    for (const [one, count] of counts(now)) {
      const added = Math.max(0, (after.get(one) ?? 0) - (before.get(one) ?? 0))
      // A line that moved was removed in one place and added in another; it may be undone in one of them only.
      const moved = left.length === 0 ? 0 : (after.get(one) ?? 0)
      expect(result.get(one) ?? 0).toBeGreaterThanOrEqual(count - Math.max(added, moved))
      const isTheirs = !own.includes(one)
      expect(isTheirs && (result.get(one) ?? 0) < count).toBe(false)
    }
    const isUndone = left.length === 0 && content.equals(text(lines))
    expect(isUndone || theirs.length > 0).toBe(true)
  })
  fc.assert(property, { numRuns: 3000 })
})
