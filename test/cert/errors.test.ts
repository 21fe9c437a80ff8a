import { expect, test } from 'vitest'
import { CLOCKS_DIFFER, ERROR_CODES, errorOf, ERRORS, SSHD_DOWN } from '../../agent/cert/errors.ts'

test.each(Object.entries({ ...ERRORS, SSHD_DOWN, CLOCKS_DIFFER }))(
  '%s has a title, a cause and a remedy, in prose that can be put into any sentence',
  (_, { title, cause, remedy }) => {
    expect(title).toMatch(/^.{5,30}$/)
    for (const text of [title, cause, remedy]) {
      expect(text.length).toBeGreaterThan(4)
      expect(text).not.toMatch(/[.\s]$/)
      expect(text.split('`').length % 2, `backticks in: ${text}`).toBe(1)
      // Tables of Markdown, templates of Prometheus and pages of mdoc(7) are made of it.
      expect(text).toMatch(/^(?!')[^|{}\\\n]+$/)
    }
  },
)

test('titles are unique: people call an error by its title', () => {
  expect(new Set(ERROR_CODES.map((code) => ERRORS[code].title)).size).toBe(ERROR_CODES.length)
})

test('a configuration with errors has an exit status of its own', () => {
  const own = ERROR_CODES.filter((code) => errorOf(code)?.exitStatus !== undefined)
  expect(own).toEqual(['CONFIG_INVALID'])
  expect(ERRORS.CONFIG_INVALID.exitStatus).toBe(78)
})

test('what is no code has no entry', () => {
  for (const text of [null, 'window-open', 'toString', '']) expect(errorOf(text)).toBeNull()
  expect(errorOf('STORE_FAILED')).toBe(ERRORS.STORE_FAILED)
})

test('a busy issuer: the remedy fits a rate limit and an internal error', () => {
  const { cause, remedy } = ERRORS.ISSUER_BUSY
  for (const status of ['429', '408', '5xx']) expect(`${cause} ${remedy}`).toContain(status)
  expect(remedy).toMatch(/408 or 5xx .*check the log of the issuer.*\. If 429 .*rate limit/)
})

test('what an administrator granted takes effect after about 10 s: the remedy says to try again then', () => {
  expect(ERRORS.ISSUER_FORBIDDEN.remedy).toMatch(
    /A grant takes effect after about 10 s; then run .* to retry$/,
  )
})
