import { AgentError } from '../../cert/errors.ts'
import type { LoginBy } from '../../config/config.ts'
import { readCredential } from './credential-file.ts'
import { claimsOf, looksLikeJwt } from './jwt-claims.ts'
import { addJwt } from './jwt-source.ts'
import { signJwt } from './jwt.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'
import { askPlatform, platformRefusal, platformUrl, refusalOf, textsIn } from './platform.ts'
import { privateKeyOf, refuseOtherThanRsa } from './private-key.ts'

const IDENTITY =
  'http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity'
const SERVICE = 'the metadata service of Google Cloud'
const LIFE_SECONDS = 300

/** An identity token of the machine's service account, or one signed with the key of a service account. */
export function gcp(settings: LoginBy<'gcp'>, tools: LoginTools): LoginMethod {
  const { keyFile } = settings
  const refused = 'check that the Google Cloud login of the identity allows this service account'
  return {
    route: 'gcp-auth',
    what: "the service account's token",
    platform: {
      status: 500,
      likely:
        keyFile === null
          ? 'most likely Google Cloud refused it, or the issuer failed'
          : 'most likely the issuer could not get the keys of this service account from Google: is it deleted?',
    },
    hints: {
      401: refused,
      403: refused,
      TokenError: 'check the clock of this host, and that the key in auth.key_file has not been deleted',
    },
    async prove(signal) {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const jwt =
        keyFile === null
          ? await identityToken(identityId, tools, signal)
          : await signWithKey(keyFile, identityId, tools)
      return { body: { identityId, jwt }, claims: claimsOf(jwt) }
    },
  }
}

async function identityToken(audience: string, tools: LoginTools, signal: AbortSignal): Promise<string> {
  const url = platformUrl(`${IDENTITY}?audience=${encodeURIComponent(audience)}&format=full`, tools)
  const remedy = 'is this a machine of Google Cloud?'
  const headers = { 'metadata-flavor': 'Google' }
  const reply = await askPlatform({ url, headers, service: SERVICE, remedy }, signal)
  const jwt = reply.text.trim()
  const isJwt = reply.status === 200 && looksLikeJwt(jwt)
  if (isJwt) addJwt(jwt, tools)
  if (reply.header('metadata-flavor') !== 'Google') {
    const message = `something else answers in place of ${SERVICE} (${refusalOf(reply, tools)}); ${remedy}`
    throw new AgentError('LOGIN_PLATFORM', message)
  }
  if (reply.status === 404)
    throw new AgentError('LOGIN_PLATFORM', 'this machine has no service account: attach one to it')
  if (isJwt) return jwt
  if (reply.status !== 200) throw platformRefusal(`${SERVICE} gives no identity token`, reply, {}, tools)
  throw new AgentError('LOGIN_PLATFORM', `${SERVICE} gives no identity token: its answer is no JWT`)
}

/** @throws AgentError CREDENTIAL_UNREADABLE */
async function signWithKey(path: string, audience: string, tools: LoginTools): Promise<string> {
  const text = await readCredential(path, 'service account key', tools.readFile)
  let account: ReturnType<typeof accountIn>
  try {
    account = accountIn(text)
  } catch (error) {
    const message = `${path} is not the JSON key of a service account: it has no client_email, private_key or private_key_id`
    throw new AgentError('CREDENTIAL_UNREADABLE', message, { cause: error })
  }
  const what = 'private_key of the service account'
  const { key } = privateKeyOf(account.private_key, path, what, tools)
  refuseOtherThanRsa(key, `the ${what} in ${path}`)
  const { client_email: email, private_key_id: kid } = account
  const now = Math.floor(tools.clock.now())
  const claims = { iss: email, sub: email, aud: audience, iat: now, exp: now + LIFE_SECONDS }
  return signJwt({ alg: 'RS256', typ: 'JWT', kid }, claims, key, tools)
}

function accountIn(text: string) {
  return textsIn(text, ['client_email', 'private_key', 'private_key_id'], 'the file')
}
