import { CERTIFICATE_STATES } from './certificate-state.ts'
import { servingOf, type StatusDocument } from './status-document.ts'
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
  // Those of ignored keys too: they are renewed all the same.
  const due = certificates.flatMap(({ renewal_due }) =>
    renewal_due === null ? [] : [parseTime(renewal_due)],
  )
  const next = due.length === 0 ? '' : `; next renewal ${whenIn(Math.min(...due) - now)}`
  const keys = certificates.length === 1 ? '1 host key' : `${certificates.length} host keys`
  return `${sshdTrouble(status, now)}${keys}: ${counts.join(', ')}${next}`
}

/** First in the line: in `systemctl status` it may be cut off. Empty where sshd answers, is not asked, or did a moment ago. */
function sshdTrouble({ sshd, certificates }: StatusDocument, now: UnixSeconds): string {
  if (sshd.state === 'down') return 'sshd is down; '
  const counted = certificates.filter(({ state }) => state !== 'ignored')
  const evidence = counted.map(({ served }) => servingOf(served, now))
  const isUnknown = evidence.includes('served-before') || evidence.includes('unseen')
  return isUnknown ? 'sshd could not be asked; ' : ''
}

function whenIn(seconds: number): string {
  return seconds <= 0 ? 'is due' : `in ${formatDuration(seconds)}`
}
