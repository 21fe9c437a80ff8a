import { describe, expect, test } from 'vitest'
import { AgentError } from '../../agent/cert/errors.ts'
import { DAY, FakeHost, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY } from './one-pass.ts'
import { runOnce, supervise } from './supervise.ts'

const identity = { version: '1', issuerUrl: 'https://issuer.example.com', loginMethod: 'aws' }

describe('when it turns', () => {
  test('once at the start, and then not until something is due or somebody asks', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    expect([daemon.supervisor.status, daemon.supervisor.lastTurn]).toEqual([null, null])
    await host.clock.advance(3600)
    expect(daemon.turns).toHaveLength(1)
    expect(daemon.supervisor.status).toBe(daemon.turns[0])
    expect(daemon.supervisor.lastTurn).toBe(START)
    daemon.supervisor.wake('file-event')
    await host.clock.advance(1)
    expect(daemon.turns).toHaveLength(2)
    expect(daemon.supervisor.lastTurn).toBe(START + 3600)
    await daemon.stop()
  })

  test('by itself when a renewal falls due, without a tick', async () => {
    const host = new FakeHost(3600)
    const daemon = supervise(host)
    await host.clock.advance(DAY / 4)
    expect(daemon.turns.length).toBeGreaterThan(6)
    expect(daemon.turns.map(({ certificates }) => certificates[0]?.state)).not.toContain('expired')
    expect(host.issuer.issuedAt.length).toBeLessThan(15)
    await daemon.stop()
  })

  test('within a minute after a suspend, without a tick', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.clock.suspend(40 * DAY)
    await host.clock.advance(59)
    expect(host.issuer.issuedAt).toHaveLength(2)
    await daemon.stop()
  })

  test('often enough for the watchdog, half its time, without a tick', async () => {
    const host = new FakeHost()
    const daemon = supervise(host, undefined, 60)
    await host.clock.advance(299)
    expect(daemon.told.filter((line) => line === 'watchdog')).toHaveLength(10)
    await daemon.stop()
  })

  test('no more when it is to end: at once while it sleeps', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    const { length } = daemon.told
    daemon.supervisor.wake('tick')
    await daemon.stop()
    expect(daemon.told).toHaveLength(length)
    expect(host.clock.sleeping).toBe(0)
  })
})

describe('the end', () => {
  test('a turn that is under way is cut short: it says nothing and does nothing more', async () => {
    const host = new FakeHost()
    host.issuer.onIssue = async (signal) => host.clock.sleep(50_000, signal)
    const daemon = supervise(host)
    await host.clock.advance(1)
    const read = host.certificatesRead
    await daemon.stop()
    expect([daemon.told, daemon.turns]).toEqual([[], []])
    expect(host.log.messages('error')).toEqual([])
    expect(host.certificatesRead).toBe(read)
    expect(host.record.hostKeys[KEY]?.wait ?? null).toBeNull()
  })

  test('a turn that is completed after the stop reports nothing', async () => {
    const host = new FakeHost()
    const reading = Promise.withResolvers<void>()
    const daemon = supervise(host, async () => {
      await reading.promise
      return { kind: 'not-enrolled' }
    })
    await host.clock.advance(1)
    const stopped = daemon.stop()
    reading.resolve()
    await stopped
    expect([daemon.told, daemon.turns, daemon.supervisor.lastTurn]).toEqual([[], [], null])
  })

  test('a turn that hangs does not hold it up for longer than eight seconds', async () => {
    const host = new FakeHost()
    host.hostKeys.list = async () => new Promise(() => {})
    const daemon = supervise(host)
    await host.clock.advance(1)
    const ended = { is: false }
    const stopped = daemon.stop().then(() => (ended.is = true))
    await host.clock.advance(7.9)
    expect(ended.is).toBe(false)
    await host.clock.advance(0.2)
    await stopped
    expect(host.log.messages('error')).toEqual([])
  })
})

describe('what it tells', () => {
  test('the monitors of each turn that was completed', async () => {
    const host = new FakeHost()
    const measured: unknown[] = []
    host.metrics.turn = (at) => void measured.push(at)
    host.metrics.status = (status) => void measured.push(status)
    const daemon = supervise(host)
    await host.clock.advance(1)
    expect(measured).toEqual([START, daemon.turns[0]])
    await daemon.stop()
  })

  test('that it is ready again after a reload of the configuration', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    daemon.supervisor.announceReady()
    for (let turn = 0; turn < 2; turn++) {
      daemon.supervisor.wake('sighup')
      await host.clock.advance(1)
    }
    const lines = daemon.told.filter((line) => line !== 'watchdog').map((line) => line.split(' ')[0])
    expect(lines).toEqual(['ready', 'ready', 'status'])
    await daemon.stop()
  })

  test('an error of a turn with its code, a mistake of ours without', async () => {
    const host = new FakeHost()
    await runOnce(host)
    host.log.lines.length = 0
    host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.lock.acquire = async () => {
      throw new TypeError('x is not a function')
    }
    await daemon.live(60)
    await host.clock.advance(1)
    expect(host.log.lines).toEqual([
      { level: 'error', message: 'cannot lock', fields: { code: 'STORE_FAILED' } },
      { level: 'error', message: 'x is not a function', fields: { code: undefined } },
    ])
    const errors = daemon.turns.map(({ certificates }) => certificates[0]?.last_error)
    expect(errors).toEqual([
      { code: 'STORE_FAILED', message: 'cannot lock', at: '2026-11-23T12:00:11Z' },
      null,
    ])
    await daemon.stop()
  })

  test('that error not of a host key that is ignored', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.notConfigured.add('a')
    const daemon = supervise(host)
    await host.clock.advance(6)
    host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
    daemon.supervisor.wake('tick')
    await host.clock.advance(1)
    expect(daemon.turns.at(-1)?.certificates).toMatchObject([
      { state: 'ignored', last_error: null },
      { state: 'valid', last_error: { code: 'STORE_FAILED' } },
    ])
    await daemon.stop()
  })

  test('once that the issuer does not name its CA', async () => {
    const host = new FakeHost()
    host.issuer.namesCa = false
    const daemon = supervise(host)
    await daemon.live(180)
    const advice = 'pin it with verify.host_ca_file; until then the CA of the certificate in place is trusted'
    expect(host.log.messages('warn')).toEqual([`the issuer does not publish its host CA: ${advice}`])
    await daemon.stop()
    const named = new FakeHost()
    await runOnce(named)
    expect(named.log.messages('warn')).toEqual([])
  })

  test('that the clocks differ, once', async () => {
    const host = new FakeHost()
    host.issuer.health = () => ({ reachable: true, lastSuccess: START, clockSkewSeconds: 90 })
    const daemon = supervise(host)
    await daemon.live(180)
    expect(host.log.messages('warn')).toEqual(["the clock of this host and the issuer's differ"])
    expect(daemon.turns[0]?.issuer).toEqual({
      url: 'https://issuer.example.com',
      reachable: true,
      last_success: '2026-11-23T12:00:00Z',
      clock_skew_seconds: 90,
    })
    await daemon.stop()
  })
})

describe('another configuration', () => {
  test('asks sshd and the helper anew, and keeps what is on record; the same does not', async () => {
    const host = new FakeHost()
    host.sshd.hasHelper = true
    const again = new Proxy(host, {})
    let current: FakeHost = host
    const daemon = supervise(host, async () => ({ kind: 'enrolled', host: current, identity }))
    await host.clock.advance(1)
    const { questions, installs } = host.sshd
    await daemon.live(120)
    expect([host.sshd.questions, host.sshd.installs]).toEqual([questions, installs])
    current = again
    await daemon.live(60)
    await host.clock.advance(1)
    expect([host.sshd.questions, host.sshd.installs]).toEqual([questions + 1, installs + 1])
    expect(host.issuer.issuedAt).toHaveLength(1)
    await daemon.stop()
  })

  test('that is gone: not enrolled, and nothing is done', async () => {
    const host = new FakeHost()
    let enrolled = true
    const daemon = supervise(host, async () =>
      enrolled ? { kind: 'enrolled', host, identity } : { kind: 'not-enrolled' },
    )
    await host.clock.advance(1)
    enrolled = false
    host.files.delete(KEY)
    await daemon.live(60)
    await host.clock.advance(1)
    expect(daemon.turns.at(-1)).toMatchObject({ enrolled: false, certificates: [] })
    expect(host.files.size).toBe(0)
    await daemon.stop()
  })
})

test('the lock is given back after each turn, also one that fails', async () => {
  const host = new FakeHost()
  const locks = { taken: 0, released: 0, wait: 0 }
  host.lock.acquire = async (milliseconds) => {
    locks.taken += 1
    locks.wait = milliseconds
    return async () => void (locks.released += 1)
  }
  const daemon = supervise(host)
  await host.clock.advance(1)
  expect(locks).toEqual({ taken: 1, released: 1, wait: 30_000 })
  host.pinFailure = new AgentError('CONFIG_INVALID', 'not there')
  await daemon.live(60)
  await host.clock.advance(1)
  expect(locks).toMatchObject({ taken: 2, released: 2 })
  await daemon.stop()
})

test('SIGHUP ends the wait for an administrator, SIGUSR1 does not', async () => {
  const host = new FakeHost()
  await runOnce(host)
  host.files.delete(KEY)
  host.issuer.failures.push(failureOf('ISSUER_FORBIDDEN', 'administrator'))
  const daemon = supervise(host)
  await host.clock.advance(1)
  for (const { reason, asked } of [
    { reason: 'sigusr1', asked: 2 },
    { reason: 'tick', asked: 2 },
    { reason: 'sighup', asked: 3 },
  ] as const) {
    daemon.supervisor.wake(reason)
    await host.clock.advance(1)
    expect(host.issuer.issuedAt, reason).toHaveLength(asked)
  }
  await daemon.stop()
})
