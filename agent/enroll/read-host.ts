import { AgentError } from '../cert/errors.ts'
import type { Change } from './change.ts'
import type { Settings } from './configuration.ts'
import {
  type Configured,
  configuredWith,
  type Current,
  readCurrent,
  readPinned,
  requireAll,
} from './current.ts'
import { gatherFacts, type HostFacts } from './facts.ts'
import type { HostWish } from './find-host.ts'
import { hostnameOf, wishOf } from './host-wish.ts'
import { loginSettings, readSecrets } from './login-settings.ts'
import { firstOf, type OwnHostKey, ownCertificates, ownHostKeys } from './own-host-keys.ts'
import { planChanges, type Wanted } from './plan.ts'
import { requireReloadable } from './reload.ts'
import { CONFIG_FILE, type EnrollOptions, type EnrollTools, NO_HOST, settingsOf } from './wanted.ts'

/** What `enroll` knows of this host before the issuer is asked. */
export interface ThisHost {
  readonly hostname: string
  /** The one for which a certificate is issued first. */
  readonly hostKey: OwnHostKey
  readonly wish: HostWish
  /** Its id at the issuer, by the options or what is on this machine; null: the issuer is asked. */
  readonly knownId: string | null
  /** Which host at the issuer this machine was until now, by its enrollment or configuration; null: not known. */
  readonly idBefore: string | null
  /** As it is to be, for {@link knownId}. */
  readonly before: Configured
  /** What is planned by, but for what the issuer says. */
  readonly wanted: Omit<Wanted, 'text' | 'hostId' | 'cas' | 'userCa'>
  /** As it is to be for a host at the issuer. @throws AgentError CONFIG_INVALID */
  readonly configuredFor: (hostId: string | null, hostname: string | null) => Promise<Configured>
  readonly facts: HostFacts
  /** By `clock.uptime()`, when `facts` were gathered. */
  readonly gatheredAt: number
  /** Gather them again. */
  readonly gather: () => Promise<HostFacts>
}

/**
 * Read this host, and find whatever is wrong with its configuration or on it before a person or the issuer is asked.
 *
 * @throws AgentError; the signal's reason
 */
export async function readHost(
  options: EnrollOptions,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<ThisHost> {
  const { environment, person, clock } = tools
  const current = await readCurrent(tools)
  if (!current.isConfigured) requireAll(options, current)
  const login = loginSettings(options, current.method)
  const configuredFor = async (hostId: string | null, hostname: string | null): Promise<Configured> =>
    configuredWith(current, settingsFor(options, login.settings, current, hostId, hostname), environment)
  const isFound = current.hostId === null && (options.project !== null || options.fromCertificate)
  const base = await configuredFor(options.hostId ?? (isFound ? NO_HOST : null), options.hostname)
  const hostKeys = await ownHostKeys(base.config, signal)
  const hostKey = firstOf(hostKeys, base.config)
  const certificates = await ownCertificates(hostKeys)
  const certified = options.fromCertificate ? (certificates[0]?.hostId ?? null) : null
  const likelyId = options.hostId ?? current.hostId ?? certified
  const hostname = await hostnameOf(options.hostname, likelyId, current, certificates, tools)
  const wish = wishOf(options, current, hostname, certificates, base, tools)
  const knownId = wish.hostId ?? wish.configuredId ?? wish.registeredId
  const before = await configuredFor(knownId ?? NO_HOST, hostname)
  const pinned = await readPinned(before.config)
  const secrets = { ...options.atBoot?.secrets, ...(await readSecrets(login, person, signal)) }

  const wanted = {
    secrets,
    pinned,
    hostname,
    options,
    environment,
    enrollment: current.enrollment,
    now: clock.now(),
    by: environment['SUDO_USER'] ?? environment['USER'] ?? 'root',
    version: tools.version,
  }
  const gather = async (): Promise<HostFacts> =>
    gatherFacts(before.config, Object.keys(secrets), pinned.path, signal)
  const gatheredAt = clock.uptime()
  const facts = await gather()
  // A secret may have been waited for.
  requireAsRead(facts, CONFIG_FILE, current.text)
  requireAsRead(facts, pinned.path, pinned.text)
  const rehearsed = planChanges(
    { ...wanted, text: before.text, hostId: knownId ?? NO_HOST, cas: pinned.keys, userCa: null },
    facts,
  )
  if (!rehearsed.changes.some(isOfSshd)) await requireAccepted(tools, signal)
  await requireReloadable()
  const idBefore = current.enrollment?.host_id ?? current.hostId
  return {
    hostname,
    hostKey,
    wish,
    knownId,
    idBefore,
    before,
    wanted,
    configuredFor,
    facts,
    gather,
    gatheredAt,
  }
}

/** The settings that enroll adds to the configuration. Names that a person added stay. */
function settingsFor(
  options: EnrollOptions,
  login: Settings,
  current: Current,
  hostId: string | null,
  hostname: string | null,
): Settings {
  const isNew = hostname !== null && current.principals?.includes(hostname) !== true
  return [
    ...settingsOf(options, login),
    ...(hostId === null ? [] : ([[['issuer', 'ssh_host_id'], hostId]] as const)),
    ...(isNew ? ([[['verify', 'principals'], [hostname]]] as const) : []),
  ]
}

/** @throws AgentError STORE_FAILED when a file was changed since it was read */
function requireAsRead({ files }: HostFacts, path: string, text: string | null): void {
  if ((files.get(path)?.content.toString('utf8') ?? null) !== text)
    throw new AgentError('STORE_FAILED', CHANGED_MEANWHILE)
}

export const CHANGED_MEANWHILE =
  'somebody changed this host while enroll waited, so nothing was written: run this again'

export function isOfSshd(change: Change): boolean {
  return change.kind === 'file' && change.path.startsWith('/etc/ssh/')
}

/** @throws AgentError SSHD_CONFIG_INVALID */
export async function requireAccepted({ testSshd }: EnrollTools, signal: AbortSignal): Promise<void> {
  const why = await testSshd(signal)
  if (why !== null) throw new AgentError('SSHD_CONFIG_INVALID', `sshd refuses its configuration: ${why}`)
}
