import { getSystemErrorMessage } from 'node:util'

/** Long enough for a reason, short enough for a log line. */
const LONGEST_LINE = 400

/** What another program said, as one printable line: controls and line ends become a space, the rest is cut. */
export function oneLine(text: string): string {
  const line = text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').trim()
  return line.length > LONGEST_LINE ? `${line.slice(0, LONGEST_LINE)}…` : line
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
