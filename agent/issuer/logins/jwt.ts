import { type KeyObject, randomUUID, sign } from 'node:crypto'
import { AgentError } from '../../cert/errors.ts'
import type { JwtSigner, LoginBy } from '../../config/config.ts'
import { claimsOf } from './jwt-claims.ts'
import { addJwt, jwtFrom } from './jwt-source.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'
import { LEAST_RSA_BITS, readPrivateKey } from './private-key.ts'

const LIFE_SECONDS = 300
/** How far the issuer's clock may be behind ours. */
const SKEW_SECONDS = 30

/** A JWT of any signer whose public key the issuer has; the signer may be this host. */
export function jwt(settings: LoginBy<'jwt'>, tools: LoginTools): LoginMethod {
  const source = settings.jwt
  return {
    route: 'jwt-auth',
    what: 'the JWT',
    // The public key of a host's own is one of those that the identity has.
    platform:
      'keyFile' in source
        ? null
        : {
            status: 500,
            likely:
              'most likely the issuer could not get the key of its signer from the JWKS of the identity, or failed',
          },
    hints: {
      401: 'check that the identity has the public key of its signer, and the clock of this host',
      403: 'check that the identity allows the issuer, subject, audience and claims of the JWT',
    },
    async prove(signal) {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      if ('keyFile' in source) {
        const own = await signOwn(source, tools)
        return { body: { identityId, jwt: own }, claims: [...claimsOf(own), "signed by this host's own key"] }
      }
      const given = await jwtFrom(source, 'JWT', tools, signal)
      return { body: { identityId, jwt: given }, claims: claimsOf(given) }
    },
  }
}

/** @throws AgentError CREDENTIAL_UNREADABLE */
async function signOwn(signer: JwtSigner, tools: LoginTools): Promise<string> {
  const { key } = await readPrivateKey(signer.keyFile, 'signing key', tools)
  const alg = algorithmOf(key, signer.keyFile)
  const now = Math.floor(tools.clock.now())
  const claims = {
    iss: signer.issuer,
    sub: signer.subject,
    aud: signer.audience,
    iat: now,
    nbf: now - SKEW_SECONDS,
    exp: now + LIFE_SECONDS,
    jti: randomUUID(),
  }
  return signJwt({ alg, typ: 'JWT' }, claims, key, tools)
}

/** A JWT, RS256 or ES256 by the kind of key; a secret from then on. */
export function signJwt(
  header: { readonly alg: string; readonly typ: 'JWT'; readonly kid?: string },
  claims: object,
  key: KeyObject,
  tools: Pick<LoginTools, 'secrets'>,
): string {
  const content = `${encode(header)}.${encode(claims)}`
  // RFC 7518, section 3.4: the two numbers as they are, without DER. RSA ignores it.
  const signature = sign('sha256', Buffer.from(content), { key, dsaEncoding: 'ieee-p1363' })
  const signed = `${content}.${signature.toString('base64url')}`
  addJwt(signed, tools)
  return signed
}

/** The algorithms of RFC 7518 that the issuer accepts, by the kind of key. */
function algorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails }: KeyObject, path: string): string {
  const { modulusLength: bits = 0, namedCurve } = asymmetricKeyDetails ?? {}
  if (type === 'rsa' && bits >= LEAST_RSA_BITS) return 'RS256'
  if (type === 'ec' && namedCurve === 'prime256v1') return 'ES256'
  const kind = type === 'rsa' ? `RSA, ${bits} bits` : [type, namedCurve].filter(Boolean).join(', ')
  const message = `the signing key in ${path} (${kind}) cannot be used: it must be RSA with at least ${LEAST_RSA_BITS} bits, or EC on the curve P-256`
  throw new AgentError('CREDENTIAL_UNREADABLE', message)
}

function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url')
}
