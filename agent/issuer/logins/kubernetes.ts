import { AgentError } from '../../cert/errors.ts'
import { systemCodeOf } from '../../cert/text.ts'
import type { LoginBy } from '../../config/config.ts'
import { readCredential } from './credential-file.ts'
import { claimsOf, looksLikeJwt } from './jwt-claims.ts'
import { addJwt, refuseExpired } from './jwt-source.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'

/** Such a token is 1 to 2 KiB. */
const LIMIT_BYTES = 8 * 1024

/** The service account token that Kubernetes projects into a pod; the kubelet replaces it before it expires. */
export function kubernetes(settings: LoginBy<'kubernetes'>, tools: LoginTools): LoginMethod {
  return {
    route: 'kubernetes-auth',
    what: 'the service account token',
    platform: {
      status: 400,
      likely:
        'the issuer got no review of it: check the address of the Kubernetes API server that the identity has',
    },
    hints: {
      401: 'check that the identity allows the audience of the token, its namespace and its service account, and that the token reviewer of the issuer may create TokenReviews',
    },
    async prove() {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const jwt = await readToken(settings.tokenFile, tools)
      return { body: { identityId, jwt }, claims: claimsOf(jwt) }
    },
  }
}

/** @throws AgentError LOGIN_PLATFORM; CREDENTIAL_UNREADABLE for a file that is there and cannot be read */
async function readToken(path: string, tools: LoginTools): Promise<string> {
  let token: string
  try {
    token = (await readCredential(path, 'service account token', tools.readFile)).trim()
  } catch (error) {
    if (!(error instanceof AgentError) || systemCodeOf(error.cause) !== 'ENOENT') throw error
    const message = `no service account token at ${path}: is one projected into this pod?`
    throw new AgentError('LOGIN_PLATFORM', message, { cause: error })
  }
  if (Buffer.byteLength(token) > LIMIT_BYTES) {
    const message = `the service account token in ${path} is larger than ${LIMIT_BYTES / 1024} KiB`
    throw new AgentError('LOGIN_PLATFORM', message)
  }
  addJwt(token, tools)
  if (!looksLikeJwt(token)) {
    throw new AgentError('LOGIN_PLATFORM', `${path} does not hold a service account token (a JWT)`)
  }
  const what = `service account token in ${path}`
  refuseExpired(token, { what, remedy: 'the kubelet should have replaced it' }, tools)
  return token
}
