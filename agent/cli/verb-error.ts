import { AgentError } from '../core/errors.ts'

/** Ends a verb: each line is a message for people. Not a defect, so it has no stack to show. */
export class VerbError extends Error {
  readonly lines: readonly string[]

  /** @param lines at least one */
  constructor(...lines: readonly string[]) {
    super(lines.join('; '))
    this.name = 'VerbError'
    this.lines = lines
  }
}

/**
 * What a person is told about what a verb threw, a line or more: `CODE: message`, or the stack of what should never
 * have been thrown.
 *
 * @param signal when it has fired, its reason is all there is to tell
 */
export function linesOf(error: unknown, signal: AbortSignal): readonly string[] {
  if (signal.aborted) return [messageOrStack(signal.reason, false)]
  if (error instanceof VerbError) return error.lines
  if (error instanceof AgentError) return [failureLine(error)]
  return [messageOrStack(error, true)]
}

/** `CODE: message`. */
export function failureLine({ code, message }: { readonly code: string; readonly message: string }): string {
  return `${code}: ${message}`
}

function messageOrStack(error: unknown, withStack: boolean): string {
  if (!(error instanceof Error)) return String(error)
  return withStack ? (error.stack ?? error.message) : error.message
}
