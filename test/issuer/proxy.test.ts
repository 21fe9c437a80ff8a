import { createServer } from 'node:http'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { endpointOf, proxyFor } from '../../agent/issuer/proxy.ts'
import { closedPort, listen, NEVER, requestFor } from './harness.ts'
import { failureOf, setUp, type Setup } from './local-setup.ts'

interface Proxy extends AsyncDisposable {
  readonly url: string
  /** What it was asked to connect to. */
  readonly tunnels: string[]
  /** Requests that it was to forward itself. */
  readonly forwards: string[]
}

/** A proxy that opens tunnels, or with `refuse` answers each CONNECT with that status. */
async function startProxy(refuse?: number): Promise<Proxy> {
  const tunnels: string[] = []
  const forwards: string[] = []
  const server = createServer((request, response) => {
    forwards.push(request.url ?? '')
    response.writeHead(502).end()
  })
  server.on('connect', (request, client) => {
    tunnels.push(request.url ?? '')
    if (refuse !== undefined) {
      client.end(`HTTP/1.1 ${refuse} No\r\n\r\n`)
      return
    }
    const { hostname, port } = new URL(`http://${request.url}`)
    const upstream = connect(Number(port), hostname, () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      upstream.pipe(client).pipe(upstream)
    })
    upstream.on('error', () => client.destroy())
    client.on('close', () => upstream.destroy())
  })
  const listening = await listen(server)
  const url = `http://127.0.0.1:${listening.port}`
  return { url, tunnels, forwards, [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose]() }
}

const VARIABLES = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'NO_PROXY', 'no_proxy']

beforeEach(() => {
  for (const name of VARIABLES) vi.stubEnv(name, undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
})

describe('https', () => {
  let setup: Setup
  const issue = (name = '127.0.0.1') =>
    setup
      .subject({ url: `https://${name}:${setup.server.port}`, caFile: setup.server.tlsCaFile })
      .issuer.issue(requestFor(setup.publicKey), NEVER)

  beforeEach(async () => {
    setup = await setUp({ https: true })
  })
  afterEach(() => setup[Symbol.asyncDispose]())

  test.each([
    { variable: 'HTTPS_PROXY', name: '127.0.0.1' },
    { variable: 'https_proxy', name: 'localhost' },
  ])('goes through $variable to $name', async ({ variable, name }) => {
    await using proxy = await startProxy()
    vi.stubEnv(variable, proxy.url)
    expect(await issue(name)).toMatchObject({ ok: true })
    expect(proxy.tunnels).toEqual(Array.from({ length: 2 }, () => `${name}:${setup.server.port}`))
    expect(proxy.forwards).toEqual([])
  })

  test.each([
    { variable: 'NO_PROXY', value: '127.0.0.1' },
    { variable: 'no_proxy', value: 'example.com, 127.0.0.1' },
    { variable: 'NO_PROXY', value: '*' },
    { variable: 'NO_PROXY', value: '127.0.0.1:PORT' },
  ])('$variable=$value goes past it', async ({ variable, value }) => {
    await using proxy = await startProxy()
    vi.stubEnv('HTTPS_PROXY', proxy.url)
    vi.stubEnv(variable, value.replace('PORT', String(setup.server.port)))
    expect(await issue()).toMatchObject({ ok: true })
    expect(proxy.tunnels).toEqual([])
  })

  test('NO_PROXY for another port does not go past it', async () => {
    await using proxy = await startProxy()
    vi.stubEnv('HTTPS_PROXY', proxy.url)
    vi.stubEnv('NO_PROXY', '127.0.0.1:1')
    expect(await issue()).toMatchObject({ ok: true })
    expect(proxy.tunnels).toHaveLength(2)
  })

  test('the server behind a proxy is checked all the same', async () => {
    await using proxy = await startProxy()
    vi.stubEnv('HTTPS_PROXY', proxy.url)
    const failure = failureOf(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER))
    expect(failure.code).toBe('ISSUER_UNREACHABLE')
    expect(failure.message).toContain('self-signed certificate')
  })

  test('a server behind a proxy with another name ends at once', async () => {
    await using proxy = await startProxy()
    vi.stubEnv('HTTPS_PROXY', proxy.url)
    const failure = failureOf(await issue('127.0.0.2'))
    expect(failure.code).toBe('ISSUER_UNREACHABLE')
  })

  test('a proxy that wants a password', async () => {
    await using proxy = await startProxy(407)
    vi.stubEnv('HTTPS_PROXY', proxy.url.replace('//', '//user:pass-word@'))
    const failure = failureOf(await issue())
    expect(failure).toMatchObject({
      code: 'ISSUER_UNREACHABLE',
      next: 'issuer-backoff',
      message: `cannot reach 127.0.0.1:${setup.server.port}: the proxy answered CONNECT with 407`,
    })
  })

  test('a proxy that is not there', async () => {
    const port = await closedPort()
    vi.stubEnv('HTTPS_PROXY', `http://user:pass-word@127.0.0.1:${port}`)
    const failure = failureOf(await issue())
    expect(failure.code).toBe('ISSUER_UNREACHABLE')
    expect(failure.message).toContain(`127.0.0.1:${port}`)
    expect(failure.message).not.toContain('pass-word')
  })

  test('a proxy that hangs', async () => {
    await using proxy = await listen(createServer().on('connect', () => {}))
    vi.stubEnv('HTTPS_PROXY', `http://127.0.0.1:${proxy.port}`)
    const { issuer } = setup.subject({ timeoutMilliseconds: 200 })
    expect(failureOf(await issuer.issue(requestFor(setup.publicKey), NEVER)).code).toBe('ISSUER_TIMEOUT')
  })

  test.each(['pass-word', 'proxy.example.com:3128'])('a proxy that is no URL: %s', async (value) => {
    vi.stubEnv('HTTPS_PROXY', value)
    const failure = failureOf(await issue())
    expect(failure).toMatchObject({ code: 'CONFIG_INVALID', next: 'local' })
    expect(failure.message).not.toContain('pass-word')
  })
})

test('http to loopback never goes through a proxy', async () => {
  await using setup = await setUp()
  await using proxy = await startProxy()
  vi.stubEnv('HTTP_PROXY', proxy.url)
  vi.stubEnv('HTTPS_PROXY', proxy.url)
  expect(await setup.subject().issuer.issue(requestFor(setup.publicKey), NEVER)).toMatchObject({ ok: true })
  expect([...proxy.forwards, ...proxy.tunnels]).toEqual([])
})

describe('which URLs NO_PROXY exempts', () => {
  test.each<{ host: string; exempt: readonly string[]; not: readonly string[] }>([
    {
      host: 'web.example.com',
      exempt: [
        'web.example.com',
        'WEB.Example.com',
        'web.example.com.',
        'example.com',
        '.example.com',
        '*.example.com',
        'com',
        'web.example.com:443',
        'a, web.example.com',
        'a web.example.com',
        'a,,\tweb.example.com',
        '*',
        'a *',
        '*:443',
      ],
      not: [
        '',
        ' , ',
        'a',
        'ample.com',
        '*ample.com',
        '*.web.example.com',
        'web.example.com:8443',
        '*:8443',
        'web.example.com:',
        '.',
        '*.',
      ],
    },
    {
      host: 'example.com',
      exempt: ['example.com', '.example.com'],
      not: ['*.example.com', 'web.example.com'],
    },
    { host: 'example.com.', exempt: ['example.com'], not: ['a'] },
    {
      host: '192.0.2.17',
      exempt: ['192.0.2.17', '192.0.2.17:443'],
      not: ['192.0.2.0/24', '192.*', '192.0.2.1'],
    },
    {
      host: '[2001:db8::17]',
      exempt: ['2001:db8::17', '[2001:db8::17]', '[2001:DB8:0::17]:443', '2001:DB8:0:0::17'],
      not: ['[2001:db8::17]:8443', '2001:db8::1', '2001:db8::17:443'],
    },
  ])('$host', ({ host, exempt, not }) => {
    const url = new URL(`https://${host}`)
    const goesThrough = (NO_PROXY: string): boolean =>
      proxyFor(url, { HTTPS_PROXY: 'http://proxy.example.net', NO_PROXY }) !== null
    expect(exempt.filter(goesThrough)).toEqual([])
    expect(not.filter((entry) => !goesThrough(entry))).toEqual([])
  })
})

test.each([
  { environment: { HTTPS_PROXY: 'http://a', https_proxy: 'http://b' }, want: ['https_proxy', 'b', 80] },
  { environment: { HTTP_PROXY: 'https://a' }, want: ['HTTP_PROXY', 'a', 443] },
  {
    environment: { HTTPS_PROXY: 'socks5://[::1]', HTTP_PROXY: 'http://b' },
    want: ['HTTPS_PROXY', '::1', 1080],
  },
  { environment: { HTTPS_PROXY: '', HTTP_PROXY: 'http://b:3128' }, want: ['HTTP_PROXY', 'b', 3128] },
  { environment: { HTTPS_PROXY: 'http://a', no_proxy: '', NO_PROXY: '*' }, want: ['HTTPS_PROXY', 'a', 80] },
  { environment: { HTTPS_PROXY: 'ftp://a' }, want: ['HTTPS_PROXY', null, null] },
  { environment: { HTTPS_PROXY: 'a:3128' }, want: ['HTTPS_PROXY', null, null] },
  { environment: { HTTPS_PROXY: 'http://user:100%@a' }, want: ['HTTPS_PROXY', null, null] },
  { environment: {}, want: [undefined, null, null] },
])('which proxy $environment names', ({ environment, want }) => {
  const proxy = proxyFor(new URL('https://issuer.example.com'), environment)
  const end = proxy === null || proxy.url === null ? null : endpointOf(proxy.url)
  expect([proxy?.variable, end?.host ?? null, end?.port ?? null]).toEqual(want)
})
