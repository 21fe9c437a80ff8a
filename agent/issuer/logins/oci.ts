import { createHash, createPublicKey, type KeyObject, sign } from 'node:crypto'
import { AgentError } from '../../cert/errors.ts'
import type { LoginBy } from '../../config/config.ts'
import { type LoginMethod, type LoginTools, valueOf } from './login.ts'
import { readPrivateKey, refuseOtherThanRsa } from './private-key.ts'

/** In the order of the signing string. Newer servers read `date`; what is signed is what is named here. */
const SIGNED_HEADERS = 'x-date (request-target) host'

/**
 * A user of Oracle Cloud with an API signing key: the issuer repeats a signed question about this user there. The
 * format: "Request Signatures" in the documentation of Oracle Cloud.
 */
export function oci(settings: LoginBy<'oci'>, tools: LoginTools): LoginMethod {
  const { user, tenancy, fingerprint, region, keyFile } = settings
  return {
    route: 'oci-auth',
    what: "the signature of this host's API key",
    platform: { status: 500, likely: 'most likely Oracle Cloud refused it, or the issuer failed' },
    hints: {
      401: 'most likely the identity does not allow auth.tenancy or auth.user',
      500: 'check that the API key belongs to auth.user, and the clock of this host',
    },
    async prove() {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const { key } = await readPrivateKey(keyFile, 'API signing key', tools)
      refuseOtherThanRsa(key, `the API signing key in ${keyFile}`)
      const actual = fingerprintOf(key)
      if (actual !== null && actual !== fingerprint) {
        const message = `the API signing key in ${keyFile} has the fingerprint ${actual}, and auth.fingerprint is ${fingerprint}; correct the one that is wrong`
        throw new AgentError('CREDENTIAL_UNREADABLE', message)
      }
      const host = `identity.${region}.oraclecloud.com`
      const date = new Date(tools.clock.now() * 1000).toUTCString()
      const signed = `x-date: ${date}\n(request-target): get /20160918/users/${user}\nhost: ${host}`
      const signature = sign('rsa-sha256', Buffer.from(signed), key).toString('base64')
      tools.secrets.add(signature)
      const keyId = `${tenancy}/${user}/${fingerprint}`
      const authorization = `Signature version="1",keyId="${keyId}",algorithm="rsa-sha256",headers="${SIGNED_HEADERS}",signature="${signature}"`
      const headers = { authorization, host, 'x-date': date, date }
      return {
        body: { identityId, userOcid: user, headers },
        claims: [
          `user ${user}`,
          `tenancy ${tenancy}`,
          `region ${region}`,
          `key ${fingerprint}`,
          ...(actual === null
            ? [`not compared with ${keyFile}: the fingerprint needs MD5, which OpenSSL refuses on this host`]
            : []),
        ],
      }
    },
  }
}

/**
 * As the console of Oracle Cloud shows it: MD5 over the public key in DER form.
 *
 * @returns null where OpenSSL refuses MD5, as it does in FIPS mode
 */
function fingerprintOf(key: KeyObject): string | null {
  const der = createPublicKey(key).export({ type: 'spki', format: 'der' })
  try {
    return createHash('md5')
      .update(der)
      .digest('hex')
      .replaceAll(/(..)(?!$)/g, '$1:')
  } catch {
    return null
  }
}
