import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { flatten, hostcertdShape, type CommandShape } from '../cli/command-shape.ts'
import { linesFrom, typeInto } from '../cli/typed.ts'

const FOLDER = resolve('packaging/completions')
const BASH = join(FOLDER, 'hostcertd.bash')
const FISH = join(FOLDER, 'hostcertd.fish')

/** For all lines of one shell: little less than a test may take. */
const PATIENCE_MILLISECONDS = 170_000

const COMMANDS = flatten(hostcertdShape())

function verbsOf(command: CommandShape): string[] {
  return command.verbs.map(({ path }) => path.at(-1) ?? '').sort()
}

/** Every verb and every long option with its last letter left to the shell. */
const UNFINISHED = COMMANDS.flatMap((command) =>
  [...verbsOf(command), ...command.options.map(({ long }) => long)].map((word) => ({
    // Of two letters, as `ca`, one may stand for other verbs too.
    typed: `hostcertd ${[...command.path, word.length > 2 ? word.slice(0, -1) : word].join(' ')}\t`,
    // zsh leaves the = of an option that takes a value.
    args: [...command.path, word],
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
  const got = await typeInto(shell, setup, typed, PATIENCE_MILLISECONDS)
  expect(got.map((args) => args.map((arg) => arg.replace(/^(--[\w-]+)=$/, '$1')))).toEqual(
    all.map(({ args }) => args),
  )
}

test.each([
  { shell: 'bash', command: 'bash --noprofile --norc -i', setup: `source '${BASH}'` },
  {
    shell: 'zsh',
    command: 'zsh -f -i',
    setup: `fpath=('${FOLDER}' $fpath); autoload -U compinit; compinit -D -u`,
  },
])('$shell, at a terminal', async ({ command, setup }) => expectCompleted(command, setup))

/** What is offered for each of these lines, without the descriptions. */
async function offeredByFish(lines: readonly string[]): Promise<string[][]> {
  const script = 'source $argv[1]; for line in $argv[2..]; echo NEXT; complete -C$line; end'
  const printed = await linesFrom(
    ['fish', '--no-config', '-c', script, FISH, ...lines],
    PATIENCE_MILLISECONDS,
  )
  const answers: string[][] = []
  for (const line of printed) {
    if (line === 'NEXT') answers.push([])
    else answers.at(-1)?.push(line.split('\t')[0] ?? '')
  }
  return answers.map((answer) => answer.sort())
}

test('fish: options and verbs, and nothing more', async () => {
  const commands = COMMANDS.filter(({ operand }) => operand === null)
  const options = await offeredByFish(
    COMMANDS.map((command) => `hostcertd ${[...command.path, '--'].join(' ')}`),
  )
  expect(options).toEqual(COMMANDS.map((command) => command.options.map(({ long }) => long).sort()))
  const verbs = await offeredByFish(commands.map((command) => `hostcertd ${[...command.path, ''].join(' ')}`))
  expect(verbs).toEqual(commands.map(verbsOf))
})

test('fish: values', async () => {
  const typed = [
    'renew --config ',
    'inspect ',
    'renew --config=so',
    'run ',
    'wait --timeout ',
    'renew --config run --js',
  ]
  const got = await offeredByFish(typed.map((line) => `hostcertd ${line}`))
  const files = ['other file', 'some-file']
  expect(got).toEqual([files, files, ['--config=some-file'], [], [], ['--json']])
})
