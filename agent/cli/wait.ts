import { setTimeout as sleep } from 'node:timers/promises'
import { escapeControls } from '../cert/text.ts'
import { parseTime, type UnixSeconds } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { LONGEST_WAIT_SECONDS } from '../enroll/patience.ts'
import type { EnrollTools } from '../enroll/wanted.ts'
import {
  type CertificateStatus,
  isStopped,
  readinessOf,
  type StatusDocument,
} from '../renewal/status-document.ts'
import {
  type CliContext,
  type ConfigOption,
  EXIT,
  failureLine,
  observeOnce,
  requireConfig,
} from './context.ts'
import { askDaemon, type DaemonAnswer, sshdDown } from './daemon-client.ts'

/** The daemon is asked often; sshd, without a daemon, rarely: it limits how often a client connects (PerSourcePenalties). */
const ASK_DAEMON_MILLISECONDS = 250
const ASK_SSHD_MILLISECONDS = 5_000
/** Less would not be enough to read the status once. */
const SHORTEST_MILLISECONDS = 1_000
/** A longer timer fires at once (setTimeout in Node's documentation); nobody waits for 24 days. */
const LONGEST_MILLISECONDS = 2 ** 31 - 1

interface WaitOptions extends ConfigOption {
  readonly timeout: WaitTimeout
}

export interface WaitTimeout {
  readonly seconds: number
  /** As it was given. */
  readonly text: string
}

/** What was seen last. */
interface Seen {
  readonly status: StatusDocument | null
  /** Whether the daemon has yet to complete its first pass; `status` is then not the daemon's, or says not enrolled. */
  readonly isFirstPass: boolean
}

const NOTHING_SEEN: Seen = { status: null, isFirstPass: false }

/** `wait`: until every host key's certificate is served. */
export async function wait(context: CliContext, options: WaitOptions, signal: AbortSignal): Promise<number> {
  const { seconds, text } = options.timeout
  const milliseconds = Math.min(Math.max(seconds * 1000, SHORTEST_MILLISECONDS), LONGEST_MILLISECONDS)
  const limit = AbortSignal.any([signal, AbortSignal.timeout(milliseconds)])
  const config = await requireConfig(context, options)
  await context.dropPrivileges(config.stateDirectory)
  const readStatus = createStatusReader(context, config)
  let last: Seen = NOTHING_SEEN
  try {
    for (;;) {
      last = await readStatus(limit)
      if (last.status !== null && isServed(last.status)) return EXIT.ok
      await sleep(ASK_DAEMON_MILLISECONDS, undefined, { signal: limit })
    }
  } catch (error) {
    if (signal.aborted || !limit.aborted) throw error
  }
  context.err(`not all certificates are served after ${text}: ${whatIsMissing(last)}`)
  return EXIT.failed
}

/** After a wait that the issuer asked for, until the next attempt is seen: a tick of the daemon, and its requests. */
const ATTEMPT_MILLISECONDS = 90_000

/**
 * For `enroll`: until sshd serves a certificate of every host key, as was seen after the service was told of the new
 * configuration. It goes on while the issuer itself says "later", but not for ever; any other failure is given no more
 * time.
 *
 * @param withoutDaemon where the daemon cannot be asked: it has no port, or another program has it
 */
export function createUntilServed(
  withoutDaemon: (signal: AbortSignal) => Promise<StatusDocument | null>,
): EnrollTools['untilServed'] {
  return async ({ health, verify }, { since, seconds }, signal) => {
    const wanted = { since: Math.floor(since), principals: verify.principals ?? [] }
    let last = NOTHING_SEEN
    let nextOwn = performance.now() + ASK_SSHD_MILLISECONDS
    const began = performance.now()
    let until = began + seconds * 1000
    for (;;) {
      const daemon = await askDaemon(health.listen, signal)
      let status = statusFrom(daemon)
      if (status === null && performance.now() >= nextOwn) {
        status = await withoutDaemon(signal)
        nextOwn = performance.now() + ASK_SSHD_MILLISECONDS
      }
      last = { status: status ?? last.status, isFirstPass: isFirstPass(daemon) }
      const missing =
        last.status !== null && isServed(last.status) ? whatIsOld(last.status, wanted) : whatIsMissing(last)
      if (missing === null) return null
      if (status !== null) until = Math.max(until, untilLater(status, began))
      if (performance.now() > until) return missing
      await sleep(ASK_DAEMON_MILLISECONDS, undefined, { signal })
    }
  }
}

/** @returns when an attempt that the issuer put off is over, as `performance.now()`, within bounds; 0: it put none off */
function untilLater({ waits }: StatusDocument, began: number): number {
  const times = waits.filter(({ later }) => later === true).map(({ until }) => parseTime(until))
  if (times.length === 0) return 0
  const milliseconds = Math.max(...times) * 1000 - Date.now()
  const end = performance.now() + milliseconds + ATTEMPT_MILLISECONDS
  return Number.isNaN(end) ? 0 : Math.min(end, began + LONGEST_WAIT_SECONDS * 1000)
}

/** What a configuration left behind that is no longer there: other names, or what was seen before. Null: nothing. */
function whatIsOld(
  { certificates }: StatusDocument,
  { since, principals }: { readonly since: UnixSeconds; readonly principals: readonly string[] },
): string | null {
  for (const one of certificates) {
    if (one.state === 'ignored') continue
    const absent = principals.find((name) => !one.principals.includes(name))
    if (absent !== undefined) return `the certificate of ${one.host_key} does not name ${absent}`
    if (one.served !== null && !(parseTime(one.served.checked_at ?? '') >= since))
      return `sshd was not seen to present the certificate of ${one.host_key} since the service was reloaded`
  }
  return null
}

/** The status from the daemon; without a daemon, from this process, and not too often. */
function createStatusReader(context: CliContext, config: Config): (signal: AbortSignal) => Promise<Seen> {
  const asksSshd = config.sshd.address !== 'none'
  const interval = asksSshd ? ASK_SSHD_MILLISECONDS : ASK_DAEMON_MILLISECONDS
  let own: { readonly status: StatusDocument; readonly at: number } | null = null
  return async (signal) => {
    const daemon = await askDaemon(config.health.listen, signal)
    const fromDaemon = statusFrom(daemon)
    const about = { isFirstPass: isFirstPass(daemon) }
    if (fromDaemon !== null) return { status: fromDaemon, ...about }
    if (own === null || performance.now() >= own.at + interval) {
      const { status } = await observeOnce(context, config, asksSshd, signal)
      own = { status, at: performance.now() }
    }
    return { status: own.status, ...about }
  }
}

function isServed(status: StatusDocument): boolean {
  const readiness = readinessOf(status, null, Date.now() / 1000)
  if (readiness === null || readiness.status === 'fail') return false
  // Evidence that is old, or from before sshd went down, does not count.
  return readiness.reason !== 'evidence-old' && status.sshd.state !== 'down'
}

/** Null unless the daemon runs and has completed a pass recently. */
function statusFrom(daemon: DaemonAnswer): StatusDocument | null {
  return daemon.kind === 'runs' ? daemon.status : null
}

/** Whether the daemon is there and has completed no pass with a configuration: what it does is not in its status yet. */
function isFirstPass(daemon: DaemonAnswer): boolean {
  if (daemon.kind === 'hangs') return daemon.lastTurn === null
  if (daemon.kind !== 'runs') return false
  return daemon.status === null || (!daemon.status.enrolled && !isStopped(daemon.status))
}

const FIRST_PASS =
  'the daemon has not completed its first pass with this configuration; `journalctl -u hostcertd` shows what it does'

function whatIsMissing({ status, isFirstPass: isFirst }: Seen): string {
  const open = status === null ? '' : openKeys(status)
  if (isFirst) return open === '' ? FIRST_PASS : `${open}; ${FIRST_PASS}`
  if (status === null) return 'the status could not be read in that time'
  if (isStopped(status)) return 'not enrolled: this machine was copied'
  if (open !== '') return open
  const counted = countedIn(status)
  if (counted.length === 0) return 'no host key can be issued a certificate'
  const unknown = counted.map(({ served }) => served?.unknown ?? null).find((why) => why !== null)
  return (
    sshdDown(status) ??
    `sshd was not seen to present them recently${unknown === undefined ? '' : `: ${unknown}`}`
  )
}

function countedIn({ certificates }: StatusDocument): readonly CertificateStatus[] {
  return certificates.filter(({ state }) => state !== 'ignored')
}

/** Host keys without a valid certificate, and then the last errors, each once; empty when there are none. */
function openKeys(status: StatusDocument): string {
  const open = countedIn(status).filter(({ state }) => state !== 'valid' && state !== 'due')
  const keys = open.map(
    ({ host_key, state, reason }) => `${host_key} is ${state}${reason === null ? '' : ` (${reason})`}`,
  )
  const errors = open.flatMap(({ last_error: error }) =>
    error === null ? [] : [failureLine({ code: error.code, message: escapeControls(error.message) })],
  )
  return [keys.join(', '), ...new Set(errors)].filter((text) => text !== '').join('; ')
}
