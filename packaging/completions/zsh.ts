import { flatten, type CommandShape, type OptionShape, type Value } from './command-shape.ts'

/** The completion of zsh, a file for its `fpath`. */
export function zshCompletion(program: CommandShape, header: string): string {
  // Those below first: the last one is what the file is called, and is called.
  const functions = flatten(program).toReversed().filter(hasMore).map(functionOf)
  return `#compdef hostcertd
# ${header}

${functions.join('\n\n')}

_hostcertd "$@"
`
}

/** Whether anything can follow. */
function hasMore({ options, verbs, operand }: CommandShape): boolean {
  return options.length > 0 || verbs.length > 0 || operand !== null
}

function functionOf(command: CommandShape): string {
  return command.verbs.length === 0 ? leaf(command) : branch(command)
}

function leaf(command: CommandShape): string {
  const { operand } = command
  const specs = [
    ...command.options.map(optionSpec),
    ...(operand === null ? [] : [quoted(`*:${escaped(operand.name)}:${action(operand)}`)]),
  ]
  return `${nameOf(command.path)}() {\n  ${['_arguments -S', ...specs].join(' \\\n    ')}\n}`
}

function branch(command: CommandShape): string {
  const specs = [...command.options.map(optionSpec), "'1: :->verb'", "'*:: :->rest'"]
  const verbs = command.verbs.map(({ path, description }) =>
    quoted(`${escaped(path.at(-1) ?? '')}:${description}`),
  )
  const calls = command.verbs
    .filter(hasMore)
    .map(({ path }) => `\n        ${path.at(-1)}) ${nameOf(path)} && ret=0 ;;`)
  return `${nameOf(command.path)}() {
  local curcontext=$curcontext ret=1
  local -a line state verbs
  local -A opt_args
  _arguments -C -S \\
    ${specs.join(' \\\n    ')} && ret=0
  case $state in
    verb)
      verbs=(
        ${verbs.join('\n        ')}
      )
      _describe -t verbs verb verbs && ret=0
      ;;
    rest)
      case $line[1] in${calls.join('')}
        *) _message 'nothing more' ;;
      esac
      ;;
  esac
  return ret
}`
}

/** zshcompsys(1), `_arguments`: an option in both spellings once, and nothing beside what only informs. */
function optionSpec({ short, long, description, value }: OptionShape): string {
  const after = value === null ? '' : `:${escaped(value.name)}:${action(value)}`
  const text = `[${description.replaceAll(/[[\]\\]/g, String.raw`\$&`)}]${after}`
  const spelt = `${long}${value === null ? '' : '='}`
  // What has a short form tells of itself and ends.
  return short === null ? quoted(spelt + text) : `'(- : *)'{${short},${spelt}}${quoted(text)}`
}

function action(value: Value): string {
  switch (value.kind) {
    case 'file':
      return '_files'
    case 'words':
      return `(${value.words.join(' ')})`
    case 'text':
      return ' '
  }
}

function nameOf(path: readonly string[]): string {
  return ['_hostcertd', ...path].join('_').replaceAll('-', '_')
}

/** A colon separates the parts of a specification. */
function escaped(text: string): string {
  return text.replaceAll(/[:\\]/g, String.raw`\$&`)
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
