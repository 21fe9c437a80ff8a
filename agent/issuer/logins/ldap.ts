import type { LoginBy } from '../../config/config.ts'
import { type LoginMethod, type LoginTools, secretOf, valueOf } from './login.ts'

/** A user of a directory, whom the issuer looks up there. */
export function ldap(settings: LoginBy<'ldap'>, tools: LoginTools): LoginMethod {
  return {
    route: 'ldap-auth',
    what: 'the user name or password',
    platform: null,
    hints: {},
    async prove() {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const username = await valueOf(settings.username, 'user name', tools)
      const password = await secretOf(settings.passwordFile, 'password', tools)
      return { body: { identityId, username, password }, claims: [`user ${username}`] }
    },
  }
}
