import type { CertificateState } from '../core/certificate-state.ts'
import { SKEW_WARNING_SECONDS } from '../core/status-document.ts'
import type { HostKeyView } from './observe.ts'
import type { Log, LogFields } from './ports.ts'

/** What was told of a host, so that it is told once. */
export interface Told {
  /** By host key name. */
  readonly states: ReadonlyMap<string, CertificateState>
  readonly skewed: boolean
}

export const NOTHING_TOLD: Told = { states: new Map(), skewed: false }

/**
 * Log what became of the host keys by themselves, when it does: that a certificate grew overdue or expired, that a host
 * key cannot be read or is left alone, that the clocks differ. What an attempt or a reload leads to is told there.
 *
 * @param skewSeconds the issuer's clock minus ours; null when unknown
 * @returns for the next call
 */
export function tellChanges(
  log: Log,
  before: Told,
  views: readonly HostKeyView[],
  skewSeconds: number | null,
): Told {
  for (const view of views) {
    if (before.states.get(view.name) !== view.state.state) tellState(log, view)
  }
  const skewed = skewSeconds !== null && Math.abs(skewSeconds) > SKEW_WARNING_SECONDS
  if (skewed && !before.skewed) {
    log.warn({ clock_skew_seconds: skewSeconds }, "the clock of this host and the issuer's differ")
  }
  return { states: new Map(views.map(({ name, state }) => [name, state.state])), skewed }
}

function tellState(log: Log, { name, subject, onDisk, state }: HostKeyView): void {
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
      // Of a key that can be certified another certificate is asked for, and what comes of that is told.
      if (subject === null && onDisk.kind === 'unusable')
        log.error({ host_key: name, code: onDisk.failure.code }, onDisk.failure.message)
      return
    case 'ignored':
      // One that sshd does not offer was told of when that was found out.
      if (subject === null || onDisk.kind === 'absent')
        log.info({ host_key: name }, `the host key is left alone: ${state.reason}`)
      return
    case 'absent':
    case 'unconfirmed':
    case 'due':
    case 'valid':
  }
}
