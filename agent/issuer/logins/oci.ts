import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto'
import { AgentError } from '../../cert/errors.ts'
import type { LoginBy } from '../../config/config.ts'
import { type LoginMethod, type LoginTools, secretOf, valueOf } from './login.ts'

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
    platform: { name: 'Oracle Cloud', status: 500 },
    hints: {
      401: 'most likely the identity does not allow auth.tenancy or auth.user',
      500: 'check that the API key belongs to auth.user, and the clock of this host',
    },
    async prove() {
      const identityId = await valueOf(settings.identityId, 'identity id', tools)
      const key = signingKey(await secretOf(keyFile, 'API signing key', tools), keyFile)
      const actual = fingerprintOf(key)
      if (actual !== fingerprint)
        throw unreadable(
          `the API signing key in ${keyFile} has the fingerprint ${actual}, and auth.fingerprint is ${fingerprint}; set the one that belongs to the other`,
        )
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
        claims: [`user ${user}`, `tenancy ${tenancy}`, `region ${region}`, `key ${fingerprint}`],
      }
    },
  }
}

/** @throws AgentError CREDENTIAL_UNREADABLE; the message holds nothing of the key */
function signingKey(pem: string, path: string): KeyObject {
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch {
    throw unreadable(
      `${path} is not a private key in PEM form without a passphrase; write the API signing key there`,
    )
  }
  if (key.asymmetricKeyType === 'rsa') return key
  throw unreadable(`the API signing key in ${path} is not an RSA key; Oracle Cloud accepts no other`)
}

/** As the console of Oracle Cloud shows it: MD5 over the public key in DER form. */
function fingerprintOf(key: KeyObject): string {
  const der = createPublicKey(key).export({ type: 'spki', format: 'der' })
  return createHash('md5')
    .update(der)
    .digest('hex')
    .replaceAll(/(..)(?!$)/g, '$1:')
}

function unreadable(message: string): AgentError {
  return new AgentError('CREDENTIAL_UNREADABLE', message)
}
