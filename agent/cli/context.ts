import { AgentError, ERRORS } from '../cert/errors.ts'
import type { Config } from '../config/config.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { ReadCredentialFile } from '../issuer/logins/credential-file.ts'
import type { Host } from '../renewal/host.ts'
import type { Issuer, Log } from '../renewal/ports.ts'
import type { VersionInfo } from '../version.ts'
import type { Daemon } from './daemon.ts'

/** What a verb needs of the world; `main.ts` makes the real one. */
export interface CliContext {
  readonly version: VersionInfo
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Results. */
  readonly out: (text: string) => void
  /** Messages for people, a line or more, without a newline at the end. */
  readonly err: (text: string) => void
  /** For stdout: whether to colour, and how wide a line may be; `Infinity` where that does not matter, in a pipe. */
  readonly terminal: { readonly colour: boolean; readonly columns: number }
  /** The way to one host, for a verb that looks or acts once. */
  readonly composeHost: (config: Config) => Host
  /**
   * The issuer for `renew`: by the unit's exchange where there is one, else by this very process.
   *
   * @param readCredentialFile how credentials are read: the verb may not be who may read them any more
   */
  readonly composeIssuer: (config: Config, readCredentialFile: ReadCredentialFile) => Promise<Issuer>
  /** The command that starts an exchange with the issuer as a child. */
  readonly exchangeProgram: readonly string[]
  /** The daemon, already listening to SIGHUP and SIGUSR1. */
  readonly createDaemon: (config: Config | null, load: () => Promise<LoadedConfig>) => Daemon
  /** The daemon's log, for what is wrong before there is a configuration. */
  readonly daemonLog: () => Log
  /** Become the owner of this folder when run as root; does nothing else, and nothing when it is not there. */
  readonly becomeOwnerOf: (folder: string) => Promise<void>
}

/** sysexits(3), as the interface has them. */
export const EXIT = { ok: 0, failed: 1, usage: 64, config: ERRORS.CONFIG_INVALID.exitStatus } as const

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
