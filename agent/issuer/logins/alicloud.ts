import { createHmac, randomUUID } from 'node:crypto'
import { AgentError } from '../../cert/errors.ts'
import { formatTime } from '../../cert/time.ts'
import type { LoginBy } from '../../config/config.ts'
import { isToken } from './credential-file.ts'
import { type LoginMethod, type LoginTools, secretOf, valueOf } from './login.ts'

/**
 * A user of Alibaba Cloud with an access key: the issuer sends the signed question "who am I?" there. The format: "RPC
 * signature", version 1.0, in the documentation of Alibaba Cloud. It has no place for a security token, so there are no
 * RAM roles.
 */
export function alicloud(settings: LoginBy<'alicloud'>, tools: LoginTools): LoginMethod {
  return {
    route: 'alicloud-auth',
    what: "the signature of this host's access key",
    platform: { status: 500, likely: 'most likely Alibaba Cloud refused it, or the issuer failed' },
    hints: {
      401: 'most likely the identity does not allow the user of this access key',
      500: 'check that the access key is active, and the clock of this host',
    },
    async prove() {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const accessKeyId = await valueOf(settings.accessKeyId, 'access key id', tools)
      if (!isToken(accessKeyId))
        throw new AgentError(
          'CREDENTIAL_UNREADABLE',
          'the access key id is not one word of printable characters; correct auth.access_key_id or its file',
        )
      const secret = await secretOf(settings.accessKeySecretFile, 'access key secret', tools)
      const parameters = {
        Action: 'GetCallerIdentity',
        Format: 'JSON',
        Version: '2015-04-01',
        AccessKeyId: accessKeyId,
        SignatureMethod: 'HMAC-SHA1',
        Timestamp: formatTime(tools.clock.now()) ?? '',
        SignatureVersion: '1.0',
        SignatureNonce: randomUUID(),
      }
      const Signature = signatureOf(parameters, secret)
      tools.secrets.add(Signature)
      return { body: { identityId, ...parameters, Signature }, claims: [`access key ${accessKeyId}`] }
    },
  }
}

function signatureOf(parameters: Readonly<Record<string, string>>, secret: string): string {
  const query = Object.entries(parameters)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&')
  return createHmac('sha1', `${secret}&`)
    .update(`GET&${encode('/')}&${encode(query)}`)
    .digest('base64')
}

/** RFC 3986: everything but letters, digits, `-`, `_`, `.` and `~`. */
function encode(text: string): string {
  const codeOf = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, codeOf)
}
