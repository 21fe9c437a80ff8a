import { quote } from '../cert/text.ts'
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

/** One thing that is wrong with the configuration. */
export interface Problem {
  /** The key (`issuer.url`, `host_keys[1]`), or the place (`FILE:LINE:COLUMN`, `FILE`) where it is not about a key. */
  readonly path: string
  /** Never quotes what may be a secret. */
  readonly message: string
  /** The file that the value comes from; left out for a required key that is missing. */
  readonly file?: string
}

/** The way from the top of the configuration to one value: keys of maps, indices of lists. */
export type KeyPath = readonly (string | number)[]

/** A problem of a value, before it is known which file the value came from. */
export interface KeyProblem {
  readonly keys: KeyPath
  readonly message: string
}

const PLAIN_KEY = /^[\w-]{1,60}$/

/** `['host_keys', 1]` as `host_keys[1]`; a key that is no plain word is quoted and cut, so any key is safe to print. */
export function pathText(keys: KeyPath): string {
  let text = ''
  for (const key of keys) {
    if (typeof key === 'number') text += `[${key}]`
    else text += `${text === '' ? '' : '.'}${PLAIN_KEY.test(key) ? key : quote(key)}`
  }
  return text
}

/** `issuer.url: is required`, as `config validate` prints it; with the file behind it where the path does not contain it. */
export function problemLine({ path, message, file }: Problem): string {
  const where = file === undefined || path.startsWith(file) ? '' : ` (${file})`
  return `${path}: ${message}${where}`
}

/** The content of a configuration file, before it is checked. Keys are own properties, `__proto__` included. */
export interface Tree {
  readonly [key: string]: TreeValue
}

export type TreeValue = string | number | boolean | bigint | Tree | readonly TreeValue[]

/** Whether a value is a map, and no list or scalar. */
export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value of a key of the map's own; undefined when there is none, also for `constructor` and its like. */
export function ownValue(tree: Tree, key: string): TreeValue | undefined {
  return Object.hasOwn(tree, key) ? tree[key] : undefined
}

/** Lay one file over another: maps merge, lists and scalars replace. Neither is changed. */
export function mergeTrees(base: Tree, over: Tree): Tree {
  const merged = new Map(Object.entries(base))
  for (const [key, value] of Object.entries(over)) {
    const under = merged.get(key)
    merged.set(key, isTree(under) && isTree(value) ? mergeTrees(under, value) : value)
  }
  return Object.fromEntries(merged)
}

/** Whether a tree has a value, or a map, at this path. */
export function hasPath(tree: Tree, keys: KeyPath): boolean {
  let value: TreeValue | undefined = tree
  for (const key of keys) {
    if (isTree(value)) value = ownValue(value, String(key))
    else value = Array.isArray(value) && typeof key === 'number' ? value[key] : undefined
    if (value === undefined) return false
  }
  return true
}
