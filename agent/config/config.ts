import type { RenewalPolicy } from '../renewal/certificate-state.ts'

/** The configuration, complete and checked; `config.example.yaml` explains every key. */
export interface Config {
  readonly issuer: IssuerConfig
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
  readonly health: {
    readonly listen: HealthListen
    /** In lower case. */
    readonly hosts: readonly string[]
  }
  readonly log: { readonly level: LogLevel; readonly format: LogFormat }
  readonly stateDirectory: string
}

/** Who signs: the HTTP API of an issuer, or a program in its place. */
export type IssuerConfig = HttpIssuerConfig | CommandIssuerConfig

export interface HttpIssuerConfig {
  readonly kind: 'http'
  /** No slash at the end. */
  readonly url: string
  readonly sshHostId: string
  readonly caFile: string | null
  /** For one exchange. */
  readonly timeoutMilliseconds: number
  readonly auth: Login
}

/** `docs/other-cas.md` is its contract. */
export interface CommandIssuerConfig {
  readonly kind: 'command'
  /** The absolute path of a program, and its arguments. */
  readonly command: readonly string[]
  /** From its start to its end. */
  readonly timeoutMilliseconds: number
}

/** Null where a program takes the issuer's place. */
export function issuerUrlOf(issuer: IssuerConfig): string | null {
  return issuer.kind === 'http' ? issuer.url : null
}

export type HealthListen =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'none' }

type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'
type LogFormat = 'auto' | 'journal' | 'pretty' | 'json'

/** Written in the configuration, or in a file that is read when it is needed. */
export type CredentialSource = { readonly value: string } | { readonly file: string }

/** How this host logs in at the issuer. Paths are absolute; `credential:NAME` is resolved already. */
export type Login =
  | {
      readonly method: 'universal-auth'
      readonly clientId: CredentialSource
      readonly clientSecretFile: string
    }
  /** A token that an administrator made; there is no login. */
  | { readonly method: 'token'; readonly tokenFile: string }
