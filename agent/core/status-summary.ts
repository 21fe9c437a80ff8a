import { CERTIFICATE_STATES } from './certificate-state.ts'
import type { StatusDocument } from './status-document.ts'
import { formatDuration, parseTime, type UnixSeconds } from './time.ts'

/** One line for people, `systemctl status` among them. */
export function summarize(status: StatusDocument, now: UnixSeconds): string {
  if (!status.enrolled) return 'not enrolled: there is no configuration'
  const { certificates } = status
  if (certificates.length === 0) return 'no host keys found'
  const counts = CERTIFICATE_STATES.toReversed().flatMap((state) => {
    const count = certificates.filter((certificate) => certificate.state === state).length
    return count === 0 ? [] : [`${count} ${state}`]
  })
  const due = certificates.flatMap(({ renewal_due, state }) =>
    renewal_due === null || state === 'ignored' ? [] : [parseTime(renewal_due)],
  )
  const next = due.length === 0 ? '' : `; next renewal ${whenIn(Math.min(...due) - now)}`
  const keys = certificates.length === 1 ? '1 host key' : `${certificates.length} host keys`
  return `${keys}: ${counts.join(', ')}${next}`
}

function whenIn(seconds: number): string {
  return seconds <= 0 ? 'is due' : `in ${formatDuration(seconds)}`
}
