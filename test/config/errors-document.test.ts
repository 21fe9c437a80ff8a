import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ERROR_CODES, REMEDIES } from '../../agent/cert/errors.ts'
import { failuresIn, loggedIn, sources, warningsIn } from './log-messages.ts'

const DOCUMENT = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')

/** What is logged in the words of something else: of a failure, of the configuration's problems, of a warning. */
const IN_OTHER_WORDS = [
  '……',
  '<failure.message>',
  '<message>',
  '<messageOf(error)>',
  '<onDisk.failure.message>',
  '<problemLine(problem)>',
  '<warning>',
]

/** Warnings that are not pushed, by file; the scan does not find them. */
const OTHER_WARNINGS = [
  {
    file: 'config/load.ts',
    words: 's count as that',
    message: 'issuer.timeout: more than … s count as that',
  },
  {
    file: 'config/load.ts',
    words: 'anybody who reaches',
    message: 'health.listen: anybody who reaches … can read what is served there',
  },
  {
    file: 'config/read-files.ts',
    words: 'is not read: only *.yaml is',
    message: '… is not read: only *.yaml is',
  },
]

/** Words behind a code that say what is to be done next, not what is the matter. */
const NEXT_STEPS = ['issuer-backoff', 'key-backoff', 'login-backoff', 'administrator']

/** The rows of the table under a heading, without its head, cell by cell. */
function table(heading: string): string[][] {
  const [, section = ''] = DOCUMENT.split(`\n## ${heading}\n`)
  const rows = (section.split('\n## ')[0] ?? '').split('\n').filter((line) => line.startsWith('| '))
  return rows.slice(2).map((row) =>
    row
      .slice(2, -2)
      .split(/(?<!\\) \| /)
      .map((cell) => cell.replaceAll(String.raw`\|`, '|')),
  )
}

test('every error code is explained, as the status page explains it', () => {
  expect(table('Error codes')).toEqual(
    ERROR_CODES.map((code) => [`\`${code}\``, REMEDIES[code].cause, REMEDIES[code].remedy]),
  )
})

test('every log message is explained, at its level, and no other', () => {
  const logged = [...sources()]
    .flatMap(([file, text]) => loggedIn(file, text).concat(warningsIn(file, text)))
    .filter(({ message }) => !IN_OTHER_WORDS.includes(message))
    .map(({ level, message }) => `${level} ${message}`)
  const others = OTHER_WARNINGS.map(({ message }) => `warn ${message}`)
  const rows = table('Log messages')
  expect(rows.map(([level, message]) => `${level} ${message}`).toSorted()).toEqual(
    [...new Set([...logged, ...others])].toSorted(),
  )
  for (const row of rows)
    expect(
      row.filter((cell) => cell !== ''),
      row.join(),
    ).toHaveLength(4)
})

test.each(OTHER_WARNINGS)('$file still warns: $message', ({ file, words }) => {
  expect(sources().get(file)).toContain(words)
})

test('every message of a failure is listed with its code', () => {
  const made = [...sources()]
    .filter(([file]) => !/^(cli|doctor)\//.test(file) && file !== 'cert/errors.ts')
    .flatMap(([file, text]) => failuresIn(ERROR_CODES, file, text))
    .filter(({ message }) => !NEXT_STEPS.includes(message))
    .map(({ code, message }) => `\`${code}\` ${message}`)
  expect(made.length).toBeGreaterThan(40)
  expect(
    table('Messages of failures')
      .map((row) => row.join(' '))
      .toSorted(),
  ).toEqual([...new Set(made)].toSorted())
})

test('the scan reads templates, strings in their holes, and calls of several lines', () => {
  const text = [
    'log.warn(',
    '  { a: f(1, "x"), b: [2, 3] },',
    "  `cannot ${verb('read', `a ${kind}`)} it`,",
    ')',
    "host.log.info({}, 'it isn\\'t (so)')",
    'log[level](fields, message)',
  ].join('\n')
  expect(loggedIn('x', text).map(({ level, message }) => `${level} ${message}`)).toEqual([
    'warn cannot … it',
    "info it isn't (so)",
    'varies <message>',
  ])
})
