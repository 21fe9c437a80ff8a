import type { Failure } from '../cert/errors.ts'
import { parseCaKeys, type PublicKey, publicKeyText } from '../cert/public-key.ts'
import type { Attempts } from './attempts.ts'
import { isUnreadable, type Facts } from './observe.ts'
import type { Host, HostCaAnswer } from './ports.ts'
import type { AttemptRecord } from './record.ts'

/** Whose signatures count. */
export interface TrustedCas {
  /** On new certificates, and on those in place. */
  readonly current: readonly PublicKey[]
  /** On those in place only: the issuer named these before. */
  readonly former: readonly PublicKey[]
  /** Why they cannot be known, and then there are none; null when these are all. */
  readonly failure: Failure | null
}

/**
 * Which CAs may sign: the pinned ones; else those that the issuer named; else, where it cannot be asked,
 * any (null), until what is in place or a first answer narrows it.
 */
export function trustedCas(pinned: Facts['pinned'], record: AttemptRecord): TrustedCas | null {
  if (isUnreadable(pinned)) return { current: [], former: [], failure: pinned }
  if (pinned !== null) return { current: pinned, former: [], failure: null }
  const { issuerCas, formerCas } = record
  if (issuerCas === null || issuerCas.length === 0) return null
  return { current: keysOf(issuerCas), former: keysOf(formerCas), failure: null }
}

/** The lines of one record are read once, however often its pass judges. */
const readKeys = new WeakMap<readonly string[], readonly PublicKey[]>()

function keysOf(lines: readonly string[]): readonly PublicKey[] {
  const known = readKeys.get(lines)
  if (known !== undefined) return known
  const keys = parseCaKeys(lines.join('\n'))
  readKeys.set(lines, keys)
  return keys
}

/** Whether the issuer is still to be asked for its CA: nothing is pinned, and it never was. */
export function mustAskHostCa({ pinned }: Facts, { record }: Attempts): boolean {
  return pinned === null && record.issuerCas === null
}

/** Ask the issuer for its CA and remember the answer. The only place where it is asked. */
export async function askHostCa(host: Host, attempts: Attempts, signal: AbortSignal): Promise<HostCaAnswer> {
  const answer = await host.issuer.hostCa(signal)
  if (answer.ok) {
    const before = attempts.record.issuerCas ?? []
    const lines = answer.keys.map(publicKeyText)
    if (before.length > 0 && before.join() !== lines.join()) {
      const fingerprints = answer.keys.map(({ fingerprint }) => fingerprint)
      host.log.warn({ ca: fingerprints }, 'the issuer names another host CA than before')
    }
    attempts.learnCas(lines)
  } else if (answer.noSuchRoute) {
    attempts.learnCas([])
  }
  return answer
}
