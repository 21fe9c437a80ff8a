import type { ServedStatus } from '../core/status-document.ts'
import { formatDuration, parseTime, type UnixSeconds } from '../core/time.ts'

/** `45m ago`: how old the evidence is of what sshd presents. */
export function lastSeen({ checked_at }: ServedStatus, now: UnixSeconds): string {
  const age = checked_at === null ? NaN : now - parseTime(checked_at)
  return age >= 0 ? `${formatDuration(age)} ago` : 'an unknown time ago'
}
