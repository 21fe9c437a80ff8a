import { expect, test } from 'vitest'
import { FOREVER, formatCertificateTime } from '../../agent/cert/time.ts'
import { PrometheusMetrics } from '../../agent/health/metrics.ts'
import { CERTIFICATE_STATES, type CertificateState } from '../../agent/renewal/certificate-state.ts'
import type { CertificateStatus, ServedStatus, StatusDocument } from '../../agent/renewal/status-document.ts'
import { parseExposition, type Sample } from '../support/exposition.ts'

async function samplesOf(metrics: PrometheusMetrics, name: string): Promise<Omit<Sample, 'name'>[]> {
  const { samples } = parseExposition(await metrics.metricsText())
  return samples
    .filter((sample) => sample.name === `hostcertd_${name}`)
    .map(({ labels, value }) => ({ labels, value }))
}

const VALID: CertificateStatus = {
  host_key: 'ssh_host_ed25519_key',
  key_type: 'ssh-ed25519',
  certificate: '/c',
  state: 'valid',
  reason: null,
  serial: '5699169736243703393',
  key_id: 'host-x',
  principals: ['web1.example.com'],
  ca_fingerprint: 'SHA256:x',
  valid_after: '2026-11-23T13:00:00Z',
  valid_before: '2027-11-23T13:00:00Z',
  renewal_due: '2027-07-01T00:00:00Z',
  served: {
    serial: '5699169736243703393',
    matches: true,
    valid_before: '2027-11-23T13:00:00Z',
    checked_at: '2026-11-23T13:05:00Z',
    unknown: null,
  },
  last_attempt: '2026-11-23T13:01:00Z',
  last_success: '2026-11-23T13:01:01Z',
  failures: 0,
  last_error: null,
}
const ABSENT: CertificateStatus = {
  ...VALID,
  host_key: 'ssh_host_rsa_key',
  key_type: 'ssh-rsa',
  state: 'absent',
  serial: null,
  valid_after: null,
  valid_before: null,
  renewal_due: null,
  served: null,
  last_success: null,
}
const ED25519 = { host_key: 'ssh_host_ed25519_key', key_type: 'ssh-ed25519' }
const at = (time: string): number => Date.parse(time) / 1000

function snapshot(
  certificates: CertificateStatus[],
  skew: number | null = null,
  method: string | null = null,
): StatusDocument {
  return {
    version: '1',
    enrolled: true,
    issuer: { url: null, reachable: null, last_success: null, clock_skew_seconds: skew },
    certificates,
    waits: [],
    notes: [],
    sshd: { state: 'up', since: null },
    machine: { copied: null },
    login: { method },
  }
}

function newMetrics(
  now = '2026-11-23T13:06:00Z',
  userCa = async (): Promise<number | null> => null,
): PrometheusMetrics {
  return new PrometheusMetrics({ version: '1.2.3', node: '26.10.0' }, userCa, () => at(now))
}

function servedAs(changes: Partial<ServedStatus>): ServedStatus {
  return { serial: null, matches: null, valid_before: null, checked_at: null, unknown: null, ...changes }
}

test('before anything has happened there is the build, and a histogram of nothing', async () => {
  const metrics = newMetrics()
  const { samples, types } = parseExposition(await metrics.metricsText())
  expect(metrics.contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
  expect(Object.fromEntries(types)).toEqual({
    hostcertd_build_info: 'gauge',
    hostcertd_certificate_not_before_timestamp_seconds: 'gauge',
    hostcertd_certificate_not_after_timestamp_seconds: 'gauge',
    hostcertd_certificate_renewal_timestamp_seconds: 'gauge',
    hostcertd_served_certificate_not_after_timestamp_seconds: 'gauge',
    hostcertd_served_certificate_match: 'gauge',
    hostcertd_certificate_state: 'gauge',
    hostcertd_certificate_ca_info: 'gauge',
    hostcertd_renewals_total: 'counter',
    hostcertd_issuer_requests_total: 'counter',
    hostcertd_issuer_request_duration_seconds: 'histogram',
    hostcertd_login_failures_total: 'counter',
    hostcertd_sshd_reloads_total: 'counter',
    hostcertd_last_success_timestamp_seconds: 'gauge',
    hostcertd_clock_skew_seconds: 'gauge',
    hostcertd_login_info: 'gauge',
    hostcertd_wait_until_timestamp_seconds: 'gauge',
    hostcertd_machine_copied: 'gauge',
    hostcertd_user_ca_last_success_timestamp_seconds: 'gauge',
    hostcertd_user_ca_enabled: 'gauge',
    hostcertd_loop_last_turn_timestamp_seconds: 'gauge',
  })
  const others = samples.filter(({ name }) => !name.startsWith('hostcertd_issuer_request_duration'))
  expect(others).toEqual([
    { name: 'hostcertd_build_info', labels: { version: '1.2.3', node: '26.10.0' }, value: 1 },
  ])
})

test('the login has a series of its method only, and none where a program takes the place of the issuer', async () => {
  const metrics = newMetrics()
  for (const method of ['aws', 'kubernetes']) {
    metrics.status(snapshot([VALID], null, method))
    expect(await samplesOf(metrics, 'login_info')).toEqual([{ labels: { method }, value: 1 }])
  }
  metrics.status(snapshot([VALID]))
  expect(await samplesOf(metrics, 'login_info')).toEqual([])
})

test('a certificate has one series of the CA that signed it; without a certificate there is none', async () => {
  const metrics = newMetrics()
  const ca = (fingerprint: string) => ({ ...VALID, ca_fingerprint: fingerprint })
  const none = { ...ABSENT, ca_fingerprint: null }
  const series = async () => (await samplesOf(metrics, 'certificate_ca_info')).map(({ labels }) => labels)
  metrics.status(snapshot([ca('SHA256:old'), none]))
  expect(await series()).toEqual([{ host_key: VALID.host_key, ca_fingerprint: 'SHA256:old' }])
  metrics.status(snapshot([ca('SHA256:new')]))
  expect(await series()).toEqual([{ host_key: VALID.host_key, ca_fingerprint: 'SHA256:new' }])
  metrics.status(snapshot([none]))
  expect(await series()).toEqual([])
})

test('a valid certificate: its times, and one state of all', async () => {
  const metrics = newMetrics()
  metrics.status(snapshot([VALID, ABSENT], -3.5))
  for (const [name, value] of [
    ['certificate_not_before_timestamp_seconds', at('2026-11-23T13:00:00Z')],
    ['certificate_not_after_timestamp_seconds', at('2027-11-23T13:00:00Z')],
    ['certificate_renewal_timestamp_seconds', at('2027-07-01T00:00:00Z')],
    ['served_certificate_not_after_timestamp_seconds', at('2027-11-23T13:00:00Z')],
    ['served_certificate_match', 1],
  ] as const)
    expect([name, await samplesOf(metrics, name)]).toEqual([name, [{ labels: ED25519, value }]])
  const states = await samplesOf(metrics, 'certificate_state')
  expect(states).toHaveLength(2 * CERTIFICATE_STATES.length)
  const inForce = states.filter(({ value }) => value === 1).map(({ labels }) => labels)
  expect(inForce).toEqual([
    { ...ED25519, state: 'valid' },
    { host_key: 'ssh_host_rsa_key', key_type: 'ssh-rsa', state: 'absent' },
  ])
  expect(states.filter(({ value }) => value === 0)).toHaveLength(2 * (CERTIFICATE_STATES.length - 1))
  expect(await samplesOf(metrics, 'clock_skew_seconds')).toEqual([{ labels: {}, value: -3.5 }])
  expect(await samplesOf(metrics, 'last_success_timestamp_seconds')).toEqual([
    { labels: {}, value: at('2026-11-23T13:01:01Z') },
  ])
})

test.each<{ name: string; state: CertificateState; renewal: number[] }>([
  { name: 'valid', state: 'valid', renewal: [Infinity] },
  { name: 'not served', state: 'unconfirmed', renewal: [Infinity] },
  { name: 'unusable', state: 'invalid', renewal: [] },
])('a certificate without end, $name', async ({ state, renewal }) => {
  const metrics = newMetrics()
  const served = servedAs({ ...VALID.served, valid_before: null })
  metrics.status(snapshot([{ ...VALID, state, valid_before: null, renewal_due: null, served }]))
  const values = async (name: string): Promise<number[]> =>
    (await samplesOf(metrics, name)).map(({ value }) => value)
  expect(await values('certificate_not_after_timestamp_seconds')).toEqual([Infinity])
  expect(await values('served_certificate_not_after_timestamp_seconds')).toEqual([Infinity])
  expect(await values('certificate_renewal_timestamp_seconds')).toEqual(renewal)
})

test('an expired certificate that sshd presents matches, and is due no more', async () => {
  const metrics = newMetrics()
  metrics.status(snapshot([{ ...VALID, state: 'expired' }]))
  expect(await samplesOf(metrics, 'served_certificate_match')).toEqual([{ labels: ED25519, value: 1 }])
  expect(await samplesOf(metrics, 'certificate_renewal_timestamp_seconds')).toEqual([])
})

test.each([951_868_799n, 253_402_300_799n, 253_402_300_800n, 378_691_200_000n, 2n ** 52n, FOREVER - 1n])(
  'an end at %d reaches the metrics as it is',
  async (end) => {
    const metrics = newMetrics()
    metrics.status(snapshot([{ ...VALID, valid_before: formatCertificateTime(end) }]))
    const [sample] = await samplesOf(metrics, 'certificate_not_after_timestamp_seconds')
    expect(sample?.value).toBe(Number(end))
  },
)

const SEEN = '2026-11-23T13:05:00Z'
const END = '2026-12-01T00:00:00Z'

test.each<{ name: string; served: ServedStatus | null; match: number[]; end: number[] }>([
  {
    name: 'this one',
    served: servedAs({ serial: '1', matches: true, valid_before: END, checked_at: SEEN }),
    match: [1],
    end: [at(END)],
  },
  {
    name: 'another',
    served: servedAs({ serial: '1', matches: false, valid_before: END, checked_at: SEEN }),
    match: [0],
    end: [at(END)],
  },
  {
    name: 'another without end',
    served: servedAs({ serial: '1', matches: false, checked_at: SEEN }),
    match: [0],
    end: [Infinity],
  },
  {
    name: 'none, or one that cannot be read',
    served: servedAs({ matches: false, checked_at: SEEN }),
    match: [0],
    end: [],
  },
  {
    name: 'this one, and the last question brought no answer',
    served: servedAs({ serial: '1', matches: true, valid_before: END, checked_at: SEEN, unknown: 'reset' }),
    match: [1],
    end: [at(END)],
  },
  {
    name: 'this one, half an hour ago: its end is known, and not whether it is still so',
    served: servedAs({ serial: '1', matches: true, valid_before: END, checked_at: '2026-11-23T12:36:00Z' }),
    match: [],
    end: [at(END)],
  },
  {
    name: 'another, long ago: no silence makes that good',
    served: servedAs({ serial: '1', matches: false, valid_before: END, checked_at: '2026-11-01T00:00:00Z' }),
    match: [0],
    end: [at(END)],
  },
  {
    name: 'not known since the certificate was installed',
    served: servedAs({ serial: '1', valid_before: END, checked_at: SEEN, unknown: 'reset' }),
    match: [],
    end: [],
  },
  { name: 'not asked', served: null, match: [], end: [] },
])('what sshd presents: $name', async ({ served, match, end }) => {
  const metrics = newMetrics()
  metrics.status(snapshot([{ ...VALID, served }]))
  const samples = async (name: string): Promise<number[]> =>
    (await samplesOf(metrics, name)).map(({ value }) => value)
  expect(await samples('served_certificate_match')).toEqual(match)
  expect(await samples('served_certificate_not_after_timestamp_seconds')).toEqual(end)
})

test('what is gone has no series any more, but its counters', async () => {
  const metrics = newMetrics()
  metrics.renewal(VALID.host_key, 'ok')
  metrics.status(snapshot([VALID], 5))
  metrics.status(snapshot([ABSENT], null))
  const { samples } = parseExposition(await metrics.metricsText())
  const names = samples
    .filter(({ labels }) => labels['host_key'] === VALID.host_key)
    .map(({ name, value }) => [name, value])
  expect(names).toEqual([['hostcertd_renewals_total', 1]])
  expect(await samplesOf(metrics, 'clock_skew_seconds')).toEqual([])
  expect(await samplesOf(metrics, 'last_success_timestamp_seconds')).toEqual([])
})

test('a second file of the same name does not hide the state of the first', async () => {
  const metrics = newMetrics()
  const unreadable: CertificateStatus = { ...ABSENT, key_type: null }
  metrics.status(snapshot([unreadable, { ...unreadable, state: 'ignored' }]))
  const inForce = (await samplesOf(metrics, 'certificate_state')).filter(({ value }) => value === 1)
  expect(inForce.map(({ labels }) => labels['state'])).toEqual(['absent'])
})

test('the last success is the latest of all keys', async () => {
  const metrics = newMetrics()
  metrics.status(
    snapshot([
      { ...VALID, last_success: '2026-11-24T00:00:00Z' },
      { ...ABSENT, last_success: VALID.last_success },
    ]),
  )
  expect((await samplesOf(metrics, 'last_success_timestamp_seconds'))[0]?.value).toBe(
    at('2026-11-24T00:00:00Z'),
  )
})

test('counters, durations and turns', async () => {
  const metrics = newMetrics()
  metrics.renewal('a', 'ok')
  metrics.renewal('a', 'ISSUER_BUSY')
  metrics.renewal('a', 'ok')
  metrics.reload('SSHD_RELOAD_FAILED')
  metrics.issuerRequest('login', '200', 0.06)
  metrics.issuerRequest('issue', '200', 31)
  metrics.issuerRequest('host-ca', 'ISSUER_TIMEOUT', 0.05)
  metrics.loginFailed('aws', 'LOGIN_PLATFORM')
  metrics.turn(1_795_000_000.25)
  expect(await samplesOf(metrics, 'login_failures_total')).toEqual([
    { labels: { method: 'aws', code: 'LOGIN_PLATFORM' }, value: 1 },
  ])
  expect(await samplesOf(metrics, 'renewals_total')).toEqual([
    { labels: { host_key: 'a', result: 'ok' }, value: 2 },
    { labels: { host_key: 'a', result: 'ISSUER_BUSY' }, value: 1 },
  ])
  expect(await samplesOf(metrics, 'sshd_reloads_total')).toEqual([
    { labels: { result: 'SSHD_RELOAD_FAILED' }, value: 1 },
  ])
  expect(await samplesOf(metrics, 'issuer_requests_total')).toEqual([
    { labels: { route: 'login', code: '200' }, value: 1 },
    { labels: { route: 'issue', code: '200' }, value: 1 },
    { labels: { route: 'host-ca', code: 'ISSUER_TIMEOUT' }, value: 1 },
  ])
  const buckets = await samplesOf(metrics, 'issuer_request_duration_seconds_bucket')
  expect(buckets.map(({ labels, value }) => [labels['le'], value])).toEqual([
    ['0.05', 1],
    ['0.1', 2],
    ['0.25', 2],
    ['0.5', 2],
    ['1', 2],
    ['2.5', 2],
    ['5', 2],
    ['10', 2],
    ['30', 2],
    ['+Inf', 3],
  ])
  expect((await samplesOf(metrics, 'issuer_request_duration_seconds_count'))[0]?.value).toBe(3)
  expect(await samplesOf(metrics, 'loop_last_turn_timestamp_seconds')).toEqual([
    { labels: {}, value: 1_795_000_000.25 },
  ])
})

test('a strange file name stays one label', async () => {
  const metrics = newMetrics()
  const name = 'a"b\\c\nd},x="y'
  metrics.status(snapshot([{ ...VALID, host_key: name }]))
  metrics.renewal(name, 'ok')
  expect((await samplesOf(metrics, 'certificate_not_after_timestamp_seconds'))[0]?.labels['host_key']).toBe(
    name,
  )
  expect((await samplesOf(metrics, 'renewals_total'))[0]?.labels['host_key']).toBe(name)
})

test('two of them share nothing', async () => {
  const one = newMetrics()
  one.renewal('a', 'ok')
  expect(await samplesOf(newMetrics(), 'renewals_total')).toEqual([])
})

test('the last success of the user CAs, read anew at each scrape: no series while there is none', async () => {
  const times = [null, 1000, 2000, null]
  const metrics = newMetrics(undefined, async () => times.shift() ?? null)
  const seen: (readonly number[])[] = []
  for (let scrape = 0; scrape < 4; scrape++)
    seen.push((await samplesOf(metrics, 'user_ca_last_success_timestamp_seconds')).map(({ value }) => value))
  expect(seen).toEqual([[], [1000], [2000], []])
})

test('whether user CAs are kept: no series where they are not', async () => {
  const metrics = newMetrics()
  const seen: (readonly number[])[] = []
  for (const isInstalled of [false, true, false]) {
    metrics.userCa(isInstalled)
    seen.push((await samplesOf(metrics, 'user_ca_enabled')).map(({ value }) => value))
  }
  expect(seen).toEqual([[], [1], []])
})

test('whether the machine was copied: no series while that is not known', async () => {
  const metrics = newMetrics()
  for (const [copied, values] of [
    [null, []],
    [true, [1]],
    [false, [0]],
    [null, []],
  ] as const) {
    metrics.status({ ...snapshot([VALID]), machine: { copied } })
    expect((await samplesOf(metrics, 'machine_copied')).map(({ value }) => value)).toEqual(values)
  }
})
