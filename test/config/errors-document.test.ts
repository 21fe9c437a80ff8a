import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { ERROR_CODES, ERRORS } from '../../agent/cert/errors.ts'
import { filesWithErrors } from '../../packaging/error-tables.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string): string => readFileSync(`${ROOT}${path}`, 'utf8')

const SOURCES = readdirSync(`${ROOT}agent`, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => read(`agent/${name}`))

test.each([...filesWithErrors()])('%s has the words of the catalogue: `npm run docs`', (path, text) => {
  expect(read(path)).toBe(text)
})

test.each(ERROR_CODES)('%s is in docs/errors.md, with its words', (code) => {
  const { title, cause, remedy } = ERRORS[code]
  const status = code === 'CONFIG_INVALID' ? 78 : 1
  expect(read('docs/errors.md')).toContain(
    `\n| \`${code}\` | ${title} | ${cause} | ${remedy} | ${status} |\n`,
  )
})

/** The descriptions of the alerts, by name; folded scalars of YAML are one line. */
const DESCRIPTIONS = new Map(
  (
    parse(read('packaging/monitoring/hostcertd.rules.yml')) as {
      groups: { rules: { alert?: string; annotations?: { description: string } }[] }[]
    }
  ).groups.flatMap(({ rules }) =>
    rules.map(({ alert = '', annotations }) => [alert, annotations?.description ?? ''] as const),
  ),
)

test.each(ERROR_CODES.filter((code) => !code.startsWith('SSHD_')))(
  'the alert for %s has its remedy',
  (code) => {
    const { cause, remedy } = ERRORS[code]
    expect(DESCRIPTIONS.get('HostcertdRenewalErrors')).toContain(`"${code}" }}. ${cause}. ${remedy} {{- `)
  },
)

/** The texts of a row's message between what is filled in. */
const MESSAGES = read('docs/errors.md')
  .split('\n## Log messages\n')[1]
  ?.split('\n')
  .filter((line) => /^\| (?:warn|error) \|/.test(line))
  .map((line) => ({ message: line.split(' | ')[1] ?? '' }))

// Only this way round: a message that is new in the source is missed.
test.each(MESSAGES ?? [])('the source still logs: $message', ({ message }) => {
  const words = message.split('…').filter((part) => part !== '')
  expect(words).not.toEqual([])
  expect(SOURCES.some((text) => words.every((part) => text.replaceAll("\\'", "'").includes(part)))).toBe(true)
})

test('there are rows for log messages', () => {
  expect(MESSAGES?.length).toBeGreaterThan(20)
})
