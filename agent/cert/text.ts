import { getSystemErrorMessage } from 'node:util'

/** Long enough for a reason, short enough for a log line. */
const LONGEST_LINE = 400
const LONGEST_QUOTE = 60

/** Cut behind so many characters, which then shows; never through a surrogate pair. */
export function cutTo(longest: number, text: string): string {
  return text.length > longest ? `${text.slice(0, longest).replace(/[\uD800-\uDBFF]$/, '')}…` : text
}

/**
 * Escape what would break the line, move the cursor or turn the reading direction: control and format characters,
 * line and paragraph separators, halves of surrogate pairs. JSON stays the same JSON.
 */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    if (character === '\n') return '\\n'
    if (character === '\r') return '\\r'
    if (character === '\t') return '\\t'
    return [...Array(character.length).keys()]
      .map((index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`)
      .join('')
  })
}

/** A value from outside, safe to print: quoted, controls escaped, cut. */
export function quote(text: string): string {
  return quoteUpTo(LONGEST_QUOTE, text)
}

/** As {@link quote}, cut behind so many characters. */
export function quoteUpTo(longest: number, text: string): string {
  return escapeControls(JSON.stringify(cutTo(longest, text)))
}

/** One printable line: controls, line ends, halves of surrogate pairs and what turns the reading direction become a space. */
export function inOneLine(text: string): string {
  return text.replace(/[\s\p{Cc}\p{Cf}\p{Cs}]+/gu, ' ').trim()
}

/** Output of another program, {@link inOneLine}, and cut. */
export function oneLine(text: string): string {
  return cutTo(LONGEST_LINE, inOneLine(text))
}

/** `192.0.2.1:22`, `[2001:db8::1]:22`. */
export function hostAndPort(host: string, port: number | string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * Why a system call failed, without its path: `permission denied (EACCES)`. Node's own message repeats the path, which
 * our messages name already.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error))
  const { code, errno } = error as NodeJS.ErrnoException
  if (code === undefined || errno === undefined) return oneLine(error.message)
  return `${getSystemErrorMessage(errno)} (${code})`
}

/** The `code` of a failed system call, `ENOENT` for one; null for any other error. */
export function systemCodeOf(error: unknown): string | null {
  return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? null) : null
}
