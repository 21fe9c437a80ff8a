import { AgentError } from '../cert/errors.ts'
import { type PublicKey, publicKeyText } from '../cert/public-key.ts'
import { formatTime, type UnixSeconds } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import {
  USER_CA_STATUS_FILE,
  type UserCaStatus,
  userCaStatusIn,
  userCaStatusText,
} from '../host/user-ca-status.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Change, FileChange, FileState } from './change.ts'
import type { HostFacts } from './facts.ts'
import type { Patience } from './patience.ts'
import { fileChange, PUBLIC } from './plan-files.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'
import { documentOf, userCaDropIn } from './user-ca-files.ts'
import { knownIn, USER_CA_PLACES, type UserCaPlaces } from './user-ca-in-place.ts'
import { comparedTime, decideUserCas, type UserCa, userCaText } from './user-ca.ts'

export interface UserCaPlan {
  /** Of the CAs that are to be in place. */
  readonly lines: readonly string[]
  readonly changes: readonly FileChange[]
}

/** @throws AgentError with the issuer's failure; the signal's reason */
export async function askUserCa(
  exchange: Pick<ExchangeClient, 'userCa'>,
  hostId: string,
  patience: Patience,
  signal: AbortSignal,
): Promise<PublicKey> {
  const { key } = await patience.ask(async (limit) => exchange.userCa({ hostId }, limit), signal)
  return key
}

/**
 * What puts the CA that the issuer names in place, and takes out those that are revoked or over; no change when all is
 * as it is to be. Pure.
 *
 * @param isSameHost false: those in place are of another host, and go
 * @param clock of this host, and how far from the issuer's; null: not known, so that no overlap begins or ends
 * @throws AgentError USER_CA_INVALID when it may not be
 */
export function planUserCa(
  key: PublicKey,
  { userCa: policy, sshd }: Pick<Config, 'userCa' | 'sshd'>,
  isSameHost: boolean,
  { now, skewSeconds }: { readonly now: UnixSeconds; readonly skewSeconds: number | null },
  { files }: Pick<HostFacts, 'files'>,
): UserCaPlan {
  const time = comparedTime(skewSeconds, now)
  // A status that cannot be used only makes an overlap longer.
  const at = (path: string): FileState | null => files.get(path) ?? null
  const inStatus = userCaStatusIn(at(USER_CA_STATUS_FILE)?.content)?.cas ?? []
  const { known } = knownIn(at(USER_CA_FILE), inStatus)
  const { cas, refused } = decideUserCas(isSameHost ? known : [], key, policy, time)
  if (refused !== null) throw new AgentError('USER_CA_INVALID', refused)
  const asked = formatTime(now) ?? ''
  const status = {
    version: 1,
    last_attempt: asked,
    last_success: asked,
    error: null,
    reload_pending: sshd.reload === 'never',
  } as const
  const before = { status: at(USER_CA_STATUS_FILE), file: at(USER_CA_FILE), dropIn: at(USER_CA_DROP_IN) }
  const changes = userCaChanges(cas, USER_CA_PLACES, status, before)
  return { lines: cas.map((ca) => publicKeyText(ca.key)), changes }
}

/**
 * The changes to the files of the user CAs; none when keys and drop-in are in place. Pure.
 *
 * @param before what is there
 */
export function userCaChanges(
  cas: readonly UserCa[],
  places: UserCaPlaces,
  status: Omit<UserCaStatus, 'cas'>,
  before: Readonly<Record<'file' | 'dropIn' | 'status', FileState | null>>,
): readonly FileChange[] {
  // hostcertd's own, whatever is in them when they are taken back: the timer writes them, too.
  const ownChanges = (step: string, place: keyof typeof before, content: string): readonly FileChange[] => {
    const change = fileChange({ step, path: places[place], content, mode: PUBLIC }, before[place])
    return change === null ? [] : [{ ...change, isOwn: true }]
  }
  const changes = [
    ...ownChanges('trust the user CA', 'file', userCaText(cas)),
    ...ownChanges('accept user certificates', 'dropIn', userCaDropIn(places)),
  ]
  if (changes.length === 0) return []
  const text = userCaStatusText({ ...status, cas: cas.map(documentOf) })
  return [...changes, ...ownChanges('note it for the metrics', 'status', text)]
}

/** Of a host that is not registered yet. */
export const LATER_USER_CA = `once the host is registered, the issuer is asked for its user CA, which is then installed as well: ${USER_CA_FILE}, ${USER_CA_DROP_IN}`

/** Of a CA that is put in place, and that `user_ca.fingerprints` does not list. */
export function unlistedText({ fingerprint, type }: PublicKey): string {
  return `users can log in by certificates of the user CA ${fingerprint} (${type}): compare it with the one that you know, and to allow no other, enroll with --user-ca --user-ca-fingerprint ${fingerprint}`
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
