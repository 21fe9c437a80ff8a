import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

/** The production bundle, which `npm run build` makes. */
export const PROGRAM = fileURLToPath(new URL('../../dist/hostcertd.js', import.meta.url))

const PATIENCE_MILLISECONDS = 60_000

export interface ProgramOptions {
  /** Besides PATH; nothing else is inherited. */
  readonly environment?: Readonly<Record<string, string>>
  readonly input?: string
}

export interface ProgramResult {
  /** Null when a signal ended it. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Run hostcertd to its end. */
export async function hostcertd(
  args: readonly string[],
  { environment = {}, input = '' }: ProgramOptions = {},
): Promise<ProgramResult> {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: environmentWith(environment),
    timeout: PATIENCE_MILLISECONDS,
  })
  // Who is told on the command line what to do may end without reading.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [stdout, stderr, status] = await Promise.all([text(child.stdout), text(child.stderr), exitOf(child)])
  return { status, stdout, stderr }
}

/** Its exit status; null when a signal ended it. */
export async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const [status] = (await once(child, 'exit')) as [number | null]
  return status
}

export function environmentWith(more: Readonly<Record<string, string>>): Record<string, string> {
  const { PATH = '' } = process.env
  return { PATH, ...more }
}
