import type { Argument, Command, Option } from 'commander'
import { buildProgram } from '../../agent/cli/program.ts'
import { inertContext } from './in-process.ts'

/** What a shell can offer where a value is expected. */
export type Value =
  | { readonly kind: 'file'; readonly name: string }
  | { readonly kind: 'words'; readonly name: string; readonly words: readonly string[] }
  /** A duration, a name: nothing that a shell could know. */
  | { readonly kind: 'text'; readonly name: string }

export interface OptionShape {
  /** `-h`; null when there is none. */
  readonly short: string | null
  /** `--help`. */
  readonly long: string
  readonly description: string
  /** Null when the option takes none. */
  readonly value: Value | null
  /** As `--help` prints it; null when there is none. */
  readonly byDefault: string | null
}

/** One verb, or the program itself. */
export interface CommandShape {
  /** `['config', 'validate']`; empty for the program. */
  readonly path: readonly string[]
  readonly description: string
  readonly options: readonly OptionShape[]
  /** Verbs below it. */
  readonly verbs: readonly CommandShape[]
  /** What may follow the options, any number of times; null when nothing may. */
  readonly operand: Value | null
}

/** The command line of hostcertd as `buildProgram` defines it, hidden parts left out. Runs nothing. */
export function hostcertdShape(): CommandShape {
  return shapeOf(inertProgram(), [])
}

/** A command and all below it, itself first. */
export function flatten(shape: CommandShape): readonly CommandShape[] {
  return [shape, ...shape.verbs.flatMap(flatten)]
}

/** `config validate`; empty for the program. */
export function pathText({ path }: CommandShape): string {
  return path.join(' ')
}

function inertProgram(): Command {
  const context = inertContext()
  return buildProgram(context, new AbortController().signal, () => undefined)
}

function shapeOf(command: Command, path: readonly string[]): CommandShape {
  const help = command.createHelp()
  const verbs = help.visibleCommands(command).map((verb) => shapeOf(verb, [...path, verb.name()]))
  const [argument] = command.registeredArguments
  const shape = {
    path,
    description: command.description(),
    options: help.visibleOptions(command).flatMap(optionShape),
    verbs,
    operand: argument === undefined ? null : valueOf(argument.name(), argument),
  }
  if (path.length > 0) return shape
  // `help VERB`: what may follow are the verbs themselves, so they stand below it, without options.
  const helpVerb = { operand: null, verbs: verbs.flatMap(named) }
  return { ...shape, verbs: verbs.map((verb) => (isHelp(verb) ? Object.assign(verb, helpVerb) : verb)) }
}

function isHelp(verb: CommandShape): boolean {
  return pathText(verb) === 'help'
}

/** A verb as `help` takes it. */
function named(verb: CommandShape): CommandShape[] {
  if (isHelp(verb)) return []
  return [
    { ...verb, path: ['help', ...verb.path], options: [], operand: null, verbs: verb.verbs.flatMap(named) },
  ]
}

function optionShape(option: Option): OptionShape[] {
  const { short, long, flags, description, defaultValue, defaultValueDescription } = option
  if (long === undefined || long === null) return []
  const placeholder = /[<[]([^>\].]+)/.exec(flags)?.[1]
  return [
    {
      short: short ?? null,
      long,
      description,
      value: placeholder === undefined ? null : valueOf(placeholder, option),
      byDefault: defaultValue === undefined ? null : (defaultValueDescription ?? String(defaultValue)),
    },
  ]
}

function valueOf(name: string, { argChoices }: Pick<Option | Argument, 'argChoices'>): Value {
  if (argChoices !== undefined) return { kind: 'words', name, words: argChoices }
  return { kind: /file$/i.test(name) ? 'file' : 'text', name }
}
