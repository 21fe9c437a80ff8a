import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AgentError, type Failure, messageOf } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import { formatTime } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { readCaKeys } from '../host/pinned-cas.ts'
import { readUserCaStatus, type UserCaStatus, userCaStatusText } from '../host/user-ca-status.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Clock, IssuerFailure, Log } from '../renewal/ports.ts'
import {
  documentOf,
  installUserCas,
  isDropInInPlace,
  readEffect,
  readKnown,
  requireKeygenAccepts,
  USER_CA_PLACES,
  type UserCaPlaces,
  write,
} from './user-ca-files.ts'
import { decideUserCas, type UserCa } from './user-ca.ts'

export interface CaRefreshTools {
  readonly clock: Pick<Clock, 'now'>
  readonly log: Log
  /** The issuer, asked by an exchange that does not run as root. */
  readonly source: Pick<ExchangeClient, 'userCa' | 'hostCa'>
  /** @returns why sshd did not read its configuration; null when it did */
  readonly reloadSshd: (signal: AbortSignal) => Promise<string | null>
  readonly places?: UserCaPlaces
}

/** `later`: the issuer failed in a way that may pass by itself, after so many seconds at least. */
export type Refreshed =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed' }
  | { readonly kind: 'later'; readonly seconds: number }

/**
 * Bring the user CAs up to date if `user_ca.install` is set, and say when the issuer names a host CA that is not pinned.
 * As root. Errors are logged.
 *
 * @throws the signal's reason
 */
export async function refreshCas(
  config: Config,
  tools: CaRefreshTools,
  signal: AbortSignal,
): Promise<Refreshed> {
  const user = config.userCa.install ? await refreshUserCas(config, tools, signal) : await skip(tools)
  const host = await newsOfHostCas(config, tools, signal)
  return user.kind === 'done' ? host : user
}

const DONE: Refreshed = { kind: 'done' }

/** What is in place stays. The status goes: that nothing succeeds any more is no reason for an alert. */
async function skip({ log, places = USER_CA_PLACES }: CaRefreshTools): Promise<Refreshed> {
  log.info({}, 'user_ca.install is false: the user CAs were not refreshed')
  await rm(places.status, { force: true })
  return DONE
}

async function refreshUserCas(
  { issuer, sshd, userCa: policy }: Config,
  tools: CaRefreshTools,
  signal: AbortSignal,
): Promise<Refreshed> {
  const { clock, log, source, places = USER_CA_PLACES } = tools
  const answer = await source.userCa({ hostId: issuer.kind === 'http' ? issuer.sshHostId : '' }, signal)
  const now = clock.now()
  const before = await statusBefore(places, log)
  let status: UserCaStatus = { ...before, last_attempt: formatTime(now) ?? '', error: null }
  const failures: Failure[] = answer.kind === 'failed' ? [answer.failure] : []
  try {
    const { known, skipped } = await readKnown(places, before.cas)
    for (const line of skipped)
      log.warn({}, `${places.file}:${line} is no key that hostcertd can use, and is removed`)
    const named = answer.kind === 'user-ca' ? await usable(answer.key, places, failures, signal) : null
    const { cas, refused } = decideUserCas(known, named, policy, now)
    if (refused !== null) failures.push({ code: 'USER_CA_INVALID', message: refused })
    const isReloadPending = status.reload_pending || !(await isDropInInPlace(places))
    status = { ...status, cas: cas.map(documentOf), reload_pending: isReloadPending }
    // Where none is known and none is named there is nothing to put in place.
    if (cas.length > 0 || known.length > 0) {
      // Written first: after a crash the next run still knows that sshd has to read the drop-in.
      if (isReloadPending) await write(places.status, userCaStatusText(status))
      await installUserCas(cas, places, isReloadPending, signal)
      logChanges(known, cas, log)
      if (isReloadPending && sshd.reload === 'never')
        log.warn({}, 'sshd has to be reloaded before it uses the user CAs, and sshd.reload is never')
      else if (isReloadPending) await reload(tools, signal)
      // While another line wins, a later run has to reload sshd again.
      await requireEffect(places, log)
      status = { ...status, reload_pending: false }
    }
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    failures.push(error)
  }
  for (const { code, message } of failures) log.error({ code }, message)
  const [failure] = failures
  if (failure === undefined) status = { ...status, last_success: status.last_attempt }
  else status = { ...status, error: { code: failure.code, message: failure.message } }
  await write(places.status, userCaStatusText(status))
  if (failure === undefined) return DONE
  return answer.kind === 'failed' ? laterIf(answer.failure) : { kind: 'failed' }
}

async function statusBefore({ status }: UserCaPlaces, log: Log): Promise<UserCaStatus> {
  const nothing = { version: 1, last_attempt: '', last_success: null, error: null, cas: [] } as const
  try {
    return (await readUserCaStatus(status)) ?? { ...nothing, cas: [], reload_pending: false }
  } catch (error) {
    log.warn({}, `${messageOf(error)}; a CA that the issuer no longer names stays for another overlap`)
    // Once too often does no harm.
    return { ...nothing, cas: [], reload_pending: true }
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

/** A host CA is never pinned by itself: whoever answers for the issuer could have any certificate trusted. */
async function newsOfHostCas(
  { verify: { hostCaFile } }: Config,
  { source, log }: CaRefreshTools,
  signal: AbortSignal,
): Promise<Refreshed> {
  if (hostCaFile === null) return DONE
  const answer = await source.hostCa(signal)
  if (!answer.ok && answer.noSuchRoute) return DONE
  if (!answer.ok) {
    log.error({ code: answer.failure.code }, `the host CA is not known: ${answer.failure.message}`)
    return laterIf(answer.failure)
  }
  try {
    const pinned = await readCaKeys(hostCaFile)
    for (const { fingerprint, blob } of answer.keys)
      if (!pinned.some((one) => one.blob.equals(blob)))
        log.warn(
          { ca_fingerprint: fingerprint },
          `the issuer names the host CA ${fingerprint}, which is not pinned: if it is genuine, add it to ${hostCaFile} before the issuer signs with it`,
        )
    return DONE
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    log.error({ code: error.code }, error.message)
    return { kind: 'failed' }
  }
}

function laterIf({ next, retryAfterSeconds }: IssuerFailure): Refreshed {
  return next === 'issuer-backoff' ? { kind: 'later', seconds: retryAfterSeconds ?? 0 } : { kind: 'failed' }
}
