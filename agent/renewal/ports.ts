/**
 * What the renewal path needs of the world. One adapter each; one fake each for tests.
 * Every wait takes an AbortSignal and rejects with its reason soon after it fires, unless a port documents otherwise.
 */
import type { ErrorCode, Failure } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { VerifiedCertificate } from '../cert/verify-issued.ts'
import type { NextStep } from './backoff.ts'
import type { RenewalPolicy } from './certificate-state.ts'
import type { AttemptRecord } from './record.ts'
import type { StatusDocument } from './status-document.ts'

export interface Clock {
  /** The wall clock, read anew at each call. */
  now(): UnixSeconds
  /** Seconds of a clock that nobody sets. It may stand still while the machine is suspended. */
  uptime(): number
  /** [0, 1), for backoff. */
  dice(): number
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>
}

/** One file that the configuration names as a public host key. */
export interface HostKeyFile {
  /** File name without `.pub`; the host key's name everywhere. */
  readonly name: string
  readonly path: string
  /**
   * - `key`: a key that can be certified; `comment` as in the file, may be empty
   * - `unsupported`: a key of another type
   * - `unreadable`: half-written, damaged, gone between listing and reading, or not permitted
   * - `shadowed`: another path has the same file name and comes first
   */
  readonly content:
    | {
        readonly kind: 'key'
        readonly key: PublicKey
        readonly comment: string
        /** Another when either half was written or replaced: the private half may come after the public one. */
        readonly pairVersion: string
      }
    | { readonly kind: 'unsupported'; readonly keyType: string; readonly failure: Failure }
    | { readonly kind: 'unreadable'; readonly failure: Failure }
    | { readonly kind: 'shadowed'; readonly by: string }
}

export interface HostKeys {
  /** All host keys there are now, by path; none is no error. Never throws for a single bad file. */
  list(): Promise<HostKeyFile[]>
  /** One of them again, from its path; null when it is gone. */
  read(path: string): Promise<HostKeyFile | null>
}

/** A certificate's place on disk. */
export type StoredCertificate =
  | { readonly kind: 'absent' }
  /** Up to 64 KiB; not checked. */
  | { readonly kind: 'text'; readonly text: string }
  /** Not a regular file, not permitted, too large: STORE_FAILED. */
  | { readonly kind: 'unreadable'; readonly failure: Failure }

export interface CertificateStore {
  /** The path of a host key's certificate. */
  pathOf(hostKeyName: string): string
  read(hostKeyName: string): Promise<StoredCertificate>
  /**
   * Put a certificate in place, durably: after it returns a power cut leaves the new one, before that the old one.
   * Idempotent. Not aborted half-way.
   *
   * @throws AgentError STORE_FAILED; the old file is then still in place
   */
  swap(hostKeyName: string, certificate: VerifiedCertificate): Promise<void>
}

export type IssuerFailure = Failure & {
  readonly next: NextStep
  /**
   * The issuer said "later", from now on: ISSUER_BUSY by a 429 or 503 with `Retry-After`, and ISSUER_REJECTED by
   * `issuer.command`. Null: it did not.
   */
  readonly retryAfterSeconds: number | null
  /** `reqId` of the answer, for the issuer's support. */
  readonly requestId: string | null
}

export interface IssueRequest {
  /** `TYPE BASE64 COMMENT`, with a comment: without one the server invents one. */
  readonly publicKey: string
  /** Name of the host key. */
  readonly hostKey: string
  /** All must be in the certificate; empty: any. */
  readonly principals: readonly string[]
}

export type IssueAnswer =
  | {
      readonly ok: true
      readonly signedKey: string
      /** Decimal; null where the issuer gives none besides that in the certificate. */
      readonly serialNumber: string | null
      readonly requestId: string | null
    }
  | { readonly ok: false; readonly failure: IssuerFailure }

export type HostCaAnswer =
  | { readonly ok: true; readonly keys: readonly PublicKey[] }
  /** `noSuchRoute`: the issuer itself answered that it has no such route, which is permanent; anything else may pass. */
  | { readonly ok: false; readonly failure: IssuerFailure; readonly noSuchRoute: boolean }

export interface Issuer {
  /**
   * Have a public key signed. Logs in when there is no token, and once more when the token is refused.
   * Not idempotent: each call makes a certificate. Rejects only when `signal` fires.
   */
  issue(request: IssueRequest, signal: AbortSignal): Promise<IssueAnswer>
  /** The CA that signs this host's certificates. Needs no login. */
  hostCa(signal: AbortSignal): Promise<HostCaAnswer>
  health(): IssuerHealth
}

/** An issuer as a pass asks it. */
export interface IssuerSession extends Issuer {
  /** Nothing more is asked in this pass: whatever was kept for the next question may go. */
  end(): void
}

export interface IssuerHealth {
  /** Whether the last exchange brought an HTTP answer of the issuer's; null before the first. */
  readonly reachable: boolean | null
  /** The last answer of status 200. */
  readonly lastSuccess: UnixSeconds | null
  /** Their clock minus ours, from the `Date` header; null before the first, and when that was long ago. */
  readonly clockSkewSeconds: number | null
}

/** What sshd presents for one host key, as one question showed. */
export type Presented =
  /** A certificate of the key's certificate type came: of this key or another, parsable or not. */
  | { readonly kind: 'certificate'; readonly blob: Buffer }
  /** The plain key of the type came instead: this host key's blob or another's. */
  | { readonly kind: 'plain'; readonly blob: Buffer }
  /** sshd's own list of what it offers has neither type (ssh: "no matching host key type found. Their offer: LIST"). */
  | { readonly kind: 'not-offered'; readonly offer: string }
  /** Could not be found out; why, in words, with the address. Decides nothing. */
  | { readonly kind: 'unknown'; readonly reason: string }

export interface ServedQuestion {
  /** Each is asked about in a connection of its own, one after the other. At most one of each key type. */
  readonly keys: readonly PublicKey[]
  /** Addresses on which sshd listens according to the helper, `host:port`; empty when unknown. */
  readonly listen: readonly string[]
}

export interface SshdAnswer {
  /**
   * - `up`: an SSH server showed at least one key, or its list
   * - `down`: nothing accepts connections at any address that was asked
   * - `unknown`: anything else
   */
  readonly state: 'up' | 'down' | 'unknown'
  /** By fingerprint of the key asked about; one for each. */
  readonly presented: ReadonlyMap<string, Presented>
}

export interface ServedCertificates {
  /** False with `address: none`. */
  readonly enabled: boolean
  /** Ask sshd what it presents. Each key is a connection, and a line in sshd's log. */
  ask(question: ServedQuestion, signal: AbortSignal): Promise<SshdAnswer>
}

export type SshdOutcome =
  | {
      readonly kind: 'done'
      /** What sshd listens on, `host:port`; empty when the way of reloading does not say. */
      readonly listen: readonly string[]
      /** What root left out or found, for people; a certificate that it refused, for one. */
      readonly notes: readonly string[]
      /** sshd's configuration changed: it serves the new certificates only after a reload. */
      readonly reloadNeeded: boolean
    }
  /** Over the helper's own limit: a wait, no failure. */
  | { readonly kind: 'busy'; readonly retrySeconds: number; readonly listen: readonly string[] }
  | { readonly kind: 'failed'; readonly failure: Failure }

/** The way to what root does. */
export interface Sshd {
  /** Whether the root helper is there. Without it sshd reads the store itself. */
  readonly hasHelper: boolean
  /** Copy what was swapped to where sshd reads. Without the helper this does nothing. Idempotent. */
  install(signal: AbortSignal): Promise<SshdOutcome>
  /**
   * Whether {@link install} has something to do: a certificate that differs from its copy, a copy too many, or a drop-in
   * that is not what the helper writes, where it can be read. Reads copies and drop-in only.
   *
   * @param staged text of each usable certificate in the store, by host key name
   * @param present names of all host keys
   */
  installNeeded(staged: ReadonlyMap<string, string>, present: readonly string[]): Promise<boolean>
  /** Make sshd read its configuration and files anew; never with a configuration that `sshd -t` refuses. */
  reload(signal: AbortSignal): Promise<SshdOutcome>
  /** Whether there is any way to reload. */
  readonly canReload: boolean
}

/** Survives restarts: see {@link AttemptRecord}. */
export interface AttemptRecords {
  /** The record on disk, an empty one when there is none; null, and a warning, when it cannot be used. */
  load(): Promise<AttemptRecord | null>
  /** Durable. @throws AgentError STORE_FAILED */
  save(record: AttemptRecord): Promise<void>
}

/** Shared by `run` and `renew`; gone with the process that holds it. */
export interface PassLock {
  /**
   * @returns what to call to let go of it
   * @throws AgentError STORE_FAILED when it was not free within `milliseconds`
   */
  acquire(milliseconds: number, signal: AbortSignal): Promise<() => Promise<void>>
}

/** CA keys that an administrator pinned; null when none are configured. */
export interface PinnedCas {
  /** @throws AgentError CONFIG_INVALID */
  read(): Promise<readonly PublicKey[] | null>
}

/** MACHINE_COPIED: this machine is a copy of the one that was enrolled; false: it is that machine; null: not known. */
export type Copied = Failure | false | null

/** What `enroll` recorded of the machine. */
export interface EnrolledMachine {
  /** Compare it with this machine, as it is now. Never throws. */
  copied(): Promise<Copied>
}

/** The service manager. All are silent without one, and never throw. */
export interface ServiceManager {
  ready(status: string): Promise<void>
  status(status: string): Promise<void>
  /** A turn was completed. */
  watchdog(): Promise<void>
  reloading(): Promise<void>
  stopping(): Promise<void>
  /** How often {@link watchdog} must come at least; null without a watchdog. */
  readonly watchdogSeconds: number | null
}

/** Log line: an event, its data. Keys are snake_case, `host_key`, `serial`, `code`, `request_id` among them. */
export type LogFields = Readonly<Record<string, unknown>>

export interface Log {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
}

export interface Metrics {
  /** `result`: `ok` or the error code. */
  renewal(hostKey: string, result: 'ok' | ErrorCode): void
  reload(result: 'ok' | ErrorCode): void
  /** `code`: HTTP status or error code. */
  issuerRequest(route: 'login' | 'issue' | 'host-ca', code: string, seconds: number): void
  /** @param method of `auth.method` */
  loginFailed(method: string, code: ErrorCode): void
  turn(at: UnixSeconds): void
  /** After each pass; the certificate series are read from it. */
  status(snapshot: StatusDocument): void
}

/** What the way to the issuer counts. */
export type IssuerMetrics = Pick<Metrics, 'issuerRequest' | 'loginFailed'>

/** The settings for renewal. */
export interface RenewalSettings {
  readonly policy: RenewalPolicy
  /** All of these must be in the certificate; null: any, but never none. */
  readonly wantedPrincipals: readonly string[] | null
  readonly reload: 'auto' | 'always' | 'never'
  readonly maintenance: MaintenanceWindow
  /** What a copied machine does; `stop`: it renews nothing. */
  readonly onCopy: 'warn' | 'stop'
}

/** The minutes in which a routine renewal may start. */
interface MaintenanceWindow {
  contains(now: UnixSeconds): boolean
}

/** One host, as the renewal path sees it: a port for each thing outside. */
export interface Host {
  readonly settings: RenewalSettings
  readonly clock: Clock
  readonly hostKeys: HostKeys
  readonly store: CertificateStore
  readonly issuer: IssuerSession
  readonly served: ServedCertificates
  readonly sshd: Sshd
  readonly records: AttemptRecords
  readonly lock: PassLock
  readonly pinnedCas: PinnedCas
  readonly machine: EnrolledMachine
  readonly log: Log
  readonly metrics: Metrics
}
