import type { Container } from './container.ts'

/** What a host has: its files with type, mode and owner, its units, sshd's configuration. */
export interface Inventory {
  readonly files: readonly string[]
  readonly units: readonly string[]
  readonly sshd: string
}

/** What changes with any package, or by itself. */
const NOT_OURS = [
  '/var/lib/apt',
  '/var/lib/dpkg',
  '/var/cache',
  '/var/log',
  '/var/backups',
  '/var/tmp',
  '/var/lib/systemd',
  '/var/lib/private',
  '/etc/machine-id',
  '/srv',
  '/root',
]

/** Accounts change as well: the system user stays, as Debian's policy has it, for files may still be its. */
const ACCOUNTS = /^\/etc\/(passwd|group|shadow|gshadow|subuid|subgid|\.pwd\.lock)-?\t/

/** Look at a whole host. Two of these before and after can be compared with `toEqual`. */
export async function takeInventory(container: Container): Promise<Inventory> {
  const skip = NOT_OURS.flatMap((path) => ['-path', path, '-prune', '-o'])
  const found = await container.run(['find', '/', '-xdev', ...skip, '-printf', '%p\t%y %m %u:%g %l\n'])
  const running = await container.run([
    'find',
    '/run',
    '-xdev',
    '-iname',
    '*hostcertd*',
    '-printf',
    '%p\t%y\n',
  ])
  const units = await container.run(['systemctl', 'list-unit-files', '--no-legend', '--no-pager'])
  return {
    files: [...linesOf(found), ...linesOf(running)].filter((line) => !ACCOUNTS.test(line)).toSorted(),
    units: linesOf(units).toSorted(),
    sshd: await container.run(['sshd', '-T']),
  }
}

function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line !== '')
}
