import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AgentError, type Failure, messageOf } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import { reasonOf } from '../cert/text.ts'
import { formatTime } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { readCaKeys } from '../host/pinned-cas.ts'
import { readUserCaStatus, type UserCaStatus, userCaStatusText } from '../host/user-ca-status.ts'
import type { ExchangeClient, UserCaAnswer } from '../issuer/exchange-client.ts'
import type { Clock, HostCaAnswer, Log } from '../renewal/ports.ts'
import { documentOf, installUserCas, isDropInInPlace, requireKeygenAccepts, write } from './user-ca-files.ts'
import { readEffect, readKnown, USER_CA_PLACES, type UserCaPlaces } from './user-ca-in-place.ts'
import { comparedTime, decideUserCas, type UserCa } from './user-ca.ts'

export interface CaRefreshTools {
  readonly clock: Pick<Clock, 'now' | 'uptime' | 'sleep'>
  readonly log: Log
  /** The issuer, asked by an exchange that does not run as root. */
  readonly source: Pick<ExchangeClient, 'userCa' | 'hostCa' | 'health'>
  /** @returns why sshd did not read its configuration; null when it did */
  readonly reloadSshd: (signal: AbortSignal) => Promise<string | null>
  readonly places?: UserCaPlaces
}

const NOTHING: UserCaStatus = {
  version: 1,
  last_attempt: '',
  last_success: null,
  error: null,
  cas: [],
  reload_pending: false,
}

/** In all, while the issuer says "later". TimeoutStartSec= of hostcertd-ca.service covers it. */
const LONGEST_WAIT_SECONDS = 120

/**
 * Bring the user CAs up to date if `user_ca.install` is set, and say when the issuer names a host CA that is not pinned.
 * What an earlier run could not finish is done, too. As root. Errors are logged.
 *
 * @param isNow when the issuer says "later", that is a failure; else it is asked again then, if that is soon
 * @returns whether all went well; if not, the next run of the timer tries again
 * @throws the signal's reason
 */
export async function refreshCas(
  config: Config,
  tools: CaRefreshTools,
  isNow: boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, log, source, places = USER_CA_PLACES } = tools
  const waitsUntil = clock.uptime() + (isNow ? 0 : LONGEST_WAIT_SECONDS)
  const ask: Asking = async (question) => {
    for (;;) {
      const answer = await question()
      if (!('failure' in answer)) return answer
      const { code, retryAfterSeconds } = answer.failure
      if (retryAfterSeconds === null) return answer
      const seconds = Math.max(retryAfterSeconds, 1)
      if (clock.uptime() + seconds > waitsUntil) return answer
      log.info({ code }, `the issuer is busy; it is asked again in ${seconds} s`)
      await clock.sleep(seconds * 1000, signal)
    }
  }
  // What is in place stays without `user_ca.install`; but a missing success must not raise an alert then.
  if (!config.userCa.install)
    await rm(places.status, { force: true }).catch((error: unknown) => {
      throw new AgentError('STORE_FAILED', `cannot remove ${places.status}: ${reasonOf(error)}`, {
        cause: error,
      })
    })
  const isRefreshed = !config.userCa.install || (await refreshUserCas(config, tools, ask, signal))
  const { hostCaFile } = config.verify
  if (hostCaFile === null) return isRefreshed
  const answer = await ask(async () => source.hostCa(signal))
  return (await newsOfHostCas(hostCaFile, answer, log)) && isRefreshed
}

/** Ask the issuer, and again if it says "later" and that is soon. @throws the signal's reason */
type Asking = <Answer extends HostCaAnswer | UserCaAnswer>(question: () => Promise<Answer>) => Promise<Answer>

/** @returns whether all went well; what it came to is in the status file */
async function refreshUserCas(
  { issuer, sshd, userCa: policy }: Config,
  tools: CaRefreshTools,
  ask: Asking,
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, log, source, places = USER_CA_PLACES } = tools
  const before = await statusBefore(places, log)
  const hostId = issuer.kind === 'http' ? issuer.sshHostId : ''
  const answer = await ask(async () => source.userCa({ hostId }, signal))
  const now = clock.now()
  let status: UserCaStatus = { ...before, last_attempt: formatTime(now) ?? '', error: null }
  const failures: Failure[] = 'failure' in answer ? [answer.failure] : []
  try {
    const { known, skipped } = await readKnown(places, before.cas)
    for (const line of skipped)
      log.warn({}, `${places.file}:${line} is no key that hostcertd can use, and is removed`)
    const named = 'key' in answer ? await usable(answer.key, places, failures, signal) : null
    const time = comparedTime(source.health().clockSkewSeconds, now)
    const { cas, refused } = decideUserCas(known, named, policy, time)
    if (refused !== null) failures.push({ code: 'USER_CA_INVALID', message: refused })
    if (named !== null && time === null && cas.length > 1)
      log.warn({ clock_skew_seconds: source.health().clockSkewSeconds }, CLOCK_UNKNOWN)
    const isReloadPending = status.reload_pending || !(await isDropInInPlace(places))
    status = { ...status, cas: cas.map(documentOf), reload_pending: isReloadPending }
    // Where none is known and none is named there is nothing to put in place.
    if (cas.length > 0 || known.length > 0) {
      // Written first: after a crash the next run still knows that sshd has to read the drop-in.
      if (isReloadPending) await write(places.status, userCaStatusText(status))
      await installUserCas(cas, places, isReloadPending, signal)
      logChanges(known, cas, log)
      const isPersons = isReloadPending && sshd.reload === 'never'
      if (isPersons)
        log.warn({}, 'sshd has to be reloaded before it uses the user CAs, and sshd.reload is never')
      else if (isReloadPending) await reload(tools, signal)
      // While another line wins, a later run has to reload sshd again.
      await requireEffect(places, log)
      // Whether a person has done it cannot be seen: it is said once.
      status = { ...status, reload_pending: false }
    }
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    failures.push(error)
  }
  for (const { code, message } of failures) log.error({ code }, message)
  const [failure] = failures
  status =
    failure === undefined
      ? { ...status, last_success: status.last_attempt }
      : { ...status, error: { code: failure.code, message: failure.message } }
  await write(places.status, userCaStatusText(status))
  return failure === undefined
}

const CLOCK_UNKNOWN =
  "this host's clock could not be compared with the issuer's, or they differ: until they agree, no overlap of a user CA begins or ends"

async function statusBefore({ status }: UserCaPlaces, log: Log): Promise<UserCaStatus> {
  try {
    return (await readUserCaStatus(status)) ?? NOTHING
  } catch (error) {
    log.warn({}, `${messageOf(error)}; a CA that the issuer no longer names stays for another overlap`)
    // Once too often does no harm.
    return { ...NOTHING, reload_pending: true }
  }
}

/** The key if OpenSSH accepts it, too; null, and one more failure, when it does not. */
async function usable(
  key: PublicKey,
  { status }: UserCaPlaces,
  failures: Failure[],
  signal: AbortSignal,
): Promise<PublicKey | null> {
  try {
    await requireKeygenAccepts(key, dirname(status), signal)
    return key
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    failures.push(error)
    return null
  }
}

function logChanges(before: readonly UserCa[], after: readonly UserCa[], log: Log): void {
  const without = (all: readonly UserCa[], others: readonly UserCa[]): readonly UserCa[] =>
    all.filter(({ key }) => !others.some((other) => other.key.blob.equals(key.blob)))
  for (const { key } of without(after, before))
    log.info(
      { ca_fingerprint: key.fingerprint },
      `sshd now accepts user certificates of the CA ${key.fingerprint}`,
    )
  for (const { key } of without(before, after))
    log.info(
      { ca_fingerprint: key.fingerprint },
      `sshd no longer accepts user certificates of the CA ${key.fingerprint}`,
    )
  if (after.length === 0) log.warn({}, 'every user CA is revoked: sshd accepts no user certificate')
}

/** @throws AgentError SSHD_RELOAD_FAILED */
async function reload({ reloadSshd }: CaRefreshTools, signal: AbortSignal): Promise<void> {
  const why = await reloadSshd(signal)
  if (why !== null) throw new AgentError('SSHD_RELOAD_FAILED', why)
}

/** @throws AgentError SSHD_CONFIG_INVALID that names the line that wins */
async function requireEffect(places: UserCaPlaces, log: Log): Promise<void> {
  const { problem, notes } = await readEffect(places)
  for (const note of notes) log.warn({}, note)
  if (problem !== null) throw new AgentError('SSHD_CONFIG_INVALID', problem)
}

/**
 * A host CA is never pinned by itself: whoever answers for the issuer could have any certificate trusted.
 *
 * @returns whether the issuer and the file could be read; if not, that is logged
 */
async function newsOfHostCas(hostCaFile: string, answer: HostCaAnswer, log: Log): Promise<boolean> {
  if (!answer.ok && answer.noSuchRoute) return true
  if (!answer.ok) {
    log.error({ code: answer.failure.code }, `the host CA is not known: ${answer.failure.message}`)
    return false
  }
  try {
    const pinned = await readCaKeys(hostCaFile)
    for (const { fingerprint, blob } of answer.keys)
      if (!pinned.some((one) => one.blob.equals(blob)))
        log.warn(
          { ca_fingerprint: fingerprint },
          `the issuer names the host CA ${fingerprint}, which is not pinned: if it is genuine, add it to ${hostCaFile} before the issuer signs with it`,
        )
    return true
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    log.error({ code: error.code }, error.message)
    return false
  }
}
