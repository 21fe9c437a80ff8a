import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { formatDuration, parseTime } from '../cert/time.ts'
import { failureLine } from '../cli/context.ts'
import { readBoundedFile } from '../host/files.ts'
import { runProgram } from '../host/programs.ts'
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

interface Around {
  /** What all other steps found: the cause of a failed attempt may be among it. */
  readonly earlier: readonly Finding[]
  readonly now: number
  /** A copied machine that renews nothing. */
  readonly isStopped: boolean
}

/** The certificate of each host key, as it is on disk, with the last error. */
export function examineCertificates(certificates: readonly CertificateStatus[], around: Around): Finding[] {
  return certificates.map((certificate) => examine(certificate, around))
}

function examine(certificate: CertificateStatus, { earlier, now, isStopped }: Around): Finding {
  const { certificate: path, host_key, state, reason, last_error: error, failures, serial } = certificate
  const times = failures > 1 ? ` (${failures} in a row)` : ''
  const attempt = error === null ? '' : `; the last attempt: ${failureLine(error)}${times}`
  const last = isStopped ? '; nothing is renewed on this copied machine' : attempt
  const tried = error === null ? startRemedy(earlier) : remedyAfter(error.code, earlier)
  const remedy = isStopped ? remedyOf('MACHINE_COPIED') : tried
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
        isStopped ? remedy : invalidRemedy(reason, remedy, earlier),
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
      if (!isStopped && (error === null || failures === 0)) return ok('certificates', what)
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

/** What the policy lets sshd_t read of what certificates are labelled with: field notes, RHEL's targeted policy. */
const READABLE_TYPES = ['etc_t', 'sshd_key_t', 'cert_t']

/**
 * Whether SELinux lets sshd read the certificates.
 *
 * @param paths where sshd reads them; those that are not there yet are judged by their folder
 */
export async function examineSelinux(
  paths: readonly string[],
  signal: AbortSignal,
  selinux: Selinux = createSelinux(),
): Promise<Finding[]> {
  const mode = await selinux.mode()
  if (mode === null) return [skipped('selinux', 'SELinux is not enabled on this host')]
  const places = new Set(paths.map((path) => (existsSync(path) ? path : dirname(path))))
  const findings: Finding[] = []
  for (const place of places) {
    const type = await selinux.typeOf(place, signal)
    if (type === null) {
      findings.push(skipped('selinux', `the label of ${place} cannot be read`))
    } else if (READABLE_TYPES.includes(type)) {
      findings.push(ok('selinux', `${place} is ${type}, which sshd can read`))
    } else {
      const folder = dirname(paths.find((path) => path === place) ?? `${place}/x`)
      const message = `${place} is ${type}, which sshd cannot read (${mode})`
      const remedy = `semanage fcontext -a -t sshd_key_t '${folder}(/.*)?' && restorecon -R ${folder}`
      findings.push((mode === 'enforcing' ? failure : warning)('selinux', message, remedy))
    }
  }
  return findings
}

interface SelinuxOptions {
  /** `1` in it: enforcing, `0`: only logging. Missing: no SELinux. */
  readonly enforceFile?: string
  /** stat(1) of coreutils; looked up in PATH. */
  readonly program?: string
}

interface Selinux {
  /** Null where there is none. */
  mode(): Promise<'enforcing' | 'permissive' | null>
  /** The type in a file's label, `etc_t`; null when it has none or is not there. */
  typeOf(path: string, signal: AbortSignal): Promise<string | null>
}

const ENFORCE_FILE = '/sys/fs/selinux/enforce'
const TIMEOUT_MILLISECONDS = 5_000

/** What SELinux says of files. Node cannot read labels, stat(1) can. */
export function createSelinux(options: SelinuxOptions = {}): Selinux {
  const { enforceFile = ENFORCE_FILE, program = 'stat' } = options
  return {
    mode: async () => {
      try {
        return (await readBoundedFile(enforceFile, 16)).trim() === '1' ? 'enforcing' : 'permissive'
      } catch {
        return null
      }
    },
    typeOf: async (path, signal) => {
      const argv = [program, '--dereference', '--format=%C', '--', path]
      const { status, stdout } = await runProgram(argv, { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal })
      return status === 0 ? (stdout.trim().split(':')[2] ?? null) : null
    },
  }
}
