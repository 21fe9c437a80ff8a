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
const SPIFFE = {
  issuer: 'https://spire.example.com',
  subject: 'spiffe://example.com/host/web1',
  audience: 'infisical',
}
const PROGRAM = '/usr/local/bin/print-svid'
const SVID = '/run/host-svid/token'
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
    const advised = await container.run(['hostcertd', 'doctor', '--issue'])
    expect(advised.replaceAll(/\s+/g, ' ')).toContain(
      `logged in by kubernetes as: issuer ${CLUSTER.issuer}, subject ${SUBJECT}, audience infisical`,
    )

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
      remedy: new RegExp(`set \`securityContext\\.fsGroup: ${await groupOfExchange(login)}\` in the pod`),
    })
    await container.run(['rm', '-r', PROJECTED])
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /no service account token at .*: is one projected into this pod\?/,
      beforeLogin: /cannot read the service account token from .*: no such file/,
      remedy:
        /^project a service account token into this pod at .*infisical\/token \(a volume of type projected\)/,
    })
    await project(login, tokenBy(cluster))
    await login.renewByDaemon()
    await login.expectNoSecrets()
  })

  test('aws: the role of an instance, by IMDSv2 at its own address, with keys that change', async () => {
    const login = shared()
    const { network, issuer } = login.host
    await command(['ip', '-n', network.outside, 'address', 'replace', `${METADATA}/32`, 'dev', 'veth0'])
    await command(['ip', '-n', network.host, 'route', 'replace', `${METADATA}/32`, 'dev', 'host0'])
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
    const as = ({ accessKeyId }: typeof first) =>
      `logged in by aws as: access key ASIA…${accessKeyId.slice(-4)}, role web1, region eu-central-1`
    expect(await login.diagnose()).toMatchObject([
      { step: 'login', status: 'ok', message: expect.stringContaining(as(first)) },
    ])

    await attach(second)
    await login.renewByDaemon()
    expect((await login.diagnose()).at(-1)?.message).toContain(as(second))

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
      remedy: /check that its metadata service is on \(IMDSv2/,
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
      remedy:
        /At the issuer, .*check that the CA certificate is the one that signed .*, and the allowed common names/,
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
      message: /the client certificate in .* expired at \S+Z: by this host's clock it is \S+Z; replace it/,
      remedy: /replace the certificate in .*login-certificate and its key in .*login-key/,
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

  test('spiffe: a program that prints the JWT-SVID, in the sandbox of the exchange', async () => {
    const login = shared()
    const { container } = login.host
    const domain = makeJwtSigner('ES256', 'domain-1')
    const began = (await login.logins()).length
    await login.accept({ spiffe: { ...SPIFFE, jwks: [domain.published] } })
    const [first, second] = [tokenBy(domain, SPIFFE), tokenBy(domain, SPIFFE)]
    await writeSvid(login, first)
    await writeProgram(login, `#!/bin/sh\necho fetching >&2\ncat ${SVID}\n`)
    await login.logInBy('spiffe')
    expect((await login.logins()).slice(began)).toMatchObject([
      { route: 'spiffe-auth', body: { jwt: first }, refusal: null },
    ])
    const said = `logged in by spiffe as: issuer ${SPIFFE.issuer}, subject ${SPIFFE.subject}, audience infisical`
    expect(await login.diagnose()).toMatchObject([
      { step: 'login', status: 'ok', message: expect.stringContaining(said) },
    ])

    await writeSvid(login, second)
    await login.renewByDaemon()
    expect((await login.logins()).at(-1)?.body).toMatchObject({ jwt: second })

    // As root it would print the JWT-SVID.
    const remedy = /check auth\.jwt_command: run it as the user hostcertd-exchange/
    await container.run(['chown', 'root:root', SVID])
    await login.expectTrouble({
      code: 'LOGIN_PLATFORM',
      message: /jwt_command \/usr\/local\/bin\/print-svid failed with exit status 1; see the log/,
      remedy,
    })
    const exchange = ['journalctl', '--boot', '--no-pager', '--output=cat', '--unit=hostcertd-exchange@*']
    expect(await container.run(exchange)).toMatch(/host-svid\/token: Permission denied/)
    await container.run(['chown', 'hostcertd-exchange', SVID])
    await container.run(['chmod', 'a-x', PROGRAM])
    await login.expectTrouble({ code: 'LOGIN_PLATFORM', message: /jwt_command failed: .*EACCES/, remedy })
    await writeProgram(login, `#!/bin/sh\ntouch /var/lib/left-behind ${SVID}.new && cat ${SVID}\n`)
    await login.expectTrouble({ code: 'LOGIN_PLATFORM', message: /exit status 1; see the log/, remedy })
    expect(await container.run(exchange)).toMatch(/left-behind.*: Read-only file system/)
    await writeProgram(login, `#!/bin/sh\ncat ${SVID} | tee "$(mktemp)"\n`)
    await login.renewByDaemon()
    await login.expectNoSecrets()
  })
})

/** A new one each time. */
function tokenBy(signer: JwtSigner, { issuer: iss, subject: sub, audience } = CLUSTER): string {
  const now = Math.floor(Date.now() / 1000)
  const jti = randomBytes(8).toString('hex')
  return signer.sign({ iss, sub, aud: [audience], iat: now, nbf: now, exp: now + 3600, jti })
}

/** What another program on the host would do. */
async function writeSvid({ host }: LoginHost, svid: string): Promise<void> {
  await host.container.sh(
    `mkdir -p /run/host-svid && cat | install -m 0400 -o hostcertd-exchange /dev/stdin ${SVID}`,
    { input: svid },
  )
}

async function writeProgram({ host }: LoginHost, script: string): Promise<void> {
  await host.container.write(PROGRAM, script, 0o755)
  await host.container.run(['chmod', '0755', PROGRAM])
}

/** For `fsGroup`, by the command of docs/logins.md. */
async function groupOfExchange({ host }: LoginHost): Promise<string> {
  return (await host.container.run(['id', '-g', 'hostcertd-exchange'])).trim()
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
