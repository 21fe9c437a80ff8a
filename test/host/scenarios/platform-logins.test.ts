import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { issueTlsCertificate, type TlsAuthority } from '../../support/local-issuer/tls-certificate.ts'
import { type JwtSigner, makeJwtSigner } from '../../support/platform/jwks.ts'
import { command } from '../support/commands.ts'
import { type LoginHost, sharedLoginHost } from '../support/login-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'

/** The claims of docs/logins.md. */
const SUBJECT = 'system:serviceaccount:ssh:web1'
const CLUSTER = { issuer: 'https://kubernetes.default.svc', subject: SUBJECT, audience: 'infisical' }
const PROJECTED = '/var/run/secrets/infisical'
const METADATA = '169.254.169.254'

const root = issueTlsCertificate({ name: 'clients root' })
const intermediate = issueTlsCertificate({ name: 'clients intermediate', issuer: root })

describeOnEachRelease('a login by what the platform gives', (release) => {
  const shared = sharedLoginHost(release, root.certificate)

  test('kubernetes: a projected token, replaced as the kubelet does, and gone', async () => {
    const login = shared()
    const { container } = login.host
    const [cluster, stranger] = [makeJwtSigner('RS256', 'cluster-1'), makeJwtSigner('RS256', 'cluster-1')]
    await login.accept({ kubernetes: { ...CLUSTER, jwks: [cluster.published] } })
    const first = tokenBy(cluster)
    await project(login, first)
    await login.logInBy('kubernetes')
    expect(await login.logins()).toMatchObject([
      { route: 'kubernetes-auth', body: { jwt: first }, refusal: null },
    ])
    expect(await login.diagnose()).toMatchObject([
      { step: 'credentials', status: 'ok' },
      { status: 'ok', message: expect.stringContaining(`logged in by kubernetes as: issuer`) },
    ])
    expect((await login.diagnose()).at(-1)?.message).toContain(`subject ${SUBJECT}, audience infisical`)

    const second = tokenBy(cluster)
    await project(login, second)
    await login.renewByDaemon()
    expect((await login.logins()).at(-1)?.body).toMatchObject({ jwt: second })

    await project(login, tokenBy(stranger))
    await login.expectTrouble({
      code: 'ISSUER_UNAUTHORIZED',
      message: /invalid signature/,
      remedy: /projected service account token .* with the audience that the issuer expects/,
    })
    // The exchange is not root.
    await project(login, second, 'root:root')
    await login.expectTrouble({
      code: 'CREDENTIAL_UNREADABLE',
      message: /cannot read the service account token from/,
      beforeLogin: /cannot read the service account token/,
      remedy: /chown/,
    })
    await container.run(['rm', '-r', PROJECTED])
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /no service account token at .*: is one projected into this pod\?/,
      beforeLogin: /cannot read the service account token from/,
      remedy: /service account/,
    })
    await project(login, tokenBy(cluster))
    await login.renewByDaemon()
    await login.expectNoSecrets()
  })

  test('aws: the role of an instance, by IMDSv2 at its own address, with keys that change', async () => {
    const login = shared()
    const { network, issuer } = login.host
    await command(['ip', '-n', network.outside, 'address', 'add', `${METADATA}/32`, 'dev', 'veth0'])
    await command(['ip', '-n', network.host, 'route', 'add', `${METADATA}/32`, 'dev', 'host0'])
    /** The role has these keys; AWS accepts them, unless others are valid. */
    const attach = async (keys: ReturnType<typeof makeKeys>, valid = keys, role: string | null = 'web1') => {
      login.keepSecret(keys.secretAccessKey, keys.sessionToken)
      await login.accept({ aws: valid })
      await issuer.ask({ do: 'run-metadata', role: { role, keys, region: 'eu-central-1' } })
    }
    const [first, second] = [makeKeys(), makeKeys()]
    const began = (await login.logins()).length
    await attach(first)
    await login.logInBy('aws')
    expect((await login.logins()).slice(began)).toMatchObject([{ route: 'aws-auth', refusal: null }])
    const said = `logged in by aws as: access key ${first.accessKeyId}, of the role web1 of the instance, region eu-central-1`
    expect(await login.diagnose()).toMatchObject([
      { step: 'login', status: 'ok', message: expect.stringContaining(said) },
    ])

    await attach(second)
    await login.renewByDaemon()
    expect((await login.diagnose()).at(-1)?.message).toContain(second.accessKeyId)

    // The old session token with new keys: AWS refuses it.
    await attach({ ...second, sessionToken: first.sessionToken }, second)
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /AWS/,
      remedy: /check the clock with `timedatectl`/,
    })
    await attach(second, second, null)
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /this AWS instance has no role/,
      remedy: /attach a role to the instance/,
    })
    await issuer.ask({ do: 'run-metadata', role: null })
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /cannot reach the instance metadata service of AWS at 169\.254\.169\.254/,
      remedy: /enable its metadata service/,
    })
    await attach(second)
    await login.renewByDaemon()
    await login.expectNoSecrets()
  })

  test('tls-cert: a client certificate with its chain, which a TLS proxy asks for at login_url', async () => {
    const login = shared()
    const { container } = login.host
    const [first, second] = [makeClient('web1.example.com'), makeClient('web1.example.com')]
    const began = (await login.logins()).length
    await login.accept({ tlsCert: { commonName: 'web1.example.com' } })
    await install(login, first)
    await login.logInBy('tls-cert', `  login_url: ${login.facts.askingUrl}\n`)
    expect((await login.logins()).slice(began)).toMatchObject([
      { route: 'tls-cert-auth', clientName: 'web1.example.com', refusal: null },
    ])
    const ok = { status: 'ok' }
    const said = 'logged in by tls-cert as: subject CN=web1.example.com, issuer CN=clients intermediate'
    expect(await login.diagnose()).toMatchObject([
      ok,
      ok,
      { status: 'ok', message: expect.stringContaining(said) },
    ])

    await install(login, second)
    await login.renewByDaemon()
    expect((await login.logins()).at(-1)?.clientName).toBe('web1.example.com')

    await install(login, makeClient('web2.example.com'))
    await login.expectTrouble({
      code: 'ISSUER_UNAUTHORIZED',
      message: /common name not allowed/,
      remedy: /At the issuer, .*check the CA certificate and the allowed common names/,
    })
    await install(login, { certificate: second.certificate, key: first.key })
    await login.expectTrouble({
      code: 'CREDENTIAL_UNREADABLE',
      message: /does not belong to the client certificate/,
      remedy: /readable by the user `hostcertd-exchange`/,
    })
    await install(login, makeClient('web1.example.com', -1))
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /the client certificate in .* expired at .*; replace it/,
      remedy: /check the certificate in .*login-certificate/,
    })
    await install(login, second)
    await login.renewByDaemon()

    // Nothing asks for a certificate there.
    const { askingUrl, url } = login.facts
    const configuration = '/etc/hostcertd/hostcertd.yaml'
    await container.run(['sed', '-i', `s|login_url: ${askingUrl}|login_url: ${url}|`, configuration])
    await login.expectTrouble({
      code: 'ISSUER_UNAUTHORIZED',
      message: /Missing TLS certificate in header/,
      remedy: /auth\.login_url .* asks for client certificates/,
    })
    await login.expectNoSecrets()
  })
})

/** A new one each time. */
function tokenBy(cluster: JwtSigner): string {
  const now = Math.floor(Date.now() / 1000)
  const { issuer: iss, subject: sub, audience } = CLUSTER
  const jti = randomBytes(8).toString('hex')
  return cluster.sign({ iss, sub, aud: [audience], iat: now, nbf: now, exp: now + 3600, jti })
}

let projections = 0

/**
 * Project a token as the kubelet does with an `fsGroup`: into a folder of its own, which a symlink is then swapped to; no
 * line end.
 */
async function project({ host }: LoginHost, token: string, owner = 'root:hostcertd-exchange'): Promise<void> {
  projections += 1
  const folder = `..2026_01_01_00_00_00.${projections}`
  await host.container.sh(
    `
      mkdir -p ${PROJECTED} && cd ${PROJECTED}
      umask 022
      mkdir ${folder}
      cat >${folder}/token
      chown ${owner} ${folder}/token && chmod 0640 ${folder}/token
      old=$(readlink ..data || :)
      ln -s ${folder} ..data_tmp && mv -T ..data_tmp ..data
      [ -L token ] || ln -s ..data/token token
      [ -z "$old" ] || rm -r "$old"`,
    { input: token },
  )
}

function makeKeys() {
  return {
    accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
    secretAccessKey: randomBytes(30).toString('base64'),
    sessionToken: randomBytes(300).toString('base64'),
  }
}

function makeClient(name: string, endsInDays = 30): Pick<TlsAuthority, 'certificate' | 'key'> {
  const dates = { startsInDays: -2, endsInDays }
  const { certificate, key } = issueTlsCertificate({ name, issuer: intermediate, isCa: false, ...dates })
  return { certificate: certificate + intermediate.certificate, key }
}

/** Replace both files. */
async function install(
  login: LoginHost,
  { certificate, key }: Pick<TlsAuthority, 'certificate' | 'key'>,
): Promise<void> {
  login.keepSecret(...key.split('\n').filter((line) => line !== '' && !line.startsWith('-----')))
  await login.writeCredential('login-certificate', certificate)
  await login.writeCredential('login-key', key)
}
