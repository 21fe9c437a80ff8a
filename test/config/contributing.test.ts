import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'

const DECISIONS = 'docs/decisions'
const records = readdirSync(DECISIONS).filter((name) => name !== 'README.md')
const documents = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...['docs', DECISIONS].flatMap((folder) => readdirSync(folder).map((name) => join(folder, name))),
].filter((path) => path.endsWith('.md'))
const read = (path: string) => readFileSync(path, 'utf8')

describe.each(documents)('%s', (document) => {
  const text = read(document)

  test('each file that it names exists', () => {
    const named = [...text.matchAll(/(?<=[` ])(?:agent|docs|packaging|systemd|test)\/[\w./-]*\w/g)].map(
      String,
    )
    const linked = [...text.matchAll(/(?:\]\(|src=")(?!https:)([^)"#]+)/g)].map(([, path = '']) =>
      join(dirname(document), path),
    )
    expect([...named, ...linked].filter((path) => !existsSync(path))).toEqual([])
  })

  test('each heading that it links to exists', () => {
    const links = text.matchAll(/\]\(([^):#]*\.md)#([^)]+)\)/g)
    for (const [, path = '', heading = ''] of links) {
      const headings = read(join(dirname(document), path)).matchAll(/^#+ (.+)$/gm)
      expect([...headings].map(([, words = '']) => words.toLowerCase().replaceAll(' ', '-'))).toContain(
        heading,
      )
    }
  })

  test('each script of npm that it names exists', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    const named = [...text.matchAll(/npm run ([\w:]+)/g)].map(([, script]) => script)
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named))
  })
})

test('it says how to run a test of each project', () => {
  const projects = [...read('vitest.config.ts').matchAll(/^ +name: '(\w+)'/gm)].map(([, name = '']) => name)
  const told = [...read('CONTRIBUTING.md').matchAll(/^\| `(\w+)`.*\| `npm? ?[^|]*` \|$/gm)].map(
    ([, name = '']) => name,
  )
  expect(projects.length).toBeGreaterThan(5)
  expect(told.toSorted()).toEqual(projects.toSorted())
})

test('each decision is in the list', () => {
  for (const record of records) expect(read(join(DECISIONS, 'README.md'))).toContain(`](${record})`)
})
