import type { UnixSeconds } from '../cert/time.ts'
import { type Config, issuerFactsOf } from '../config/config.ts'
import type { LoadedConfig } from '../config/load.ts'
import { problemLine } from '../config/problem.ts'
import type { Host, Clock, Log, Metrics, ServiceManager } from '../renewal/ports.ts'
import type { StatusDocument } from '../renewal/status-document.ts'
import { Supervisor, type Enrolment } from '../renewal/supervisor.ts'

/** What the daemon answers about itself. */
export interface HealthSources {
  readonly status: () => StatusDocument | null
  readonly live: () => { readonly ok: boolean; readonly lastTurn: UnixSeconds | null }
}

/** Something that runs until it is stopped. */
export interface Running {
  stop(): Promise<void>
}

/** Folders that are watched for changes. */
export interface Watching extends Running {
  /** Watch also what appeared, or was replaced, since. */
  rewatch(): Promise<void>
}

/** What is around the loop; `main.ts` makes the real ones. None of these throws. */
export interface DaemonParts {
  readonly version: string
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly serviceManager: ServiceManager
  readonly configureLog: (config: Config) => void
  readonly composeHost: (config: Config) => Host
  readonly startTicker: (expression: string, onTick: () => void) => Running
  readonly startWatcher: (config: Config, onChange: () => void) => Promise<Watching>
  /** @returns null when it cannot listen, which is then in the log */
  readonly startHealthServer: (health: Config['health'], sources: HealthSources) => Promise<Running | null>
}

const DEFAULT_HEALTH: Config['health'] = {
  listen: { kind: 'tcp', host: '127.0.0.1', port: 9847 },
  hosts: [],
}
const DEFAULT_TICK = '* * * * *'
const DEFAULT_TICK_SECONDS = 60
/** The loop is dead when it has not turned for so many ticks. */
const DEAD_AFTER_TICKS = 3

/** The loop and what is around it: ticks, file events, signals, health. All of it follows the configuration. */
export class Daemon {
  readonly #parts: DaemonParts
  readonly #load: () => Promise<LoadedConfig>
  readonly #supervisor: Supervisor
  #config: Config | null = null
  #enrolment: Enrolment = { kind: 'not-enrolled' }
  #reloadRequested = false
  #lastProblems = ''
  #ticker: Running | null = null
  #watcher: Watching | null = null
  #health: { readonly settings: string; readonly server: Running | null } | null = null
  #startedAt: UnixSeconds = 0

  /** @param load reads the configuration anew */
  constructor(parts: DaemonParts, load: () => Promise<LoadedConfig>) {
    this.#parts = parts
    this.#load = load
    const { version, clock, log, metrics, serviceManager } = parts
    this.#supervisor = new Supervisor({
      version,
      clock,
      log,
      metrics,
      serviceManager,
      enrolment: async () => this.#currentEnrolment(),
      onTurn: async () => {
        await this.#watcher?.rewatch()
        await this.#listenForHealth()
      },
    })
  }

  /**
   * Run until `stop` fires.
   *
   * @param config null: not enrolled, idle until there is a configuration
   */
  async run(config: Config | null, stop: AbortSignal): Promise<void> {
    this.#startedAt = this.#parts.clock.now()
    await this.#apply(config)
    if (config === null) {
      this.#parts.log.info({}, 'not enrolled: no configuration file; checking again every minute')
      await this.#listenForHealth()
    }
    stop.addEventListener('abort', () => void this.#parts.serviceManager.stopping(), { once: true })
    await this.#supervisor.run(stop)
    await Promise.all([this.#ticker?.stop(), this.#watcher?.stop(), this.#health?.server?.stop()])
  }

  /** Log the warnings about the configuration that the daemon starts with. */
  warn(warnings: readonly string[]): void {
    for (const warning of warnings) this.#parts.log.warn({}, warning)
  }

  /** SIGHUP: read the configuration anew, then look at everything at once. */
  reload(): void {
    // Once until the next turn: each notification is a process, and the turn waits for all of them.
    if (!this.#reloadRequested) void this.#parts.serviceManager.reloading()
    this.#reloadRequested = true
    this.#supervisor.wake('sighup')
  }

  /** SIGUSR1: look at everything at once. */
  startPass(): void {
    this.#supervisor.wake('sigusr1')
  }

  /** Between two turns: the configuration in force is replaced here and nowhere else. */
  async #currentEnrolment(): Promise<Enrolment> {
    if (this.#reloadRequested || this.#config === null) {
      const isReload = this.#reloadRequested
      this.#reloadRequested = false
      try {
        await this.#reread(isReload)
      } finally {
        if (isReload) this.#supervisor.announceReady()
      }
    }
    return this.#enrolment
  }

  async #reread(isReload: boolean): Promise<void> {
    const { log } = this.#parts
    const loaded = await this.#load()
    switch (loaded.kind) {
      case 'ok':
        this.#lastProblems = ''
        for (const warning of loaded.warnings) log.warn({}, warning)
        await this.#apply(loaded.config)
        log.info({ files: loaded.files }, 'the configuration was read')
        return
      case 'not-enrolled':
        if (isReload) this.warn(loaded.warnings)
        if (isReload && this.#config !== null) {
          log.error(
            { code: 'CONFIG_INVALID' },
            'the configuration file is missing; the previous configuration stays in effect',
          )
        }
        return
      case 'invalid': {
        const problems = loaded.problems.map(problemLine)
        // While not enrolled this is read each minute: the same problems are logged once.
        if (!isReload && this.#lastProblems === problems.join('\n')) return
        this.#lastProblems = problems.join('\n')
        const kept = this.#config === null ? '' : '; the previous configuration stays in effect'
        for (const problem of problems) log.error({ code: 'CONFIG_INVALID' }, `${problem}${kept}`)
      }
    }
  }

  async #apply(config: Config | null): Promise<void> {
    const { version, configureLog, composeHost, startTicker, startWatcher } = this.#parts
    await Promise.all([this.#ticker?.stop(), this.#watcher?.stop()])
    this.#config = config
    if (config === null) {
      this.#enrolment = { kind: 'not-enrolled' }
      this.#watcher = null
    } else {
      configureLog(config)
      const identity = { version, ...issuerFactsOf(config.issuer) }
      this.#enrolment = { kind: 'enrolled', host: composeHost(config), identity }
      // Monitors are answered while the watcher still reads its folders.
      const wake = (): void => this.#supervisor.wake('file-event')
      const [watcher] = await Promise.all([startWatcher(config, wake), this.#listenForHealth()])
      this.#watcher = watcher
    }
    this.#ticker = startTicker(config?.renewal.tick ?? DEFAULT_TICK, () => this.#supervisor.wake('tick'))
  }

  /** Listen where the configuration says; a port that was taken is tried again after each turn. */
  async #listenForHealth(): Promise<void> {
    const health = this.#config?.health ?? DEFAULT_HEALTH
    const settings = JSON.stringify(health)
    if (this.#health?.settings === settings && this.#health.server !== null) return
    if (this.#health?.settings !== settings) await this.#health?.server?.stop()
    const sources = { status: () => this.#supervisor.status, live: () => this.#live() }
    this.#health = { settings, server: await this.#parts.startHealthServer(health, sources) }
  }

  #live(): { readonly ok: boolean; readonly lastTurn: UnixSeconds | null } {
    const { lastTurn } = this.#supervisor
    const gap = this.#config?.renewal.tickGapSeconds ?? DEFAULT_TICK_SECONDS
    const since = this.#parts.clock.now() - (lastTurn ?? this.#startedAt)
    return { ok: since <= DEAD_AFTER_TICKS * gap, lastTurn }
  }
}
