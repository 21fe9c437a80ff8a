import { realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { factsOf, tryWriting, type User, whyDenied, type WriteProblem } from '../host/file-access.ts'
import { failure, type Finding, ok, skipped, unknown } from './finding.ts'
import type { Patient } from './patient.ts'
import { obstacleIn, type ServiceSandbox } from './sandbox.ts'

/**
 * What root can read and the daemon cannot: an administrator with a strict umask made it.
 *
 * @param files of the configuration
 */
export async function examineReadable(
  { config, daemonUser, exchangeUser, host }: Patient,
  files: readonly string[],
): Promise<Finding[]> {
  const caFile = config.issuer.kind === 'http' ? config.issuer.caFile : null
  const named = [config.verify.hostCaFile, caFile].filter((file) => file !== null)
  const keys = (await host.hostKeys.list()).map(({ path }) => path)
  const findings: Finding[] = []
  const readers = [
    { user: daemonUser, who: 'as whom the daemon runs', paths: [...files, ...named, ...keys] },
    { user: exchangeUser, who: 'who asks the issuer', paths: [...files, caFile ?? []].flat() },
  ]
  const readings = readers.flatMap(({ user, who, paths }) =>
    user === null ? [] : paths.map((path) => ({ user, who, path })),
  )
  for (const { user, who, path } of readings) {
    // What is missing is reported by the step that needs it.
    if ((await factsOf(path).catch(() => null)) === null) continue
    const denied = await whyDenied(path, user, 'read')
    if (denied === null) continue
    const message = `user ${user.uid}, ${who}, cannot read ${path}: ${denied}`
    const remedy = `\`chmod 644 ${path}\`; others must be able to enter the folders above it (\`chmod o+x\`)`
    findings.push(failure('configuration', message, remedy))
  }
  return findings
}

/** Of a record of three host keys, and of a certificate, with room to grow. */
const LEAST_BYTES = 16 * 1024

/** How a folder is asked for. */
type Setting = 'state_directory' | 'certificates.directory'

/**
 * Whether the daemon can write where certificates and its record go. A file is written there, and removed.
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
  const make = `\`install -d -o ${uid} -g ${gid} -m 755 ${folder}\``
  const who = `user ${uid}, as whom the daemon runs,`
  let there: string
  try {
    there = await nearest(folder)
    if (!(await factsOf(there)).isFolder)
      return failure('directory', `${there} is not a folder`, `move it away; then ${make}`)
  } catch (error) {
    return failure('directory', `${folder}: ${reasonOf(error)}`, make)
  }
  const obstacle = sandbox === null ? null : obstacleIn(sandbox, await realpath(there), setting)
  if (obstacle !== null) return failure('directory', `${folder}: ${obstacle.why}`, obstacle.remedy)
  const bytes = Math.max(LEAST_BYTES, await sizeOf(join(folder, 'attempts.json')))
  const outcome = await tryWriting(there, { uid, gid }, bytes, signal)
  if (outcome === 'untried') {
    const message = `whether ${who} can write in ${folder} could not be tried`
    return unknown('directory', message, 'run `sudo hostcertd doctor`')
  }
  if (outcome !== 'written') {
    const remedy = outcome.kind === 'denied' ? make : remedyFor(outcome, there, setting, uid)
    return failure('directory', `${who} cannot write in ${folder}: ${outcome.why}`, remedy)
  }
  return there === folder
    ? ok('directory', `${who} can write in ${folder}`)
    : skipped('directory', `there is no ${folder} yet; the daemon makes it`)
}

function remedyFor({ kind }: WriteProblem, folder: string, setting: Setting, uid: number): string {
  const elsewhere = `or set ${setting} to a folder on another file system`
  switch (kind) {
    case 'full':
      return `free space there (\`df -h ${folder}\`), ${elsewhere}`
    case 'no-inodes':
      return `remove files there (\`df -i ${folder}\`), ${elsewhere}`
    case 'quota':
      return `raise the limit of user ${uid} (\`quota -u '#${uid}'\`, \`repquota -a\`), ${elsewhere}`
    case 'read-only':
      return `\`findmnt -T ${folder}\` shows which: mount it writable, ${elsewhere}. A damaged disk becomes read-only: \`dmesg\``
    case 'denied':
    case 'other':
      return `look at the file system (\`findmnt -T ${folder}\`, \`dmesg\`), ${elsewhere}`
  }
}

/** 0 when there is no such file. */
async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  )
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
