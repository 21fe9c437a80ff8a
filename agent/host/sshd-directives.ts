import { dirname, isAbsolute, join } from 'node:path'
import { pathsMatching, readBoundedFile } from './files.ts'

/** One line of sshd's configuration, as it is written. */
export interface SshdDirective {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** In lower case. */
  readonly keyword: string
  /** All arguments, without quotes and without a comment behind them. */
  readonly value: string
  readonly arguments: readonly string[]
  /** Whether it is below a `Match` line of its own file, or its file is included from there. `Match all` ends one. */
  readonly inMatch: boolean
  /** How many Includes lead to its file; 0 for the main one. */
  readonly depth: number
}

/** sshd refuses more: servconf.c, SERVCONF_MAX_DEPTH. */
const MAX_DEPTH = 16
const LIMIT_BYTES = 1024 * 1024
/** sshd_config(5), Include: a relative path is relative to it. */
const INCLUDE_FOLDER = '/etc/ssh'

/**
 * Every line that sshd reads, those of an included file in the place of the Include; what cannot be read is left out.
 *
 * @param file sshd's main configuration file
 */
export async function readDirectives(file: string): Promise<SshdDirective[]> {
  return readFrom(file, false, 0)
}

/** The lines of drop-ins beside the main file that none of its Includes reaches. */
export async function readUnreadDropIns(
  file: string,
  directives: readonly SshdDirective[],
): Promise<SshdDirective[]> {
  const reached = new Set(directives.map((line) => line.file))
  const unread: SshdDirective[] = []
  for (const path of await matches(join(dirname(file), 'sshd_config.d', '*.conf'))) {
    if (!reached.has(path)) unread.push(...(await readFrom(path, false, MAX_DEPTH)))
  }
  return unread
}

async function readFrom(file: string, isConditional: boolean, depth: number): Promise<SshdDirective[]> {
  const text = await readBoundedFile(file, LIMIT_BYTES).catch(() => '')
  const found: SshdDirective[] = []
  let inMatch = isConditional
  for (const [index, written] of text.split('\n').entries()) {
    const [, quoted = '', name = quoted, rest = ''] = DIRECTIVE.exec(written.replace(LINE_END, '')) ?? []
    if (name === '') continue
    const keyword = name.toLowerCase()
    const given = argumentsOf(rest)
    const value = given.join(' ')
    if (keyword === 'match') inMatch = isConditional || value.toLowerCase() !== 'all'
    found.push({ file, line: index + 1, keyword, value, arguments: given, inMatch, depth })
    if (keyword !== 'include' || depth >= MAX_DEPTH) continue
    for (const pattern of includePatterns(given)) {
      for (const path of await matches(pattern)) found.push(...(await readFrom(path, inMatch, depth + 1)))
    }
  }
  return found
}

/*
 * Exactly the characters that sshd takes for space: `\s` would be more. What sshd refuses may be read in any way.
 */

/** servconf.c, process_server_config_line_depth: dropped at the end of a line. */
const LINE_END = /[ \t\r\f]+$/
/** A keyword, and what follows it; an equals sign only behind one without quotes: strdelim in misc.c. */
const DIRECTIVE = /^[ \t\r]*(?:"([A-Za-z]\w*)"[ \t\r]*|([A-Za-z]\w*)(?:[ \t\r]*=[ \t\r]*|[ \t\r]+))(.*)$/s
const IN_DOUBLE = String.raw`"((?:\\["'\\]|\\(?!["'\\])|[^"\\])*)"`
const IN_SINGLE = String.raw`'((?:\\["'\\]|\\(?!["'\\])|[^'\\])*)'`
const ESCAPED = String.raw`\\(["'\\ ])`
const ARGUMENT = new RegExp(`(?:${IN_DOUBLE}|${IN_SINGLE}|${ESCAPED}|[^ \\t])+`, 'g')
const QUOTED_PART = new RegExp(`${IN_DOUBLE}|${IN_SINGLE}|${ESCAPED}`, 'g')

/** As argv_split in misc.c: separated by spaces, any part of one in quotes, up to one that begins with `#`. */
function argumentsOf(text: string): string[] {
  const found: string[] = []
  for (const [argument] of text.matchAll(ARGUMENT)) {
    if (argument.startsWith('#')) break
    found.push(
      argument.replace(
        QUOTED_PART,
        (_part, double: string | undefined, single: string | undefined, escaped: string | undefined) =>
          escaped ?? (double ?? single ?? '').replace(/\\(["'\\])/g, '$1'),
      ),
    )
  }
  return found
}

/** The absolute patterns of an Include line. */
export function includePatterns(given: SshdDirective['arguments']): string[] {
  return given.map((pattern) => (isAbsolute(pattern) ? pattern : join(INCLUDE_FOLDER, pattern)))
}

/** In the order in which sshd reads them. */
async function matches(pattern: string): Promise<string[]> {
  return (await pathsMatching(pattern)).toSorted()
}

/** The lines of a keyword that count: sshd does not accept these keywords below a Match line. */
export function linesOf(written: readonly SshdDirective[], wanted: string): SshdDirective[] {
  return written.filter(({ keyword, inMatch }) => keyword === wanted && !inMatch)
}

/** Whether it is `none` in the place of a path or a command. */
export function isNone({ value }: SshdDirective): boolean {
  return value.toLowerCase() === 'none'
}

/** `FILE:LINE`. */
export function placeOf({ file, line }: SshdDirective): string {
  return `${file}:${line}`
}
