import { formatCertificateTime, formatDuration, formatTime, type UnixSeconds } from '../core/time.ts'
import { isCertifiable, type HostKeyView } from '../renewal/judge.ts'
import type { KeyOutcome } from '../renewal/outcome.ts'
import type { PassResult } from '../renewal/pass.ts'
import type { CliContext } from './context.ts'
import { failureLine } from './verb-error.ts'

/** Whether what was due was done. */
export function isWell({ kind }: KeyOutcome): boolean {
  return kind === 'renewed' || kind === 'would-renew'
}

/** A line for each host key that was due: what was done on stdout, what was not, or is not known, on stderr. */
export function reportOutcomes(
  context: CliContext,
  { outcomes, views }: Pick<PassResult, 'outcomes' | 'views'>,
  now: UnixSeconds,
): void {
  if (outcomes.length === 0) {
    context.out('nothing is due\n')
    for (const line of doubtsOf(views)) context.err(line)
  }
  for (const outcome of outcomes) {
    const line = `${outcome.hostKey}: ${outcomeText(outcome, now)}`
    if (isWell(outcome)) context.out(`${line}\n`)
    else context.err(line)
  }
}

/** What "nothing is due" does not say: it is about the files, and sshd may not be known to serve them. */
function doubtsOf(views: readonly HostKeyView[]): string[] {
  const keys = views.filter(isCertifiable)
  if (keys.length === 0) return ['there is no host key that a certificate could be issued for']
  return keys.flatMap(({ name, served }) =>
    served.kind === 'not-asked' || served.unknown === null
      ? []
      : [`${name}: it is not known what sshd presents: ${served.unknown}`],
  )
}

function outcomeText(outcome: KeyOutcome, now: UnixSeconds): string {
  switch (outcome.kind) {
    case 'renewed':
    case 'would-renew': {
      const { serial, validBefore } = outcome.certificate.certificate
      const until = formatCertificateTime(validBefore)
      const verb = outcome.kind === 'renewed' ? 'renewed' : 'would be renewed'
      return `${verb} (${outcome.reason}), serial ${serial}, valid ${until === null ? 'forever' : `until ${until}`}`
    }
    case 'failed':
      return failureLine(outcome.failure)
    case 'waiting':
      return `due (${outcome.reason}), not tried: ${waitingText(outcome.until, now)}`
  }
}

/** @param until null: the host key changed under each request */
function waitingText(until: UnixSeconds | null, now: UnixSeconds): string {
  if (until === null) return 'the host key kept changing'
  return `the issuer asked to wait ${formatDuration(until - now)} more`
}

/** The same for `--json`, one object for each host key that was due. */
export function outcomeDocument(outcome: KeyOutcome): object {
  const base = { host_key: outcome.hostKey, result: outcome.kind }
  switch (outcome.kind) {
    case 'renewed':
    case 'would-renew': {
      const { serial, validAfter, validBefore } = outcome.certificate.certificate
      return {
        ...base,
        reason: outcome.reason,
        serial: String(serial),
        valid_after: formatCertificateTime(validAfter),
        valid_before: formatCertificateTime(validBefore),
      }
    }
    case 'failed':
      return { ...base, error: { code: outcome.failure.code, message: outcome.failure.message } }
    case 'waiting':
      return { ...base, reason: outcome.reason, until: formatTime(outcome.until) }
  }
}
