import { expect, test } from 'vitest'
import { issueTlsCertificate } from '../support/local-issuer/tls-certificate.ts'
import { type JwtSigner, makeJwtSigner } from '../support/platform/jwks.ts'
import { sharedLoginHost } from './support/login-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { unitProperty } from './support/status.ts'

/** As docs/logins.md has it; the logins that need a platform are in scenarios/platform-logins.test.ts. */
const RULES = { issuer: 'https://hosts.example.com', subject: 'web1.example.com', audience: 'infisical' }

describeOnEachRelease(
  'a login',
  (release) => {
    const shared = sharedLoginHost(release, issueTlsCertificate({ name: 'no client has one' }).certificate)

    test('by a JWT that the host signs: verified by the issuer, another key installed, a key that it does not know', async () => {
      const login = shared()
      const { container } = login.host
      const [first, second, unknown] = [makeKey(), makeKey(), makeKey()]
      for (const key of [first, second, unknown]) login.keepSecret(...linesOf(pemOf(key)))
      await login.accept({ jwt: { ...RULES, jwks: [first.published] } })
      await login.writeCredential('jwt-key', pemOf(first))
      await login.logInBy('jwt')
      expect(await login.logins()).toEqual([
        expect.objectContaining({ route: 'jwt-auth', refusal: null }) as unknown,
      ])
      expect(await login.diagnose()).toEqual([
        expect.objectContaining({ step: 'credentials', status: 'ok' }) as unknown,
        expect.objectContaining({
          status: 'ok',
          message: expect.stringMatching(
            /logged in by jwt as: issuer https:\/\/hosts\.example\.com, subject web1\.example\.com, audience infisical/,
          ) as string,
        }) as unknown,
      ])

      // By docs/logins.md: both keys at the issuer, then the new one here, then the old one is removed there.
      await login.accept({ jwt: { ...RULES, jwks: [first.published, second.published] } })
      await login.writeCredential('jwt-key', pemOf(second))
      await login.accept({ jwt: { ...RULES, jwks: [second.published] } })
      await login.renewByDaemon()

      await login.writeCredential('jwt-key', pemOf(unknown))
      await login.expectTrouble({
        code: 'ISSUER_UNAUTHORIZED',
        message: /invalid signature/,
        remedy: /check that the public half of .*jwt-key is one of the static keys/,
      })
      await container.run(['rm', '/etc/hostcertd/credentials/jwt-key'])
      await login.expectTrouble({
        code: 'CREDENTIAL_UNREADABLE',
        message: /cannot read the signing key from .*jwt-key/,
        remedy: /readable by the user `hostcertd-exchange`/,
      })
      await login.writeCredential('jwt-key', pemOf(second))
      await login.renewByDaemon()
      await login.expectNoSecrets()
      expect(await unitProperty(container, 'hostcertd.service', 'NRestarts')).toBe('0')
    })
  },
  ONE_BY_DEFAULT,
)

/** Configured by hand at the issuer, so without a name. */
function makeKey(): JwtSigner {
  return makeJwtSigner('ES256', null)
}

function pemOf({ privateKey }: JwtSigner): string {
  return privateKey.export({ type: 'pkcs8', format: 'pem' })
}

function linesOf(pem: string): readonly string[] {
  return pem.split('\n').filter((line) => line !== '' && !line.startsWith('-----'))
}
