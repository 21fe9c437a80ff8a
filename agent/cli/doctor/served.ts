import { validBeforeOf } from '../../core/host-certificate.ts'
import { formatDuration, type UnixSeconds } from '../../core/time.ts'
import { isCertifiable, type CertifiableView, type HostKeyView } from '../../renewal/observe.ts'
import type { ServedKnowledge } from '../../renewal/served-knowledge.ts'
import { failure, ok, skipped, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

/**
 * What sshd presented in a real handshake, against what is on disk.
 *
 * @param listen what sshd's configuration says it listens on
 */
export function examineServed(
  { config, host }: Patient,
  views: readonly HostKeyView[],
  { silence }: ServedKnowledge,
  listen: readonly string[],
): Finding[] {
  if (!host.served.enabled) return [skipped('served', 'sshd is not asked: sshd.address is none')]
  const keys = views.filter(isCertifiable).filter(({ state }) => state.state !== 'ignored')
  if (keys.length === 0) return [skipped('served', 'there is no host key to ask for')]
  if (silence !== null) {
    const { address } = config.sshd
    const where = typeof address === 'string' ? address : `${address.host}:${address.port}`
    const says = listen.length === 0 ? '' : `; by its configuration it listens on ${listen.join(', ')}`
    const remedy = `start sshd, or set sshd.address (${where}) to where it listens${says}`
    return [failure('served', `SSHD_UNREACHABLE: sshd does not answer: ${silence}`, remedy)]
  }
  return keys.map((view) => examine(view, host.clock.now()))
}

function examine({ name, served, onDisk }: CertifiableView, now: UnixSeconds): Finding {
  const reload =
    'see sshd-config and reload above; then reload sshd: `sshd -t && systemctl reload ssh` (sshd)'
  switch (served.kind) {
    case 'certificate': {
      const presented = `${name}: sshd presents serial ${served.certificate.serial}`
      // A reload would bring nothing better, at worst no certificate at all.
      if (onDisk.kind === 'absent')
        return skipped('served', `${presented}, which is no longer on disk: see certificates above`)
      if (onDisk.kind === 'unusable') {
        const which = served.matches ? 'which is what is on disk' : 'and what is on disk is of no use'
        return skipped('served', `${presented}, ${which} (${onDisk.failure.code}): see certificates above`)
      }
      if (served.matches) return ok('served', presented)
      const since = now - validBeforeOf(served.certificate)
      const ended = since < 0 ? '' : `, which ended ${formatDuration(since)} ago`
      const disk = `on disk is serial ${onDisk.certificate.serial}`
      return failure('served', `SSHD_NOT_SERVING: ${presented}${ended}, ${disk}`, reload)
    }
    case 'none':
      if (onDisk.kind !== 'usable')
        return skipped('served', `${name}: sshd presents none, and on disk is none that it could`)
      return failure('served', `SSHD_NOT_SERVING: ${name}: sshd presents no certificate`, reload)
    case 'not-asked':
    case 'unknown':
    case 'never-seen':
      return skipped('served', `${name}: sshd does not show this type beside another of its kind`)
  }
}
