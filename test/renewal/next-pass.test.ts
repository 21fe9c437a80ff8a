import { describe, expect, test } from 'vitest'
import { FOREVER } from '../../agent/cert/time.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import { nextPass } from '../../agent/renewal/pass.ts'
import { uint64 } from '../cert/craft.ts'
import { DAY, DUE, FakeHost, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY, pass } from './one-pass.ts'

/** One pass, and how many seconds after its start the next falls due by itself; null for the tick. */
async function secondsToNext(host: FakeHost, request: Parameters<typeof pass>[1] = {}) {
  const start = host.clock.now()
  const result = await pass(host, request)
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const next = nextPass(result, attempts, host.clock.now())
  const { times } = result.views[0] ?? {}
  return {
    next: next === null ? null : next - start,
    took: host.clock.now() - start,
    due: (times?.dueAt ?? 0) - start,
    overdue: (times?.overdueAt ?? 0) - start,
  }
}

describe('the next pass by itself', () => {
  test('is when the certificate falls due', async () => {
    const { next, due } = await secondsToNext(new FakeHost())
    expect(next).toBeCloseTo(due, 3)
    expect(next).toBeGreaterThan(20 * DAY)
  })

  test('is never for a certificate that never ends, or without a host key', async () => {
    const host = new FakeHost()
    host.issuer.spoil = () => ({ validBefore: uint64(FOREVER) })
    expect((await secondsToNext(host)).next).toBeNull()
    const empty = new FakeHost()
    empty.keys.clear()
    expect((await secondsToNext(empty)).next).toBeNull()
  })

  test('is never for a host key that cannot be read', async () => {
    const host = new FakeHost()
    host.keys.set(KEY, 'ssh-ed25519 AAAA')
    expect((await secondsToNext(host)).next).toBeNull()
  })

  test('of several keys that of the first that is due', async () => {
    const host = new FakeHost(30 * DAY, ['a'])
    await pass(host)
    host.issuer.ttlSeconds = 3600
    host.rotate('b_ecdsa')
    expect((await secondsToNext(host)).next).toBeLessThan(3600)
  })

  test('while a wait holds: its end, whatever else is due', async () => {
    const host = new FakeHost()
    await pass(host)
    host.clock.jump(DUE)
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff', 54))
    expect((await secondsToNext(host)).next).toBeCloseTo(54, 3)
    host.clock.jump(host.clock.now() + 14)
    expect((await secondsToNext(host)).next).toBeCloseTo(40, 0)
  })

  test('a wait that ended while the pass went on with another key has its turn at once', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    host.issuer.onIssue = async (signal) => {
      if (host.issuer.issuedAt.length === 1) await host.clock.sleep(5500, signal)
    }
    const { next, took } = await secondsToNext(host)
    expect((next ?? 0) - took).toBeCloseTo(1, 3)
  })

  test('in a closed maintenance window: the next minute', async () => {
    const host = new FakeHost()
    await pass(host)
    host.settings = { ...host.settings, maintenance: { contains: () => false } }
    host.clock.jump(DUE + 20)
    expect((await secondsToNext(host)).next).toBeCloseTo(40, 3)
  })

  test('when nobody may renew: when it is overdue, and then when it ends', async () => {
    const host = new FakeHost()
    await pass(host)
    host.clock.jump(DUE)
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff', 3600))
    await pass(host)
    const end = START + 30 * DAY - DUE
    const { overdue } = await secondsToNext(host)
    for (const { at, want } of [
      { at: DUE + overdue - 60, want: 60 },
      { at: DUE + end - 60, want: 60 },
    ]) {
      host.clock.jump(at)
      host.record = { ...host.record, issuer: { ...host.record.issuer!, until: at + 3600 } }
      expect((await secondsToNext(host)).next).toBeCloseTo(want, 0)
    }
  })

  test('a key that keeps changing is not tried by itself again: its files, or the tick', async () => {
    const host = new FakeHost()
    host.issuer.onIssue = () => host.rotate(KEY)
    expect((await secondsToNext(host)).next).toBeNull()
  })

  test('a key that keeps changing does not hold up another, which waits', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.issuer.onIssue = () => {
      if (host.issuer.issuedAt.length < 3) host.rotate('a')
      else if (host.issuer.failures.length === 0)
        host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    }
    expect((await secondsToNext(host)).next).toBeCloseTo(5, 0)
  })

  test('a key that fell due while the pass was at work on another has its turn at once', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    const { next, took } = await secondsToNext(host, { only: 'b_ecdsa' })
    expect((next ?? 0) - took).toBeCloseTo(1, 3)
  })

  test('a key that could not be tried for a reason of this host’s: the tick', async () => {
    const host = new FakeHost()
    host.saveFails = true
    expect((await secondsToNext(host)).next).toBeNull()
  })
})

describe('the next pass for sshd', () => {
  test('is when the helper may be asked again', async () => {
    const host = new FakeHost()
    host.sshd.hasHelper = true
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    expect((await secondsToNext(host)).next).toBeCloseTo(5, 3)
  })

  const unreloadable = (): FakeHost => {
    const host = new FakeHost()
    host.sshd.readsPerConnection = false
    host.sshd.load()
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    return host
  }

  test('is when sshd may be reloaded again for what it does not serve', async () => {
    expect((await secondsToNext(unreloadable())).next).toBeCloseTo(5, 3)
  })

  test('also when none is owed, for what is seen not to be served', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.hasCertificateLines = false
    const { next, took } = await secondsToNext(host, { ask: true })
    expect(host.record.reloadOwed).toBe(false)
    expect((next ?? 0) - took).toBeCloseTo(60, 0)
  })

  test('or for a reload that is owed', async () => {
    const host = unreloadable()
    host.sshd.enabled = false
    expect((await secondsToNext(host)).next).toBeCloseTo(5, 3)
  })

  test('and not for one that nothing needs any more', async () => {
    const host = unreloadable()
    await pass(host)
    host.record = { ...host.record, reload: { ...host.record.reload!, until: START + 100 } }
    host.files.delete(KEY)
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff', 200))
    expect((await secondsToNext(host)).next).toBeCloseTo(200, 3)
  })
})
