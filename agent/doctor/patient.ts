import type { Config } from '../config/config.ts'
import type { User } from '../host/file-access.ts'
import type { Attempts } from '../renewal/attempts.ts'
import type { Host } from '../renewal/host.ts'

/** The host under examination. No part of it writes anything. */
export interface Patient {
  readonly config: Config
  /** Of the main configuration file. */
  readonly configPath: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly host: Host
  /** Loaded; what is changed in it is never saved. */
  readonly attempts: Attempts
  /** Who runs this. */
  readonly self: User
  readonly isRoot: boolean
  /** Who the daemon is: the owner of the state directory, else who runs this. */
  readonly daemonUser: User
  /** Who asks the issuer and reads credentials; null where the daemon does it by a child. */
  readonly exchangeUser: User | null
  /** What starts an exchange as a child, in the end as the daemon's user. */
  readonly exchangeProgram: readonly string[]
  /** What `--sshd-config` says, else that of the system. */
  readonly sshdConfigFile: string
  readonly signal: AbortSignal
}
