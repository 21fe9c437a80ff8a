import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bashCompletion } from './bash.ts'
import { hostcertdShape, type CommandShape } from './command-shape.ts'
import { fishCompletion } from './fish.ts'
import { zshCompletion } from './zsh.ts'

/**
 * `node packaging/completions/generate.ts`: write the completions beside this file, from the command line as
 * `buildProgram` defines it. To be run when a verb or an option has changed; a test compares.
 */

const HEADER = 'Completion for hostcertd(8). Made by packaging/completions/generate.ts: changes are lost.'

/** The text of each completion by its file name. */
export function completionFiles(program: CommandShape = hostcertdShape()): ReadonlyMap<string, string> {
  return new Map([
    ['hostcertd.bash', bashCompletion(program, HEADER)],
    ['_hostcertd', zshCompletion(program, HEADER)],
    ['hostcertd.fish', fishCompletion(program, HEADER)],
  ])
}

if (import.meta.main)
  for (const [name, text] of completionFiles()) writeFileSync(join(import.meta.dirname, name), text)
