import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { readBoundedFile } from '../host/files.ts'
import { runProgram } from '../host/programs.ts'
import { failure, type Finding, ok, skipped, warning } from './finding.ts'

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
