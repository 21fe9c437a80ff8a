import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { createTwoFilesPatch } from 'diff'
import { inOneLine } from '../cert/text.ts'
import type { Access, Change, FileChange } from './change.ts'
import { placeOf } from './perform.ts'

/** The person, if there is one. */
export interface Person {
  /** Whether questions can be asked: input and messages are a terminal. */
  readonly isThere: boolean
  /** A message, a line or more. */
  readonly print: (text: string) => void
  /** What changes, in colour on a terminal. */
  readonly show: (changes: readonly Change[]) => void
  /** @returns whether the answer was yes; no by default */
  readonly agrees: (question: string, signal: AbortSignal) => Promise<boolean>
  /** A text that is not shown while it is typed. Ctrl-C interrupts the program. */
  readonly secret: (question: string, signal: AbortSignal) => Promise<string>
  /** All of standard input. */
  readonly input: () => Promise<string>
}

/** Whether changes are made: after a question, without one, or not at all. */
export type Mode = 'ask' | 'yes' | 'dry-run' | 'check'

/** Whether nothing is changed, and no question asked but for a secret that the login needs. */
export function isReadOnly(mode: Mode): boolean {
  return mode === 'dry-run' || mode === 'check'
}

/** A change, as `--json` prints it. */
export interface Step {
  readonly step: string
  readonly changed: boolean
  readonly detail: string
}

export function stepsOf(changes: readonly Change[]): Step[] {
  return changes.map((change) => ({
    step: change.step,
    changed: true,
    detail: detailOf(change),
  }))
}

function detailOf(change: Change): string {
  return change.kind === 'sshd' ? 'sshd reads its configuration as it was before' : placeOf(change)
}

/**
 * Show what changes, and ask once.
 *
 * @returns whether to make the changes
 */
export async function agrees(
  mode: Mode,
  changes: readonly Change[],
  person: Person,
  signal: AbortSignal,
  question = 'Make these changes?',
): Promise<boolean> {
  if (mode !== 'yes' || person.isThere) person.show(changes)
  if (isReadOnly(mode)) return false
  return mode === 'yes' || (await person.agrees(question, signal))
}

/** A secret, or a key in PEM or JSON form. */
const LONGEST_INPUT = 64 * 1024

interface Terminal {
  readonly input: NodeJS.ReadStream
  readonly output: NodeJS.WriteStream
  readonly colour: boolean
  readonly print: (text: string) => void
}

export function personAt({ input, output, colour, print }: Terminal): Person {
  const ask = async (question: string, isShown: boolean, signal: AbortSignal): Promise<string> => {
    // What it does not show itself, readline would erase.
    if (!isShown) output.write(question)
    const echo = isShown ? output : new Writable({ write: (_, __, done) => done() })
    const lines = createInterface({ input, output: echo, terminal: true })
    // In raw mode, Ctrl-C arrives as a character. At a question it means no; at a secret prompt it interrupts the program,
    // as anywhere else.
    if (!isShown) lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'))
    try {
      const answer = await lines.question(isShown ? question : '', { signal })
      if (!isShown) output.write('\n')
      return answer
    } catch (error) {
      output.write('\n')
      signal.throwIfAborted()
      // Ctrl-C at a question, and Ctrl-D.
      if ((error as Error).name === 'AbortError') return ''
      throw error
    } finally {
      lines.close()
    }
  }
  return {
    isThere: input.isTTY && output.isTTY,
    print,
    show: (changes) => void output.write(`${describe(changes, colour)}\n`),
    agrees: async (question, signal) =>
      /^y(?:es)?$/i.test((await ask(`${question} [y/N] `, true, signal)).trim()),
    secret: async (question, signal) => ask(`${question}: `, false, signal),
    input: async () => {
      let text = ''
      input.setEncoding('utf8')
      for await (const part of input) {
        text += String(part)
        if (text.length > LONGEST_INPUT) throw new Error(`it is longer than ${LONGEST_INPUT / 1024} KiB`)
      }
      return text
    },
  }
}

/** What would change on this host, for people: files as a diff, everything else as a line. */
function describe(changes: readonly Change[], colour: boolean): string {
  return changes
    .map((change) => {
      if (change.kind === 'file') return diffOf(change, colour)
      const lines = change.kind === 'folder' ? accessLines(change) : []
      return [headingOf(change, colour), ...lines].join('\n')
    })
    .join('\n')
    .replace(/\n*$/, '\n')
}

function headingOf({ step }: Change, colour: boolean): string {
  const heading = `# ${inOneLine(step)}`
  return colour ? `\x1b[1m${heading}\x1b[0m` : heading
}

function diffOf(change: FileChange, colour: boolean): string {
  const { path, before, after, isSecret } = change
  const heading = headingOf(change, colour)
  const access = before === null || after === null ? [] : accessLines({ path, before, after })
  if (after !== null && before?.content.equals(after.content) === true)
    return [heading, ...access, ''].join('\n')
  if (isSecret)
    return [heading, ...access, after === null ? `removed: ${path}` : `${path} (not shown)`, ''].join('\n')
  const [from, to] = [before, after].map((state) => (state === null ? '' : state.content.toString()))
  const names = [before === null ? '/dev/null' : path, after === null ? '/dev/null' : path] as const
  const patch = createTwoFilesPatch(...names, from ?? '', to ?? '', undefined, undefined, { context: 2 })
  const isWhole = before === null || after === null
  const lines = patch
    .split('\n')
    .filter((line) => !/^={10,}$/.test(line) && !(isWhole && line.startsWith('@@ ')))
  return [heading, ...access, ...lines.map((line) => painted(inOneLineButTabs(line), colour))].join('\n')
}

/** `/etc/hostcertd/hostcertd.yaml: mode 0600 -> 0644, owner 1000:1000 -> 0:0`. */
function accessLines({ path, before, after }: { path: string; before: Access; after: Access }): string[] {
  const [mode, owner] = [
    [before, after].map((access) => `0${access.mode.toString(8)}`),
    [before, after].map(({ uid, gid }) => `${uid}:${gid}`),
  ].map(([from, to]) => (from === to ? null : `${from} -> ${to}`))
  const parts = [mode === null ? [] : [`mode ${mode}`], owner === null ? [] : [`owner ${owner}`]].flat()
  return parts.length === 0 ? [] : [`${path}: ${parts.join(', ')}`]
}

/** Of a file that anyone may have written: nothing in it moves the cursor. */
function inOneLineButTabs(line: string): string {
  const indent = /^.?[ \t]*/.exec(line)?.[0] ?? ''
  return indent + inOneLine(line.slice(indent.length))
}

const COLOURS: Readonly<Record<string, string>> = { '+': '32', '-': '31', '@': '36' }

function painted(line: string, colour: boolean): string {
  const code = colour ? COLOURS[line.slice(0, 1)] : undefined
  return code === undefined ? line : `\x1b[${code}m${line}\x1b[0m`
}
