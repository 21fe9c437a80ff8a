import type { CliContext } from '../../agent/cli/context.ts'
import { runProgram } from '../../agent/cli/program.ts'
import { versionInfo } from '../../agent/version.ts'
import type { ProgramResult } from './hostcertd.ts'

/** A context in which nothing can be done. */
export function inertContext(): CliContext {
  const never = (): never => {
    throw new Error('this command line was to end before that')
  }
  return {
    version: versionInfo(),
    environment: {},
    out: never,
    err: never,
    terminal: { colour: false, columns: 80 },
    composeHost: never,
    composeIssuer: never,
    enrollTools: never,
    issuerTools: never,
    makeRevocationList: never,
    exchangeProgram: [],
    createDaemon: never,
    daemonLog: never,
    dropPrivileges: async () => never(),
  }
}

/** Parse a command line without a process of its own: for many that end before anything is looked at. */
export async function parseOnly(args: readonly string[]): Promise<ProgramResult> {
  let stdout = ''
  let stderr = ''
  const context: CliContext = {
    ...inertContext(),
    out: (text) => {
      stdout += text
    },
    err: (text) => {
      stderr += `${text}\n`
    },
  }
  const status = await runProgram(args, context, new AbortController().signal)
  return { status, stdout, stderr }
}
