import type { UnixSeconds } from '../cert/time.ts'
import type { Config, HttpIssuerConfig } from '../config/config.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Clock } from '../renewal/ports.ts'
import type { Settings } from './configuration.ts'
import type { Journal } from './journal.ts'
import type { LoginMethodName } from './login-options.ts'
import type { Mode, Person } from './show.ts'

/** What the issuer takes as `--project` and `--alias`. */
export { ALIAS, PROJECT_ID } from '../issuer/host-questions.ts'

export const SSHD_CONFIG = '/etc/ssh/sshd_config'
export const CONFIG_FILE = '/etc/hostcertd/hostcertd.yaml'
export const CREDENTIALS_FOLDER = '/etc/hostcertd/credentials'
export const HOST_CA_FILE = '/etc/hostcertd/host-ca.pub'
/** The environment of the service. */
export const DEFAULTS_FILE = '/etc/default/hostcertd'

/** sshd is asked every few seconds, and a first certificate is there within a few more. */
export const USUAL_WAIT_SECONDS = 120
/** Machines that boot together are spread over this time. */
export const USUAL_JITTER_SECONDS = 60

/** The options of the verb, checked one by one. */
export interface EnrollOptions {
  readonly url: string | null
  readonly hostId: string | null
  readonly project: string | null
  /** In lower case. */
  readonly hostname: string | null
  readonly register: { readonly ttl: string | null; readonly alias: string | null } | null
  readonly fromCertificate: boolean
  readonly method: LoginMethodName | null
  /** By the names of the configuration: `client_secret_file`. */
  readonly login: Readonly<Record<string, string | readonly string[]>>
  readonly adminTokenFile: string | null
  readonly caFile: string | null
  /** `SHA256:…` */
  readonly caFingerprints: readonly string[]
  readonly takeOver: boolean
  /** The user CA is put in place, and kept there by a timer: only one with these fingerprints, if there are any. */
  readonly userCa?: { readonly fingerprints: readonly string[] } | null
  readonly onCopy: 'warn' | 'stop' | null
  readonly mode: Mode
  readonly waitSeconds: number
  /** The host is deleted at the issuer when this machine is powered off. */
  readonly ephemeral?: boolean
  /** Of the first boot of copies, and of the return of an ephemeral machine. */
  readonly jitterSeconds?: number
  /** At a boot, by the template of an image; left out: by a person or a program. */
  readonly atBoot?: AtBoot
}

interface AtBoot {
  /** The text of each `credential:NAME` that the template brought. */
  readonly secrets: Readonly<Record<string, string>>
}

/**
 * What `enroll` sets besides the host's id and name: what the options say, and nothing where they say nothing.
 *
 * @param login the section `auth`
 */
export function settingsOf(
  { url, caFile, onCopy, userCa = null }: Pick<EnrollOptions, 'url' | 'caFile' | 'onCopy' | 'userCa'>,
  login: Settings,
): Settings {
  return [
    ...(url === null ? [] : ([[['issuer', 'url'], url]] as const)),
    ...(caFile === null ? [] : ([[['issuer', 'ca_file'], caFile]] as const)),
    ...login,
    ...(onCopy === null ? [] : ([[['enrollment', 'on_copy'], onCopy]] as const)),
    ...(userCa === null ? [] : ([[['user_ca', 'install'], true]] as const)),
    ...(userCa === null || userCa.fingerprints.length === 0
      ? []
      : ([[['user_ca', 'fingerprints'], userCa.fingerprints]] as const)),
  ]
}

/** Until the host is known: a UUID, which the configuration needs. */
export const NO_HOST = '00000000-0000-0000-0000-000000000000'

export interface EnrollTools {
  readonly version: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly person: Person
  readonly journal: Journal
  /** Names of this machine, the full one last. */
  readonly hostNames: () => Promise<readonly string[]>
  /**
   * An exchange as a user of its own.
   *
   * @param secrets of `credential:NAME`, by name
   * @param proxy variables, where the environment has none; left out: those of the exchange's own
   */
  readonly openExchange: (
    issuer: HttpIssuerConfig,
    secrets: Readonly<Record<string, string>>,
    proxy?: Readonly<Record<string, string>>,
  ) => ExchangeClient
  /**
   * @param limits only what is seen since then counts; that is waited for so long, and longer while the issuer says "later"
   * @returns what is missing then; null when all is served
   */
  readonly untilServed: (
    config: Pick<Config, 'health' | 'verify'>,
    limits: { readonly since: UnixSeconds; readonly seconds: number },
    signal: AbortSignal,
  ) => Promise<string | null>
  /** `sshd -t`: null when it accepts the configuration, otherwise why not, or why that is not known. */
  readonly testSshd: (signal: AbortSignal) => Promise<string | null>
  /** Null when sshd has read its configuration again, otherwise why not. */
  readonly reloadSshd: (signal: AbortSignal) => Promise<string | null>
}
