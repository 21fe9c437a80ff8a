import type { Login } from '../core/login.ts'
import type { RenewalPolicy } from '../core/renewal-decision.ts'

/** The configuration, complete and checked; `config.example.yaml` explains every key. */
export interface Config {
  readonly issuer: {
    /** No slash at the end. */
    readonly url: string
    readonly sshHostId: string
    readonly caFile: string | null
    readonly timeoutMilliseconds: number
  }
  readonly auth: Login
  /** Patterns or paths. */
  readonly hostKeys: readonly string[]
  readonly certificates: { readonly directory: string }
  readonly renewal: RenewalPolicy & {
    readonly tick: string
    /** The longest gap between two ticks. */
    readonly tickGapSeconds: number
    readonly maintenance: string
  }
  readonly verify: {
    readonly hostCaFile: string | null
    /** Null: any, but never none. */
    readonly principals: readonly string[] | null
  }
  readonly sshd: {
    readonly address: 'auto' | 'none' | { readonly host: string; readonly port: number }
    readonly reload: 'auto' | 'always' | 'never'
    readonly reloadCommand: readonly string[] | null
  }
  readonly health: { readonly listen: HealthListen }
  readonly log: { readonly level: LogLevel; readonly format: LogFormat }
  readonly stateDirectory: string
}

export type HealthListen =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'none' }

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'
export type LogFormat = 'auto' | 'journal' | 'pretty' | 'json'
