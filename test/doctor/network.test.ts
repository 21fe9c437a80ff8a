import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { hostcertd } from '../cli/hostcertd.ts'
import { isInstalled } from '../cli/typed.ts'
import { closedPort, listen, startRawServer } from '../issuer/harness.ts'
import { makeTlsCertificate } from '../support/local-issuer/tls-certificate.ts'
import { runsIf } from '../support/skip.ts'
import { testBroken } from './broken.ts'
import { findingsIn, of, troubles, type Finding } from './findings.ts'
import { makeWard, type Ward } from './ward.ts'

const run = promisify(execFile)
const HAS_OPENSSL = await isInstalled('openssl')

testBroken([
  {
    name: 'a name that nobody knows',
    breakIt: async (ward) =>
      ward.configure({ issuer: { url: 'https://issuer.invalid', ssh_host_id: ward.hostId } }),
    troubles: ['name failure'],
    message: /cannot resolve issuer\.invalid/,
    remedy: /getent hosts issuer\.invalid/,
  },
  {
    name: 'nobody listens',
    breakIt: async ({ issuer }) => issuer.stop(),
    troubles: ['tcp failure'],
    message: /cannot connect to 127\.0\.0\.1:\d+: connection refused/,
    remedy: /nothing listens there: check that the issuer is up, and the port of issuer\.url$/,
  },
  {
    name: 'a TLS CA that nobody here trusts',
    options: { https: true },
    breakIt: async (ward) => ward.configure({ issuer: { url: ward.issuer.url, ssh_host_id: ward.hostId } }),
    troubles: ['tls failure'],
    message: /it is self-signed and not in the system's store \(DEPTH_ZERO_SELF_SIGNED_CERT\)/,
    remedy: /write that certificate \(PEM\) to a file and set issuer\.ca_file/,
  },
  {
    name: 'a ca_file without a certificate',
    options: { https: true },
    breakIt: async ({ issuer }) => writeFile(issuer.tlsCaFile, 'not PEM\n'),
    troubles: ['tls failure'],
    message: /issuer\.ca_file .* holds no certificate/,
    remedy: /write the certificates \(PEM\) of the TLS root CAs to that file/,
  },
  {
    name: 'https to a server that speaks http',
    breakIt: async (ward) => {
      const url = ward.issuer.url.replace('http', 'https')
      await ward.configure({ issuer: { url, ssh_host_id: ward.hostId } })
    },
    troubles: ['tls failure'],
    message: /the TLS handshake failed with 127\.0\.0\.1:\d+: the server does not use TLS on this port/,
    remedy: /is an https server: correct issuer\.url/,
  },
])

test('a TLS certificate for another name', async () => {
  const tls = makeTlsCertificate('127.0.0.9')
  await using server = await startRawServer((_request, response) => response.end(), tls)
  await using ward = await makeWard()
  const caFile = join(ward.host.folder, 'tls-ca.pem')
  await writeFile(caFile, tls.certificate)
  await ward.configure({ issuer: { url: server.url, ssh_host_id: ward.hostId, ca_file: caFile } })
  const { findings } = await ward.diagnose()
  expect(troubles(findings)).toEqual(['tls failure'])
  expect(of('tls', findings)[0]?.message).toMatch(/it is for .*, not for 127\.0\.0\.1 \(/)
  expect(of('tls', findings)[0]?.remedy).toMatch(
    /^set issuer\.url to a name that the certificate is for, or have one issued for 127\.0\.0\.1$/,
  )
  expect(server.seen).toEqual([])
})

test('a TLS certificate that soon ends', runsIf(HAS_OPENSSL, 'openssl is missing'), async () => {
  await using ward = await makeWard()
  const key = join(ward.host.folder, 'tls.key')
  const certificate = join(ward.host.folder, 'tls.pem')
  const subject = ['-subj', '/CN=short', '-addext', 'subjectAltName=IP:127.0.0.1']
  const made = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '3', '-keyout', key, '-out', certificate]
  await run('openssl', ['req', ...made, ...subject])
  const tls = { key: await readFile(key, 'utf8'), certificate: await readFile(certificate, 'utf8') }
  await using server = await startRawServer((_request, response) => response.writeHead(503).end(), tls)
  await ward.configure({ issuer: { url: server.url, ssh_host_id: ward.hostId, ca_file: certificate } })
  const { findings } = await ward.diagnose()
  expect(of('tls', findings)[0]).toMatchObject({
    status: 'warning',
    message: expect.stringMatching(
      /"short", signed by "short", valid until .*: it expires in 2d 23h$/,
    ) as string,
    remedy: 'have the TLS certificate of 127.0.0.1 renewed',
  })
})

/** What `doctor` finds with these variables in its environment, and whom it says to ask. */
async function diagnoseBehind(
  { host }: Ward,
  environment: Readonly<Record<string, string>>,
): Promise<readonly Finding[]> {
  const { stdout } = await hostcertd(['doctor', '--json', '--config', host.configPath], { environment })
  expect(stdout).not.toContain('hidden')
  return findingsIn(stdout)
}

const wayOf = (findings: readonly Finding[]): string[] =>
  (['name', 'tcp', 'tls', 'issuer', 'login'] as const).map((step) => `${of(step, findings)[0]?.status}`)

describe('behind a proxy', () => {
  test('that is down: the connection to it fails, and the issuer is not blamed', async () => {
    await using ward = await makeWard({ https: true })
    const proxy = `http://user:hidden@127.0.0.1:${await closedPort()}`
    const findings = await diagnoseBehind(ward, { HTTPS_PROXY: proxy })
    expect(wayOf(findings)).toEqual(['ok', 'failure', 'skipped', 'skipped', 'skipped'])
    expect(of('tcp', findings)[0]).toMatchObject({
      message: expect.stringMatching(
        /^cannot connect to the proxy \(HTTPS_PROXY\) 127\.0\.0\.1:\d+: connection refused/,
      ) as string,
      remedy: expect.stringMatching(
        /check that the proxy is up, and the port of HTTPS_PROXY\..* add 127\.0\.0\.1 to NO_PROXY: .*\/etc\/default\/hostcertd$/,
      ) as string,
    })
    const exempt = await diagnoseBehind(ward, { HTTPS_PROXY: proxy, NO_PROXY: 'example.com, 127.0.0.1' })
    expect(wayOf(exempt)).toEqual(['ok', 'ok', 'ok', 'ok', 'ok'])
    expect(ward.issuer.requests.filter(({ path }) => path.endsWith('/login'))).toHaveLength(1)
  })

  test('whose name nobody knows', async () => {
    await using ward = await makeWard({ https: true })
    const findings = await diagnoseBehind(ward, { http_proxy: 'http://user:hidden@proxy.invalid:3128' })
    expect(wayOf(findings)).toEqual(['failure', 'skipped', 'skipped', 'skipped', 'skipped'])
    expect(of('name', findings)[0]).toMatchObject({
      message: expect.stringMatching(/^cannot resolve the proxy \(http_proxy\) proxy\.invalid: /) as string,
      remedy: expect.stringMatching(
        /^correct http_proxy, or name resolution: `getent hosts proxy\.invalid`/,
      ) as string,
    })
  })

  test('that is no URL', async () => {
    await using ward = await makeWard({ https: true })
    const findings = await diagnoseBehind(ward, { HTTPS_PROXY: 'hidden hidden' })
    expect(wayOf(findings)).toEqual(['failure', 'skipped', 'skipped', 'skipped', 'skipped'])
    expect(of('name', findings)[0]?.message).toBe('HTTPS_PROXY in the environment is not the URL of a proxy')
  })

  test('that does not let it through: no login is tried', async () => {
    await using ward = await makeWard({ https: true })
    const server = createServer()
    server.on('connect', (_request, client) => client.end('HTTP/1.1 407 No\r\n\r\n'))
    await using proxy = await listen(server)
    const findings = await diagnoseBehind(ward, { HTTPS_PROXY: `http://user:hidden@127.0.0.1:${proxy.port}` })
    expect(wayOf(findings)).toEqual(['ok', 'ok', 'failure', 'skipped', 'skipped'])
    expect(of('tls', findings)[0]).toMatchObject({
      message: expect.stringMatching(
        /^the proxy \(HTTPS_PROXY\) refused the connection to 127\.0\.0\.1:\d+: it responded to CONNECT with 407$/,
      ) as string,
      remedy: expect.stringMatching(
        /^allow this host to connect to \S+ at the proxy; if the proxy requires a login \(407\), set the user and the password in HTTPS_PROXY/,
      ) as string,
    })
    expect(ward.issuer.requests).toEqual([])
  })

  test('whose answer is not that of a proxy', async () => {
    await using ward = await makeWard({ https: true })
    await using other = await startRawServer((_request, response) => response.writeHead(200).end())
    const findings = await diagnoseBehind(ward, { HTTPS_PROXY: other.url })
    expect(wayOf(findings)).toEqual(['ok', 'ok', 'failure', 'skipped', 'skipped'])
    expect(of('tls', findings)[0]).toMatchObject({
      message: expect.stringMatching(/^the proxy \(HTTPS_PROXY\) refused the connection to .*: /) as string,
      remedy: expect.stringMatching(
        /^check that HTTPS_PROXY names a proxy, and that it accepts http:\/\/ connections/,
      ) as string,
    })
  })

  test('that lets it through: the TLS of the issuer is judged behind it', async () => {
    await using ward = await makeWard({ https: true })
    await using proxy = await startTunnelProxy()
    const environment = { HTTPS_PROXY: `http://user:hidden@127.0.0.1:${proxy.port}` }
    expect(wayOf(await diagnoseBehind(ward, environment))).toEqual(['ok', 'ok', 'ok', 'ok', 'ok'])
    const { certificate } = makeTlsCertificate()
    await writeFile(ward.issuer.tlsCaFile, certificate)
    const findings = await diagnoseBehind(ward, environment)
    expect(wayOf(findings)).toEqual(['ok', 'ok', 'failure', 'skipped', 'skipped'])
    expect(of('tls', findings)[0]?.message).toMatch(/it is self-signed and not in the system's store or in /)
    const tunnel = `127.0.0.1:${ward.issuer.port}`
    expect(new Set(proxy.tunnels)).toEqual(new Set([`user:hidden ${tunnel}`]))
  })

  test('through a proxy or past it: doctor examines the way that the requests go', async () => {
    await using ward = await makeWard({ https: true })
    await using proxy = await startTunnelProxy()
    const HTTPS_PROXY = `http://127.0.0.1:${proxy.port}`
    for (const [NO_PROXY, way] of [
      ['127.0.0.1:1', 'through the proxy'],
      ['.example.com 127.0.0.1', 'direct'],
    ] as const) {
      const environment = { HTTPS_PROXY, NO_PROXY }
      const seen = (): string => (proxy.tunnels.splice(0).length > 0 ? 'through the proxy' : 'direct')
      const renewal = await ward.host.verb(['renew', '--force', '--dry-run'], { environment })
      expect([renewal.status, seen()]).toEqual([0, way])
      const findings = await diagnoseBehind(ward, environment)
      expect([...new Set(wayOf(findings)), seen()]).toEqual(['ok', way])
      expect(of('tcp', findings)[0]?.message).toMatch(
        way === 'direct' ? /^127/ : /^the proxy \(HTTPS_PROXY\) 127/,
      )
    }
  })
})

/** A proxy that opens tunnels; each as `USER:PASSWORD HOST:PORT`. */
async function startTunnelProxy(): Promise<
  AsyncDisposable & { readonly port: number; readonly tunnels: string[] }
> {
  const tunnels: string[] = []
  const server = createServer()
  server.on('connect', (request, client) => {
    const login = request.headers['proxy-authorization']?.replace('Basic ', '') ?? ''
    tunnels.push(`${Buffer.from(login, 'base64').toString()} ${request.url}`)
    const { hostname, port } = new URL(`http://${request.url}`)
    const upstream = connect(Number(port), hostname, () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      upstream.pipe(client).pipe(upstream)
    })
    upstream.on('error', () => client.destroy())
    client.on('close', () => upstream.destroy())
  })
  return { ...(await listen(server)), tunnels }
}
