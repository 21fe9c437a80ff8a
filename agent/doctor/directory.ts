import { realpath, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import { factsOf, tryWriting, type User, whyDenied, type WriteProblem } from '../host/file-access.ts'
import { runProgram } from '../host/programs.ts'
import { failure, type Finding, ok, type Examined, skipped, unknown } from './finding.ts'

/**
 * Files that root can read, but the daemon or the exchange cannot, as a strict umask makes them.
 *
 * @param files of the configuration
 */
export async function examineReadable(
  { config, daemonUser, exchangeUser, host }: Examined,
  files: readonly string[],
): Promise<Finding[]> {
  const caFile = config.issuer.kind === 'http' ? config.issuer.caFile : null
  const named = [config.verify.hostCaFile, caFile].filter((file) => file !== null)
  const keys = (await host.hostKeys.list()).map(({ path }) => path)
  const findings: Finding[] = []
  const readers = [
    { user: daemonUser, who: "the daemon's user", paths: [...files, ...named, ...keys] },
    {
      user: exchangeUser,
      who: 'the user of the exchange',
      paths: [...files, caFile ?? []].flat(),
    },
  ]
  const readings = readers.flatMap(({ user, who, paths }) =>
    user === null ? [] : paths.map((path) => ({ user, who, path })),
  )
  for (const { user, who, path } of readings) {
    // What is missing is reported by the step that needs it.
    if ((await factsOf(path).catch(() => null)) === null) continue
    const denied = await whyDenied(path, user, 'read')
    if (denied === null) continue
    const message = `${who} (${user.uid}) cannot read ${path}: ${denied}`
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
  { config, daemonUser, signal }: Pick<Examined, 'config' | 'daemonUser' | 'signal'>,
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
  const who = `the daemon's user (${uid})`
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
    const message = `could not check whether ${who} can write to ${folder}`
    return unknown('directory', message, 'run `sudo hostcertd doctor`')
  }
  if (outcome !== 'written') {
    const remedy = outcome.kind === 'denied' ? make : remedyFor(outcome, there, setting, uid)
    return failure('directory', `${who} cannot write to ${folder}: ${outcome.why}`, remedy)
  }
  return there === folder
    ? ok('directory', `${who} can write to ${folder}`)
    : skipped('directory', `${folder} does not exist yet; the daemon creates it`)
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
      return `\`findmnt -T ${folder}\` shows the file system: mount it read-write, ${elsewhere}. A damaged disk becomes read-only: \`dmesg\``
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

/** Why the service cannot put files where they are wanted, and what to do. */
interface Obstacle {
  readonly why: string
  readonly remedy: string
}

/** What `ProtectHome` is about, systemd.exec(5). */
const HOMES = ['/home', '/root', '/run/user']
const TEMPORARY = ['/tmp', '/var/tmp']
/** What of the system is read-only at each level. */
const PROTECTED: Readonly<Record<string, readonly string[]>> = {
  yes: ['/usr', '/boot', '/efi'],
  full: ['/usr', '/boot', '/efi', '/etc'],
  strict: ['/'],
}

/**
 * What of the service's sandbox keeps it from writing in a folder, which root and the modes of files do not show.
 *
 * @param folder absolute, links resolved
 * @param setting that names the folder
 * @returns null when nothing does
 */
export function obstacleIn(sandbox: ServiceSandbox, folder: string, setting: string): Obstacle | null {
  const elsewhere = `set ${setting} to a folder below /var/lib/hostcertd`
  if (sandbox.hasPrivateTmp && isBelow(folder, TEMPORARY))
    return {
      why: 'hostcertd.service has a private /tmp (PrivateTmp), which sshd cannot see',
      remedy: elsewhere,
    }
  if (isBelow(folder, sandbox.writable)) return null
  if (sandbox.protectHome !== 'no' && sandbox.protectHome !== '' && isBelow(folder, HOMES))
    return {
      why: `hostcertd.service cannot write to home directories (ProtectHome=${sandbox.protectHome})`,
      remedy: elsewhere,
    }
  if (!isBelow(folder, PROTECTED[sandbox.protectSystem] ?? [])) return null
  return {
    why: `it is read-only for hostcertd.service (ProtectSystem=${sandbox.protectSystem})`,
    remedy: `${elsewhere}; or \`systemctl edit hostcertd\`, below [Service] the line \`ReadWritePaths=${folder}\`, and \`systemctl restart hostcertd\``,
  }
}

function isBelow(folder: string, parents: readonly string[]): boolean {
  return parents.some((parent) => !/^\.\.(?:\/|$)/.test(relative(parent, folder)))
}

/** What systemd lets the service write, by its unit and the drop-ins on it. */
export interface ServiceSandbox {
  /** `no`, `yes`, `full` (`/etc` too) or `strict` (everything): what is mounted read-only for it. */
  readonly protectSystem: string
  /** `no`, `yes`, `read-only` or `tmpfs`. */
  readonly protectHome: string
  /** Its `/tmp` and `/var/tmp` are its own, and nobody else's. */
  readonly hasPrivateTmp: boolean
  /** Folders that it may write below, whatever else is protected. */
  readonly writable: readonly string[]
}

interface SandboxOptions {
  /** systemctl(1); looked up in PATH. */
  readonly program?: string
}

const PROPERTIES = [
  'LoadState',
  'ProtectSystem',
  'ProtectHome',
  'PrivateTmp',
  'StateDirectory',
  'RuntimeDirectory',
  'CacheDirectory',
  'LogsDirectory',
  'ReadWritePaths',
] as const
type Property = (typeof PROPERTIES)[number]

/** systemd.exec(5): where the folders lie that a system service has of its own. */
const OWN_FOLDERS = [
  ['StateDirectory', '/var/lib'],
  ['RuntimeDirectory', '/run'],
  ['CacheDirectory', '/var/cache'],
  ['LogsDirectory', '/var/log'],
] as const
const TIMEOUT_MILLISECONDS = 5_000

/**
 * Ask systemd about a service. Changes nothing.
 *
 * @param unit `hostcertd.service`
 * @returns null without systemd, and without such a unit
 */
export async function readServiceSandbox(
  unit: string,
  signal: AbortSignal,
  { program = 'systemctl' }: SandboxOptions = {},
): Promise<ServiceSandbox | null> {
  const argv = [program, 'show', '--property', PROPERTIES.join(','), '--', unit]
  const { status, stdout } = await runProgram(argv, { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal })
  if (status !== 0) return null
  const lines = stdout.split('\n').map((line) => line.split(/=(.*)/s))
  const of = (wanted: Property): string => lines.find(([name]) => name === wanted)?.[1]?.trim() ?? ''
  if (of('LoadState') !== 'loaded') return null
  const paths = (wanted: Property): string[] =>
    of(wanted)
      .split(/\s+/)
      .filter((path) => path !== '')
  return {
    protectSystem: of('ProtectSystem'),
    protectHome: of('ProtectHome'),
    hasPrivateTmp: !['', 'no'].includes(of('PrivateTmp')),
    writable: [
      // `-/path` may be missing, `+/path` is meant below RootDirectory; `NAME:LINK` has a link beside it.
      ...paths('ReadWritePaths').map((path) => path.replace(/^[-+]+/, '')),
      ...OWN_FOLDERS.flatMap(([property, base]) =>
        paths(property).map((name) => `${base}/${name.split(':')[0] ?? ''}`),
      ),
    ],
  }
}
