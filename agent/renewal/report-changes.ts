import type { CertificateState } from './certificate-state.ts'
import type { HostKeyView } from './judge.ts'
import type { Log, LogFields } from './ports.ts'
import type { SshdRecord } from './record.ts'
import { isSkewed } from './status-document.ts'

/** What was reported of a host, so that it is reported once. */
export interface Reported {
  /** By host key name. */
  readonly states: ReadonlyMap<string, CertificateState>
  readonly skewed: boolean
  readonly sshd: SshdRecord['state']
}

export const NOTHING_REPORTED: Reported = { states: new Map(), skewed: false, sshd: null }

/**
 * Log changes that no attempt caused: a certificate became overdue or expired, a host
 * key cannot be read or is ignored, that sshd is down, that the clocks differ. What an attempt or a reload leads to is
 * logged there.
 *
 * @param skewSeconds the issuer's clock minus ours; null when unknown
 * @returns for the next call
 */
export function reportChanges(
  log: Log,
  before: Reported,
  views: readonly HostKeyView[],
  sshd: SshdRecord,
  skewSeconds: number | null,
): Reported {
  for (const view of views) {
    if (before.states.get(view.name) !== view.state.state) reportState(log, view)
  }
  // With `address: none` what is on record of it is old.
  const isAsked = views.some(({ served }) => served.kind !== 'not-asked')
  const sshdState = isAsked ? sshd.state : null
  if (before.sshd !== sshdState) reportSshd(log, before.sshd, sshdState, views)
  const skewed = isSkewed(skewSeconds)
  if (skewed && !before.skewed) {
    log.warn({ clock_skew_seconds: skewSeconds }, "the clock of this host and the issuer's differ")
  }
  return {
    states: new Map(views.map(({ name, state }) => [name, state.state])),
    skewed,
    sshd: sshdState,
  }
}

function reportSshd(
  log: Log,
  before: SshdRecord['state'],
  state: SshdRecord['state'],
  views: readonly HostKeyView[],
): void {
  const reason = views.map(({ served }) => (served.kind === 'not-asked' ? null : served.unknown)).find(isText)
  if (state === 'down') {
    log.warn({ code: 'SSHD_UNREACHABLE' }, `sshd accepts no connections: ${reason ?? 'no reason given'}`)
  } else if (state === 'unknown') {
    const why = reason ?? 'no reason given'
    log.warn({ code: 'SSHD_UNREACHABLE' }, `what sshd presents is unknown: ${why}`)
  } else if (state === 'up' && before !== null) {
    log.info({}, 'sshd answers again')
  }
}

function isText(reason: string | null): reason is string {
  return reason !== null
}

function reportState(log: Log, { name, subject, onDisk, state }: HostKeyView): void {
  const certificate = onDisk.kind === 'absent' ? null : onDisk.certificate
  const fields: LogFields = {
    host_key: name,
    serial: certificate === null ? null : String(certificate.serial),
  }
  switch (state.state) {
    case 'expired':
      log.error({ ...fields, code: 'CERT_EXPIRED' }, 'the certificate has expired')
      return
    case 'overdue':
      log.error({ ...fields, code: state.reason }, 'the renewal is overdue')
      return
    case 'invalid':
      // Of a key that can be certified another certificate is asked for, and what comes of that is logged.
      if (subject === null && onDisk.kind === 'unusable')
        log.error({ host_key: name, code: onDisk.failure.code }, onDisk.failure.message)
      return
    case 'ignored':
      // One that sshd does not offer was logged when that was found out.
      if (subject === null) log.info({ host_key: name }, `host key ignored: ${state.reason}`)
      return
    case 'absent':
    case 'unconfirmed':
    case 'due':
    case 'valid':
  }
}
