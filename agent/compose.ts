import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import type { DaemonParts, HealthSources, Running, Watching } from './cli/daemon.ts'
import type { Config } from './config/config.ts'
import { PrometheusMetrics } from './health/metrics.ts'
import { HealthServer } from './health/server.ts'
import { createEnrolledMachine } from './host/enrollment.ts'
import { createHostKeys } from './host/host-keys.ts'
import { createPassLock } from './host/lock.ts'
import { createHostNames, systemClock } from './host/machine.ts'
import { createPinnedCas } from './host/pinned-cas.ts'
import { createMaintenanceWindow, createTicker } from './host/schedule.ts'
import { createServedCertificates } from './host/served-certificates.ts'
import { createSshd } from './host/sshd.ts'
import { createCertificateStore, createAttemptRecords } from './host/storage.ts'
import { createServiceManager } from './host/systemd.ts'
import { lastUserCaSuccess } from './host/user-ca-status.ts'
import { createFileWatcher, foldersOf } from './host/watch.ts'
import type { ExchangeWay } from './issuer/exchange-channel.ts'
import { createExchangeClient } from './issuer/exchange-client.ts'
import { createLog, isJournal, type StderrLog } from './log/log.ts'
import { rememberRecent, type RememberingLog } from './log/recent-events.ts'
import type { Host, Log, Metrics } from './renewal/ports.ts'
import type { VersionInfo } from './version.ts'

/**
 * One host from its configuration: every port with its real adapter. Does nothing yet.
 *
 * @param exchange how the issuer is asked
 */
export function composeHost(config: Config, log: Log, metrics: Metrics, exchange: ExchangeWay): Host {
  const { certificates, renewal, sshd, stateDirectory, verify } = config
  const clock = systemClock
  return {
    settings: {
      policy: { window: renewal.window, jitterRatio: renewal.jitterRatio },
      wantedPrincipals: verify.principals,
      reload: sshd.reload,
      maintenance: createMaintenanceWindow(renewal.maintenance),
      onCopy: config.enrollment.onCopy,
    },
    clock,
    log,
    metrics,
    hostKeys: createHostKeys({ patterns: config.hostKeys }),
    store: createCertificateStore({ directory: certificates.directory }),
    issuer: createExchangeClient({ ...exchange, settings: config, clock, metrics }),
    served: createServedCertificates({ address: sshd.address }),
    sshd: createSshd({ reloadCommand: sshd.reloadCommand }),
    records: createAttemptRecords({ stateDirectory, log }),
    lock: createPassLock({ stateDirectory, sweep: [stateDirectory, certificates.directory] }),
    pinnedCas: createPinnedCas({ path: verify.hostCaFile, log }),
    machine: createEnrolledMachine({ log }),
  }
}

/**
 * What is around the loop of the daemon.
 *
 * @param config null while not enrolled; then the log has its defaults
 */
export function composeDaemon(
  config: Config | null,
  version: VersionInfo,
  exchange: ExchangeWay,
): DaemonParts {
  const stderrLog = daemonLog(config, version)
  const log = rememberRecent(stderrLog, () => systemClock.now())
  const metrics = new PrometheusMetrics(version, lastUserCaSuccess)
  return {
    version: version.version,
    clock: systemClock,
    log,
    metrics,
    serviceManager: createServiceManager({ log }),
    configureLog: (changed) => stderrLog.configure({ ...logSettings(changed), version: version.version }),
    composeHost: (current) => {
      metrics.userCa(current.userCa.install)
      return composeHost(current, log, metrics, exchange)
    },
    startTicker: (expression, onTick) => startTicker(expression, onTick, log),
    startWatcher: async (current, onChange) => startWatcher(current, onChange, log),
    startHealthServer: async (health, sources) => startHealthServer(health, sources, version, log, metrics),
  }
}

/** Metrics of a verb that runs once: they are never read. */
export const NO_METRICS: Metrics = {
  renewal: () => {},
  reload: () => {},
  issuerRequest: () => {},
  loginFailed: () => {},
  turn: () => {},
  status: () => {},
}

/** @param config null while there is none; then the log has its defaults */
export function daemonLog(config: Config | null, { version }: VersionInfo): StderrLog {
  return createLog({ ...logSettings(config), version })
}

/** The log of a verb that acts once, for people: the verb itself reports success. */
export function verbLog(config: Config, { version }: VersionInfo): Log {
  return createLog({ ...verbLogSettings(config), version })
}

export function verbLogSettings({ log: { level, format } }: Config): Config['log'] {
  const isForPeople = format === 'auto' && !isJournal(process.env['JOURNAL_STREAM'])
  return { level: level === 'info' ? 'warn' : level, format: isForPeople ? 'pretty' : format }
}

function logSettings(config: Config | null): Config['log'] {
  return config?.log ?? { level: 'info', format: 'auto' }
}

function startTicker(expression: string, onTick: () => void, log: Log): Running {
  const ticker = createTicker(expression, onTick, log)
  ticker.start()
  return { stop: async () => ticker.stop() }
}

async function startWatcher(config: Config, onChange: () => void, log: Log): Promise<Watching> {
  const folders = [...foldersOf(config.hostKeys), config.certificates.directory]
  const watcher = createFileWatcher({ folders, filter: isHostKeyOrCertificate, onChange, log })
  await watcher.rewatch()
  return { rewatch: async () => watcher.rewatch(), stop: async () => watcher.close() }
}

/** A public half, a certificate, or a private half whose public half is there. */
function isHostKeyOrCertificate(path: string): boolean {
  return path.endsWith('.pub') || existsSync(`${path}.pub`)
}

async function startHealthServer(
  { listen, hosts }: Config['health'],
  sources: HealthSources,
  { version }: VersionInfo,
  log: RememberingLog,
  metrics: PrometheusMetrics,
): Promise<Running | null> {
  const text = { metricsText: async () => metrics.metricsText(), metricsContentType: metrics.contentType }
  const page = { version, hostName: hostname, now: () => systemClock.now(), recentEvents: () => log.recent() }
  const machineNames = createHostNames()
  const ownNames = async (): Promise<string[]> => [...hosts, ...(await machineNames())]
  const server = new HealthServer(listen, { ...sources, ...text, ...page, ownNames }, log)
  const started = await server.start()
  if (!started.ok) {
    log.error({}, `the health server cannot start, trying again each tick: ${started.message}`)
    return null
  }
  if (started.address !== null) log.info({ address: started.address }, 'the health server listens')
  return { stop: async () => server.stop() }
}
