import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

/** `FILE`: NAME, to the end of the cell, of the brackets, or of the statement. */
const CITED = /`(test\/[\w./-]+\.test\.ts)`:\s+([^|;]*?)(?=\s*(?:\||;|\)\.))/g

const cited = [...readFileSync('SECURITY.md', 'utf8').matchAll(CITED)].map(([, file = '', name = '']) => ({
  file,
  name: name.replaceAll(/\s+/g, ' '),
}))

test('every protection in SECURITY.md names a test', () => {
  const rows = readFileSync('SECURITY.md', 'utf8')
    .split('\n')
    .filter((line) => /^\| (?!attack|mistake|---)/.test(line))
  expect(rows.length).toBeGreaterThan(20)
  expect(rows.filter((row) => row.search(CITED) === -1)).toEqual([])
})

test.each(cited)('SECURITY.md names $file: $name', ({ file, name }) => {
  expect(existsSync(file)).toBe(true)
  // As it is written there: the name of a test, of a group, or of a row of a table, in quotes of any kind.
  const source = readFileSync(file, 'utf8').replaceAll(String.raw`\'`, "'")
  expect(["'", '"', '`'].some((quote) => source.includes(`${quote}${name}${quote}`))).toBe(true)
})
