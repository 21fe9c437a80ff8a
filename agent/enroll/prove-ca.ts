import { AgentError, messageOf } from '../cert/errors.ts'
import { publicKeyText, type PublicKey } from '../cert/public-key.ts'
import { inOneLine } from '../cert/text.ts'
import { verifyIssued } from '../cert/verify-issued.ts'
import type { Config } from '../config/config.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Pinned } from './current.ts'
import type { OwnHostKey } from './own-host-keys.ts'
import type { Patience } from './patience.ts'
import type { EnrollOptions, EnrollTools } from './wanted.ts'

/**
 * Have one certificate issued and verified, and see that the CA that signed it is one that may.
 *
 * @returns the CAs to pin, the one that signed first
 * @throws AgentError with what has to be done
 */
export async function proveCa(
  { caFingerprints, mode }: Pick<EnrollOptions, 'caFingerprints' | 'mode'>,
  pins: Pinned['keys'],
  { name, key, comment }: OwnHostKey,
  wantedPrincipals: Config['verify']['principals'],
  exchange: Pick<ExchangeClient, 'issue' | 'hostCa'>,
  { clock, person, patience }: Pick<EnrollTools, 'clock' | 'person'> & { readonly patience: Patience },
  signal: AbortSignal,
): Promise<readonly PublicKey[]> {
  const request = {
    publicKey: `${publicKeyText(key)} ${inOneLine(comment) || name}`,
    hostKey: name,
    principals: wantedPrincipals ?? [],
  }
  const issued = await patience.ask(async (limit) => {
    const answer = await exchange.issue(request, limit)
    return answer.ok
      ? { kind: 'issued' as const, ...answer }
      : { kind: 'failed' as const, failure: answer.failure }
  }, signal)
  const requirements = { hostKey: key, trustedCas: null, wantedPrincipals }
  const verified = verifyIssued(issued.signedKey, requirements, null, comment, clock.now())
  if (!verified.ok)
    throw new AgentError(
      verified.failure.code,
      `the issuer signed a certificate that cannot be used: ${verified.failure.message}`,
    )
  const { ca } = verified.value.certificate
  const refuse = (why: string): never => {
    throw new AgentError('CERT_CA_MISMATCH', `the certificate is signed by the CA ${ca.fingerprint}, ${why}`)
  }
  const isNamed = caFingerprints.includes(ca.fingerprint)
  const others = pins.filter(({ blob }) => !blob.equals(ca.blob))
  const isPinned = others.length < pins.length
  if (caFingerprints.length > 0 && !isNamed && !isPinned) refuse(`not by ${caFingerprints.join(' or ')}`)
  if (isNamed || isPinned) {
    const known = [ca, ...others].map(({ fingerprint }) => fingerprint)
    const next = caFingerprints.filter((fingerprint) => !known.includes(fingerprint))
    return [ca, ...others, ...(await keysOf(next, exchange, patience, signal))]
  }
  if (pins.length > 0)
    refuse(
      `not by one that is pinned; if the CA was changed on purpose, add --ca-fingerprint ${ca.fingerprint}`,
    )
  const named = await namedCas(exchange, patience, signal).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error
    const message = `cannot compare the CA of the certificate with the one that the issuer publishes: ${messageOf(error)}; if you know it by its fingerprint, add --ca-fingerprint ${ca.fingerprint}`
    throw new AgentError(error.code, message, { cause: error })
  })
  if (named === null)
    person.print('the issuer has no route that names its host CA: only the certificate itself shows it')
  else if (!named.some(({ blob }) => blob.equals(ca.blob))) refuse('and the issuer names another one')
  person.print(`this host's certificates are signed by the CA ${ca.fingerprint} (${ca.type})`)
  person.print(
    mode === 'yes'
      ? 'it is trusted because the issuer was verified by TLS; compare it with the CA that your clients trust'
      : 'compare it with the CA that your clients trust',
  )
  return [ca]
}

/**
 * The keys of CAs that are to be pinned before they sign: the issuer names them by then.
 *
 * @throws AgentError CERT_CA_MISMATCH when it does not
 */
async function keysOf(
  fingerprints: readonly string[],
  exchange: Pick<ExchangeClient, 'hostCa'>,
  patience: Patience,
  signal: AbortSignal,
): Promise<readonly PublicKey[]> {
  if (fingerprints.length === 0) return []
  const named = (await namedCas(exchange, patience, signal)) ?? []
  const keys = named.filter(({ fingerprint }) => fingerprints.includes(fingerprint))
  const missing = fingerprints.filter((one) => !keys.some(({ fingerprint }) => fingerprint === one))
  if (missing.length === 0) return keys
  const message = `this host's certificates are not signed by ${missing.join(' or ')}, and the issuer does not name that CA either`
  throw new AgentError('CERT_CA_MISMATCH', message)
}

/** @returns null when the issuer has no such route */
async function namedCas(
  exchange: Pick<ExchangeClient, 'hostCa'>,
  patience: Patience,
  signal: AbortSignal,
): Promise<readonly PublicKey[] | null> {
  const { keys } = await patience.ask(async (limit) => {
    const answer = await exchange.hostCa(limit)
    if (answer.ok) return { kind: 'named' as const, keys: answer.keys }
    if (answer.noSuchRoute) return { kind: 'named' as const, keys: null }
    return { kind: 'failed' as const, failure: answer.failure }
  }, signal)
  return keys
}
