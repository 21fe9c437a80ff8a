import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { command } from './commands.ts'
import type { Container } from './container.ts'
import { debianMirror } from './debian-mirror.ts'
import type { Suite } from './selection.ts'

const TEN_MINUTES = 600_000
const INSTALL = ['apt-get', '-qq', '--yes', '--no-install-recommends']
const APT = [...INSTALL, 'install', 'openssh-server', 'openssh-client']

/**
 * Let a host's apt know a later release, and fetch what openssh-server needs of it. By its own apt and into its own
 * files, but from outside, with the machine's network: the host has none.
 */
export async function offerRelease(container: Container, suite: Suite): Promise<void> {
  await writeFile(join(container.root, 'etc/apt/sources.list'), `deb ${await debianMirror()} ${suite} main\n`)
  const outside = ['chroot', container.root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C.UTF-8']
  // A mirror that lags behind has a list of testing that says it is out of date.
  const update = ['apt-get', '-qq', '-o', 'Acquire::Check-Valid-Until=false', 'update']
  await command([...outside, ...update], { timeout: TEN_MINUTES })
  await command([...outside, ...APT, '--download-only'], { timeout: TEN_MINUTES })
}

/** Upgrade openssh-server, and what it needs, to the release that was offered last. */
export async function upgradeOpenSsh(container: Container): Promise<void> {
  await container.run([...APT, '--no-download'], { timeout: TEN_MINUTES })
}

/** As dpkg has it. */
export async function openSshVersion(container: Container): Promise<string> {
  return await container.run(['dpkg-query', '--show', '--showformat=${Version}', 'openssh-server'])
}
