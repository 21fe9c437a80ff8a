import { factsOf, whyDenied } from '../../adapters/file-access.ts'
import { reasonOf, systemCodeOf } from '../../system/one-line.ts'
import { failure, ok, skipped, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

/**
 * What root can read and the daemon cannot: an administrator with a strict umask made it.
 *
 * @param files of the configuration
 */
export async function examineReadable(
  { config, daemonUser, host }: Patient,
  files: readonly string[],
): Promise<Finding[]> {
  const named = [config.verify.hostCaFile, config.issuer.caFile].filter((file) => file !== null)
  const keys = (await host.hostKeys.list()).map(({ path }) => path)
  const findings: Finding[] = []
  for (const path of [...files, ...named, ...keys]) {
    // What is not there at all is told where it is needed.
    if ((await factsOf(path).catch(() => null)) === null) continue
    const denied = await whyDenied(path, daemonUser, 'read')
    if (denied === null) continue
    const message = `user ${daemonUser.uid}, as whom the daemon runs, cannot read ${path}: ${denied}`
    const remedy = `chmod 644 ${path}, and let others through the folders above it (chmod o+x)`
    findings.push(failure('configuration', message, remedy))
  }
  return findings
}

/** Whether the daemon may write where certificates and its record go. */
export async function examineDirectories({ config, daemonUser }: Patient): Promise<Finding[]> {
  const findings: Finding[] = []
  const { uid, gid } = daemonUser
  for (const folder of new Set([config.stateDirectory, config.certificates.directory])) {
    const remedy = `install -d -o ${uid} -g ${gid} -m 755 ${folder}`
    try {
      const { isFolder } = await factsOf(folder)
      if (!isFolder) {
        findings.push(failure('directory', `${folder} is not a folder`, `move it away; then: ${remedy}`))
        continue
      }
    } catch (error) {
      const isMissing = systemCodeOf(error) === 'ENOENT'
      findings.push(
        isMissing
          ? skipped('directory', `there is no ${folder} yet; the daemon makes it when it may`)
          : failure('directory', `${folder}: ${reasonOf(error)}`, remedy),
      )
      continue
    }
    const denied = await whyDenied(folder, daemonUser, 'write')
    findings.push(
      denied === null
        ? ok('directory', `user ${uid}, as whom the daemon runs, may write in ${folder}`)
        : failure(
            'directory',
            `user ${uid}, as whom the daemon runs, may not write in ${folder}: ${denied}`,
            remedy,
          ),
    )
  }
  return findings
}
