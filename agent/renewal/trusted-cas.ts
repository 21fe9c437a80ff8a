import { AgentError } from '../core/errors.ts'
import { parseCaKeys, type PublicKey } from '../core/public-key.ts'
import type { Attempts } from './attempts.ts'
import type { HostCaAnswer, TrustedCas } from './ports.ts'
import type { HostKeyView } from './observe.ts'
import type { Host } from './settings.ts'

/**
 * Which CAs may sign: the pinned ones; else what the issuer said when it was asked; else, where it cannot be asked,
 * any (null), until {@link casInPlace} or a first answer narrows it.
 *
 * @throws AgentError CONFIG_INVALID when the pinned keys cannot be read
 */
export async function knownCas(host: Host, attempts: Attempts): Promise<TrustedCas | null> {
  const pinned = await host.pinnedCas.read()
  if (pinned !== null) return { current: pinned, former: [], failure: null }
  const { issuerCas, formerCas } = attempts.record
  if (issuerCas === null || issuerCas.length === 0) return null
  const keysOf = (lines: readonly string[]): PublicKey[] => parseCaKeys(lines.join('\n'))
  return { current: keysOf(issuerCas), former: keysOf(formerCas), failure: null }
}

/** As {@link knownCas}, for who only looks: when they cannot be known none is trusted, and what is seen says why. */
export async function knownCasOrNone(host: Host, attempts: Attempts): Promise<TrustedCas | null> {
  try {
    return await knownCas(host, attempts)
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return { current: [], former: [], failure: { code: error.code, message: error.message } }
  }
}

/** Whether the issuer is still to be asked: nothing is pinned, and it never was. */
export async function mustAskIssuer(host: Host, attempts: Attempts): Promise<boolean> {
  return attempts.record.issuerCas === null && (await host.pinnedCas.read()) === null
}

/** Ask the issuer for its CA and remember the answer; whether it differs from what was known is the caller's to see. */
export async function askIssuer(host: Host, attempts: Attempts, signal: AbortSignal): Promise<HostCaAnswer> {
  const answer = await host.issuer.hostCa(signal)
  if (answer.ok) {
    const before = attempts.record.issuerCas ?? []
    const lines = answer.keys.map(({ type, blob }) => `${type} ${blob.toString('base64')}`)
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

/** The CAs of the usable certificates in place: what is trusted where the issuer cannot be asked. Null when there is none. */
export function casInPlace(views: readonly HostKeyView[]): readonly PublicKey[] | null {
  const cas = new Map<string, PublicKey>()
  for (const { onDisk } of views) {
    if (onDisk.kind === 'usable') cas.set(onDisk.certificate.ca.fingerprint, onDisk.certificate.ca)
  }
  return cas.size === 0 ? null : [...cas.values()]
}
