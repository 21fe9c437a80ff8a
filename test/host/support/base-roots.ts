import { chmod, mkdir, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command, tryCommand } from './commands.ts'
import { debianMirror } from './debian-mirror.ts'
import type { Suite } from './selection.ts'

/** By release; those that were asked for. */
export type BaseRoots = Readonly<Partial<Record<Suite, string>>>

/** A host as an administrator has it, and rpm, for the rpm is tried on a Debian root too. */
const BARE_HOST = [
  'systemd',
  'systemd-sysv',
  'dbus',
  'libpam-systemd',
  'openssh-server',
  'openssh-client',
  'rpm',
]
const HALF_AN_HOUR = 1_800_000

/**
 * Fill a folder for each release with debootstrap, all at a time; one that is there already is left as it is.
 *
 * @param folder existing
 * @param dependencies of the package under test: containers have no network, so they must be there already
 */
export async function makeBaseRoots(
  folder: string,
  suites: readonly Suite[],
  dependencies: readonly string[],
): Promise<BaseRoots> {
  const mirror = await debianMirror()
  const roots = suites.map(async (suite) => {
    const root = join(folder, suite)
    if (!(await exists(root))) await makeRoot(root, suite, mirror)
    await installDependencies(root, dependencies)
    return [suite, root] as const
  })
  return Object.fromEntries(await Promise.all(roots))
}

/** As `ssh -V` has it. */
export async function openSshOf(root: string): Promise<string> {
  return (await tryCommand(['chroot', root, 'ssh', '-V'])).stderr.trim()
}

async function makeRoot(root: string, suite: string, mirror: string): Promise<void> {
  const unfinished = `${root}.unfinished`
  await mkdir(unfinished, { recursive: true })
  const include = `--include=${BARE_HOST.join(',')}`
  await command(['debootstrap', '--variant=minbase', include, suite, unfinished, mirror], {
    timeout: HALF_AN_HOUR,
  })
  // Every container is a host of its own, with its own id, made at its first boot.
  await writeFile(join(unfinished, 'etc/machine-id'), '')
  await writeFile(join(unfinished, 'etc/hostname'), 'web1\n')
  await writeFile(join(unfinished, 'etc/hosts'), '127.0.0.1 localhost\n127.0.1.1 web1.example.com web1\n')
  await chmod(unfinished, 0o755)
  await rename(unfinished, root)
}

/** With the machine's own network, which chroot shares. A base root never boots, so nothing starts in it. */
async function installDependencies(root: string, dependencies: readonly string[]): Promise<void> {
  const environment = ['env', 'DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C.UTF-8']
  const inRoot = (...argv: string[]) => ['chroot', root, ...environment, ...argv]
  const installed = await tryCommand(inRoot('dpkg-query', '--show', ...dependencies))
  if (dependencies.length === 0 || installed.status === 0) return
  const install = ['apt-get', '-qq', 'install', '--yes', '--no-install-recommends', ...dependencies]
  await command(inRoot(...install), { timeout: HALF_AN_HOUR })
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}
