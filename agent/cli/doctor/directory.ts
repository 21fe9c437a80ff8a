import { realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { factsOf, whyDenied, whyNotWritable, type User } from '../../adapters/file-access.ts'
import type { ServiceSandbox } from '../../adapters/service-sandbox.ts'
import { reasonOf, systemCodeOf } from '../../system/one-line.ts'
import { failure, ok, skipped, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'
import { obstacleIn } from './sandbox.ts'

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

/** How a folder is asked for. */
type Setting = 'state_directory' | 'certificates.directory'

/**
 * Whether the daemon may write where certificates and its record go.
 *
 * @param sandbox of the service; null where it is not one of systemd's
 */
export async function examineDirectories(
  { config, daemonUser, signal }: Pick<Patient, 'config' | 'daemonUser' | 'signal'>,
  sandbox: ServiceSandbox | null,
): Promise<Finding[]> {
  const { stateDirectory, certificates } = config
  const findings = [await examineDirectory(stateDirectory, 'state_directory', daemonUser, sandbox, signal)]
  if (certificates.directory !== stateDirectory) {
    const setting = 'certificates.directory'
    findings.push(await examineDirectory(certificates.directory, setting, daemonUser, sandbox, signal))
  }
  return findings
}

async function examineDirectory(
  folder: string,
  setting: Setting,
  { uid, gid }: User,
  sandbox: ServiceSandbox | null,
  signal: AbortSignal,
): Promise<Finding> {
  const make = `install -d -o ${uid} -g ${gid} -m 755 ${folder}`
  const who = `user ${uid}, as whom the daemon runs,`
  let there: string
  try {
    there = await nearest(folder)
    if (!(await factsOf(there)).isFolder)
      return failure('directory', `${there} is not a folder`, `move it away; then: ${make}`)
  } catch (error) {
    return failure('directory', `${folder}: ${reasonOf(error)}`, make)
  }
  const obstacle = sandbox === null ? null : obstacleIn(sandbox, await realpath(there), setting)
  if (obstacle !== null) return failure('directory', `${folder}: ${obstacle.why}`, obstacle.remedy)
  const denied = await whyNotWritable(there, { uid, gid }, signal)
  if (denied?.kind === 'read-only') {
    const remedy = `\`findmnt -T ${there}\` tells which: mount it writable, or set ${setting} elsewhere. A damaged disk is made read-only: \`dmesg\``
    return failure('directory', `${who} may not write in ${folder}: ${denied.why}`, remedy)
  }
  if (denied !== null) return failure('directory', `${who} may not write in ${folder}: ${denied.why}`, make)
  return there === folder
    ? ok('directory', `${who} may write in ${folder}`)
    : skipped('directory', `there is no ${folder} yet; the daemon makes it when it may`)
}

/** The folder itself, or the nearest above it that there is. */
async function nearest(folder: string): Promise<string> {
  try {
    await factsOf(folder)
    return folder
  } catch (error) {
    const above = dirname(folder)
    if (systemCodeOf(error) !== 'ENOENT' || above === folder) throw error
    return nearest(above)
  }
}
