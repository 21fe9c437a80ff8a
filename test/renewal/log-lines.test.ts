import { describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import type { NextStep } from '../../agent/renewal/backoff.ts'
import { judgeNow } from '../../agent/renewal/judge.ts'
import { observe } from '../../agent/renewal/observe.ts'
import { pass as makePass, ROUTINE_PASS } from '../../agent/renewal/pass.ts'
import { NOTHING_REPORTED, reportChanges } from '../../agent/renewal/report.ts'
import { stringList } from '../cert/craft.ts'
import { DAY, DUE, FakeHost, OVERDUE, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import type { RecordedLine } from '../fakes/recording-log.ts'

const KEY = 'ssh_host_ed25519_key'

/** One pass at a time. @returns the lines that it logged */
async function linesOfPass(host: FakeHost, at = host.clock.now()): Promise<RecordedLine[]> {
  host.clock.jump(at)
  const from = host.log.lines.length
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const request = { ...ROUTINE_PASS, byHand: true }
  const work = makePass(host, attempts, request, new AbortController().signal)
  const settled = { done: false }
  void work.finally(() => (settled.done = true)).catch(() => {})
  for (let second = 0; second < 60 && !settled.done; second++) await host.clock.advance(0.1)
  await work
  return host.log.lines.slice(from)
}

const withCode = (lines: readonly RecordedLine[]): RecordedLine[] =>
  lines.filter(({ fields }) => typeof fields['code'] === 'string')

describe('how loud a failed attempt is', () => {
  const down = () => failureOf('ISSUER_UNREACHABLE', 'issuer-backoff')

  test('one and two failures in the window are told, the third is a warning', async () => {
    const host = new FakeHost()
    await linesOfPass(host)
    const levels: string[] = []
    for (let minute = 0; minute < 4; minute++) {
      host.issuer.failures.push(down())
      levels.push(...withCode(await linesOfPass(host, DUE + 60 * minute)).map(({ level }) => level))
    }
    expect(levels).toEqual(['info', 'info', 'warn', 'warn'])
  })

  test.each<{ code: ErrorCode; next: NextStep }>([
    { code: 'ISSUER_REJECTED', next: 'key-backoff' },
    { code: 'ISSUER_FORBIDDEN', next: 'administrator' },
    { code: 'ISSUER_UNAUTHORIZED', next: 'login-backoff' },
  ])('$code, which an administrator must mend, is a warning at once', async ({ code, next }) => {
    const host = new FakeHost()
    await linesOfPass(host)
    host.issuer.failures.push(failureOf(code, next))
    expect(withCode(await linesOfPass(host, DUE))).toMatchObject([{ level: 'warn', fields: { code } }])
  })

  test('with nothing usable in place, or nearly so, it is an error at once', async () => {
    const host = new FakeHost()
    host.issuer.failures.push(down())
    expect(withCode(await linesOfPass(host))).toMatchObject([{ level: 'error' }])
    await linesOfPass(host)
    host.issuer.failures.push(down())
    expect(withCode(await linesOfPass(host, OVERDUE))).toMatchObject([{ level: 'error' }])
  })

  test('of several host keys the one in danger counts, and one line names them all', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b'])
    // It would show one key of a type only.
    host.sshd.enabled = false
    await linesOfPass(host)
    host.files.delete('b')
    host.issuer.failures.push(down())
    expect(withCode(await linesOfPass(host, DUE))).toMatchObject([
      {
        level: 'error',
        fields: { host_key: 'a', host_keys: ['a', 'b'], request_id: 'req-failed', failures: 1 },
      },
    ])
  })

  test('the CA cannot be asked: told, and a warning from the third time on', async () => {
    const host = new FakeHost()
    host.keys.clear()
    host.issuer.failures.push(down())
    host.issuer.failsForGood = true
    const levels: string[] = []
    for (let hour = 0; hour < 3; hour++)
      levels.push(...withCode(await linesOfPass(host, START + 3600 * hour)).map(({ level }) => level))
    expect(levels).toEqual(['info', 'info', 'warn'])
  })
})

describe('what a line names', () => {
  test('a refused certificate: host key, serial, code and request', async () => {
    const host = new FakeHost()
    host.issuer.spoil = () => ({ principals: stringList([]) })
    expect(withCode(await linesOfPass(host))).toMatchObject([
      {
        level: 'error',
        fields: { host_key: KEY, serial: '1001', code: 'CERT_NO_PRINCIPALS', request_id: 'req-1001' },
      },
    ])
  })

  test('a certificate that cannot be put in place: the same', async () => {
    const host = new FakeHost()
    host.swapFault = { when: 'before' }
    expect(withCode(await linesOfPass(host))).toMatchObject([
      { fields: { host_key: KEY, serial: '1001', code: 'STORE_FAILED', request_id: 'req-1001' } },
    ])
  })

  test('an answer for a key that changed meanwhile: what was dropped', async () => {
    const host = new FakeHost()
    let changes = 0
    host.issuer.onIssue = () => {
      if (changes++ === 0) host.rotate(KEY)
    }
    const lines = await linesOfPass(host)
    expect(lines.find(({ message }) => message.startsWith('the host key changed'))?.fields).toEqual({
      host_key: KEY,
      serial: '1001',
      request_id: 'req-1001',
    })
  })

  test('a certificate that sshd does not serve: host keys, serials, code', async () => {
    const host = new FakeHost()
    host.sshd.readsPerConnection = false
    host.sshd.load()
    host.sshd.reloadFailure = { code: 'SSHD_CONFIG_INVALID', message: 'line 3: bad' }
    expect(withCode(await linesOfPass(host))).toMatchObject([
      { level: 'error', fields: { host_keys: [KEY], serials: ['1001'], code: 'SSHD_CONFIG_INVALID' } },
    ])
  })
})

describe('what happens by itself is told once', () => {
  /** What is told of the host at each of these times, one look after another. */
  async function told(host: FakeHost, looks: readonly { at?: number; skew?: number | null }[]) {
    let before = NOTHING_REPORTED
    for (const { at = host.clock.now(), skew = null } of looks) {
      host.clock.jump(at)
      const attempts = new Attempts(host.records, host.clock)
      await attempts.load()
      const facts = await observe(host)
      const views = judgeNow(host, attempts.record, facts)
      before = reportChanges(host.log, before, views, attempts.record.sshd, skew, facts.machine)
    }
    return host.log.lines
  }

  test('a certificate that nobody renews', async () => {
    const host = new FakeHost()
    await linesOfPass(host)
    host.log.lines.length = 0
    const looks = [START, DUE, OVERDUE, OVERDUE + 60, START + 30 * DAY, START + 31 * DAY].map((at) => ({
      at,
    }))
    expect(await told(host, looks)).toEqual([
      {
        level: 'error',
        message: 'the renewal is overdue',
        fields: { host_key: KEY, serial: '1001', code: null },
      },
      {
        level: 'error',
        message: 'the certificate has expired',
        fields: { host_key: KEY, serial: '1001', code: 'CERT_EXPIRED' },
      },
    ])
  })

  test('a host key that cannot be read', async () => {
    const host = new FakeHost()
    host.keys.set(KEY, 'ssh-ed25519 AAAA')
    expect(await told(host, [{}, {}])).toMatchObject([
      { level: 'error', fields: { host_key: KEY, code: 'HOST_KEY_UNREADABLE' } },
    ])
  })

  test('clocks that differ, each time they begin to', async () => {
    const lines = await told(new FakeHost(), [
      { skew: 60 },
      { skew: -61 },
      { skew: -61 },
      { skew: 0 },
      { skew: 90 },
    ])
    expect(lines).toEqual(
      [-61, 90].map((skew) => ({
        level: 'warn',
        message: "the clock of this host and the issuer's differ",
        fields: { clock_skew_seconds: skew },
      })),
    )
  })
})
