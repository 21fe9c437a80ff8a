import { outlineOf } from '../cert/certificate-types.ts'
import { fingerprintOf, type PublicKey } from '../cert/public-key.ts'

/** What sshd presents for one host key, as one question showed. */
export type Presented =
  /** A certificate of the key's certificate type came: of this key or another, parsable or not. */
  | { readonly kind: 'certificate'; readonly blob: Buffer }
  /** The plain key of the type came instead: this host key's blob or another's. */
  | { readonly kind: 'plain'; readonly blob: Buffer }
  /** sshd's own list of what it offers has neither type (ssh: "no matching host key type found. Their offer: LIST"). */
  | { readonly kind: 'not-offered'; readonly offer: string }
  /** Could not be found out; why, in words, with the address. Decides nothing. */
  | { readonly kind: 'unknown'; readonly reason: string }

/** What one question showed for certain of one host key. */
export type Shown =
  /** These exact bytes, which certify this key, or cannot be read: then they are at least another certificate. */
  | { readonly kind: 'certificate'; readonly blob: Buffer }
  /** This very key came, without a certificate. */
  | { readonly kind: 'none' }
  | { readonly kind: 'not-offered'; readonly why: string }
  | { readonly kind: 'other-key'; readonly why: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/**
 * Judge what one question showed. That a key is not offered, or that another came in its place, counts only from a
 * server that presented another key of this host in the same round: otherwise another server may have answered, or the
 * public half on disk may not be that of the private half.
 *
 * @param keys the host keys asked about
 * @param presented by fingerprint of the key asked about, all from one server
 * @returns an entry for each key, by fingerprint
 */
export function evidenceOf(
  keys: readonly PublicKey[],
  presented: ReadonlyMap<string, Presented>,
): ReadonlyMap<string, Shown> {
  const isThisHost = showsOneOf(keys, presented)
  return new Map(
    keys.map((key) => [key.fingerprint, shownOf(key, presented.get(key.fingerprint), isThisHost)]),
  )
}

/** Whether what was presented has one of these keys in it, plain or certified. */
export function showsOneOf(keys: readonly PublicKey[], presented: ReadonlyMap<string, Presented>): boolean {
  return [...presented.values()].some((one) => keys.some(({ blob }) => presentedKeyOf(one)?.equals(blob)))
}

function shownOf(key: PublicKey, presented: Presented | undefined, isThisHost: boolean): Shown {
  if (presented === undefined) return { kind: 'unknown', reason: 'sshd was not asked about this key' }
  if (presented.kind === 'unknown') return presented
  if (presented.kind === 'not-offered') {
    const why = `sshd does not offer a host key of type ${key.type}`
    return isThisHost ? { kind: 'not-offered', why } : { kind: 'unknown', reason: notOfferedElsewhere(key) }
  }
  const shownKey = presentedKeyOf(presented)
  if (shownKey === null || shownKey.equals(key.blob))
    return presented.kind === 'certificate' ? { kind: 'certificate', blob: presented.blob } : { kind: 'none' }
  const other = fingerprintOf(shownKey)
  const why = `sshd offers another host key of type ${key.type}, ${other}`
  return isThisHost ? { kind: 'other-key', why } : { kind: 'unknown', reason: otherKeyElsewhere(key, other) }
}

/** The plain key that came, in a certificate or by itself; null for none, or when the certificate cannot be read. */
function presentedKeyOf(presented: Presented): Buffer | null {
  switch (presented.kind) {
    case 'plain':
      return presented.blob
    case 'certificate':
      return outlineOf(presented.blob)?.keyBlob ?? null
    case 'not-offered':
    case 'unknown':
      return null
  }
}

function notOfferedElsewhere({ type, fingerprint }: PublicKey): string {
  return `the server that answered offers no ${type} key and showed no other key of this host: it may be another server (asked about ${fingerprint})`
}

function otherKeyElsewhere({ type, fingerprint }: PublicKey, other: string): string {
  return `another server answered, or the public half of the ${type} key (${fingerprint}) is not that of the key in use: the server presents ${other}`
}
