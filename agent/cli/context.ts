import type { ReadCredentialFile } from '../adapters/issuer/auth/credential-file.ts'
import type { Config } from '../config/config.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { Log } from '../renewal/ports.ts'
import type { Host } from '../renewal/host.ts'
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
  /**
   * The way to one host, for a verb that looks or acts once.
   *
   * @param readCredentialFile how credentials are read; left out: anew at each use
   */
  readonly composeHost: (config: Config, readCredentialFile?: ReadCredentialFile) => Host
  /** The daemon, already listening to SIGHUP and SIGUSR1. */
  readonly createDaemon: (config: Config | null, load: () => Promise<LoadedConfig>) => Daemon
  /** The daemon's log, for what is wrong before there is a configuration. */
  readonly daemonLog: () => Log
  /** Become the owner of this folder when run as root; does nothing else, and nothing when it is not there. */
  readonly becomeOwnerOf: (folder: string) => Promise<void>
}

/** sysexits(3), as the interface has them. */
export const EXIT = { ok: 0, failed: 1, usage: 64, config: 78 } as const
