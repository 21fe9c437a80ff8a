import type { LoginBy } from '../../config/config.ts'
import { claimsOf } from './jwt-claims.ts'
import { jwtFrom } from './jwt-source.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'

/** A JWT-SVID of a SPIFFE trust domain. */
export function spiffe(settings: LoginBy<'spiffe'>, tools: LoginTools): LoginMethod {
  return {
    route: 'spiffe-auth',
    what: 'the JWT-SVID',
    platform: null,
    hints: {
      401: 'check that the identity has the trust domain and its bundle, and allows the SPIFFE ID and the audience',
    },
    async prove(signal) {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const jwt = await jwtFrom(settings.jwt, 'JWT-SVID', tools, signal)
      return { body: { identityId, jwt }, claims: claimsOf(jwt) }
    },
  }
}
