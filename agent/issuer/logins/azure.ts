import { AgentError } from '../../cert/errors.ts'
import type { LoginBy } from '../../config/config.ts'
import { claimsOf, looksLikeJwt } from './jwt-claims.ts'
import { addJwt } from './jwt-source.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'
import { askPlatform, BUSY, platformRefusal, platformUrl, textsIn } from './platform.ts'

const TOKEN = 'http://169.254.169.254/metadata/identity/oauth2/token'
const SERVICE = 'the metadata service of Azure'

/** An access token of the machine's managed identity. */
export function azure(settings: LoginBy<'azure'>, tools: LoginTools): LoginMethod {
  return {
    route: 'azure-auth',
    what: "the managed identity's token",
    platform: {
      status: 500,
      likely:
        'most likely the issuer could not get the keys of the tenant from login.microsoftonline.com: is the tenant id of the identity right?',
    },
    hints: {
      401: 'check that the Azure login of the identity allows this tenant and this service principal',
      TokenError:
        'check the clock, and that the audience (auth.resource) and the tenant are those that the Azure login of the identity expects',
    },
    async prove(signal) {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const jwt = await accessToken(settings, tools, signal)
      return { body: { identityId, jwt }, claims: claimsOf(jwt) }
    },
  }
}

async function accessToken(
  { resource, clientId }: LoginBy<'azure'>,
  tools: LoginTools,
  signal: AbortSignal,
): Promise<string> {
  const query = clientId === null ? '' : `&client_id=${encodeURIComponent(clientId)}`
  const url = platformUrl(
    `${TOKEN}?api-version=2018-02-01&resource=${encodeURIComponent(resource)}${query}`,
    tools,
  )
  const remedy = 'is this a machine of Azure?'
  const reply = await askPlatform({ url, headers: { metadata: 'true' }, service: SERVICE, remedy }, signal)
  if (reply.status !== 200) {
    const identity = clientId === null ? 'a managed identity' : 'the managed identity of auth.client_id'
    // "Error handling" in the documentation of managed identities: an update is over within 70 s.
    const remedies = { 400: `assign ${identity} to this machine, and check auth.resource`, 410: BUSY }
    throw platformRefusal(`${SERVICE} gives no token`, reply, remedies, tools)
  }
  const { access_token: jwt } = textsIn(reply.text, ['access_token'], SERVICE)
  if (looksLikeJwt(jwt)) {
    addJwt(jwt, tools)
    return jwt
  }
  throw new AgentError('LOGIN_PLATFORM', `${SERVICE} answered with an access_token that is no JWT`)
}
