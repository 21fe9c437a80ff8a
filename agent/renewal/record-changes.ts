import type { ErrorCode } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { Wait } from './backoff.ts'
import type { AttemptRecord, ErrorScope, HostKeyRecord } from './record.ts'

/** So many CAs that the issuer named before still count for the certificates on disk. */
const MAX_FORMER_CAS = 4

/** The issuer named these CAs; those that it named before are kept for the certificates in place. */
export function withCas(record: AttemptRecord, lines: readonly string[]): AttemptRecord {
  const before = [...(record.issuerCas ?? []), ...record.formerCas].filter((line) => !lines.includes(line))
  return { ...record, issuerCas: lines, formerCas: [...new Set(before)].slice(0, MAX_FORMER_CAS) }
}

/** Without any wait but that for a locked identity: the cause was corrected. Counts start anew. */
export function withoutWaits(record: AttemptRecord): AttemptRecord {
  const unlocked = { ...record, issuer: null, administrator: null, install: null, reload: null }
  const login = isForLock(record.login) ? record.login : null
  return withEachKey({ ...unlocked, login }, (key) => ({ ...key, wait: null, refusals: 0 }))
}

/** Nobody but the issuer ends this one. */
export function isForLock(wait: Wait | null): boolean {
  return wait?.code === 'LOGIN_LOCKED'
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
