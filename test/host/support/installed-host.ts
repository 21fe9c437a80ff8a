import { copyFile } from 'node:fs/promises'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, inject } from 'vitest'
import { HOST_KEY_TYPES } from './client.ts'
import { eventually } from './eventually.ts'
import { bootHost, type Host } from './host.ts'
import { HOSTNAME } from './network.ts'
import type { Packages } from './packages.ts'
import type { Release } from './releases.ts'
import { journal, readStatus } from './status.ts'

const MONTH_SECONDS = 30 * 86_400
/** How long a host may take from its enrolment to certificates that are served. */
export const SERVED_MILLISECONDS = 45_000

/** What the issuer signs; newer releases have a key besides of a type that it does not. */
const SIGNED: readonly string[] = HOST_KEY_TYPES

/** A host with the package, enrolled. */
export interface EnrolledHost extends Host {
  /** Its id at the issuer. */
  readonly hostId: string
}

export function packages(): Packages {
  const found = inject('hostTestPackages')
  if (found === null) throw new Error('no packages: the set-up of the host tests did not run as root')
  return found
}

/** Put a package into a host, as `apt install ./hostcertd.deb` and `rpm --install` do. */
export async function install(host: Host, kind: keyof Packages, file = packages()[kind]): Promise<string> {
  const inside = `/srv/hostcertd.${kind}`
  await copyFile(file, join(host.container.root, inside))
  // On a Debian root rpm's database is empty, so nothing that the rpm requires would be found in it.
  return kind === 'deb'
    ? await host.container.sh(
        `apt-get install --yes --no-install-recommends --allow-downgrades ${inside} 2>&1`,
      )
    : await host.container.sh(`rpm --install --nodeps ${inside} 2>&1`)
}

/**
 * Make a host a member as an administrator does by hand: configuration, credential, restart.
 *
 * @returns its id at the issuer
 */
export async function enrolByHand(host: Host, ttlSeconds = MONTH_SECONDS): Promise<string> {
  const { container, issuer } = host
  const hostId = String(await issuer.ask({ do: 'add-host', hostname: HOSTNAME, ttlSeconds }))
  const identity = (await issuer.ask({ do: 'add-identity' })) as { clientId: string; clientSecret: string }
  const configuration = `issuer:
  url: ${issuer.facts.url}
  ssh_host_id: ${hostId}
  ca_file: /etc/hostcertd/tls-ca.pem
auth:
  method: universal-auth
  client_id: ${identity.clientId}
  client_secret_file: credential:client-secret
verify:
  host_ca_file: /etc/hostcertd/host-ca.pub
  principals: [${HOSTNAME}]
`
  await container.write('/etc/hostcertd/tls-ca.pem', await readFile(issuer.facts.tlsCaFile, 'utf8'))
  await container.write('/etc/hostcertd/host-ca.pub', `${issuer.facts.caPublicKey}\n`)
  await container.write('/etc/hostcertd/credentials/client-secret', identity.clientSecret, 0o600)
  // Last, for the daemon looks for it each minute, and then for what it names.
  await container.write('/etc/hostcertd/hostcertd.yaml', configuration)
  await container.run(['systemctl', 'restart', 'hostcertd.service'])
  return hostId
}

/** Wait until every host key's certificate is served, by the agent's own account. @throws with its journal */
export async function untilServed(host: Host): Promise<void> {
  let states: readonly string[] = []
  try {
    await eventually('every certificate is served', SERVED_MILLISECONDS, async () => {
      const { certificates } = await readStatus(host.container)
      states = certificates.map(({ host_key, state }) => `${host_key} ${state}`)
      const signed = certificates.filter(({ key_type }) => SIGNED.includes(key_type))
      return signed.length > 0 && signed.every(({ state }) => state === 'valid')
    })
  } catch (cause) {
    const lines = await journal(host.container)
    const helper = await host.container.run([
      'journalctl',
      '--boot',
      '--no-pager',
      '--lines=20',
      '--output=cat',
    ])
    throw new Error(`states: ${states.join()}\nthe agent:\n${lines.join('\n')}\nall:\n${helper}`, { cause })
  }
}

/** Boot a host, install the .deb, enrol it, wait until it serves certificates. */
export async function bootEnrolledHost(release: Release): Promise<EnrolledHost> {
  const host = await bootHost(release)
  try {
    await install(host, 'deb')
    const hostId = await enrolByHand(host)
    await untilServed(host)
    return { ...host, hostId }
  } catch (error) {
    await host[Symbol.asyncDispose]()
    throw error
  }
}

/** One enrolled host for all tests of a `describe`; each test must leave it as it found it. */
export function sharedEnrolledHost(release: Release): () => EnrolledHost {
  let host: EnrolledHost | null = null
  beforeAll(async () => {
    host = await bootEnrolledHost(release)
  })
  afterAll(async () => {
    await host?.[Symbol.asyncDispose]()
  })
  return () => {
    if (host === null) throw new Error('the host is not booted yet: ask for it in a test')
    return host
  }
}
