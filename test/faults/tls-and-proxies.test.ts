import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { expect, test } from 'vitest'
import { findingsIn, of } from '../doctor/findings.ts'
import {
  issueTlsCertificate,
  type TlsCertificate,
  type TlsWish,
} from '../support/local-issuer/tls-certificate.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { FailingRenewals, flood, Port } from './failing-renewals.ts'
import { pointsOf } from './rows.ts'

const DAYS_AGO = { startsInDays: -9, endsInDays: -1 }
const ROOT = issueTlsCertificate({ name: 'Example Root CA' })
const ISSUING = issueTlsCertificate({ name: 'Example Issuing CA', issuer: ROOT })
const OTHER_ROOT = issueTlsCertificate({ name: 'Another Root CA' })
const leaf = (wish: Partial<TlsWish> = {}) =>
  issueTlsCertificate({ name: 'web', issuer: ROOT, isCa: false, ...wish })
const GOOD = leaf()
const NOT_A_CA = leaf({ name: 'not a CA' })
const BELOW_NO_CA = leaf({ issuer: NOT_A_CA })

/** A TLS server that answers each request with what no issuer does. */
function tlsServer(
  options: TlsOptions = {},
  { key, certificate }: TlsCertificate = GOOD,
  answer = 'HTTP/1.1 204 x\r\n\r\n',
): Server {
  const server = createTlsServer({ key, cert: certificate, ...options }, (socket) => {
    socket.on('error', () => {})
    socket.once('data', () => void socket.end(answer, 'latin1'))
  })
  return server.on('tlsClientError', () => {})
}

const rawServer = (answer: (socket: Socket) => void) =>
  createServer((socket) => void socket.once('data', () => answer(socket)))
const alertServer = (description: number) =>
  rawServer((socket) => void socket.end(Buffer.from([21, 3, 3, 0, 2, 2, description])))
/** An HTTP/2 server's first frame, SETTINGS, and its last, GOAWAY. */
const HTTP2_FRAMES = '\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01'

interface TlsRow {
  readonly name: string
  readonly server: () => Server
  readonly words: RegExp
  readonly code?: string
  /** The step of `doctor` that must fail in the same words. */
  readonly doctor?: 'tls' | 'issuer'
}

const TLS_1_2: TlsOptions = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }
/** Alerts that are only warnings, of which OpenSSL accepts five in a row. */
const WARNINGS = Buffer.from('1503030002015a'.repeat(1000), 'hex')
/** In TLS 1.2 one alert for both. */
const NO_CIPHER = /the server requires a client certificate, or has no cipher in common with this host/
const WANTS_CERTIFICATE: TlsOptions = { requestCert: true, rejectUnauthorized: true, ca: ROOT.certificate }

/** nginx with `ssl_verify_client on`. */
const NGINX_PAGE =
  'HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\n\r\n<html><title>400 No required SSL certificate was sent</title></html>'

const TLS_ROWS: readonly TlsRow[] = [
  {
    name: 'expired',
    server: () => tlsServer({}, leaf(DAYS_AGO)),
    words: /certificate has expired; is the clock right\?/,
  },
  {
    name: 'not yet valid',
    server: () => tlsServer({}, leaf({ startsInDays: 9 })),
    words: /certificate is not yet valid; is the clock right\?/,
  },
  {
    name: 'for another name',
    server: () => tlsServer({}, leaf({ address: '127.0.0.9' })),
    words: /does not match certificate's altnames/,
  },
  {
    name: 'self-signed',
    server: () => tlsServer({}, issueTlsCertificate({ name: 'web', isCa: false })),
    words: /self-signed certificate; no root CA above it/,
  },
  {
    name: 'of an unknown CA',
    server: () => tlsServer({}, leaf({ issuer: OTHER_ROOT })),
    words: /no root CA above it is in the system's store or in issuer\.ca_file/,
  },
  {
    name: 'of a CA of the same name with another key',
    server: () => tlsServer({}, leaf({ issuer: issueTlsCertificate({ name: ROOT.name }) })),
    words: /certificate signature failure/,
  },
  {
    name: 'without its intermediate',
    server: () => tlsServer({}, leaf({ issuer: ISSUING })),
    words: /no root CA above it is in/,
  },
  {
    name: 'signed by a certificate that is not of a CA',
    server: () => tlsServer({ cert: BELOW_NO_CA.certificate + NOT_A_CA.certificate }, BELOW_NO_CA),
    words: /unsuitable certificate purpose/,
  },
  {
    name: 'its CA certificate itself, trusted',
    server: () => tlsServer({}, ROOT),
    code: 'ISSUER_INVALID_RESPONSE',
    words: /answered with status 204/,
  },
  {
    name: 'TLS 1.1 only',
    server: () => tlsServer({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }),
    words: /the server offers neither TLS 1\.2 nor TLS 1\.3 \(/,
    doctor: 'tls',
  },
  {
    name: 'no cipher in common, TLS 1.2',
    server: () => tlsServer({ ...TLS_1_2, ciphers: 'ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0' }),
    words: NO_CIPHER,
    doctor: 'tls',
  },
  {
    name: 'no cipher in common, TLS 1.3',
    server: () => tlsServer({ minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_CCM_SHA256' }),
    words: NO_CIPHER,
  },
  {
    name: 'a client certificate is required, TLS 1.2',
    server: () => tlsServer({ ...TLS_1_2, ...WANTS_CERTIFICATE }),
    words: NO_CIPHER,
    doctor: 'tls',
  },
  {
    name: 'a client certificate is required, by a page',
    server: () => tlsServer({}, GOOD, NGINX_PAGE),
    code: 'ISSUER_FORBIDDEN',
    words: /requires a client certificate \(400, with a web page\)/,
    doctor: 'issuer',
  },
  {
    name: 'HTTP/2 only, by ALPN',
    server: () => tlsServer({ ALPNProtocols: ['h2'] }),
    words: /the server accepts HTTP\/2 only, and HTTP\/1\.1 is needed \(/,
    doctor: 'tls',
  },
  {
    name: 'HTTP/2 only, without ALPN',
    server: () => tlsServer({}, GOOD, HTTP2_FRAMES),
    code: 'ISSUER_INVALID_RESPONSE',
    words: /127\.0\.0\.1:\d+ uses HTTP\/2 only, and HTTP\/1\.1 is needed/,
    doctor: 'issuer',
  },
  {
    name: 'HTTP without TLS',
    server: () => rawServer((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
    words: /the server does not use TLS on this port \(wrong version number\)/,
  },
  {
    name: 'an alert at once: internal_error',
    server: () => alertServer(80),
    words: /TLS failed: tlsv1 alert internal error/,
  },
  {
    name: 'an alert at once: unrecognized_name',
    server: () => alertServer(112),
    words: /TLS failed: tlsv1 unrecognized name/,
  },
  {
    name: 'an alert at once: of no known number',
    server: () => alertServer(255),
    words: /disconnected before secure TLS connection was established/,
  },
  {
    name: 'bytes that are no TLS record',
    server: () => rawServer((socket) => void socket.end(Buffer.alloc(500, 0xa5))),
    words: /TLS failed: /,
  },
  {
    name: 'a record that is too long',
    server: () =>
      rawServer(
        (socket) => void socket.end(Buffer.concat([Buffer.from([22, 3, 3, 255, 255]), Buffer.alloc(65_535)])),
      ),
    words: /TLS failed: data length too long/,
  },
  {
    name: 'records without end',
    server: () => rawServer((socket) => flood(socket, WARNINGS)),
    words: /cannot reach/,
  },
  {
    name: 'closes the connection in the handshake',
    server: () => rawServer((socket) => void socket.end(Buffer.from([22, 3, 3, 0, 100, 2]))),
    words: /disconnected before secure TLS connection was established/,
  },
]

/** OpenSSL's server sends the alert of TLS 1.3; Node's only closes the connection. */
async function opensslServer(folder: string): Promise<AsyncDisposable & { readonly number: number }> {
  const [pem, number] = [join(folder, 'server.pem'), await freePort()]
  await writeFile(pem, GOOD.key + GOOD.certificate)
  const options = `s_server -accept 127.0.0.1:${number} -key ${pem} -cert ${pem} -Verify 1 -verify_return_error -tls1_3 -www`
  const child = spawn('openssl', options.split(' '), { stdio: ['ignore', 'pipe', 'ignore'] })
  const ended = once(child, 'close')
  await once(child.stdout, 'data')
  child.stdout.resume()
  const dispose = async (): Promise<void> => {
    child.kill()
    await ended
  }
  return { number, [Symbol.asyncDispose]: dispose }
}

test('TLS that is wrong', async () => {
  await using renewals = await FailingRenewals.start()
  const { agent, folder } = renewals.world
  const caFile = join(folder, 'root.pem')
  await writeFile(caFile, ROOT.certificate)
  const attempt = async (
    port: number,
    { name, words, code = 'ISSUER_UNREACHABLE', doctor }: Omit<TlsRow, 'server'>,
  ) => {
    const issuer = { url: `https://127.0.0.1:${port}`, ca_file: caFile }
    await renewals.attempt({ name, code, words, config: { issuer } })
    if (doctor === undefined) return
    const [finding] = of(doctor, findingsIn((await agent.verb('doctor', '--json')).stdout))
    if (finding?.status !== 'failure' || !words.test(finding.message))
      renewals.flaws.push(`${name}: doctor: ${JSON.stringify(finding)}`)
  }
  // What `doctor` names too is always tried.
  const points = pointsOf(TLS_ROWS.length, 7)
  for (const row of TLS_ROWS.filter(
    ({ doctor }, index) => doctor !== undefined || points.includes(index + 1),
  )) {
    await using port = await Port.of(row.server())
    await attempt(port.number, row)
  }
  await using port = await opensslServer(folder)
  await attempt(port.number, {
    name: 'a client certificate is required, TLS 1.3',
    words: /TLS failed: the server requires a client certificate \(/,
    doctor: 'issuer',
  })
  await renewals.report('TLS that is wrong')
  expect(renewals.flaws).toEqual([])
})

interface ProxyRow {
  readonly name: string
  /** Null: nothing listens. */
  readonly answer?: ((socket: Socket) => void) | null
  /** PORT stands for the proxy's; default `http://127.0.0.1:PORT`. */
  readonly url?: string
  /** Default ISSUER_UNREACHABLE. */
  readonly code?: string
  readonly words: RegExp
  readonly secret?: string
}

const say = (text: string | Buffer) => (socket: Socket) => void socket.end(text)
const OPENED = 'HTTP/1.1 200 OK\r\n\r\n'

const PROXY_ROWS: readonly ProxyRow[] = [
  ...[400, 403, 404, 407, 429, 500, 502, 503].map((status) => ({
    name: `answers CONNECT with ${status}`,
    answer: say(`HTTP/1.1 ${status} x\r\nretry-after: 9999999\r\n\r\n`),
    words: new RegExp(`the proxy answered CONNECT with ${status}`),
  })),
  {
    name: 'answers CONNECT with 407 and never closes',
    answer: (socket) =>
      void socket.write('HTTP/1.1 407 x\r\nproxy-authenticate: Basic\r\ncontent-length: 9\r\n\r\n'),
    words: /the proxy answered CONNECT with 407/,
  },
  {
    name: 'never answers',
    answer: () => {},
    code: 'ISSUER_TIMEOUT',
    words: /did not answer in full within 1 s/,
  },
  {
    name: 'is not an HTTP proxy',
    answer: say('SSH-2.0-OpenSSH_9.2p1\r\n'),
    code: 'ISSUER_INVALID_RESPONSE',
    words: /sent something that is not HTTP/,
  },
  { name: 'closes the connection at once', answer: say(''), words: /Proxy Connection failed/ },
  {
    name: 'closes the connection inside its answer',
    answer: say('HTTP/1.1 200 Connec'),
    words: /cannot reach/,
  },
  {
    name: 'sends headers without end',
    answer: (socket) => (socket.write('HTTP/1.1 200 OK\r\n'), flood(socket, `x-a: ${'b'.repeat(8000)}\r\n`)),
    code: 'ISSUER_INVALID_RESPONSE',
    words: /sent something that is not HTTP/,
  },
  {
    name: 'opens a tunnel and closes it',
    answer: say(OPENED),
    words: /disconnected before secure TLS connection was established/,
  },
  {
    name: 'opens a tunnel in which nothing comes',
    answer: (socket) => void socket.write(OPENED),
    code: 'ISSUER_TIMEOUT',
    words: /did not answer in full/,
  },
  {
    name: 'opens a tunnel to garbage',
    answer: (socket) => (
      socket.write(OPENED),
      socket.once('data', () => void socket.end(Buffer.alloc(500, 0xa5)))
    ),
    words: /TLS failed: /,
  },
  {
    name: 'opens a tunnel to an HTTP server',
    answer: (socket) => (
      socket.write(OPENED),
      socket.once('data', () => void socket.end('HTTP/1.1 400 x\r\n\r\n'))
    ),
    words: /the server does not use TLS on this port/,
  },
  { name: 'does not listen', answer: null, words: /ECONNREFUSED/ },
  {
    name: 'is a SOCKS proxy that is none',
    url: 'socks5://127.0.0.1:PORT',
    answer: say(Buffer.alloc(50, 0xff)),
    words: /cannot reach/,
  },
  {
    name: 'is a SOCKS proxy that never answers',
    url: 'socks5://127.0.0.1:PORT',
    answer: () => {},
    code: 'ISSUER_TIMEOUT',
    words: /did not answer in full/,
  },
  {
    name: 'has an https URL with an IP address',
    url: 'https://127.0.0.1:PORT',
    code: 'CONFIG_INVALID',
    words: /the https: proxy in HTTPS_PROXY is an IP address; set its host name, or use http:/,
  },
  {
    name: 'does not use TLS, with an https URL',
    url: 'https://localhost:PORT',
    answer: say('HTTP/1.1 400 x\r\n\r\n'),
    words: /the server does not use TLS on this port/,
  },
  ...[
    'proxy.example.com:3128',
    'http://',
    'http://127.0.0.1:99999',
    'http://[::1',
    'ftp://127.0.0.1',
    'http://user:pass-word%zz@127.0.0.1:PORT',
  ].map((url) => ({
    name: `has the URL ${url}`,
    url,
    code: 'CONFIG_INVALID',
    words: /HTTPS_PROXY in the environment is not the URL of a proxy/,
    secret: 'pass-word',
  })),
]

test('proxies that are wrong', async () => {
  await using renewals = await FailingRenewals.start({ https: true })
  const attempt = async (
    port: number,
    { url = 'http://127.0.0.1:PORT', code = 'ISSUER_UNREACHABLE', name, words, secret }: ProxyRow,
  ) => {
    const environment = { HTTPS_PROXY: url.replace('PORT', String(port)) }
    await renewals.attempt({ name, code, words, environment, ...(secret === undefined ? {} : { secret }) })
  }
  const points = pointsOf(PROXY_ROWS.length, 12)
  for (const row of PROXY_ROWS.filter((_row, index) => points.includes(index + 1))) {
    await using port = await Port.answering(row.answer ?? (() => {}))
    await attempt(row.answer === null ? await freePort() : port.number, row)
  }
  const selfSigned = issueTlsCertificate({ name: 'proxy', isCa: false })
  await using port = await Port.of(tlsServer({}, selfSigned))
  await attempt(port.number, {
    name: 'has a TLS certificate of no CA',
    url: 'https://localhost:PORT',
    words: /self-signed certificate; no root CA above it/,
  })
  await renewals.report('proxies that are wrong')
  expect(renewals.flaws).toEqual([])
})

/** A proxy that works, and adds what it is sent as `Proxy-Authorization` to a list. */
async function workingProxy(seen: string[]): Promise<Port> {
  const server = createHttpServer().on('connect', ({ url, headers }, client: Socket) => {
    seen.push(headers['proxy-authorization'] ?? '')
    const upstream = connect(Number(url?.split(':')[1]), '127.0.0.1', () => {
      client.write(OPENED)
      upstream.pipe(client).pipe(upstream)
    })
    upstream.on('error', () => client.destroy())
    client.once('close', () => upstream.destroy())
  })
  return Port.of(server)
}

test('a proxy whose user and password have unusual characters', async () => {
  await using renewals = await FailingRenewals.start({ https: true })
  const seen: string[] = []
  await using proxy = await workingProxy(seen)
  for (const [user, password] of [
    ['us%40er', 'p%3Ass%2Fw%C3%B6rd%25%23%3F'],
    ["a!$&'()*+,;=~._-", "b!$&'()*+,;=~._-"],
    ['user', 'line%0D%0Afeed%20and%09tab'],
    ['CORP%5Cuser', '%22quoted%22'],
  ] as const) {
    const name = `${user}:${password}`
    const environment = { HTTPS_PROXY: `http://${name}@127.0.0.1:${proxy.number}` }
    await renewals.attempt({ name, code: null, environment, secret: decodeURIComponent(password) })
    const wanted = `Basic ${Buffer.from(decodeURIComponent(name)).toString('base64')}`
    const sent = seen.splice(0)
    if (sent.length !== 2 || sent.some((header) => header !== wanted))
      renewals.flaws.push(`${name}: sent ${sent.join(', ')}`)
  }
  await renewals.report('proxies whose user and password have unusual characters, which work')
  expect(renewals.flaws).toEqual([])
})
