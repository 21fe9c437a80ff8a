import type { CredentialSource, Login } from '../core/login.ts'
import type { Config } from './config.ts'
import { credentialPath, type CredentialReference } from './credentials.ts'
import type { Settings } from './schema.ts'

/** What the settings are to be read against. */
export interface ConfigContext {
  /** Of the main configuration file. */
  readonly folder: string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Where a host CA is pinned when the configuration does not say where; null when nothing is there. */
  readonly defaultHostCaFile: string | null
}

/** The issuer has a minute of each pass; a longer wait for one answer is never waited out. */
export const LONGEST_TIMEOUT_SECONDS = 60

/** The configuration by the names that the program uses. */
export function toConfig(settings: Settings, context: ConfigContext): Config {
  const { issuer, renewal, verify, sshd } = settings
  return {
    issuer: {
      url: issuer.url,
      sshHostId: issuer.ssh_host_id,
      caFile: issuer.ca_file ?? null,
      timeoutMilliseconds: Math.min(issuer.timeout, LONGEST_TIMEOUT_SECONDS) * 1000,
    },
    auth: toAuth(settings.auth, context),
    hostKeys: settings.host_keys,
    certificates: settings.certificates,
    renewal: {
      window: renewal.window,
      jitterRatio: renewal.jitter,
      tick: renewal.tick.expression,
      tickGapSeconds: renewal.tick.gapSeconds,
      maintenance: renewal.maintenance,
    },
    verify: {
      hostCaFile: verify.host_ca_file ?? context.defaultHostCaFile,
      principals: verify.principals ?? null,
    },
    sshd: {
      address: sshd.address,
      reload: sshd.reload,
      reloadCommand: sshd.reload_command ?? null,
    },
    health: settings.health,
    log: settings.log,
    stateDirectory: settings.state_directory,
  }
}

function toAuth(auth: Settings['auth'], { folder, environment }: ConfigContext): Login {
  const pathOf = (reference: CredentialReference): string => credentialPath(reference, folder, environment)
  if (auth.method === 'token') return { method: 'token', tokenFile: pathOf(auth.token_file) }
  return {
    method: 'universal-auth',
    clientId: clientIdOf(auth, pathOf),
    clientSecretFile: pathOf(auth.client_secret_file),
  }
}

function clientIdOf(
  auth: Extract<Settings['auth'], { method: 'universal-auth' }>,
  pathOf: (reference: CredentialReference) => string,
): CredentialSource {
  const { client_id: id, client_id_file: file } = auth
  // The schema lets through exactly one of them.
  return file === undefined ? { value: id ?? '' } : { file: pathOf(file) }
}
