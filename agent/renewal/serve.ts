import type { Failure } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'
import { askSshd } from './ask-sshd.ts'
import type { Attempts } from './attempts.ts'
import { isCertifiable, judgeNow, unserved, type CertifiableView, type HostKeyView } from './judge.ts'
import type { Facts } from './observe.ts'
import type { Host, SshdOutcome } from './ports.ts'
import type { KeyIdentity } from './record.ts'
import { secondsLeft, serialInPlace } from './report.ts'
import { decideServing, knownOf, type ServeRequest } from './serving-decision.ts'

/** After a reload sshd may present the old certificate at first. Few probes: sshd penalizes frequent connections. */
const CONFIRM_MILLISECONDS = [400, 4600]
const NO_WAY_TO_RELOAD = 'sshd must be reloaded, and there is no way to reload it'
/** Each step makes progress; this is against a mistake in deciding. */
const MOST_STEPS = 8

/** Why certificates in place are not served, and which. */
export interface ServingTrouble {
  readonly failure: Failure
  /** Names of host keys. */
  readonly hostKeys: readonly string[]
}

/**
 * Steps "reloaded" and "confirmed" of the path, for all host keys at once: make sshd serve what is on disk. Also
 * repairs what an earlier pass could not: a failed copy, a failed reload. Does nothing when there is nothing to do.
 *
 * @returns a copy or a reload that failed or did not help; null when none did
 */
export async function serve(
  host: Host,
  attempts: Attempts,
  facts: Facts,
  request: ServeRequest,
  signal: AbortSignal,
): Promise<ServingTrouble | null> {
  const views = (): readonly HostKeyView[] => judgeNow(host, attempts.record, facts)
  const copiesDiffer = await needsInstall(host, views())
  // Who is no longer there has nothing left to copy.
  if (!host.sshd.hasHelper) attempts.sshd.copiesMatch()
  const done = { installed: false, asked: false }
  let failed: Failed | null = null
  for (let step = 0; step < MOST_STEPS && failed === null; step++) {
    const next = decideServing({ ...knownOf(host, attempts, views(), request, copiesDiffer), ...done })
    if (next === 'end') break
    switch (next) {
      case 'ask':
        await askSshd(host, attempts, views(), signal)
        done.asked = true
        break
      case 'install': {
        const outcome = await install(host, attempts, signal)
        if (outcome.kind === 'busy') return null
        if (outcome.kind === 'failed') failed = { at: 'install', failure: outcome.failure }
        // Copies that changed are live at once with some versions of sshd; a changed drop-in never is.
        else Object.assign(done, { installed: true, asked: done.asked && outcome.reloadNeeded })
        break
      }
      case 'reload': {
        // On record first: a reload that fails, or a crash, must not be forgotten where nothing else shows it.
        if (unserved(views()).every(({ how }) => how === 'unseen')) {
          attempts.sshd.oweReload()
          await attempts.save()
        }
        const outcome = await reload(host, attempts, request.swapped, signal)
        // sshd is asked for seconds now: a crash meanwhile must not bring the same reload again.
        await attempts.save()
        if (outcome.kind === 'busy') return null
        if (outcome.kind === 'failed') {
          failed = { at: 'reload', failure: outcome.failure }
          break
        }
        await confirm(host, attempts, views, signal)
        failed = { at: 'confirm', failure: notServing(views(), 'even after a reload') }
        break
      }
      case 'cannot-reload':
        settle(host, attempts, views())
        if (unserved(views()).length > 0)
          failed = { at: 'confirm', failure: notServing(views(), 'and there is no way to reload it') }
        else if (attempts.record.reloadOwed)
          failed = { at: 'reload', failure: { code: 'SSHD_RELOAD_FAILED', message: NO_WAY_TO_RELOAD } }
        else return conclude(host, attempts, views(), null)
    }
  }
  return conclude(host, attempts, views(), failed)
}

async function install(host: Host, attempts: Attempts, signal: AbortSignal): Promise<SshdOutcome> {
  const outcome = await host.sshd.install(signal)
  if (outcome.kind === 'failed') {
    host.metrics.reload(outcome.failure.code)
    // It may have written its lines before it failed, and where sshd is not asked nothing else would show that.
    if (!host.served.enabled) attempts.sshd.oweReload()
    return outcome
  }
  noteHelper(host, attempts, outcome)
  if (outcome.kind === 'busy') return outcome
  attempts.sshd.copiesMatch()
  // Where sshd is not asked, nothing else shows that it has not read the changed drop-in yet.
  if (outcome.reloadNeeded && !host.served.enabled) attempts.sshd.oweReload()
  return outcome
}

async function reload(
  host: Host,
  attempts: Attempts,
  swapped: readonly string[],
  signal: AbortSignal,
): Promise<SshdOutcome> {
  const outcome = await host.sshd.reload(signal)
  switch (outcome.kind) {
    case 'busy': {
      const { retrySeconds } = outcome
      noteHelper(host, attempts, outcome)
      attempts.sshd.reloadPostponed(retrySeconds)
      const fields = { retry_in_seconds: retrySeconds }
      host.log.info(fields, 'sshd was reloaded too often within a short time: the next reload is postponed')
      return outcome
    }
    case 'failed':
      host.metrics.reload(outcome.failure.code)
      return outcome
    case 'done':
      host.metrics.reload('ok')
      if (outcome.notes.length === 0) host.log.info({ host_keys: swapped }, 'reloaded sshd')
      // That sshd is not running, for one.
      else for (const note of outcome.notes) host.log.warn({}, `the root helper reported: ${note}`)
      if (outcome.listen.length > 0) attempts.sshd.helperReported(outcome.listen, null)
      attempts.sshd.reloaded()
      return outcome
  }
}

interface Failed {
  /** `confirm`: nothing went wrong; it is a failure only if something is still not served. */
  readonly at: 'install' | 'reload' | 'confirm'
  readonly failure: Failure
}

/** Whether the root helper has something to copy, to take away, or to write anew. */
async function needsInstall(host: Host, views: readonly HostKeyView[]): Promise<boolean> {
  if (!host.sshd.hasHelper) return false
  const staged = new Map(views.flatMap(({ name, text }) => (text === null ? [] : [[name, text] as const])))
  return host.sshd.installNeeded(
    staged,
    views.map(({ name }) => name),
  )
}

async function confirm(
  host: Host,
  attempts: Attempts,
  views: () => readonly HostKeyView[],
  signal: AbortSignal,
): Promise<void> {
  for (const milliseconds of CONFIRM_MILLISECONDS) {
    if (unserved(views()).length === 0) return
    await host.clock.sleep(milliseconds, signal)
    await askSshd(host, attempts, views(), signal)
  }
  // What sshd does not offer after a reload it is not configured to offer.
  settle(host, attempts, views())
}

/** The one way out: what is served is noted; what failed is noted, logged and waited for. */
function conclude(
  host: Host,
  attempts: Attempts,
  views: readonly HostKeyView[],
  failed: Failed | null,
): ServingTrouble | null {
  const lacking = unserved(views).map(({ view }) => view)
  if (lacking.length === 0) {
    // With `always` it is not what sshd presents that counts.
    if (host.served.enabled && host.settings.reload !== 'always') attempts.sshd.nothingOwed()
    attempts.sshd.allServed()
  }
  const usable = views.filter(isCertifiable).filter(({ onDisk }) => onDisk.kind === 'usable')
  for (const view of usable) if (!lacking.includes(view)) attempts.sshd.served(view.subject.identity)
  if (failed === null || (failed.at === 'confirm' && lacking.length === 0)) return null
  const { at, failure } = failed
  if (at === 'install') {
    const affected = views.filter(isCertifiable)
    return report(
      host,
      affected,
      failure,
      attempts.sshd.notInstalled(identitiesOf(affected), failure, secondsLeft(host, affected)).until,
    )
  }
  const affected = lacking.length > 0 ? lacking : usable
  return report(
    host,
    affected,
    failure,
    attempts.sshd.notServed(identitiesOf(affected), failure, secondsLeft(host, affected)).until,
  )
}

function settle(host: Host, attempts: Attempts, views: readonly HostKeyView[]): void {
  for (const { view } of unserved(views)) {
    const { name, subject, served } = view
    if (served.kind !== 'not-offered' && served.kind !== 'other-key') continue
    attempts.sshd.settle(subject.identity)
    const fields = { host_key: name, serial: serialInPlace(view), code: 'SSHD_NOT_SERVING' }
    host.log.warn(fields, `${served.why}; the host key is ignored until that changes, and still renewed`)
  }
}

/** Record the root helper's answer; its notes are logged when they are new. */
function noteHelper(
  { log }: Host,
  attempts: Attempts,
  outcome: { readonly listen: readonly string[]; readonly notes?: readonly string[] },
): void {
  const before = attempts.record.sshd.notes
  for (const note of outcome.notes ?? [])
    if (!before.includes(note)) log.warn({}, `the root helper reported: ${note}`)
  const { listen } = outcome.listen.length > 0 ? outcome : attempts.record.sshd
  attempts.sshd.helperReported(listen, outcome.notes ?? null)
}

/** Why the installed certificates are not served, from what was seen of sshd only. */
function notServing(views: readonly HostKeyView[], why: string): Failure {
  const lacking = unserved(views)
  if (lacking.some(({ how }) => how === 'proven'))
    return { code: 'SSHD_NOT_SERVING', message: `sshd presents another certificate or none, ${why}` }
  const reasons = lacking.map(({ view: { served } }) => (served.kind === 'not-asked' ? null : served.unknown))
  const reason = reasons.find((text) => text !== null) ?? 'it was not asked'
  return { code: 'SSHD_UNREACHABLE', message: `what sshd presents is unknown: ${reason}` }
}

function report(
  host: Host,
  views: readonly CertifiableView[],
  failure: Failure,
  until: UnixSeconds,
): ServingTrouble {
  const hostKeys = views.map(({ name }) => name)
  const fields = {
    code: failure.code,
    host_keys: hostKeys,
    serials: views.map((view) => serialInPlace(view) ?? null),
    retry_in_seconds: Math.round(until - host.clock.now()),
  }
  host.log.error(fields, failure.message)
  return { failure, hostKeys }
}

function identitiesOf(views: readonly CertifiableView[]): KeyIdentity[] {
  return views.map(({ subject }) => subject.identity)
}
