import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const AGENT = fileURLToPath(new URL('../../agent', import.meta.url))

/** A message of the program, `…` for what is filled in. */
export interface SourceMessage {
  /** Of the log line; `varies` where the source decides as it runs. */
  readonly level: string
  readonly message: string
  /** Under `agent/`. */
  readonly file: string
}

/** Every TypeScript file of the program, by its path under `agent/`. */
export function sources(): Map<string, string> {
  const names = readdirSync(AGENT, { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts')).toSorted()
  return new Map(files.map((name) => [name, readFileSync(`${AGENT}/${name}`, 'utf8')]))
}

/** What is handed to the log anywhere in a source text. */
export function loggedIn(file: string, text: string): SourceMessage[] {
  return [...text.matchAll(/\b\w*[lL]og(?:\.(debug|info|warn|error)|\[\w+\])\(/g)].map((call) => {
    const last = argumentsAt(text, call.index + call[0].length).at(-1) ?? ''
    return { level: call[1] ?? 'varies', message: textOf(last), file }
  })
}

/** The texts that are collected as warnings anywhere in a source text, and logged later. */
export function warningsIn(file: string, text: string): SourceMessage[] {
  const pushed = [...text.matchAll(/\bwarnings\.push\(/g)]
  return pushed.flatMap((call) =>
    argumentsAt(text, call.index + call[0].length).map((argument) => ({
      level: 'warn',
      message: textOf(argument),
      file,
    })),
  )
}

/** The source of each argument of a call, from behind its opening bracket on. */
function argumentsAt(text: string, start: number): string[] {
  const found: string[] = []
  let from = start
  let at = start
  for (let depth = 0; at < text.length; at++) {
    const character = text.charAt(at)
    if (`'"\``.includes(character)) at = endOfString(text, at)
    else if ('([{'.includes(character)) depth++
    else if (character === ',' && depth === 0) {
      found.push(text.slice(from, at))
      from = at + 1
    } else if (')]}'.includes(character) && depth-- === 0) break
  }
  found.push(text.slice(from, at))
  return found.map((one) => one.trim()).filter((one) => one !== '')
}

/** Where the string that begins here ends; what stands in a template's `${…}` may hold strings again. */
function endOfString(text: string, start: number): number {
  const quote = text.charAt(start)
  for (let at = start + 1; at < text.length; at++) {
    if (text.charAt(at) === '\\') at++
    else if (text.charAt(at) === quote) return at
    else if (quote === '`' && text.startsWith('${', at)) at = endOfHole(text, at + 2)
  }
  return text.length
}

function endOfHole(text: string, start: number): number {
  let at = start
  for (let depth = 0; at < text.length; at++) {
    const character = text.charAt(at)
    if (`'"\``.includes(character)) at = endOfString(text, at)
    else if (character === '{') depth++
    else if (character === '}' && depth-- === 0) break
  }
  return at
}

/** A literal as its text, `…` for each hole; any other expression as `<expression>`. */
function textOf(source: string): string {
  const quote = source.charAt(0)
  if (!`'"\``.includes(quote) || endOfString(source, 0) !== source.length - 1) return `<${source}>`
  let text = ''
  for (let at = 1; at < source.length - 1; at++) {
    if (source.charAt(at) === '\\') text += source.charAt(++at)
    else if (quote === '`' && source.startsWith('${', at)) {
      at = endOfHole(source, at + 2)
      text += '…'
    } else text += source.charAt(at)
  }
  return text
}

/** The messages of failures that are made anywhere in a source text, by code: `'CODE', message` or `message: …`. */
export function failuresIn(codes: readonly string[], file: string, text: string): FailureMessage[] {
  const calls = text.matchAll(new RegExp(`'(${codes.join('|')})',\\s*(?:message:\\s*)?(?=['"\`])`, 'g'))
  return [...calls].map((call) => {
    const [message = ''] = argumentsAt(text, call.index + call[0].length)
    return { code: call[1] ?? '', message: textOf(message), file }
  })
}

export interface FailureMessage {
  readonly code: string
  readonly message: string
  readonly file: string
}
