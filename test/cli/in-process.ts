import { runProgram } from '../../agent/cli/program.ts'
import { versionInfo } from '../../agent/version.ts'
import type { ProgramResult } from './hostcertd.ts'

/** Parse a command line without a process of its own: for many that end before anything is looked at. */
export async function parseOnly(args: readonly string[]): Promise<ProgramResult> {
  let stdout = ''
  let stderr = ''
  const never = (): never => {
    throw new Error('this command line was to end before that')
  }
  const status = await runProgram(
    args,
    {
      version: versionInfo(),
      environment: {},
      out: (text) => {
        stdout += text
      },
      err: (text) => {
        stderr += `${text}\n`
      },
      terminal: { colour: false, columns: 80 },
      composeHost: never,
      composeIssuer: never,
      exchangeProgram: [],
      createDaemon: never,
      daemonLog: never,
      becomeOwnerOf: async () => never(),
    },
    new AbortController().signal,
  )
  return { status, stdout, stderr }
}
