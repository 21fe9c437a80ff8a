import { formatDuration, parseTime } from '../cert/time.ts'
import { failureLine } from '../cli/context.ts'
import type { CertificateStatus } from '../renewal/status-document.ts'
import { failure, type Finding, ok, remedyOf, skipped, type Step, warning } from './finding.ts'

/** Where the cause of a failed attempt may be found now, by how its code begins. */
const CAUSES: readonly (readonly [code: string, steps: readonly Step[]])[] = [
  ['ISSUER_', ['credentials', 'name', 'tcp', 'tls', 'issuer', 'clock', 'login', 'permission', 'issue']],
  ['LOGIN_', ['credentials', 'login']],
  ['CREDENTIAL_', ['credentials']],
  ['CONFIG_', ['configuration', 'name', 'tls']],
  ['CERT_', ['configuration', 'clock', 'issuer', 'permission', 'issue']],
  ['HOST_KEY_', ['host-keys']],
  ['STORE_', ['directory']],
  ['SSHD_', ['sshd-config', 'reload', 'served']],
]

/**
 * The certificate of each host key, as it is on disk, with the last error.
 *
 * @param earlier what all other steps found: the cause of a failed attempt may be among it
 */
export function examineCertificates(
  certificates: readonly CertificateStatus[],
  earlier: readonly Finding[],
  now: number,
): Finding[] {
  return certificates.map((certificate) => examine(certificate, earlier, now))
}

function examine(certificate: CertificateStatus, earlier: readonly Finding[], now: number): Finding {
  const { certificate: path, host_key, state, reason, last_error: error, failures, serial } = certificate
  const times = failures > 1 ? ` (${failures} in a row)` : ''
  const last = error === null ? '' : `; the last attempt: ${failureLine(error)}${times}`
  const remedy = error === null ? startRemedy(earlier) : remedyAfter(error.code, earlier)
  switch (state) {
    case 'ignored':
      return skipped('certificates', `${host_key}: host key ignored: ${reason}`)
    case 'absent':
      return failure('certificates', `${path} does not exist${last}`, remedy)
    case 'expired':
      return failure(
        'certificates',
        `${path} expired ${formatDuration(-left(certificate, now))} ago${last}`,
        remedy,
      )
    case 'invalid':
      // The host key is what is wrong; its own step says how.
      if (reason === 'HOST_KEY_UNREADABLE')
        return skipped('certificates', `${host_key}: needs a readable public host key`)
      return failure(
        'certificates',
        `${path} cannot be used: ${reason}${last}`,
        invalidRemedy(reason, remedy, earlier),
      )
    case 'overdue':
      return failure(
        'certificates',
        `${path} expires in ${formatDuration(left(certificate, now))} and has not been renewed${last}`,
        remedy,
      )
    case 'due':
    case 'unconfirmed':
    case 'valid': {
      const what = `${path}: serial ${serial}, ${formatDuration(left(certificate, now))} left`
      // What concerns sshd is in the step `served`.
      if (error === null || failures === 0) return ok('certificates', what)
      return warning('certificates', `${what}${last}`, remedy)
    }
  }
}

/** Seconds; `Infinity` for one that never expires. */
function left({ valid_before }: CertificateStatus, now: number): number {
  return valid_before === null ? Infinity : parseTime(valid_before) - now
}

/** When nothing has been tried yet. */
function startRemedy(earlier: readonly Finding[]): string {
  const isRunning = earlier.some(({ step, status }) => step === 'daemon' && status === 'ok')
  return isRunning
    ? '`hostcertd renew` requests one now'
    : 'start the daemon (`systemctl start hostcertd`), or run `hostcertd renew` once'
}

/** The cause as it is found now; where none is, what the code stands for. */
function remedyAfter(code: string, earlier: readonly Finding[]): string {
  const steps = CAUSES.find(([prefix]) => code.startsWith(prefix))?.[1] ?? []
  const cause = earlier.find(({ step, status }) => steps.includes(step) && status === 'failure')
  if (cause !== undefined) return `${cause.remedy}; then \`hostcertd renew\``
  const isWayFree = earlier.some(({ step, status }) => step === 'tcp' && status === 'ok')
  // `renew` does not end that wait.
  if (code === 'LOGIN_LOCKED') return remedyOf(code)
  if (code === 'ISSUER_UNREACHABLE' && isWayFree) return 'the issuer is reachable now: `hostcertd renew`'
  return `${remedyOf(code)}; then \`hostcertd renew\``
}

function invalidRemedy(reason: string | null, otherwise: string, earlier: readonly Finding[]): string {
  switch (reason ?? '') {
    case 'CERT_KEY_MISMATCH':
      return `the host key was replaced: ${startRemedy(earlier)}`
    case 'CERT_CA_MISMATCH':
      return remedyOf('CERT_CA_MISMATCH')
    case 'CERT_PRINCIPALS_MISMATCH':
      return remedyOf('CERT_PRINCIPALS_MISMATCH')
    case 'CONFIG_INVALID':
      return remedyAfter('CONFIG_INVALID', earlier)
    default:
      return otherwise
  }
}
