import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { flatten, hostcertdShape, type CommandShape } from '../../packaging/completions/command-shape.ts'
import { completionFiles } from '../../packaging/completions/generate.ts'
import { isInstalled, linesFrom, typeInto } from './typed.ts'

const FOLDER = join(import.meta.dirname, '../../packaging/completions')
const BASH = join(FOLDER, 'hostcertd.bash')
const FISH = join(FOLDER, 'hostcertd.fish')

const COMMANDS = flatten(hostcertdShape())

const BASH_SETUP = `source '${BASH}'`
const ZSH_SETUP = `fpath=('${FOLDER}' $fpath); autoload -U compinit; compinit -D -u`

const HAS_SCRIPT = await isInstalled('script')
const HAS_ZSH = HAS_SCRIPT && (await isInstalled('zsh'))
const HAS_FISH = await isInstalled('fish')

/** As one would begin to type it, `hostcertd` left out. */
function words(command: CommandShape): string[] {
  return [...command.path]
}

function verbsOf(command: CommandShape): string[] {
  return command.verbs.map(({ path }) => path.at(-1) ?? '').sort()
}

function flagsOf(command: CommandShape): string[] {
  return command.options.flatMap(({ short, long }) => (short === null ? [long] : [short, long])).sort()
}

/** Every verb and every long option with its last letter left to the shell. */
const UNFINISHED = COMMANDS.flatMap((command) =>
  [...verbsOf(command), ...command.options.map(({ long }) => long)].map((word) => ({
    typed: `hostcertd ${[...words(command), word.slice(0, -1)].join(' ')}\t`,
    // zsh leaves the = of an option that takes a value.
    args: [...words(command), word],
  })),
)

/** What must or must not be completed, besides. */
const OTHERS = [
  { typed: 'hostcertd inspect so\t', args: ['inspect', 'some-file'] },
  { typed: 'hostcertd inspect oth\t', args: ['inspect', 'other file'] },
  { typed: 'hostcertd inspect -- so\t', args: ['inspect', '--', 'some-file'] },
  { typed: 'hostcertd inspect -- --js\t', args: ['inspect', '--', '--js'] },
  { typed: 'hostcertd renew --config so\t --fo\t', args: ['renew', '--config', 'some-file', '--force'] },
  { typed: 'hostcertd renew --config=so\t --fo\t', args: ['renew', '--config=some-file', '--force'] },
  { typed: 'hostcertd renew --host-key oth\t', args: ['renew', '--host-key', 'other file'] },
  { typed: 'hostcertd renew --config config va\t', args: ['renew', '--config', 'config', 'va'] },
  { typed: 'hostcertd renew so\t', args: ['renew', 'so'] },
  { typed: 'hostcertd wait --timeout so\t', args: ['wait', '--timeout', 'so'] },
  { typed: 'hostcertd wait --timeout=5s --he\t', args: ['wait', '--timeout=5s', '--help'] },
  { typed: 'hostcertd run --js\t', args: ['run', '--js'] },
  { typed: 'hostcertd so\t', args: ['so'] },
  { typed: 'hostcertd help config va\t', args: ['help', 'config', 'validate'] },
  { typed: 'hostcertd help run --js\t', args: ['help', 'run', '--js'] },
]

async function expectCompleted(shell: string, setup: string): Promise<void> {
  const all = [...UNFINISHED, ...OTHERS]
  const typed = all.map((line) => line.typed)
  const got = await typeInto(shell, setup, typed)
  expect(got.map((args) => args.map((arg) => arg.replace(/^(--[\w-]+)=$/, '$1')))).toEqual(
    all.map(({ args }) => args),
  )
}

test('there is something to complete', () => {
  expect(COMMANDS.map(({ path }) => path.join(' '))).toEqual(
    expect.arrayContaining(['', 'run', 'renew', 'config', 'config validate', 'help', 'help config validate']),
  )
  expect(UNFINISHED.length).toBeGreaterThan(40)
})

test.each([...completionFiles()])(
  '%s is what `node packaging/completions/generate.ts` makes',
  async (name, made) => {
    expect(await readFile(join(FOLDER, name), 'utf8')).toBe(made)
  },
)

describe('bash', () => {
  /** What the function offers; the last word is the one that is being typed. */
  async function offered(line: readonly string[]): Promise<string[]> {
    const script =
      'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hostcertd; printf "%s\\n" "${COMPREPLY[@]}"'
    return (await linesFrom(['bash', '--norc', '-uc', script, 'bash', BASH, 'hostcertd', ...line])).sort()
  }

  test.each(COMMANDS)('$path: its options and verbs, and nothing more', async (command) => {
    expect(await offered([...words(command), '-'])).toEqual(flagsOf(command))
    const next = await offered([...words(command), ''])
    // Files are readline's to complete.
    const otherwise = command.operand === null ? flagsOf(command) : []
    expect(next).toEqual(command.verbs.length > 0 ? verbsOf(command) : otherwise)
  })

  test.skipIf(!HAS_SCRIPT)('at a terminal', async () =>
    expectCompleted('bash --noprofile --norc -i', BASH_SETUP),
  )
})

describe('zsh', () => {
  test.skipIf(!HAS_ZSH)('at a terminal (skipped where there is no zsh)', async () =>
    expectCompleted('zsh -f -i', ZSH_SETUP),
  )
})

describe('fish', () => {
  /** What is offered for each of these lines, without the descriptions. */
  async function offered(lines: readonly string[]): Promise<string[][]> {
    const script = 'source $argv[1]; for line in $argv[2..]; echo NEXT; complete -C$line; end'
    const printed = await linesFrom(['fish', '--no-config', '-c', script, FISH, ...lines])
    const answers: string[][] = []
    for (const line of printed) {
      if (line === 'NEXT') answers.push([])
      else answers.at(-1)?.push(line.split('\t')[0] ?? '')
    }
    return answers.map((answer) => answer.sort())
  }

  test.skipIf(!HAS_FISH)('options and verbs, and nothing more (skipped where there is no fish)', async () => {
    const commands = COMMANDS.filter(({ operand }) => operand === null)
    const options = await offered(
      COMMANDS.map((command) => `hostcertd ${[...words(command), '--'].join(' ')}`),
    )
    expect(options).toEqual(COMMANDS.map((command) => command.options.map(({ long }) => long).sort()))
    const verbs = await offered(commands.map((command) => `hostcertd ${[...words(command), ''].join(' ')}`))
    expect(verbs).toEqual(commands.map(verbsOf))
  })

  test.skipIf(!HAS_FISH)('values', async () => {
    const typed = [
      'renew --config ',
      'inspect ',
      'renew --config=so',
      'run ',
      'wait --timeout ',
      'renew --config run --js',
    ]
    const got = await offered(typed.map((line) => `hostcertd ${line}`))
    const files = ['other file', 'some-file']
    expect(got).toEqual([files, files, ['--config=some-file'], [], [], ['--json']])
  })
})
