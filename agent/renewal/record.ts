import type { ErrorCode } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { Wait } from './backoff.ts'

/**
 * What must survive a restart: attempts and waits, so that neither a restart nor a crash loop becomes an issuance storm,
 * and the last evidence of what sshd presents.
 * The shape of `attempts.json` in the state directory; times are seconds since the epoch.
 */
export interface AttemptRecord {
  readonly version: 1
  /** All keys wait. */
  readonly issuer: Wait | null
  readonly login: Wait | null
  /** Before the root helper is asked again for what it could not copy. */
  readonly install: Wait | null
  /** Before a reload that failed, did not help or was refused for its frequency is tried again. */
  readonly reload: Wait | null
  /** sshd is to be reloaded, and what it presents will not show whether it was. */
  readonly reloadOwed: boolean
  /** CA keys as the issuer gave them, `TYPE BASE64`; null before it was asked, empty when it has no such route. */
  readonly issuerCas: readonly string[] | null
  /** CA keys that it gave before, newest first: certificates in place may still be theirs. */
  readonly formerCas: readonly string[]
  readonly sshd: SshdRecord
  readonly hostKeys: Readonly<Record<string, HostKeyRecord>>
}

/** The last that is known of sshd as a whole. */
export interface SshdRecord {
  /** What the last question showed, and since when it is so; null before the first. */
  readonly state: 'up' | 'down' | 'unknown' | null
  readonly since: UnixSeconds | null
  readonly askedAt: UnixSeconds | null
  /** What the root helper said last, and when: where sshd listens, `host:port`, and what it left out. */
  readonly listen: readonly string[]
  readonly notes: readonly string[]
  readonly helperAt: UnixSeconds | null
}

/** A host key as the record knows it. */
export interface KeyIdentity {
  readonly name: string
  readonly fingerprint: string
}

/** What sshd was seen to present for a host key. Only what was seen is evidence; what could not be found out is none. */
export type Evidence =
  | {
      readonly kind: 'certificate'
      readonly at: UnixSeconds
      /** SHA-256 of its bytes, hexadecimal; null in what version 0.1 noted, which knew the serial only. */
      readonly digest: string | null
      /** Decimal; null when it cannot be read. */
      readonly serial: string | null
      /** Its 64 bits, decimal; null when it cannot be read. */
      readonly validBefore: string | null
    }
  /** The plain key without a certificate. */
  | { readonly kind: 'none'; readonly at: UnixSeconds }
  | {
      readonly kind: 'not-offered' | 'other-key'
      readonly at: UnixSeconds
      readonly why: string
      /** Of the key files: when they change, this is no evidence any more. */
      readonly pairVersion: string
      /** A reload did not change it, or there is no way to reload. */
      readonly isSettled: boolean
    }

/** Whose failure it was, so that it can be seen when its cause has ended. */
export type ErrorScope = 'issuer' | 'key' | 'sshd'

export interface HostKeyRecord {
  /** Of the host key that all this is about; another key starts anew. */
  readonly fingerprint: string
  readonly wait: Wait | null
  readonly lastAttempt: UnixSeconds | null
  readonly lastSuccess: UnixSeconds | null
  /** In a row. */
  readonly failures: number
  readonly lastError: {
    readonly code: ErrorCode
    readonly message: string
    readonly at: UnixSeconds
    readonly scope: ErrorScope
  } | null
  /** The certificate that we put in place last. */
  readonly issued: { readonly serial: string; readonly at: UnixSeconds } | null
  /** Recent issuances that were repairs (absent, damaged …), not renewals: what deletes certificates must not become a storm. */
  readonly repairs: readonly UnixSeconds[]
  /** The last since a certificate was put in place; null when there is none. */
  readonly evidence: Evidence | null
  /** Why the last question brought no answer for this key, and since when; null when it did. */
  readonly unknown: { readonly reason: string; readonly since: UnixSeconds } | null
}

/** So many CAs that the issuer named before are still good for what lies on disk. */
const MAX_FORMER_CAS = 4

export const SSHD_NOT_ASKED: SshdRecord = {
  state: null,
  since: null,
  askedAt: null,
  listen: [],
  notes: [],
  helperAt: null,
}

export const EMPTY_RECORD: AttemptRecord = {
  version: 1,
  issuer: null,
  login: null,
  install: null,
  reload: null,
  reloadOwed: false,
  issuerCas: null,
  formerCas: [],
  sshd: SSHD_NOT_ASKED,
  hostKeys: {},
}

/** What is on record for this key. */
export function recordOf({ hostKeys }: AttemptRecord, { name, fingerprint }: KeyIdentity): HostKeyRecord {
  // A host key may be called as what every object has.
  const known = Object.hasOwn(hostKeys, name) ? hostKeys[name] : undefined
  if (known === undefined) return newHostKeyRecord(fingerprint)
  // A new key owes nothing to the old one's failures, but a host whose keys change all the time is a storm too.
  return known.fingerprint === fingerprint
    ? known
    : { ...newHostKeyRecord(fingerprint), repairs: known.repairs }
}

function newHostKeyRecord(fingerprint: string): HostKeyRecord {
  return {
    fingerprint,
    wait: null,
    lastAttempt: null,
    lastSuccess: null,
    failures: 0,
    lastError: null,
    issued: null,
    repairs: [],
    evidence: null,
    unknown: null,
  }
}

/** The issuer named these CAs; those that it named before are kept for the certificates in place. */
export function withCas(record: AttemptRecord, lines: readonly string[]): AttemptRecord {
  const before = [...(record.issuerCas ?? []), ...record.formerCas].filter((line) => !lines.includes(line))
  return { ...record, issuerCas: lines, formerCas: [...new Set(before)].slice(0, MAX_FORMER_CAS) }
}

/** Whatever waits for an administrator may be tried again: somebody says that it was corrected. */
export function withoutAdministratorWaits(record: AttemptRecord): AttemptRecord {
  const drop = (wait: Wait | null): Wait | null => (wait?.kind === 'administrator' ? null : wait)
  const changed = { ...record, issuer: drop(record.issuer), login: null, install: null, reload: null }
  return withEachKey(changed, (key) => ({ ...key, wait: drop(key.wait) }))
}

/** Without the host keys that are neither named nor were tried or seen to be served since then. */
export function withOnly(record: AttemptRecord, names: readonly string[], since: UnixSeconds): AttemptRecord {
  const kept = Object.entries(record.hostKeys).filter(
    ([name, { lastAttempt, repairs, evidence }]) =>
      names.includes(name) || Math.max(lastAttempt ?? 0, repairs.at(-1) ?? 0, evidence?.at ?? 0) > since,
  )
  return { ...record, hostKeys: Object.fromEntries(kept) }
}

/** With the last errors of this scope gone where they are as given: their cause was seen to have ended. */
export function withoutErrors(
  record: AttemptRecord,
  scope: ErrorScope,
  isOver: (code: ErrorCode) => boolean = () => true,
): AttemptRecord {
  return withEachKey(record, (key) => {
    if (key.lastError?.scope !== scope || !isOver(key.lastError.code)) return key
    // Failures in a row are counted for issuing; an sshd that did not serve is none of them.
    return scope === 'sshd' ? { ...key, lastError: null } : { ...key, lastError: null, failures: 0 }
  })
}

function withEachKey(record: AttemptRecord, change: (key: HostKeyRecord) => HostKeyRecord): AttemptRecord {
  const hostKeys = Object.entries(record.hostKeys).map(([name, key]) => [name, change(key)])
  return { ...record, hostKeys: Object.fromEntries(hostKeys) }
}
