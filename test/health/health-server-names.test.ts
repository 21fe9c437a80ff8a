import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { ask, started } from '../support/health-server.ts'

const NAMES = ['web1', 'web1.example.com', 'status.example.com']

test.each([
  { host: '127.0.0.1:9847' },
  { host: '192.0.2.7' },
  { host: '[::1]:9847' },
  { host: '[2001:DB8::1]' },
  { host: 'localhost' },
  { host: 'LocalHost:9847' },
  { host: 'localhost.:9847' },
  { host: 'web1' },
  { host: 'WEB1.example.com.' },
  { host: 'web1.example.com:443' },
  { host: 'Status.Example.Com:8080' },
])('the page and /status are answered for $host', async ({ host }) => {
  const { port } = await started({ sources: { ownNames: async () => NAMES } })
  for (const path of ['/', '/status', '/status?x=1'])
    expect((await ask({ port }, path, 'GET', { host })).status, path).toBe(200)
})

test.each([
  { host: 'evil.example.net' },
  { host: 'evil.example.net:9847' },
  { host: 'localhost.evil.example.net' },
  { host: '127.0.0.1.evil.example.net' },
  { host: '127.0.0.1.evil.example.net:9847' },
  { host: 'web2' },
  { host: 'web1.example.com.evil.example.net' },
  { host: 'xweb1' },
  { host: '[evil.example.net]' },
  { host: '::1' },
  { host: '2130706433' },
  { host: 'web1:port' },
  { host: 'user@localhost' },
])('the page and /status are refused for "$host", and nothing else is', async ({ host }) => {
  const { port } = await started({ sources: { ownNames: async () => NAMES } })
  for (const path of ['/', '/?x=1', '/status']) {
    expect((await ask({ port }, path, 'HEAD', { host })).status, path).toBe(421)
    const { status, headers, body } = await ask({ port }, path, 'GET', { host })
    expect(status, path).toBe(421)
    expect(headers['content-type']).toBe('application/json; charset=utf-8')
    expect(JSON.parse(body)).toEqual({ error: 'not served under this host name; add it to health.hosts' })
  }
  for (const path of ['/livez', '/readyz', '/readyz/ssh_host_rsa_key', '/healthz', '/metrics'])
    expect((await ask({ port }, path, 'GET', { host })).status, path).toBe(200)
  expect((await ask({ port }, '/nothing', 'GET', { host })).status).toBe(404)
})

test.each([
  { name: 'no Host header, HTTP/1.0', request: 'GET / HTTP/1.0\r\n\r\n', want: /^HTTP\/1\.1 200 / },
  {
    name: 'no Host header',
    request: 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n',
    want: /^HTTP\/1\.1 200 /,
  },
  {
    name: 'an empty Host header',
    request: 'GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n',
    want: /^HTTP\/1\.1 421 /,
  },
  {
    name: 'a whole URL, whose host counts and not the header',
    request: 'GET http://evil.example.net/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    want: /^HTTP\/1\.1 421 /,
  },
  {
    name: 'a whole URL with a name of this host',
    request: 'GET http://localhost:9847/ HTTP/1.1\r\nHost: localhost:9847\r\nConnection: close\r\n\r\n',
    want: /^HTTP\/1\.1 200 /,
  },
])('$name', async ({ request, want }) => {
  const { port } = await started()
  const socket = connect(port, '127.0.0.1')
  socket.write(request)
  expect(await text(socket)).toMatch(want)
})
