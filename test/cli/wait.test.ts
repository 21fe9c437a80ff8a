import { once } from 'node:events'
import { createServer } from 'node:net'
import { describe, expect, test, vi } from 'vitest'
import { createUntilServed } from '../../agent/cli/wait.ts'
import type { Config } from '../../agent/config/config.ts'
import type { CertificateStatus, ServedStatus, StatusDocument } from '../../agent/renewal/status-document.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { ED25519, makeBareHost } from './bare-host.ts'
import {
  type FakeAnswer,
  LIVE,
  makeHostWithDaemon,
  startFakeDaemon,
  statusAnswer,
  validCertificate,
} from './fake-daemon.ts'

const MISSING = /^not all certificates are served after 0s: ssh_host_ed25519_key is absent\n$/

test.concurrent('0 at once when all is well', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  expect(await host.verb(['wait', '--timeout', '30s'])).toEqual({ status: 0, stdout: '', stderr: '' })
})

test.concurrent('1 on time-out, with what is missing', async () => {
  await using host = await makeBareHost()
  const { status, stdout, stderr } = await host.verb(['wait', '--timeout', '0s'])
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(MISSING)
})

test.concurrent('0 as soon as it is there', async () => {
  let asked = 0
  // Another program has the port: this one looks by itself.
  await using other = await startFakeDaemon({
    get '/status'() {
      asked += 1
      return { status: 404, body: '' }
    },
  })
  await using host = await makeBareHost({ health: { listen: other.listen } })
  const waiting = host.verb(['wait', '--timeout', '60s'])
  // It has looked once.
  await expect.poll(() => asked, { timeout: 30_000 }).toBeGreaterThan(1)
  await host.certify(ED25519)
  expect(await waiting).toMatchObject({ status: 0 })
})

test.concurrent('a longer time than a timer can have is no time at all nowhere', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  const result = await host.verb(['wait', '--timeout', '999999999d'])
  expect(result).toEqual({ status: 0, stdout: '', stderr: '' })
})

test.concurrent('without an answer of sshd nothing is served', async () => {
  await using host = await makeBareHost({ sshd: { address: `127.0.0.1:${await freePort()}` } })
  await host.certify(ED25519)
  expect(await host.verb(['wait', '--timeout', '2s'])).toMatchObject({ status: 1, stdout: '' })
})

test.concurrent('a daemon that accepts and never answers does not outlast the time-out', async () => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const address = server.address()
    const port = typeof address === 'object' ? address?.port : undefined
    await using host = await makeBareHost({ health: { listen: `127.0.0.1:${port}` } })
    const result = await host.verb(['wait', '--timeout', '1s'])
    expect(result).toEqual({
      status: 1,
      stdout: '',
      stderr: 'not all certificates are served after 1s: the status could not be read in that time\n',
    })
  } finally {
    server.close()
  }
})

const SERVED: ServedStatus = {
  serial: '7',
  matches: true,
  valid_before: null,
  checked_at: new Date().toISOString(),
  unknown: null,
}
const OLD: ServedStatus = { ...SERVED, checked_at: '2026-01-01T00:00:00Z' }
const UNSEEN: ServedStatus = {
  ...SERVED,
  serial: null,
  matches: null,
  checked_at: null,
  unknown: 'no common MAC',
}

/** Of a daemon without a configuration. */
const NOT_ENROLLED = statusAnswer([], {}, { enrolled: false, machine: { copied: null } })

test.concurrent.each<{
  name: string
  keys: readonly CertificateStatus[]
  sshd?: StatusDocument['sshd']
  /** Null: served. */
  missing: string | null
}>([
  { name: 'all are served', keys: [validCertificate('a', SERVED)], missing: null },
  {
    name: 'all were served a moment ago, and there was no answer since',
    keys: [validCertificate('a', { ...SERVED, unknown: 'reset' })],
    sshd: { state: 'unknown', since: '2026-11-23T13:00:00Z' },
    missing: null,
  },
  {
    name: 'an ignored one needs no evidence',
    keys: [validCertificate('a', SERVED), { ...validCertificate('b', UNSEEN), state: 'ignored' }],
    missing: null,
  },
  {
    name: 'one was never seen',
    keys: [validCertificate('a', SERVED), validCertificate('b', UNSEEN)],
    missing: 'sshd was not seen to present them recently: no common MAC',
  },
  {
    name: 'one was served long ago',
    keys: [validCertificate('a', SERVED), validCertificate('b', OLD)],
    missing: 'sshd was not seen to present them recently',
  },
  {
    name: 'sshd is down',
    keys: [validCertificate('a', SERVED)],
    sshd: { state: 'down', since: '2026-11-23T13:00:00Z' },
    missing: 'sshd has been down since 2026-11-23T13:00:00Z',
  },
  {
    name: 'one is ignored, and there is no other',
    keys: [{ ...validCertificate('a', SERVED), state: 'ignored' }],
    missing: 'no host key can be issued a certificate',
  },
  {
    name: 'one is not there',
    keys: [
      { ...validCertificate('a', UNSEEN), state: 'absent' },
      { ...validCertificate('b', SERVED), state: 'due', reason: 'window-open' },
    ],
    missing: 'a is absent',
  },
])('by what the daemon says: $name', async ({ keys, sshd, missing }) => {
  const document = statusAnswer(
    keys.map((key) => ({ ...key, principals: ['web1'] })),
    {},
    sshd === undefined ? {} : { sshd },
  )
  expect(await missingBy(document)).toBe(missing)
})

test.concurrent('by what the daemon says: 0 at once, or 1 with what is missing', async () => {
  await using good = await makeHostWithDaemon(statusAnswer([validCertificate('a', SERVED)]))
  expect(await good.verb(['wait', '--timeout', '60s'])).toEqual({ status: 0, stdout: '', stderr: '' })
  await using bad = await makeHostWithDaemon(statusAnswer([validCertificate('a', UNSEEN)]))
  expect(await bad.verb(['wait', '--timeout', '4s'])).toEqual({
    status: 1,
    stdout: '',
    stderr:
      'not all certificates are served after 4s: sshd was not seen to present them recently: no common MAC\n',
  })
})

const FIRST_PASS =
  'the daemon has not completed its first pass with this configuration; `journalctl -u hostcertd` shows what it does'
const LAST_ERROR = {
  code: 'ISSUER_UNREACHABLE',
  message: 'no route\nto it',
  at: '2026-11-23T13:00:00Z',
} as const

test.concurrent('by what the daemon says: the last errors, each once', async () => {
  const failed = (name: string, last_error: CertificateStatus['last_error']): CertificateStatus => ({
    ...validCertificate(name, UNSEEN),
    state: 'absent',
    last_error,
  })
  const keys = [failed('a', LAST_ERROR), failed('b', LAST_ERROR), failed('c', null)]
  expect(await missingBy(statusAnswer(keys))).toBe(
    'a is absent, b is absent, c is absent; ISSUER_UNREACHABLE: no route\\nto it',
  )
})

test.concurrent.each([
  { name: 'before it', status: { status: 503, body: '{"error":"starting"}' }, livez: LIVE },
  { name: 'after others without a configuration', status: NOT_ENROLLED, livez: LIVE },
  {
    name: 'when it hangs in it',
    status: { status: 503, body: '{"error":"starting"}' },
    livez: { status: 503, body: '{"status":"fail","last_turn":null}' },
  },
])('says that the daemon is still in its first pass: $name', async ({ status, livez }) => {
  expect(await missingBy(status, livez)).toBe(FIRST_PASS)
})

test.concurrent('says so with what this process sees', async () => {
  await using host = await makeHostWithDaemon({ status: 503, body: '{"error":"starting"}' })
  const { stderr } = await host.verb(['wait', '--timeout', '4s'])
  expect(stderr).toBe(
    `not all certificates are served after 4s: ssh_host_ed25519_key is absent; ${FIRST_PASS}\n`,
  )
})

/** What enroll misses, whose time is over at once; null: nothing. @param status the daemon's answer, and its `/livez` */
async function missingBy(status: FakeAnswer, livez: FakeAnswer = LIVE): Promise<string | null> {
  await using daemon = await startFakeDaemon({ '/status': status, '/livez': livez })
  const [host = '', port] = daemon.listen.split(':')
  return await waitOfEnroll({ kind: 'tcp', host, port: Number(port) }, null)
}

/** What enroll waits for: its names, seen since it told the service. */
function waitOfEnroll(
  listen: Config['health']['listen'],
  document: StatusDocument | null,
): Promise<string | null> {
  const since = Date.parse(SERVED.checked_at ?? '') / 1000
  const config = { health: { listen, hosts: [] }, verify: { hostCaFile: null, principals: ['web1'] } }
  const untilServed = createUntilServed(async () => document)
  return untilServed(config, { since, seconds: document === null ? 0 : 60 }, new AbortController().signal)
}

test.concurrent.each([
  { name: 'seen since', change: { principals: ['web1', 'www'] }, missing: null },
  {
    name: 'seen before: the certificates of another configuration',
    change: {
      principals: ['web1'],
      served: { ...SERVED, checked_at: new Date(Date.now() - 60_000).toISOString() },
    },
    missing: 'sshd was not seen to present the certificate of a since the service was reloaded',
  },
  {
    name: 'another name',
    change: { principals: ['web2'] },
    missing: 'the certificate of a does not name web1',
  },
])('enroll waits: $name', async ({ change, missing }) => {
  const document = statusAnswer([{ ...validCertificate('a', SERVED), ...change }])
  expect(await missingBy(document)).toBe(missing)
})

test.concurrent('enroll waits: without a port of the daemon', async () => {
  const { body } = statusAnswer([{ ...validCertificate('a', SERVED), principals: ['web1'] }])
  expect(await waitOfEnroll({ kind: 'none' }, JSON.parse(body))).toBeNull()
})

describe('enroll waits, when its time is over', () => {
  const until = new Date(Date.now() + 60_000).toISOString()
  const ABSENT = { ...validCertificate('a', UNSEEN), state: 'absent', principals: ['web1'] } as const
  const absent = (waits: StatusDocument['waits'] = []): string => statusAnswer([ABSENT], {}, { waits }).body
  const served = statusAnswer([{ ...validCertificate('a', SERVED), principals: ['web1'] }]).body

  /** @param bodies of `/status`, the last again and again. @returns what is missing, and how often it was asked for */
  async function waitFor(bodies: readonly string[], onAsked = (): void => {}) {
    let asked = 0
    const answers = {
      '/livez': LIVE,
      get '/status'() {
        onAsked()
        return { body: bodies[Math.min(asked++, bodies.length - 1)] ?? '' }
      },
    }
    await using daemon = await startFakeDaemon(answers)
    const [host = '', port] = daemon.listen.split(':')
    const missing = await waitOfEnroll({ kind: 'tcp', host, port: Number(port) }, null)
    return { missing, asked }
  }

  test('for what the issuer put off, and for the attempt after it', async () => {
    const later = absent([{ for: 'issuer', code: 'ISSUER_BUSY', until, later: true }])
    const { missing, asked } = await waitFor([later, absent(), absent(), served])
    expect({ missing, asked }).toEqual({ missing: null, asked: 4 })
  })

  test.each([
    { name: 'a fault of the issuer', waits: [{ for: 'issuer', code: 'ISSUER_BUSY', until }] },
    { name: 'an issuer that is away', waits: [{ for: 'issuer', code: 'ISSUER_UNREACHABLE', until }] },
    { name: 'a locked identity', waits: [{ for: 'login', code: 'LOGIN_LOCKED', until }] },
    { name: 'a time that is none', waits: [{ for: 'issuer', code: 'ISSUER_BUSY', until: 'x', later: true }] },
  ] as const)('not for $name', async ({ waits }) => {
    expect(await waitFor([absent(waits), served])).toEqual({ missing: 'a is absent', asked: 1 })
  })

  test('for four hours at most', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    try {
      const far = [
        { for: 'issuer', code: 'ISSUER_BUSY', until: '2999-01-01T00:00:00Z', later: true },
      ] as const
      const result = await waitFor([absent(far)], () => vi.advanceTimersByTime(3600_000))
      expect(result).toEqual({ missing: 'a is absent', asked: 5 })
    } finally {
      vi.useRealTimers()
    }
  })
})
