import type { LoginBy } from '../../config/config.ts'
import { claimsOf } from './jwt-claims.ts'
import { jwtFrom } from './jwt-source.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'

/** An ID token of an OpenID provider, which the issuer verifies by the provider's published keys. */
export function oidc(settings: LoginBy<'oidc'>, tools: LoginTools): LoginMethod {
  return {
    route: 'oidc-auth',
    what: 'the token',
    platform: null,
    hints: {
      401: 'check the OIDC discovery URL and the issuer of the identity, and the age of the token',
      403: 'check that the identity allows the subject, audience and claims of the token',
    },
    async prove(signal) {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const jwt = await jwtFrom(settings.jwt, 'token', tools, signal)
      return { body: { identityId, jwt }, claims: claimsOf(jwt) }
    },
  }
}
