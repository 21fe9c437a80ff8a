import { AgentError } from '../cert/errors.ts'
import { type PublicKey, publicKeyText } from '../cert/public-key.ts'
import { reasonOf } from '../cert/text.ts'
import { formatTime, type UnixSeconds } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { readDirectives } from '../host/sshd-directives.ts'
import { USER_CA_STATUS_FILE, userCaStatusIn, userCaStatusText } from '../host/user-ca-status.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Change, FileChange, FileState } from './change.ts'
import type { HostFacts } from './facts.ts'
import { readFileState } from './files.ts'
import type { JournalRun } from './journal.ts'
import type { Patience } from './patience.ts'
import type { Left } from './perform.ts'
import { fileChange, PUBLIC } from './plan-files.ts'
import { describe } from './sshd-lines.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'
import { documentOf, userCaDropIn } from './user-ca-files.ts'
import { knownIn, USER_CA_PLACES } from './user-ca-in-place.ts'
import { comparedTime, decideUserCas, isUserCaText, userCaText } from './user-ca.ts'
import { SSHD_CONFIG } from './wanted.ts'

export interface UserCaPlan {
  /** Of the CAs that are to be in place. */
  readonly lines: readonly string[]
  readonly changes: readonly FileChange[]
  /** For people. */
  readonly notes: readonly string[]
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
  const inStatus = userCaStatusIn(files.get(USER_CA_STATUS_FILE)?.content)?.cas ?? []
  const { known } = knownIn(files.get(USER_CA_FILE) ?? null, inStatus)
  const { cas, refused } = decideUserCas(isSameHost ? known : [], key, policy, time)
  if (refused !== null) throw new AgentError('USER_CA_INVALID', refused)
  const at = formatTime(now) ?? ''
  const status = {
    version: 1,
    last_attempt: at,
    last_success: at,
    error: null,
    reload_pending: sshd.reload === 'never',
  } as const
  const changeTo = (path: UserCaPath, content: string): readonly FileChange[] => {
    const change = fileChange(
      { step: USER_CA_STEPS[path], path, content, mode: PUBLIC },
      files.get(path) ?? null,
    )
    return change === null ? [] : [asUserCaChange(change)]
  }
  const changes = [
    ...changeTo(USER_CA_FILE, userCaText(cas)),
    ...changeTo(USER_CA_DROP_IN, userCaDropIn(USER_CA_PLACES)),
  ]
  if (changes.length > 0)
    changes.push(...changeTo(USER_CA_STATUS_FILE, userCaStatusText({ ...status, cas: cas.map(documentOf) })))
  const ended = isSameHost
    ? []
    : known.filter((one) => !cas.some(({ key: kept }) => kept.blob.equals(one.key.blob)))
  const notes = ended.map(
    ({ key: { fingerprint } }) =>
      `logins by certificates of the user CA ${fingerprint} end: it is not known to be this host's`,
  )
  return { lines: cas.map((ca) => publicKeyText(ca.key)), changes, notes }
}

type UserCaPath = keyof typeof USER_CA_STEPS

const USER_CA_STEPS = {
  [USER_CA_FILE]: 'trust the user CA',
  [USER_CA_DROP_IN]: 'accept user certificates',
  [USER_CA_STATUS_FILE]: 'note it for the metrics',
} as const

/** The timer writes the CAs and the status, too, and both are removed whole. The drop-in never changes unless somebody edits it. */
function asUserCaChange(change: FileChange): FileChange {
  return change.path === USER_CA_DROP_IN ? change : { ...change, isOwn: true }
}

interface UserCaOutside {
  readonly changes: readonly FileChange[]
  /** Files that could not be read. */
  readonly left: readonly Left[]
  /** For people. */
  readonly notes: readonly string[]
}

/**
 * The changes by which hostcertd came to trust a user CA without the journal: `ca refresh` by `user_ca.install` set by
 * hand, or an `enroll` whose journal is lost. A file that is not hostcertd's is not touched, nor are CAs that a line of
 * somebody else names.
 */
export async function userCaOutside(runs: readonly JournalRun[]): Promise<UserCaOutside> {
  const left: Left[] = []
  const known = (path: UserCaPath): FileChange | undefined =>
    runs
      .flatMap(({ changes }) => changes)
      .find((change): change is FileChange => change.kind === 'file' && change.path === path)
  /** As it was before the first change that the journal knows; without one, as it is. */
  const oldest = async (path: UserCaPath): Promise<FileState | null> => {
    const first = known(path)
    if (first !== undefined) return first.before
    try {
      return await readFileState(path)
    } catch (error) {
      left.push({ path, why: reasonOf(error) })
      return null
    }
  }
  const adopted = (path: UserCaPath, after: FileState | null): readonly FileChange[] =>
    after === null
      ? []
      : [
          asUserCaChange({
            kind: 'file',
            step: USER_CA_STEPS[path],
            path,
            before: null,
            after,
            isSecret: false,
          }),
        ]

  const dropIn = await oldest(USER_CA_DROP_IN)
  const isOurs = dropIn?.content.equals(Buffer.from(userCaDropIn(USER_CA_PLACES))) === true
  const written = isOurs ? [] : await readDirectives(SSHD_CONFIG)
  const lines = written.filter(
    ({ keyword, value, file }) =>
      keyword === 'trustedusercakeys' &&
      value === USER_CA_FILE &&
      !(file === USER_CA_DROP_IN && known(file) !== undefined),
  )
  const notes = lines.map(
    (line) =>
      `${describe(line)} was not written by hostcertd and stays: sshd trusts the user CAs in that file`,
  )
  if (left.length > 0 || lines.length > 0 || (dropIn !== null && !isOurs)) return { changes: [], left, notes }
  const cas = await oldest(USER_CA_FILE)
  const areOurs = cas !== null && isUserCaText(cas.content.toString('utf8'))
  if (left.length > 0 || (dropIn === null && !areOurs)) return { changes: [], left, notes }
  const changes = [
    ...adopted(USER_CA_FILE, areOurs ? cas : null),
    ...adopted(USER_CA_DROP_IN, dropIn),
    ...adopted(USER_CA_STATUS_FILE, await oldest(USER_CA_STATUS_FILE)),
  ]
  return { changes, left, notes }
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
