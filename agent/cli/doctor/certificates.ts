import type { CertificateStatus } from '../../core/status-document.ts'
import { formatDuration, parseTime } from '../../core/time.ts'
import { failureLine } from '../verb-error.ts'
import { failure, ok, skipped, warning, type Finding } from './finding.ts'

/** What to do when nothing has been tried yet. */
const START = 'start the daemon (`systemctl start hostcertd`), or once by hand: `hostcertd renew`'

/** The certificate of each host key, as it lies on disk, with the last error. */
export function examineCertificates(certificates: readonly CertificateStatus[], now: number): Finding[] {
  return certificates.map((certificate) => examine(certificate, now))
}

function examine(certificate: CertificateStatus, now: number): Finding {
  const { certificate: path, state, reason, last_error: error, failures, serial } = certificate
  const last = error === null ? '' : `; the last attempt: ${failureLine(error)} (${failures} in a row)`
  const remedy =
    error === null ? START : 'mend what the last attempt says, see the steps above; then `hostcertd renew`'
  switch (state) {
    case 'ignored':
      return skipped('certificates', `${certificate.host_key} is left alone: ${reason}`)
    case 'absent':
      return failure('certificates', `there is no ${path}${last}`, remedy)
    case 'expired':
      return failure(
        'certificates',
        `${path} ended ${formatDuration(-left(certificate, now))} ago${last}`,
        remedy,
      )
    case 'invalid':
      return failure(
        'certificates',
        `${path} cannot be used: ${reason}${last}`,
        invalidRemedy(reason, remedy),
      )
    case 'overdue':
      return failure(
        'certificates',
        `${path} ends in ${formatDuration(left(certificate, now))} and is not renewed${last}`,
        remedy,
      )
    case 'due':
    case 'unconfirmed':
    case 'valid': {
      const what = `${path}: serial ${serial}, ${formatDuration(left(certificate, now))} left`
      if (failures === 0 || error === null) return ok('certificates', what)
      return warning('certificates', `${what}${last}`, remedy)
    }
  }
}

/** Seconds; `Infinity` for one that never ends. */
function left({ valid_before }: CertificateStatus, now: number): number {
  return valid_before === null ? Infinity : parseTime(valid_before) - now
}

function invalidRemedy(reason: string | null, otherwise: string): string {
  switch (reason ?? '') {
    case 'CERT_KEY_MISMATCH':
      return `the host key was replaced: ${START}`
    case 'CERT_CA_MISMATCH':
      return 'if the CA was changed on purpose, put its public key into verify.host_ca_file; then `hostcertd renew`'
    case 'CERT_PRINCIPALS_MISMATCH':
      return 'register the lacking name at the issuer, or take it out of verify.principals'
    case 'CONFIG_INVALID':
      return 'see configuration above'
    case 'HOST_KEY_UNREADABLE':
      return 'see host-keys above'
    default:
      return otherwise
  }
}
