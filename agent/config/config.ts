import { isIPv4 } from 'node:net'
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
  readonly enrollment: {
    /** What a machine does that was copied after it was enrolled. */
    readonly onCopy: 'warn' | 'stop'
  }
  readonly userCa: UserCaPolicy & {
    /** Whether root's timer keeps the user CAs in place. */
    readonly install: boolean
  }
  readonly stateDirectory: string
}

/** Which user CAs sshd trusts. */
export interface UserCaPolicy {
  /** How long a CA stays that the issuer no longer names. */
  readonly overlapSeconds: number
  /** The only CAs that may be added; empty: any. */
  readonly fingerprints: readonly string[]
  /** Never trusted. */
  readonly revoked: readonly string[]
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

/** What the status document says of the issuer's configuration; null where a program takes the issuer's place. */
export function issuerFactsOf(issuer: IssuerConfig): {
  readonly issuerUrl: string | null
  readonly loginMethod: Login['method'] | null
} {
  if (issuer.kind === 'command') return { issuerUrl: null, loginMethod: null }
  return { issuerUrl: issuer.url, loginMethod: issuer.auth.method }
}

/** The variables of the environment that name proxies, each in lower case too. */
export const PROXY_VARIABLES: readonly string[] = ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'ALL_PROXY']

export function isProxyVariable(name: string): boolean {
  return PROXY_VARIABLES.includes(name.toUpperCase())
}

/** Whether only this host can be meant: 127.0.0.0/8, ::1 and `localhost`; an IPv6 address without its brackets. */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.')
  return host === '::1' || host.toLowerCase() === 'localhost'
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
      readonly organization: string | null
      readonly clientId: CredentialSource
      readonly clientSecretFile: string
    }
  /** A token that an administrator made; there is no login. */
  | { readonly method: 'token'; readonly tokenFile: string }
  | (OfIdentity & { readonly method: 'kubernetes'; readonly tokenFile: string })
  | (OfIdentity & {
      readonly method: 'aws'
      /** Null: the platform says. */
      readonly region: string | null
      /** Null: the platform gives them. */
      readonly keys: AwsKeyFiles | null
    })
  | (OfIdentity & {
      readonly method: 'gcp'
      /** Of a service account; null: the metadata service. */
      readonly keyFile: string | null
    })
  | (OfIdentity & {
      readonly method: 'azure'
      readonly resource: string
      /** Of a managed identity that a user assigned; null: the machine's own. */
      readonly clientId: string | null
    })
  | (OfIdentity & { readonly method: 'oidc'; readonly jwt: JwtSource })
  | (OfIdentity & { readonly method: 'spiffe'; readonly jwt: JwtSource })
  | (OfIdentity & { readonly method: 'jwt'; readonly jwt: JwtSource | JwtSigner })
  | (OfIdentity & {
      readonly method: 'ldap'
      readonly username: CredentialSource
      readonly passwordFile: string
    })
  | (OfIdentity & {
      readonly method: 'tls-cert'
      readonly certificateFile: string
      readonly keyFile: string
      /** No slash at the end. */
      readonly loginUrl: string
    })
  | (OfIdentity & {
      readonly method: 'oci'
      readonly user: string
      readonly tenancy: string
      readonly fingerprint: string
      readonly region: string
      readonly keyFile: string
    })
  | (OfIdentity & {
      readonly method: 'alicloud'
      readonly accessKeyId: CredentialSource
      readonly accessKeySecretFile: string
    })

export type LoginBy<Method extends Login['method']> = Extract<Login, { readonly method: Method }>

interface OfIdentity {
  /** Slug; null where the identity is in one organization only. */
  readonly organization: string | null
  readonly identityId: CredentialSource
}

interface AwsKeyFiles {
  readonly accessKeyIdFile: string
  readonly secretAccessKeyFile: string
  /** Null for keys that are not temporary. */
  readonly sessionTokenFile: string | null
}

/** Where a JWT comes from that someone else signed. */
export type JwtSource =
  | { readonly file: string }
  /** A program and its arguments; its standard output is the JWT. */
  | { readonly command: readonly string[] }

/** The host signs its own JWT. */
export interface JwtSigner {
  readonly keyFile: string
  readonly issuer: string
  readonly subject: string
  readonly audience: string
}
