import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { flatten, hostcertdShape, type CommandShape } from './command-shape.ts'
import { linesFrom } from './typed.ts'

/**
 * The completions are written by hand, and these tests hold them against the command line: bash in full, the others by
 * the words in them. test/packaging/completions-in-shells.test.ts types into all three shells.
 */
const BASH = resolve('packaging/completions/hostcertd.bash')

const COMMANDS = flatten(hostcertdShape())

function verbsOf(command: CommandShape): string[] {
  return command.verbs.map(({ path }) => path.at(-1) ?? '').sort()
}

function flagsOf({ options }: CommandShape): string[] {
  return options.flatMap(({ short, long }) => (short === null ? [long] : [short, long])).sort()
}

test('there is something to complete', () => {
  expect(COMMANDS.map(({ path }) => path.join(' '))).toEqual(
    expect.arrayContaining(['', 'run', 'renew', 'config', 'config validate', 'help', 'help config validate']),
  )
})

/** What the function offers; the last word is the one that is being typed. Null stands for files. */
async function offered(line: readonly string[]): Promise<string[] | null> {
  const script = `compopt() { echo FILES; }
    source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hostcertd; printf "%s\\n" "\${COMPREPLY[@]}"`
  const lines = await linesFrom(['bash', '--norc', '-uc', script, 'bash', BASH, 'hostcertd', ...line], 50_000)
  return lines[0] === 'FILES' ? null : lines.sort()
}

test.each(COMMANDS)('bash, $path: its options and verbs, and nothing more', async (command) => {
  const { path, operand, verbs } = command
  expect(await offered([...path, '-'])).toEqual(flagsOf(command))
  const files = operand?.kind === 'file' ? null : []
  const otherwise = operand === null ? flagsOf(command) : files
  expect(await offered([...path, ''])).toEqual(verbs.length > 0 ? verbsOf(command) : otherwise)
})

const OPTIONS_WITH_VALUE = COMMANDS.flatMap(({ path, options }) =>
  options.flatMap(({ short, long, value }) =>
    value === null ? [] : [short, long].flatMap((flag) => (flag === null ? [] : [{ path, flag, value }])),
  ),
)

test.each(OPTIONS_WITH_VALUE)('bash, $path $flag: a $value.kind follows', async ({ path, flag, value }) => {
  const want = { file: null, words: value.kind === 'words' ? value.words.toSorted() : [], text: [] }
  expect(await offered([...path, flag, ''])).toEqual(want[value.kind])
})

test.each([
  { file: 'hostcertd.bash', option: /(?<=[ '])--[a-z][\w-]+/g },
  { file: '_hostcertd', option: /(?<=[ ,{'"])--[a-z][\w-]+/g },
  { file: 'hostcertd.fish', option: /(?<=^ *complete .* -l )[a-z][\w-]+/gm },
])('$file has every option and every verb, and no other option', async ({ file, option }) => {
  const source = await readFile(resolve('packaging/completions', file), 'utf8')
  const text = source.replaceAll(/^\s*#.*/gm, '')
  const options = new Set(text.match(option)?.map((name) => name.replace(/^-*/, '--')))
  const known = new Set(COMMANDS.flatMap((command) => command.options.map(({ long }) => long)))
  expect([...options].toSorted()).toEqual([...known].toSorted())
  const words = new Set(text.match(/[\w-]+/g))
  for (const verb of COMMANDS.flatMap(verbsOf)) expect(words, file).toContain(verb)
})
