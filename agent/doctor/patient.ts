import type { Config, HttpIssuerConfig } from '../config/config.ts'
import type { User } from '../host/file-access.ts'
import type { Attempts } from '../renewal/attempts.ts'
import type { Host } from '../renewal/host.ts'
import type { IssuerProbe } from './issuer-probe.ts'

/** One that asks an issuer over HTTP. */
export type HttpPatient = Patient & { readonly config: Config & { readonly issuer: HttpIssuerConfig } }

export function asksOverHttp(patient: Patient): patient is HttpPatient {
  return patient.config.issuer.kind === 'http'
}

/** The host under examination. No part of it writes anything. */
export interface Patient {
  readonly config: Config
  /** Of the main configuration file. */
  readonly configPath: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly host: Host
  /** Loaded; what is changed in it is never saved. */
  readonly attempts: Attempts
  readonly probe: IssuerProbe
  /** Who runs this. */
  readonly self: User
  readonly isRoot: boolean
  /** Who the daemon is: the owner of the state directory, else who runs this. */
  readonly daemonUser: User
  /** Who asks the issuer and reads credentials; null where the daemon does it by a child. */
  readonly exchangeUser: User | null
  /** What `--sshd-config` says, else that of the system. */
  readonly sshdConfigFile: string
  readonly signal: AbortSignal
}
