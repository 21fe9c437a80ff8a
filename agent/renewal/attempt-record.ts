import type { Wait } from '../core/backoff.ts'
import type { ErrorCode } from '../core/errors.ts'
import type { UnixSeconds } from '../core/time.ts'

/**
 * What must survive a restart, so that neither a restart nor a crash loop becomes an issuance storm.
 * The shape of `attempts.json` in the state directory; times are seconds since the epoch.
 */
export interface AttemptRecord {
  readonly version: 1
  /** All keys wait. */
  readonly issuer: Wait | null
  readonly login: Wait | null
  /** Before the root helper is asked again for what it could not copy. */
  readonly install: Wait | null
  /** Before a reload that failed, or did not help, is tried again. */
  readonly reload: Wait | null
  /** sshd was to be reloaded and could not be; kept where what it serves does not tell. */
  readonly reloadOwed: boolean
  /** CA keys as the issuer gave them, `TYPE BASE64`; null before it was asked, empty when it has no such route. */
  readonly issuerCas: readonly string[] | null
  /** CA keys that it gave before, newest first: certificates in place may still be theirs. */
  readonly formerCas: readonly string[]
  readonly hostKeys: Readonly<Record<string, HostKeyRecord>>
}

/** A host key as the record knows it. */
export interface KeyIdentity {
  readonly name: string
  readonly fingerprint: string
}

export interface HostKeyRecord {
  /** Of the host key that all this is about; another key starts anew. */
  readonly fingerprint: string
  readonly wait: Wait | null
  readonly lastAttempt: UnixSeconds | null
  readonly lastSuccess: UnixSeconds | null
  /** In a row. */
  readonly failures: number
  readonly lastError: { readonly code: ErrorCode; readonly message: string; readonly at: UnixSeconds } | null
  /** The certificate that we put in place last. */
  readonly issued: { readonly serial: string; readonly at: UnixSeconds } | null
  /** Recent issuances that were repairs (absent, damaged …), not renewals: what deletes certificates must not become a storm. */
  readonly repairs: readonly UnixSeconds[]
  /** The last serial that sshd was seen to serve for this key. */
  readonly confirmedSerial: string | null
  /** sshd did not offer this key, even after a reload: why, in words, and of which pair of files that holds. */
  readonly notOffered: { readonly why: string; readonly pairVersion: string } | null
}

/** So many CAs that the issuer named before are still good for what lies on disk. */
const MAX_FORMER_CAS = 4

export const EMPTY_RECORD: AttemptRecord = {
  version: 1,
  issuer: null,
  login: null,
  install: null,
  reload: null,
  reloadOwed: false,
  issuerCas: null,
  formerCas: [],
  hostKeys: {},
}

/** What is on record for this key. */
export function recordOf({ hostKeys }: AttemptRecord, { name, fingerprint }: KeyIdentity): HostKeyRecord {
  const known = hostKeys[name]
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
    confirmedSerial: null,
    notOffered: null,
  }
}

/** sshd was reloaded: what was wrong with what it serves is over, or will be noted anew. */
export function afterReload(record: AttemptRecord): AttemptRecord {
  const hostKeys = mapHostKeys(record, (key) =>
    key.lastError?.code.startsWith('SSHD_') === true ? { ...key, lastError: null } : key,
  )
  return { ...record, reloadOwed: false, hostKeys }
}

/** The root helper has copied everything: what it could not before is over. */
export function afterInstall(record: AttemptRecord): AttemptRecord {
  const hostKeys = mapHostKeys(record, (key) =>
    key.lastError !== null && key.lastError.code === record.install?.code ? { ...key, lastError: null } : key,
  )
  return { ...record, install: null, hostKeys }
}

/** The issuer named these CAs; those that it named before are kept for the certificates in place. */
export function withCas(record: AttemptRecord, lines: readonly string[]): AttemptRecord {
  const before = [...(record.issuerCas ?? []), ...record.formerCas].filter((line) => !lines.includes(line))
  return { ...record, issuerCas: lines, formerCas: [...new Set(before)].slice(0, MAX_FORMER_CAS) }
}

/** Whatever waits for an administrator may be tried again: somebody says that it was mended. */
export function withoutAdministratorWaits(record: AttemptRecord): AttemptRecord {
  const drop = (wait: Wait | null): Wait | null => (wait?.kind === 'administrator' ? null : wait)
  const hostKeys = mapHostKeys(record, (key) => ({ ...key, wait: drop(key.wait) }))
  return { ...record, issuer: drop(record.issuer), login: null, install: null, reload: null, hostKeys }
}

/** Without the host keys that are neither named nor were tried since then. */
export function withOnly(record: AttemptRecord, names: readonly string[], since: UnixSeconds): AttemptRecord {
  const kept = Object.entries(record.hostKeys).filter(
    ([name, { lastAttempt, repairs }]) =>
      names.includes(name) || Math.max(lastAttempt ?? 0, repairs.at(-1) ?? 0) > since,
  )
  return { ...record, hostKeys: Object.fromEntries(kept) }
}

function mapHostKeys(
  { hostKeys }: AttemptRecord,
  change: (key: HostKeyRecord) => HostKeyRecord,
): AttemptRecord['hostKeys'] {
  return Object.fromEntries(Object.entries(hostKeys).map(([name, key]) => [name, change(key)]))
}
