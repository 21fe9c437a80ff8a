import { flatten, pathText, type CommandShape, type OptionShape, type Value } from './command-shape.ts'

/** The completion of fish, 3.1 and later. */
export function fishCompletion(program: CommandShape, header: string): string {
  const commands = flatten(program)
  const withValue = commands.flatMap((command) =>
    command.options.flatMap(({ short, long, value }) =>
      value === null
        ? []
        : [short, long].flatMap((flag) => (flag === null ? [] : [quoted(`${pathText(command)}:${flag}`)])),
    ),
  )
  const verbs = commands.filter(({ path }) => path.length > 0).map((verb) => quoted(pathText(verb)))
  return `# ${header}

# Whether this verb, '' for none yet, is what has been typed so far.
function __hostcertd_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l verb ''
    set -l is_value no
    for word in $words
        if test $is_value = yes
            set is_value no
            continue
        end
        switch "$verb:$word"
            case ${withValue.join(' ')}
                set is_value yes
            case '*:-*'
            case '*'
                set -l longer (string trim -- "$verb $word")
                switch $longer
                    case ${verbs.join(' ')}
                        set verb $longer
                end
        end
    end
    test "$verb" = "$argv[1]"
end

complete -c hostcertd -f
${commands.flatMap(linesOf).join('\n')}
`
}

function linesOf(command: CommandShape): string[] {
  const at = `complete -c hostcertd -n ${quoted(`__hostcertd_at ${quoted(pathText(command))}`)}`
  const { operand } = command
  return [
    ...command.verbs.map(({ path, description }) => `${at} -a ${path.at(-1)} -d ${quoted(description)}`),
    ...command.options.map((option) => `${at} ${optionSpec(option)}`),
    ...(operand === null || operand.kind === 'text' ? [] : [`${at} ${offer(operand)}`]),
  ]
}

function optionSpec({ short, long, description, value }: OptionShape): string {
  const names = `${short === null ? '' : `-s ${short.slice(1)} `}-l ${long.slice(2)}`
  return `${names}${value === null ? '' : ` -r ${offer(value)}`} -d ${quoted(description)}`
}

function offer(value: Value): string {
  switch (value.kind) {
    case 'file':
      return '-F'
    case 'words':
      return `-f -a ${quoted(value.words.join(' '))}`
    case 'text':
      return '-f'
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`
}
