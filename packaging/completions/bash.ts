import { flatten, pathText, type CommandShape, type OptionShape, type Value } from './command-shape.ts'

/** The completion of bash(1), 4.0 and later; needs nothing of the package bash-completion. */
export function bashCompletion(program: CommandShape, header: string): string {
  const commands = flatten(program)
  const withValue = commands.flatMap((command) =>
    command.options.flatMap(({ short, long, value }) =>
      value === null
        ? []
        : flagsOf({ short, long }).map((flag) => ({ at: `${pathText(command)}:${flag}`, value })),
    ),
  )
  const verbs = commands.filter(({ path }) => path.length > 0).map(pathText)
  return `# ${header}

_hostcertd() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} verb='' ended='' offers='' word i
  COMPREPLY=()
  # readline takes --option=VALUE apart at the =.
  if [[ $cur == = ]]; then
    cur=''
  elif [[ $prev == = ]]; then
    prev=\${COMP_WORDS[COMP_CWORD - 2]}
  fi

  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $verb:$word in
      *:--) ended=yes ;;
      ${alternatives(
        withValue.map(({ at }) => at),
        8,
      )})
        if [[ \${COMP_WORDS[i + 1]} == = ]]; then ((i++)); fi
        ((i++))
        ;;
      *:-*) ;;
      *)
        case "\${verb:+$verb }$word" in
          ${alternatives(verbs, 12)})
            verb=\${verb:+$verb }$word
            ;;
        esac
        ;;
    esac
  done

  if [[ ! $ended ]]; then
    case $verb:$prev in
${valueCases(withValue)}
    esac
  fi

  case $verb:$ended:$cur in
${commands.map(offersOf).join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$offers" -- "$cur")
}

complete -F _hostcertd hostcertd
`
}

/** Where values are expected, those alike together. */
function valueCases(withValue: readonly { readonly at: string; readonly value: Value }[]): string {
  const byAction = Map.groupBy(withValue, ({ value }) => offerValue(value, 8))
  return [...byAction]
    .map(([action, places]) => {
      const patterns = alternatives(
        places.map(({ at }) => at),
        8,
      )
      return `      ${patterns})\n        ${action}\n        ;;`
    })
    .join('\n')
}

/** Whatever follows when nothing is offered is readline's own completion of file names, if asked for. */
function offerValue(value: Value, indent: number): string {
  const end = `\n${' '.repeat(indent)}return`
  switch (value.kind) {
    case 'file':
      return `compopt -o default 2>/dev/null${end}`
    case 'words':
      return `mapfile -t COMPREPLY < <(compgen -W ${quoted(value.words.join(' '))} -- "$cur")${end}`
    case 'text':
      return 'return'
  }
}

/** What a command offers when no value is expected: after a dash its options, else what may follow them. */
function offersOf(command: CommandShape): string {
  const { verbs, operand, options } = command
  const at = quoted(pathText(command))
  const flags = quoted(options.flatMap(flagsOf).join(' '))
  if (verbs.length > 0) {
    const names = quoted(verbs.map(({ path }) => path.at(-1)).join(' '))
    return `    ${at}::-*) offers=${flags} ;;\n    ${at}:*) offers=${names} ;;`
  }
  if (operand === null) return options.length === 0 ? `    ${at}:*) ;;` : `    ${at}::*) offers=${flags} ;;`
  return `    ${at}::-*) offers=${flags} ;;
    ${at}:*)
      ${offerValue(operand, 6)}
      ;;`
}

function flagsOf({ short, long }: Pick<OptionShape, 'short' | 'long'>): string[] {
  return short === null ? [long] : [short, long]
}

/** The pattern of a `case` for any of these texts, a line each. */
function alternatives(texts: readonly string[], indent: number): string {
  return texts.map(quoted).join(` | \\\n${' '.repeat(indent)}`)
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
