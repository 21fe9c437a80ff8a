import { type PublicKey, publicKeyText, readPublicKey, parsePublicKeyLine } from '../cert/public-key.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { UserCaPolicy } from '../config/config.ts'
import { isSkewed } from '../renewal/status-document.ts'

/** A CA whose user certificates sshd accepts. */
export interface UserCa {
  readonly key: PublicKey
  /** Since when the issuer has named another one; null: it is the one that the issuer named last, or its overlap has not begun. */
  readonly unnamedSince: UnixSeconds | null
}

export interface UserCaDecision {
  /** Those to be in place. */
  readonly cas: readonly UserCa[]
  /** Why the CA that the issuer names is not added; null when it is, or none is known. */
  readonly refused: string | null
}

/**
 * Decide which user CAs sshd is to trust. Reads no clock.
 *
 * A revoked one goes, whatever the issuer says. One that the issuer no longer names goes when its overlap is over, also
 * while the issuer cannot be asked, but never the last one.
 *
 * @param known those in place
 * @param answer what the issuer names; null when that is not known
 * @param now null while this host's clock cannot be relied on: then no overlap begins or ends
 */
export function decideUserCas(
  known: readonly UserCa[],
  answer: PublicKey | null,
  policy: UserCaPolicy,
  now: UnixSeconds | null,
): UserCaDecision {
  const refused = answer === null ? null : whyRefused(answer, policy)
  const named = refused === null ? answer : null
  const permitted = known.filter(({ key }) => !policy.revoked.includes(key.fingerprint))
  if (named === null) {
    const lasting = permitted.filter((ca) => isLasting(ca, policy, now))
    return { cas: lasting.length === 0 ? permitted : lasting, refused }
  }
  const others = permitted
    .filter(({ key }) => !isSame(key, named))
    // A time in the future was written while the clock was wrong.
    .map(({ key, unnamedSince }) => ({
      key,
      unnamedSince: now === null ? unnamedSince : Math.min(unnamedSince ?? now, now),
    }))
    .filter((ca) => isLasting(ca, policy, now))
  return { cas: [...others, { key: named, unnamedSince: null }], refused }
}

/**
 * The time, if the issuer has the same: one run of a wrong clock would end an overlap, or begin it in the past.
 *
 * @param skewSeconds of this host's clock and the issuer's; null: not known
 */
export function comparedTime(skewSeconds: number | null, now: UnixSeconds): UnixSeconds | null {
  return skewSeconds === null || isSkewed(skewSeconds) ? null : now
}

function whyRefused({ fingerprint }: PublicKey, { fingerprints, revoked }: UserCaPolicy): string | null {
  if (revoked.includes(fingerprint))
    return `the issuer names the user CA ${fingerprint}, which user_ca.revoked lists`
  if (fingerprints.length > 0 && !fingerprints.includes(fingerprint))
    return `the issuer names the user CA ${fingerprint}, which user_ca.fingerprints does not list`
  return null
}

function isLasting(
  { unnamedSince }: UserCa,
  { overlapSeconds }: UserCaPolicy,
  now: UnixSeconds | null,
): boolean {
  return unnamedSince === null || now === null || now - unnamedSince < overlapSeconds
}

function isSame(one: PublicKey, other: PublicKey): boolean {
  return one.blob.equals(other.blob)
}

const FIRST_LINE =
  '# Written by hostcertd: the CAs whose user certificates sshd accepts (user_ca); changes are lost.'

/** The file that `TrustedUserCAKeys` names. Without a CA it has no key, and sshd accepts no user certificate. */
export function userCaText(cas: readonly Pick<UserCa, 'key'>[]): string {
  return [FIRST_LINE, ...cas.map(({ key }) => publicKeyText(key)), ''].join('\n')
}

/** Whether hostcertd wrote it, with whatever keys. */
export function isUserCaText(text: string): boolean {
  return text.startsWith(`${FIRST_LINE}\n`)
}

/**
 * The keys in such a file, as sshd reads it: line by line, and what is no key is skipped.
 *
 * @returns `skipped`: the numbers of those lines
 */
export function keysIn(text: string): {
  readonly keys: readonly PublicKey[]
  readonly skipped: readonly number[]
} {
  const keys: PublicKey[] = []
  const skipped: number[] = []
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.trimStart().startsWith('#')) continue
    try {
      keys.push(readPublicKey(parsePublicKeyLine(line.trim())))
    } catch {
      skipped.push(index + 1)
    }
  }
  return { keys, skipped }
}
