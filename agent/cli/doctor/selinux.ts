import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { createSelinux, type Selinux } from '../../adapters/selinux.ts'
import { failure, ok, skipped, warning, type Finding } from './finding.ts'

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
  if (mode === null) return [skipped('selinux', 'there is no SELinux on this host')]
  const places = new Set(paths.map((path) => (existsSync(path) ? path : dirname(path))))
  const findings: Finding[] = []
  for (const place of places) {
    const type = await selinux.typeOf(place, signal)
    if (type === null) {
      findings.push(skipped('selinux', `the label of ${place} cannot be read`))
    } else if (READABLE_TYPES.includes(type)) {
      findings.push(ok('selinux', `${place} is ${type}, which sshd may read`))
    } else {
      const folder = dirname(paths.find((path) => path === place) ?? `${place}/x`)
      const message = `${place} is ${type}, which sshd may not read (${mode})`
      const remedy = `semanage fcontext -a -t sshd_key_t '${folder}(/.*)?' && restorecon -R ${folder}`
      findings.push((mode === 'enforcing' ? failure : warning)('selinux', message, remedy))
    }
  }
  return findings
}
