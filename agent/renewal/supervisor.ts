import { AgentError, messageOf } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { Attempts } from './attempts.ts'
import { waitsInForce } from './backoff.ts'
import { AbandonedError, withinLimits } from './deadline.ts'
import { type HostKeyView, judgeNow } from './judge.ts'
import { type MachineFacts, observe } from './observe.ts'
import { nextPass, pass, type PassResult, ROUTINE_PASS } from './pass.ts'
import type { Host, Clock, Log, Metrics, ServiceManager } from './ports.ts'
import { NOTHING_REPORTED, reportChanges, type Reported } from './report.ts'
import { type StatusDocument, summarize } from './status-document.ts'
import { notEnrolledStatus, type StatusIdentity, statusOf, withLastError } from './status.ts'

/** A turn that is not over by then is abandoned; when the program ends, sooner. */
const TURN_LIMITS = { milliseconds: 120_000, afterStopMilliseconds: 8_000 }
/** A turn waits this long for `renew` to let go of the lock. */
const LOCK_WAIT_MILLISECONDS = 30_000
/** The end of the program does not wait for a `renew` that has the lock. */
const STOP_LOCK_WAIT_MILLISECONDS = 500
/** The wall clock is read anew at least this often, whatever the timers say. */
const LONGEST_SLEEP_MILLISECONDS = 60_000

/** READY is given no later, whatever the first pass waits for: until then systemd holds up the boot. */
const READY_AFTER_MILLISECONDS = 5_000

/** The host as it is configured now, or that it is not. */
export type Enrolment =
  | { readonly kind: 'not-enrolled' }
  | { readonly kind: 'enrolled'; readonly host: Host; readonly identity: StatusIdentity }

/** Why to look again. What is done follows from what is seen, never from the reason. */
type WakeReason = 'start' | 'tick' | 'file-event' | 'sighup' | 'sigusr1'
/** These are not forgotten with a turn that failed. */
const LASTING: ReadonlySet<WakeReason> = new Set(['start', 'sighup', 'sigusr1'])

interface SupervisorOptions {
  readonly version: string
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly serviceManager: ServiceManager
  /** Before each turn: the configuration may have come or changed; the same object when it has not. */
  readonly enrolment: () => Promise<Enrolment>
  /** After each turn. */
  readonly onTurn: (status: StatusDocument) => void | Promise<void>
}

/**
 * Looks at everything again and again: at each tick, on request, and when something falls due in between.
 * Never runs two passes at once; requests that come during a pass make one more.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  #pending = new Set<WakeReason>(['start'])
  #interruptSleep: (() => void) | null = null
  #current: { readonly host: Host; readonly attempts: Attempts } | null = null
  /** The host of the last pass that was completed: for another one sshd and the helper are asked anew. */
  #passed: Host | null = null
  /** What was asked of a turn that failed; the next one does it. */
  #unanswered = new Set<WakeReason>()
  /** An abandoned turn that still goes on, and may hold the lock. */
  #stuck: Promise<unknown> | null = null
  #reported: Reported = NOTHING_REPORTED
  #status: StatusDocument | null = null
  #lastTurn: UnixSeconds | null = null
  #isReady = false

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  /** Null before the first turn is over. */
  get status(): StatusDocument | null {
    return this.#status
  }

  /** When the last turn was completed; null before the first. */
  get lastTurn(): UnixSeconds | null {
    return this.#lastTurn
  }

  /** Look again soon: now, or when the turn under way is over. */
  wake(reason: WakeReason): void {
    this.#pending.add(reason)
    this.#interruptSleep?.()
  }

  /** The service manager was notified of a reload: notify it after the current turn that the daemon is ready again. */
  announceReady(): void {
    this.#isReady = false
  }

  /** Turn until `stop` fires; returns when the last turn is finished or abandoned. */
  async run(stop: AbortSignal): Promise<void> {
    const firstTurnOver = new AbortController()
    const early = this.#becomeReadySoon(AbortSignal.any([stop, firstTurnOver.signal]))
    while (!stop.aborted) {
      const reasons = this.#pending.union(this.#unanswered)
      this.#pending = new Set()
      this.#unanswered = new Set()
      const next = await this.#turn(reasons, stop)
      firstTurnOver.abort()
      await this.#sleepUntil(next, stop)
    }
    await this.#noteStop()
    await early
  }

  /** An issuer that does not answer is no reason for the rest of the host to wait. */
  async #becomeReadySoon(firstTurnOver: AbortSignal): Promise<void> {
    try {
      await this.#options.clock.sleep(READY_AFTER_MILLISECONDS, firstTurnOver)
    } catch (error) {
      if (firstTurnOver.aborted) return
      throw error
    }
    this.#isReady = true
    await this.#options.serviceManager.ready('first pass')
  }

  async #turn(reasons: ReadonlySet<WakeReason>, stop: AbortSignal): Promise<UnixSeconds | null> {
    const { clock, log, metrics, serviceManager, onTurn } = this.#options
    let next: UnixSeconds | null = null
    let work: Promise<unknown> | null = null
    try {
      next = await withinLimits(clock, TURN_LIMITS, stop, async (signal) => {
        const working = this.#work(reasons, signal)
        work = working
        return working
      })
    } catch (error) {
      if (stop.aborted) return null
      this.#unanswered = new Set([...reasons].filter((reason) => LASTING.has(reason)))
      if (error instanceof AbandonedError) {
        // Not a completed turn: the watchdog is not fed.
        log.error({}, 'a pass took longer than two minutes and was abandoned')
        this.#awaitEnd(work)
        return null
      }
      log.error({ code: error instanceof AgentError ? error.code : undefined }, messageOf(error))
    }
    if (stop.aborted) return null
    this.#lastTurn = clock.now()
    metrics.turn(this.#lastTurn)
    const status = this.#status ?? notEnrolledStatus(this.#options.version)
    metrics.status(status)
    const summary = summarize(status, clock.now())
    if (this.#isReady) await serviceManager.status(summary)
    else await serviceManager.ready(summary)
    this.#isReady = true
    if (this.#stuck === null) await serviceManager.watchdog()
    await onTurn(status)
    return next
  }

  async #work(reasons: ReadonlySet<WakeReason>, signal: AbortSignal): Promise<UnixSeconds | null> {
    const enrolment = await this.#options.enrolment()
    if (enrolment.kind === 'not-enrolled') {
      if (reasons.has('start')) this.#unanswered.add('start')
      this.#status = notEnrolledStatus(this.#options.version)
      return null
    }
    const { host, identity } = enrolment
    const isNew = this.#passed !== host
    if (this.#current?.host !== host) {
      this.#current = { host, attempts: new Attempts(host.records, host.clock) }
    }
    const { attempts } = this.#current
    try {
      const result = await this.#pass(host, attempts, reasons, isNew, signal)
      this.#passed = host
      if (isNew && attempts.record.issuerCas?.length === 0) {
        const advice =
          'pin it with verify.host_ca_file; until then the CA of the certificate in place is trusted'
        host.log.warn({}, `the issuer does not publish its host CA: ${advice}`)
      }
      this.#status = statusOf(identity, result.views, attempts, host.issuer.health(), result.machine)
      this.#report(host, attempts, result.views, result.machine)
      return nextPass(result, attempts, host.clock.now())
    } catch (error) {
      // Nothing could be done, but what is there can still be seen and reported.
      if (!signal.aborted) await this.#reportOnly(host, identity, attempts, error)
      throw error
    }
  }

  /** The status of a turn that could do nothing: what can be seen, and why nothing was done. */
  async #reportOnly(host: Host, identity: StatusIdentity, attempts: Attempts, error: unknown): Promise<void> {
    // The issuer's CAs are in the record, which was not loaded if the lock could not be acquired.
    await attempts.load()
    const facts = await observe(host)
    const views = judgeNow(host, attempts.record, facts)
    const status = statusOf(identity, views, attempts, host.issuer.health(), facts.machine)
    this.#report(host, attempts, views, facts.machine)
    if (!(error instanceof AgentError)) {
      this.#status = status
      return
    }
    const certificates = withLastError(status.certificates, error, host.clock.now())
    this.#status = { ...status, certificates }
  }

  #awaitEnd(work: Promise<unknown> | null): void {
    this.#stuck = work
    void (async () => {
      await Promise.allSettled([work])
      if (this.#stuck === work) this.#stuck = null
    })()
  }

  #report(host: Host, { record }: Attempts, views: readonly HostKeyView[], machine: MachineFacts): void {
    const { clockSkewSeconds } = host.issuer.health()
    const { log } = host
    const before = this.#reported
    this.#reported = reportChanges(log, before, views, record.sshd, clockSkewSeconds, machine)
  }

  async #pass(
    host: Host,
    attempts: Attempts,
    reasons: ReadonlySet<WakeReason>,
    isNew: boolean,
    signal: AbortSignal,
  ): Promise<PassResult> {
    const release = await host.lock.acquire(LOCK_WAIT_MILLISECONDS, signal)
    try {
      await attempts.load()
      if (reasons.has('start')) await this.#resume(host, attempts)
      if (reasons.has('sighup')) attempts.endWaits()
      const ask = isNew || reasons.has('sighup') || reasons.has('sigusr1')
      return await pass(host, attempts, { ...ROUTINE_PASS, ask, askHelper: isNew }, signal)
    } finally {
      await release()
    }
  }

  /** What an earlier process of this host still waits for. */
  async #resume(host: Host, attempts: Attempts): Promise<void> {
    attempts.started()
    // At once: a crash from now on is none that ends waits.
    await attempts.save()
    const keys = Object.entries(attempts.record.hostKeys).map(([name, { fingerprint }]) => ({
      name,
      fingerprint,
    }))
    for (const { for: what, code, until } of waitsInForce(attempts, keys)) {
      const fields = { code, waits_for: what, retry_in_seconds: Math.round(until - host.clock.now()) }
      host.log.info(fields, `still waiting after the restart: ${what}`)
    }
  }

  /** On record: this end was wanted, so the next start ends the waits. Best effort: a crash loses it too. */
  async #noteStop(): Promise<void> {
    if (this.#current === null || this.#stuck !== null) return
    const { host, attempts } = this.#current
    try {
      const never = new AbortController().signal
      const release = await host.lock.acquire(STOP_LOCK_WAIT_MILLISECONDS, never)
      try {
        await attempts.load()
        attempts.stopped()
        await attempts.save()
      } finally {
        await release()
      }
    } catch (error) {
      host.log.debug({}, `the stop is not on record: ${messageOf(error)}`)
    }
  }

  /** Sleep until something is due or somebody asks; the tick is one who asks. */
  async #sleepUntil(next: UnixSeconds | null, stop: AbortSignal): Promise<void> {
    const { clock, serviceManager } = this.#options
    const watchdog = clock.now() + (serviceManager.watchdogSeconds ?? Infinity) / 2
    const until = Math.min(next ?? Infinity, watchdog)
    const interrupted = new AbortController()
    this.#interruptSleep = () => interrupted.abort()
    try {
      while (this.#pending.size === 0 && !stop.aborted && clock.now() < until) {
        const milliseconds = Math.max(10, Math.min(LONGEST_SLEEP_MILLISECONDS, (until - clock.now()) * 1000))
        await clock.sleep(milliseconds, AbortSignal.any([stop, interrupted.signal]))
      }
    } catch (error) {
      if (!stop.aborted && !interrupted.signal.aborted) throw error
    } finally {
      this.#interruptSleep = null
    }
  }
}
