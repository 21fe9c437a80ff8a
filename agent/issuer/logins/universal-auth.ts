import type { LoginBy } from '../../config/config.ts'
import { type LoginMethod, type LoginTools, secretOf, valueOf } from './login.ts'

/** A client id and a client secret. */
export function universalAuth(settings: LoginBy<'universal-auth'>, tools: LoginTools): LoginMethod {
  return {
    route: 'universal-auth',
    what: 'the client id or secret',
    platform: null,
    hints: {},
    async prove() {
      const clientId = await valueOf(settings.clientId, 'client id', tools)
      const clientSecret = await secretOf(settings.clientSecretFile, 'client secret', tools)
      return { body: { clientId, clientSecret }, claims: [`client id ${clientId}`] }
    },
  }
}
