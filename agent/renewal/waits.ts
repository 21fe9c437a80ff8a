import type { UnixSeconds } from '../cert/time.ts'
import { isWaiting, type Wait } from './backoff.ts'
import { isForLock } from './record-changes.ts'
import { recordOf, type AttemptRecord, type KeyIdentity } from './record.ts'

/** So many repairs of one host key within {@link REPAIR_SECONDS} and no more: something keeps breaking it. */
const MAX_REPAIRS = 10
const REPAIR_SECONDS = 600
/** Between two issuances for one host key. */
const SHORTEST_PAUSE_SECONDS = 10

/** The attempt record, and the time by which its waits are judged. */
export interface RecordNow {
  readonly record: AttemptRecord
  readonly now: UnixSeconds
}

/**
 * Why this key must not be issued for now; null when it may. Of several waits the longest.
 *
 * @param byHand only the lock of an identity counts, as `renew` has it
 */
export function waitOf(recordNow: RecordNow, key: KeyIdentity, byHand: boolean): Wait | null {
  const own = recordOf(recordNow.record, key).wait
  const waits = [...issuerWaits(recordNow), ...(isWaiting(own, recordNow.now) ? [own] : [])]
  const binding = waits.filter((wait) => !byHand || isForLock(wait))
  return binding.toSorted((a, b) => b.until - a.until)[0] ?? null
}

/** Those that are all keys'. */
export function issuerWaits({ record, now }: RecordNow): readonly Wait[] {
  return [record.issuer, record.login, record.administrator].filter((wait) => isWaiting(wait, now))
}

/** A wait in force, and what for. */
export interface NamedWait extends Wait {
  /** `issuer`, `login`, `administrator` (all host keys wait), `install`, `reload` (the root helper), or a host key's name. */
  readonly for: string
}

/**
 * Everything that is waited for.
 *
 * @param keys the host keys that there are; the wait of a key that was replaced does not count
 */
export function waitsInForce({ record, now }: RecordNow, keys: readonly KeyIdentity[]): readonly NamedWait[] {
  const shared = (['issuer', 'login', 'administrator', 'install', 'reload'] as const).map(
    (what) => [what, record[what]] as const,
  )
  const own = keys.map((key) => [key.name, recordOf(record, key).wait] as const)
  return [...shared, ...own].flatMap(([what, wait]) => (isWaiting(wait, now) ? [{ ...wait, for: what }] : []))
}

/** When this key may be repaired once more; null for now. */
export function repairWaitOf(recordNow: RecordNow, key: KeyIdentity): UnixSeconds | null {
  const first = recentRepairs(recordNow, key).at(-MAX_REPAIRS)
  return first === undefined ? null : first + REPAIR_SECONDS
}

/** Those that still count. */
export function recentRepairs({ record, now }: RecordNow, key: KeyIdentity): readonly UnixSeconds[] {
  return recordOf(record, key).repairs.filter((at) => at > now - REPAIR_SECONDS && at <= now)
}

/** Too soon after the last issuance for another: a life of seconds must not become a storm either. */
export function pauseAfterIssuance({ record, now }: RecordNow, key: KeyIdentity): UnixSeconds | null {
  const { issued } = recordOf(record, key)
  if (issued === null || issued.at > now || now >= issued.at + SHORTEST_PAUSE_SECONDS) return null
  return issued.at + SHORTEST_PAUSE_SECONDS
}

/** Before the root helper is asked again to copy; null when it may be. */
export function installWait({ record, now }: RecordNow): Wait | null {
  return isWaiting(record.install, now) ? record.install : null
}

/** Before sshd is reloaded again; null when it may be. */
export function reloadWait({ record, now }: RecordNow): Wait | null {
  return isWaiting(record.reload, now) ? record.reload : null
}
