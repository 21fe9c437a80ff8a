import { describe, expect, test } from 'vitest'
import { DAY, DUE, FakeHost, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY, pass } from './one-pass.ts'

/** What is over is over: each pass here is a process of its own, so this holds across restarts too. */
describe('an error ends with its cause', () => {
  const TWO = ['a', 'b_ecdsa']
  const errorOf = (host: FakeHost, name = KEY) => {
    const { lastError, failures } = host.record.hostKeys[name] ?? {}
    return { code: lastError?.code ?? null, failures }
  }
  const NONE = { code: null, failures: 0 }

  test('the issuer answers one key well: what it failed for is over for every key', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    host.clock.jump(DUE)
    await pass(host)
    for (const name of TWO) expect(errorOf(host, name)).toEqual({ code: 'ISSUER_UNREACHABLE', failures: 1 })
    host.clock.jump(host.clock.now() + 60)
    await pass(host, { only: 'a' })
    expect(errorOf(host, 'b_ecdsa')).toEqual(NONE)
    expect(host.record.issuer).toBeNull()
  })

  test('a login that works: the same', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_UNAUTHORIZED', 'login-backoff'))
    host.clock.jump(DUE)
    await pass(host)
    expect(errorOf(host, 'b_ecdsa').code).toBe('ISSUER_UNAUTHORIZED')
    await pass(host, { only: 'a', byHand: true })
    expect(errorOf(host, 'b_ecdsa')).toEqual(NONE)
    expect(host.record.login).toBeNull()
  })

  test('an answer that is refused for one key says nothing of what is wrong with another', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    host.clock.jump(DUE)
    await pass(host)
    expect(errorOf(host, 'a')).toEqual({ code: 'ISSUER_REJECTED', failures: 1 })
    expect(errorOf(host, 'b_ecdsa')).toEqual(NONE)
    expect(host.record.hostKeys['a']?.wait).not.toBeNull()
  })

  test('a key that is no longer due, whoever put that right', async () => {
    const host = new FakeHost()
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    host.clock.jump(DUE)
    await pass(host)
    expect(errorOf(host).failures).toBe(1)
    host.settings = {
      ...host.settings,
      policy: { window: { kind: 'duration', seconds: 60 }, jitterRatio: 0 },
    }
    await pass(host)
    expect(errorOf(host)).toEqual(NONE)
    expect(host.record.hostKeys[KEY]?.wait).toBeNull()
  })

  test('also while another key is renewed', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    host.clock.jump(DUE)
    await pass(host)
    host.settings = {
      ...host.settings,
      policy: { window: { kind: 'duration', seconds: 60 }, jitterRatio: 0 },
    }
    await pass(host, { only: 'b_ecdsa', force: true, byHand: true })
    expect(errorOf(host, 'a')).toEqual(NONE)
  })

  test('not for a key that is still due, when only another is renewed', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    host.clock.jump(DUE)
    await pass(host)
    await pass(host, { only: 'b_ecdsa', force: true, byHand: true })
    expect(errorOf(host, 'a')).toEqual({ code: 'ISSUER_REJECTED', failures: 1 })
    expect(host.record.hostKeys['a']?.wait).not.toBeNull()
  })

  test('not with the pass that met it: a forced attempt that fails is told first', async () => {
    const host = new FakeHost()
    await pass(host)
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    await pass(host, { force: true, byHand: true })
    expect(errorOf(host).code).toBe('ISSUER_REJECTED')
    await pass(host)
    expect(errorOf(host)).toEqual(NONE)
  })

  test('a clock that was set right: what was noted in its future is over', async () => {
    const host = new FakeHost(30 * DAY)
    host.clock.jump(START + 365 * DAY)
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    await pass(host)
    expect(errorOf(host).failures).toBe(1)
    host.clock.jump(START)
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff'))
    await pass(host, { byHand: true })
    expect(errorOf(host)).toEqual({ code: 'ISSUER_BUSY', failures: 1 })
    host.clock.jump(START - 3600)
    host.keys.delete(KEY)
    await pass(host)
    expect(errorOf(host)).toEqual(NONE)
  })

  test('a clock that was ahead by less than a wait can last: the wait for the issuer ends with it', async () => {
    const host = new FakeHost(30 * DAY)
    host.clock.jump(START + 3000)
    host.issuer.failures.push(failureOf('ISSUER_FORBIDDEN', 'administrator'))
    await pass(host)
    expect(host.record.administrator).not.toBeNull()
    host.clock.jump(START)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('sshd serves it: what it was not served for is over, and nothing else', async () => {
    const host = new FakeHost()
    host.sshd.readsPerConnection = false
    host.sshd.load()
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    await pass(host)
    expect(errorOf(host).code).toBe('SSHD_RELOAD_FAILED')
    host.sshd.load()
    await pass(host, { ask: true })
    expect(errorOf(host)).toEqual(NONE)
    expect(host.record.reload).toBeNull()
  })
})
