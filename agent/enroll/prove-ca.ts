import { AgentError } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import { inOneLine } from '../cert/text.ts'
import { verifyIssued } from '../cert/verify-issued.ts'
import type { Config } from '../config/config.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Pinned } from './current.ts'
import type { Patience } from './find-host.ts'
import type { OwnHostKey } from './own-host-keys.ts'
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
    publicKey: `${key.type} ${key.blob.toString('base64')} ${inOneLine(comment) || name}`,
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
  if (caFingerprints.length > 0 && !isNamed) refuse(`not by ${caFingerprints.join(' or ')}`)
  const others = pins.filter(({ blob }) => !blob.equals(ca.blob))
  if (isNamed || others.length < pins.length) return [ca, ...others]
  if (pins.length > 0)
    refuse(
      `not by one that is pinned; if the CA was changed on purpose, add --ca-fingerprint ${ca.fingerprint}`,
    )
  const named = await exchange.hostCa(signal)
  if (named.ok && !named.keys.some(({ blob }) => blob.equals(ca.blob)))
    refuse('and the issuer names another one')
  person.tell(`this host's certificates are signed by the CA ${ca.fingerprint} (${ca.type})`)
  person.tell(
    mode === 'yes'
      ? 'it is trusted because the issuer was verified by TLS; compare it with the CA that your clients trust'
      : 'compare it with the CA that your clients trust',
  )
  return [ca]
}
