import type { Served } from '../core/certificate-state.ts'
import type { Certificate } from '../core/host-certificate.ts'
import type { PublicKey } from '../core/public-key.ts'
import type { UnixSeconds } from '../core/time.ts'
import type { ServedObservation, ServedOffer } from './ports.ts'

/** The last that is known of what sshd presents; kept in memory from turn to turn. */
export interface ServedKnowledge {
  /** The last time it answered; null before the first. */
  readonly answered: {
    readonly offers: ReadonlyMap<string, ServedOffer | null>
    readonly at: UnixSeconds
  } | null
  /** Why it did not answer the last time it was asked; null when it did, or was not asked yet. */
  readonly silence: string | null
  readonly askedAt: UnixSeconds | null
  /** What the helper said sshd listens on. */
  readonly listen: readonly string[]
}

export const NOTHING_KNOWN: ServedKnowledge = { answered: null, silence: null, askedAt: null, listen: [] }

/** What asking sshd taught, laid over what was known: silence says nothing. */
export function learn(
  before: ServedKnowledge,
  observation: ServedObservation,
  at: UnixSeconds,
): ServedKnowledge {
  if (observation.kind === 'no-banner') return { ...before, silence: observation.detail, askedAt: at }
  const offers = new Map([...(before.answered?.offers ?? []), ...observation.offers])
  return { ...before, answered: { offers, at }, silence: null, askedAt: at }
}

/** Why sshd will not serve this key whatever we do; null when it will, undefined when that is unknown. */
export function offerProblemOf(key: PublicKey, { answered }: ServedKnowledge): string | null | undefined {
  const offer = answered?.offers.get(key.type)
  if (offer === undefined) return undefined
  if (offer === null) return `sshd does not offer a host key of type ${key.type}`
  switch (offer.kind) {
    case 'hidden':
    case 'no-certificate':
      return undefined
    case 'key':
      return offer.blob.equals(key.blob) ? null : `sshd offers another host key of type ${key.type}`
    case 'certificate':
      return offer.certificate.publicKey.blob.equals(key.blob)
        ? null
        : `sshd offers another host key of type ${key.type}`
  }
}

/**
 * What is known of what sshd presents for this key.
 *
 * @param certificate what is on disk, usable or not; null when there is none or it cannot be read
 * @param confirmedSerial the last that sshd was seen to serve, on record
 */
export function servedOf(
  key: PublicKey,
  certificate: Certificate | null,
  knowledge: ServedKnowledge,
  confirmedSerial: string | null,
): Served {
  const wasSeen = certificate !== null && confirmedSerial === String(certificate.serial)
  const { answered, silence } = knowledge
  const offer = answered?.offers.get(key.type)
  if (offer?.kind === 'hidden') return { kind: 'not-asked' }
  if (offer?.kind === 'certificate' && offer.certificate.publicKey.blob.equals(key.blob)) {
    const matches = certificate !== null && offer.certificate.blob.equals(certificate.blob)
    if (!matches && silence !== null) return { kind: 'never-seen' }
    return { kind: 'certificate', certificate: offer.certificate, matches }
  }
  if (silence !== null) return { kind: wasSeen ? 'unknown' : 'never-seen' }
  return offer === undefined ? { kind: 'unknown' } : { kind: 'none' }
}
