import { AgentError } from '../cert/errors.ts'
import { type PublicKey, publicKeyText } from '../cert/public-key.ts'
import { formatTime, type UnixSeconds } from '../cert/time.ts'
import type { UserCaPolicy } from '../config/config.ts'
import { USER_CA_STATUS_FILE, userCaStatusText } from '../host/user-ca-status.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Change, FileChange } from './change.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'
import { readState, USER_CA_PLACES, userCaDropIn } from './user-ca-files.ts'
import { decideUserCas, keysIn, userCaText } from './user-ca.ts'

/** Enabled by `enroll --user-ca`; runs `ca refresh`. */
export const CA_TIMER = 'hostcertd-ca.timer'

export interface UserCaPlan {
  /** Of the CAs that are to be in place. */
  readonly lines: readonly string[]
  readonly changes: readonly FileChange[]
}

/** @throws AgentError with what the issuer answered instead; the signal's reason */
export async function askUserCa(
  exchange: Pick<ExchangeClient, 'userCa'>,
  hostId: string,
  signal: AbortSignal,
): Promise<PublicKey> {
  const answer = await exchange.userCa({ hostId }, signal)
  if (answer.kind === 'user-ca') return answer.key
  throw new AgentError(answer.failure.code, `the user CA: ${answer.failure.message}`)
}

/**
 * What puts the CA that the issuer names in place; no change when it is already.
 *
 * @throws AgentError USER_CA_INVALID when it may not be, STORE_FAILED when it is not known what is there
 */
export async function planUserCa(
  key: PublicKey,
  policy: UserCaPolicy,
  now: UnixSeconds,
): Promise<UserCaPlan> {
  const { keys } = keysIn((await readState(USER_CA_FILE))?.content.toString('utf8') ?? '')
  const known = keys.map((one) => ({ key: one, unnamedSince: null }))
  const { cas, refused } = decideUserCas(known, key, policy, now)
  if (refused !== null) throw new AgentError('USER_CA_INVALID', refused)
  const lines = cas.map((ca) => publicKeyText(ca.key))
  const isThere = keys.some((one) => one.blob.equals(key.blob))
  const at = formatTime(now) ?? ''
  const status = userCaStatusText({
    version: 1,
    last_attempt: at,
    last_success: at,
    error: null,
    cas: cas.map((ca) => ({ fingerprint: ca.key.fingerprint, unnamed_since: formatTime(ca.unnamedSince) })),
    reload_pending: false,
  })
  const changes = [
    isThere ? null : await ownChange('trust the user CA', USER_CA_FILE, userCaText(cas)),
    await ownChange('accept user certificates', USER_CA_DROP_IN, userCaDropIn(USER_CA_PLACES)),
  ].filter((change) => change !== null)
  const noted =
    changes.length === 0 ? null : await ownChange('note it for the metrics', USER_CA_STATUS_FILE, status)
  return { lines, changes: noted === null ? changes : [...changes, noted] }
}

/** A file that is hostcertd's, whatever it holds when it is taken back: the timer writes it, too. */
async function ownChange(step: string, path: string, text: string): Promise<FileChange | null> {
  const before = await readState(path)
  const content = Buffer.from(text)
  if (before?.content.equals(content) === true) return null
  const after = { content, mode: 0o644, uid: 0, gid: 0 }
  return { kind: 'file', step, path, before, after, isSecret: false, isOwn: true }
}

/** Whether logins by user certificate depend on it: what `unenroll --keep-user-ca` leaves. */
export function isOfUserCa(change: Change): boolean {
  if (change.kind !== 'file') return false
  if (change.path === USER_CA_FILE || change.path === USER_CA_DROP_IN) return true
  // The line that includes the drop-in, and the line of another program that it replaced.
  const linesOf = (state: FileChange['before']): readonly string[] =>
    (state?.content.toString('latin1') ?? '').split('\n').filter((line) => CONCERNS_USER_CA.test(line))
  return (
    change.path.startsWith('/etc/ssh/') &&
    linesOf(change.before).join('\n') !== linesOf(change.after).join('\n')
  )
}

const CONCERNS_USER_CA = /^\s*TrustedUserCAKeys\s|41-hostcertd-user-ca\.conf/i
