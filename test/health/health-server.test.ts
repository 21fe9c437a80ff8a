import { expect, test } from 'vitest'
import type { CertificateStatus } from '../../agent/renewal/status-document.ts'
import { ask, certificate, GOOD, servedAs, started, statusOf } from '../support/health-server.ts'

const PASS = { status: 'pass', checks: expect.any(Array) as unknown[] }

test.each([
  { path: '/livez', want: { status: 'pass', last_turn: '2026-11-23T13:00:00Z' } },
  { path: '/readyz', want: PASS },
  { path: '/healthz', want: PASS },
  { path: '/readyz?verbose', want: PASS },
  { path: 'http://monitor.example/readyz', want: PASS },
  {
    path: '/readyz/ssh_host_rsa_key',
    want: { status: 'pass', checks: [{ host_key: 'ssh_host_rsa_key', state: 'valid', reason: null }] },
  },
  { path: '/readyz/ssh%5Fhost_rsa_key', want: PASS },
  { path: '/status', want: GOOD },
])('GET $path is JSON that nobody may keep', async ({ path, want }) => {
  const { port } = await started()
  const { status, headers, body } = await ask({ port }, path)
  expect(status).toBe(200)
  expect(JSON.parse(body)).toEqual(want)
  expect(headers).toMatchObject({
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'content-length': String(Buffer.byteLength(body)),
  })
})

test('GET /metrics and the status page', async () => {
  const { port } = await started()
  const metrics = await ask({ port }, '/metrics')
  expect(metrics).toMatchObject({ status: 200, body: 'hostcertd_x 1\n' })
  expect(metrics.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  const page = await ask({ port }, '/')
  expect(page.status).toBe(200)
  expect(page.headers['content-type']).toBe('text/html; charset=utf-8')
  expect(page.body).toContain('<h1>web1.example.com</h1>')
})

/** A certificate that sshd was seen to present; it is 13:00 here. */
function seenAt(time: string): CertificateStatus {
  return { ...certificate('a', 'valid'), served: servedAs({ serial: '1', matches: true, checked_at: time }) }
}

test('the loop does not turn: /livez is 503, before and after the first turn', async () => {
  let lastTurn: number | null = null
  const { port } = await started({ sources: { live: () => ({ ok: false, lastTurn }) } })
  const before = await ask({ port }, '/livez')
  expect({ status: before.status, body: JSON.parse(before.body) as unknown }).toEqual({
    status: 503,
    body: { status: 'fail', last_turn: null },
  })
  lastTurn = 0
  expect(JSON.parse((await ask({ port }, '/livez')).body)).toEqual({
    status: 'fail',
    last_turn: '1970-01-01T00:00:00Z',
  })
})

test.each([
  { name: 'before the first look', document: null, want: [503, 'fail', 'starting'] },
  { name: 'not enrolled', document: statusOf([], false), want: [503, 'fail', 'not-enrolled'] },
  { name: 'expired', document: statusOf([certificate('a', 'expired')]), want: [503, 'fail', undefined] },
  { name: 'due', document: statusOf([certificate('a', 'due')]), want: [200, 'pass', undefined] },
  { name: 'failing', document: statusOf([certificate('a', 'due', 2)]), want: [200, 'warn', undefined] },
  {
    name: 'served a moment ago',
    document: statusOf([seenAt('2026-11-23T12:59:00Z')]),
    want: [200, 'pass', undefined],
  },
  {
    name: 'served half an hour ago',
    document: statusOf([seenAt('2026-11-23T12:30:00Z')]),
    want: [200, 'warn', 'evidence-old'],
  },
  {
    name: 'copied',
    document: { ...statusOf([seenAt('2026-11-23T12:59:00Z')]), machine: { copied: true } },
    want: [200, 'warn', 'machine-copied'],
  },
  {
    name: 'copied, and stopped',
    document: { ...statusOf([seenAt('2026-11-23T12:59:00Z')], false), machine: { copied: true } },
    want: [503, 'fail', 'not-enrolled: this machine was copied'],
  },
  {
    name: 'never seen',
    document: statusOf([{ ...certificate('a', 'unconfirmed'), served: servedAs({ unknown: 'reset' }) }]),
    want: [503, 'fail', undefined],
  },
])('/readyz and /healthz: $name', async ({ document, want }) => {
  const { port } = await started({ sources: { status: () => document } })
  for (const path of ['/readyz', '/healthz']) {
    const { status, body } = await ask({ port }, path)
    const { status: verdict, reason } = JSON.parse(body) as { status: string; reason?: string }
    expect([status, verdict, reason]).toEqual(want)
  }
})

test('/readyz/NAME judges that host key alone', async () => {
  const document = statusOf([certificate('good', 'valid'), certificate('bad', 'absent')])
  const { port } = await started({ sources: { status: () => document } })
  expect((await ask({ port }, '/readyz')).status).toBe(503)
  expect((await ask({ port }, '/readyz/good')).status).toBe(200)
  expect((await ask({ port }, '/readyz/bad')).status).toBe(503)
})

test('/status before the first look', async () => {
  const { port } = await started({ sources: { status: () => null } })
  expect(await ask({ port }, '/status')).toMatchObject({ status: 503, body: '{"error":"starting"}\n' })
})

test.each([
  '/nothing',
  '/readyz/nobody',
  '/readyz/',
  '/readyz/%zz',
  '/readyz/a/b',
  '/livez/',
  '//livez',
  '/<script>',
])('%s is not found, as JSON', async (path) => {
  const { port } = await started()
  const { status, headers, body } = await ask({ port }, path)
  expect(status).toBe(404)
  expect(JSON.parse(body)).toEqual({ error: 'not found', path })
  expect(headers['content-type']).toBe('application/json; charset=utf-8')
})

test('a 404 does not repeat a long request', async () => {
  const { port } = await started()
  const { body } = await ask({ port }, `/${'x'.repeat(5000)}`)
  expect(body.length).toBeLessThan(200)
})

test.each(['/livez', '/readyz', '/status', '/metrics', '/', '/nothing'])(
  'HEAD %s is GET without a body',
  async (path) => {
    const { port } = await started()
    const { headers: got, ...get } = await ask({ port }, path)
    const { headers: had, ...head } = await ask({ port }, path, 'HEAD')
    expect(head).toEqual({ status: get.status, body: '' })
    expect({ ...had, date: '' }).toEqual({ ...got, date: '' })
  },
)

test.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'])('%s is 405', async (method) => {
  const { port } = await started()
  const { status, headers, body } = await ask({ port }, '/readyz', method)
  expect({ status, allow: headers.allow, body }).toEqual({
    status: 405,
    allow: 'GET, HEAD',
    body: '{"error":"method not allowed"}\n',
  })
})

test('a source that fails is a 500 that tells nothing, and an error in the log', async () => {
  const { port, log } = await started({
    sources: { metricsText: () => Promise.reject(new Error('at /some/path')) },
  })
  expect(await ask({ port }, '/metrics')).toMatchObject({ status: 500, body: '{"error":"internal error"}\n' })
  expect(log.messages('error')).toEqual(['the health server could not answer a request'])
})
