import { cp, mkdir, readFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { command } from './commands.ts'
import type { Host } from './host.ts'
import { packages } from './installed-host.ts'
import { HOSTNAME } from './network.ts'
import { baseRoot, type Release } from './releases.ts'

const HALF_AN_HOUR = 1_800_000

/** A signed repository of the packages under test, in the host: it has no network but to its issuer. */
export interface Repository {
  /** As seen from inside. */
  readonly url: string
  /** The public key, on the machine. */
  readonly key: string
  readonly fingerprint: string
}

/** @param folder an existing folder for it and its signing key */
export async function makeRepository(host: Host, folder: string): Promise<Repository> {
  await command(['sh', resolve('test/support/ensure-tools.sh'), 'repository'])
  const env = { ...process.env, GNUPGHOME: join(folder, 'gnupg') }
  await mkdir(env.GNUPGHOME, { mode: 0o700 })
  const key = ['--quick-generate-key', 'packages@example.com', 'rsa3072', 'sign', 'never']
  try {
    await command(['gpg', '--batch', '--quiet', '--passphrase', '', ...key], { env })
    const out = join(folder, 'repository')
    const options = ['--packages', dirname(packages().deb), '--out', out, '--key', 'packages@example.com']
    await command(['sh', 'packaging/repository.sh', ...options], { env })
    await cp(out, join(host.container.root, 'srv/repository'), { recursive: true })
    // Those of Debian are out of reach.
    await host.container.sh('rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*')
    const listed = await command(['gpg', '--batch', '--with-colons', '--list-keys'], { env })
    const fingerprint = /^fpr:+([0-9A-F]{40}):/m.exec(listed)?.[1] ?? 'no fingerprint'
    return { url: 'file:///srv/repository', key: join(out, 'hostcertd.asc'), fingerprint }
  } finally {
    await command(['gpgconf', '--kill', 'all'], { env })
  }
}

/**
 * Install packages of the distribution in a host, with the machine's own network, which chroot shares; and what the
 * package under test recommends.
 */
export async function installFromDebian({ container }: Host, names: readonly string[]): Promise<void> {
  const inRoot = ['chroot', container.root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C.UTF-8']
  const install = [
    'apt-get',
    '-qq',
    '--option=DPkg::Options::=--force-unsafe-io',
    'install',
    '--yes',
    '--no-install-recommends',
    'ca-certificates',
    ...names,
  ]
  await command([...inRoot, ...install], { timeout: HALF_AN_HOUR })
}

/** Whether the archive of a release has a package, as far as its base root knows. */
export async function isInDebian(release: Release, name: string): Promise<boolean> {
  const policy = await command(['chroot', baseRoot(release), 'env', 'LC_ALL=C', 'apt-cache', 'policy', name])
  return /^ {2}Candidate: \d/m.test(policy)
}

/** What `enroll` needs to know of a host that is registered, and the secret that it reads from standard input. */
export async function enrollOptions({
  container,
  issuer,
}: Host): Promise<{ readonly options: readonly string[]; readonly secret: string }> {
  const hostId = String(await issuer.ask({ do: 'add-host', hostname: HOSTNAME, ttlSeconds: 86_400 }))
  const identity = (await issuer.ask({ do: 'add-identity' })) as { clientId: string; clientSecret: string }
  await container.write('/etc/ssl/issuer-ca.pem', await readFile(issuer.facts.tlsCaFile, 'utf8'))
  const options = [
    `--url=${issuer.facts.url}`,
    '--ca-file=/etc/ssl/issuer-ca.pem',
    `--host-id=${hostId}`,
    `--hostname=${HOSTNAME}`,
    '--auth=universal-auth',
    `--client-id=${identity.clientId}`,
  ]
  return { options, secret: identity.clientSecret }
}
