import { describe, expect, test } from 'vitest'
import { FOREVER } from '../../agent/cert/time.ts'
import type { HostKeyFile } from '../../agent/renewal/ports.ts'
import type { CertificateStatus } from '../../agent/renewal/status-document.ts'
import { notEnrolledStatus, statusOf } from '../../agent/renewal/status.ts'
import { blobOf, craftCertificate, craftKey, sshString, uint64 } from '../cert/craft.ts'
import { DAY, FakeHost } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY, pass } from './one-pass.ts'

const identity = { version: '0.2.0', issuerUrl: 'https://issuer.example.com', loginMethod: 'aws' }

/** The status document after one pass. */
async function status(host: FakeHost, request: Parameters<typeof pass>[1] = {}) {
  const { views, machine } = await pass(host, request)
  const recordNow = { record: host.record, now: host.clock.now() }
  return statusOf(identity, views, recordNow, host.issuer.health(), machine)
}

const NO_CERTIFICATE = {
  certificate: `/var/lib/hostcertd/certs/${KEY}-cert.pub`,
  serial: null,
  key_id: null,
  principals: [],
  ca_fingerprint: null,
  valid_after: null,
  valid_before: null,
  renewal_due: null,
  last_attempt: null,
  last_success: null,
  failures: 0,
  last_error: null,
}

describe('the status document', () => {
  test('of a host whose certificate is served', async () => {
    const host = new FakeHost()
    host.issuer.health = () => ({ reachable: true, lastSuccess: host.clock.now(), clockSkewSeconds: 3 })
    host.sshd.hasHelper = true
    host.sshd.notes = ['left out: x']
    const document = await status(host)
    expect(document).toEqual({
      version: '0.2.0',
      enrolled: true,
      issuer: {
        url: 'https://issuer.example.com',
        reachable: true,
        last_success: '2026-11-23T12:00:00Z',
        clock_skew_seconds: 3,
      },
      certificates: [
        {
          host_key: KEY,
          key_type: 'ssh-ed25519',
          certificate: `/var/lib/hostcertd/certs/${KEY}-cert.pub`,
          state: 'valid',
          reason: null,
          serial: '1001',
          key_id: 'host-fake',
          principals: ['web1.example.com'],
          ca_fingerprint: expect.stringMatching(/^SHA256:/) as string,
          valid_after: '2026-11-23T11:59:00Z',
          valid_before: '2026-12-23T12:00:00Z',
          renewal_due: expect.stringMatching(/^2026-12-1\dT.*Z$/) as string,
          served: {
            serial: '1001',
            matches: true,
            valid_before: '2026-12-23T12:00:00Z',
            checked_at: '2026-11-23T12:00:00Z',
            unknown: null,
          },
          last_attempt: '2026-11-23T12:00:00Z',
          last_success: '2026-11-23T12:00:00Z',
          failures: 0,
          last_error: null,
        },
      ],
      waits: [],
      notes: ['left out: x'],
      sshd: { state: 'up', since: '2026-11-23T12:00:00Z' },
      machine: { copied: null },
      login: { method: 'aws' },
    })
  })

  test('of a host that has none, and why', async () => {
    const host = new FakeHost()
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff'))
    const [certificate] = (await status(host)).certificates
    expect(certificate).toEqual({
      ...NO_CERTIFICATE,
      host_key: KEY,
      key_type: 'ssh-ed25519',
      state: 'absent',
      reason: 'ISSUER_BUSY',
      served: {
        serial: null,
        matches: false,
        valid_before: null,
        checked_at: '2026-11-23T12:00:00Z',
        unknown: null,
      },
      last_attempt: '2026-11-23T12:00:00Z',
      failures: 1,
      last_error: { code: 'ISSUER_BUSY', message: 'made to fail: ISSUER_BUSY', at: '2026-11-23T12:00:00Z' },
    })
  })

  test.each([
    { retryAfter: 54, later: { later: true } },
    { retryAfter: null, later: {} },
  ])('whether the issuer itself asked for a wait: Retry-After $retryAfter', async ({ retryAfter, later }) => {
    const host = new FakeHost()
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff', retryAfter))
    const [wait, ...others] = (await status(host)).waits
    expect(wait).toEqual({ for: 'issuer', code: 'ISSUER_BUSY', until: expect.any(String), ...later })
    expect(others).toEqual([])
  })

  test('where sshd is not asked', async () => {
    const host = new FakeHost()
    host.sshd.isDown = true
    await pass(host)
    host.sshd.enabled = false
    const { sshd, certificates } = await status(host)
    expect(sshd).toEqual({ state: null, since: null })
    expect(certificates[0]?.served).toBeNull()
  })

  test('of a host without a configuration', () => {
    expect(notEnrolledStatus('0.2.0')).toEqual({
      version: '0.2.0',
      enrolled: false,
      issuer: { url: null, reachable: null, last_success: null, clock_skew_seconds: null },
      certificates: [],
      waits: [],
      notes: [],
      sshd: { state: null, since: null },
      machine: { copied: null },
      login: { method: null },
    })
  })

  test.each<{ name: string; content: HostKeyFile['content']; want: Partial<CertificateStatus> }>([
    {
      name: 'of a type that is not supported',
      content: {
        kind: 'unsupported',
        keyType: 'ssh-dss',
        failure: { code: 'HOST_KEY_UNSUPPORTED', message: 'no DSA' },
      },
      want: { key_type: 'ssh-dss', state: 'ignored', reason: 'no DSA' },
    },
    {
      name: 'that cannot be read',
      content: { kind: 'unreadable', failure: { code: 'HOST_KEY_UNREADABLE', message: 'EACCES' } },
      want: { key_type: null, state: 'invalid', reason: 'HOST_KEY_UNREADABLE' },
    },
    {
      name: 'whose name another has',
      content: { kind: 'shadowed', by: '/a' },
      want: { key_type: null, state: 'ignored', reason: '/a has the same file name' },
    },
  ])('of a host key $name', async ({ content, want }) => {
    const host = new FakeHost()
    host.hostKeys.list = async () => [{ name: KEY, path: `/etc/ssh/${KEY}.pub`, content }]
    const document = await status(host)
    expect(document.certificates).toEqual([{ ...NO_CERTIFICATE, host_key: KEY, served: null, ...want }])
    expect(document.sshd.state).toBeNull()
  })
})

describe('what sshd presents', () => {
  const servedOf = async (host: FakeHost) => (await status(host, { ask: true })).certificates[0]?.served

  test('is not known: why, and since nothing was seen, nothing else', async () => {
    const host = new FakeHost()
    host.sshd.isDown = true
    expect(await servedOf(host)).toEqual({
      serial: null,
      matches: null,
      valid_before: null,
      checked_at: null,
      unknown: 'connection refused',
    })
  })

  test('was known, and now there is no answer', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.isDown = true
    host.clock.jump(host.clock.now() + DAY)
    expect(await servedOf(host)).toEqual({
      serial: '1001',
      matches: true,
      valid_before: '2026-12-23T12:00:00Z',
      checked_at: '2026-11-23T12:00:00Z',
      unknown: 'connection refused',
    })
  })

  test('is another, which never ends', async () => {
    const host = new FakeHost()
    await pass(host)
    const ca = craftKey()
    const line = craftCertificate({ ...ca, blob: host.keyOf(KEY).blob }, ca, {
      keyId: sshString(Buffer.of(0xe9)),
      validBefore: uint64(FOREVER),
    })
    host.sshd.presentsInstead.set('ssh-ed25519', blobOf(line))
    expect(await servedOf(host)).toMatchObject({
      serial: '7',
      matches: false,
      valid_before: null,
      unknown: null,
    })
  })

  test('is no certificate', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.hasCertificateLines = false
    expect(await servedOf(host)).toMatchObject({
      serial: null,
      matches: false,
      valid_before: null,
      unknown: null,
    })
  })
})
