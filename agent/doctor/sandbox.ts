import { relative } from 'node:path'
import { runProgram } from '../host/programs.ts'

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
      why: 'hostcertd.service has a /tmp of its own (PrivateTmp), so sshd never sees it',
      remedy: elsewhere,
    }
  if (isBelow(folder, sandbox.writable)) return null
  if (sandbox.protectHome !== 'no' && sandbox.protectHome !== '' && isBelow(folder, HOMES))
    return {
      why: `hostcertd.service may not write below home folders (ProtectHome=${sandbox.protectHome})`,
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
