import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Agent } from './agent.ts'
import { startLocalIssuer, type LocalIssuer, type LocalIssuerOptions } from './local-issuer.ts'
import {
  certAuthorityLine,
  startPrivateSshd,
  type PrivateSshd,
  type PrivateSshdOptions,
} from './private-sshd.ts'
import { freePort } from './private-sshd/process.ts'
import { makeTemporaryFolder } from './temporary-folder.ts'

export const HOSTNAME = 'web1.example.com'

export interface WorldOptions {
  readonly ttlSeconds?: number
  readonly issuer?: Partial<LocalIssuerOptions>
  readonly sshd?: Partial<PrivateSshdOptions>
  /** Laid over the usual configuration, section by section. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly environment?: Readonly<Record<string, string>>
  readonly launch?: readonly string[]
}

/** An issuer, a host with a real sshd, and hostcertd, not started yet. `await using` takes all of it away. */
export interface World extends AsyncDisposable {
  readonly folder: string
  readonly issuer: LocalIssuer
  readonly hostId: string
  readonly sshd: PrivateSshd
  readonly agent: Agent
  /** The usual configuration with this laid over it. */
  readonly configWith: (changes: Readonly<Record<string, unknown>>) => object
  /** The one line of known_hosts that a client needs. */
  readonly knownHosts: () => string
}

export async function makeWorld(options: WorldOptions = {}): Promise<World> {
  const stack = new AsyncDisposableStack()
  try {
    const temporary = stack.use(await makeTemporaryFolder())
    const folder = temporary.path
    const issuerFolder = join(folder, 'issuer')
    const hostFolder = join(folder, 'host')
    const agentFolder = join(folder, 'agent')
    await Promise.all([issuerFolder, hostFolder, agentFolder].map(async (path) => mkdir(path)))
    const issuer = stack.use(await startLocalIssuer({ folder: issuerFolder, ...options.issuer }))
    const hostId = issuer.addHost({ hostname: HOSTNAME, ttlSeconds: options.ttlSeconds ?? 3600 })
    const { clientId, clientSecret } = issuer.addIdentity({ mayIssueFor: [hostId] })
    const sshd = stack.use(
      await startPrivateSshd({ folder: hostFolder, hostname: HOSTNAME, ...options.sshd }),
    )
    const secretFile = join(agentFolder, 'client-secret')
    await writeFile(secretFile, `${clientSecret}\n`, { mode: 0o600 })
    const usual: Readonly<Record<string, object | string>> = {
      issuer: { url: issuer.url, ssh_host_id: hostId, timeout: '5s' },
      auth: { method: 'universal-auth', client_id: clientId, client_secret_file: secretFile },
      host_keys: sshd.hostKeysPattern,
      certificates: { directory: sshd.certificateDirectory ?? join(hostFolder, 'certs') },
      sshd: { address: `127.0.0.1:${sshd.port}`, reload_command: [sshd.reloadScript] },
      verify: { host_ca_file: await pin(agentFolder, issuer) },
      health: { listen: `127.0.0.1:${await freePort()}` },
      log: { format: 'json', level: 'debug' },
      state_directory: join(agentFolder, 'state'),
    }
    const configWith = (changes: Readonly<Record<string, unknown>>): object => merge(usual, changes)
    const { environment = {}, launch } = options
    const config = configWith(options.config ?? {})
    const agent = stack.use(
      new Agent({ folder: agentFolder, config, environment, ...(launch === undefined ? {} : { launch }) }),
    )
    const owned = stack.move()
    return {
      folder,
      issuer,
      hostId,
      sshd,
      agent,
      configWith,
      knownHosts: () => certAuthorityLine(HOSTNAME, issuer.caPublicKey),
      [Symbol.asyncDispose]: async () => owned.disposeAsync(),
    }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}

async function pin(folder: string, issuer: LocalIssuer): Promise<string> {
  const path = join(folder, 'host-ca.pub')
  await writeFile(path, `${issuer.caPublicKey}\n`)
  return path
}

/** Maps merge one level deep, as `conf.d` would; undefined takes a key away. */
function merge(
  usual: Readonly<Record<string, object | string>>,
  changes: Readonly<Record<string, unknown>>,
): object {
  const merged: Record<string, unknown> = { ...usual }
  for (const [key, change] of Object.entries(changes)) {
    const before = merged[key]
    const areMaps = isMap(before) && isMap(change)
    merged[key] = areMaps ? { ...before, ...change } : change
  }
  return merged
}

function isMap(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
