import { describe, expect, test } from 'vitest'
import { AgentError } from '../../agent/cert/errors.ts'
import { parsePublicKeyLine, readPublicKey } from '../../agent/cert/public-key.ts'
import { formatTime } from '../../agent/cert/time.ts'
import { readinessOf } from '../../agent/renewal/status-document.ts'
import { craftKey } from '../cert/craft.ts'
import { DAY, FakeHost, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY } from './one-pass.ts'
import { runOnce, supervise } from './supervise.ts'

describe('an issuer that is down', () => {
  test('is asked seldom, and at once again when its answer is due; the state gets worse by itself', async () => {
    const host = new FakeHost(3600)
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    host.issuer.failsForGood = true
    const before = host.issuer.issuedAt.length
    const seen = new Set<string>()
    for (let minute = 0; minute < 120; minute++) {
      await daemon.live(60)
      seen.add(daemon.supervisor.status?.certificates[0]?.state ?? '')
    }
    expect([...seen]).toEqual(['valid', 'due', 'overdue', 'expired'])
    const asked = host.issuer.issuedAt.length - before
    expect(asked).toBeGreaterThan(10)
    expect(asked).toBeLessThan(60)
    host.issuer.failures.length = 0
    host.issuer.failsForGood = false
    await daemon.live(301)
    expect(daemon.supervisor.status?.certificates[0]?.state).toBe('valid')
    await daemon.stop()
  })

  test('a wrong secret, with nothing valid left, is tried every few minutes, never so often that it locks the identity', async () => {
    const host = new FakeHost(3600)
    host.issuer.failures.push(failureOf('ISSUER_UNAUTHORIZED', 'login-backoff'))
    host.issuer.failsForGood = true
    host.issuer.namesCa = false
    const daemon = supervise(host)
    await daemon.live(DAY / 4)
    const pauses = host.issuer.issuedAt.map((at, index, all) => at - (all[index - 1] ?? -Infinity))
    expect(Math.min(...pauses)).toBeGreaterThan(90)
    expect(host.issuer.issuedAt.length).toBeLessThan(DAY / 4 / 200)
    daemon.supervisor.wake('sigusr1')
    await host.clock.advance(1)
    const asked = host.issuer.issuedAt.length
    daemon.supervisor.wake('sighup')
    await host.clock.advance(1)
    expect(host.issuer.issuedAt.length).toBe(asked + 1)
    await daemon.stop()
  })
})

describe('waits', () => {
  /** A host whose issuer has just said for the third time that an administrator must act. */
  async function refusedThrice() {
    const host = new FakeHost()
    host.issuer.failures.push(failureOf('ISSUER_FORBIDDEN', 'administrator'))
    host.issuer.failsForGood = true
    host.issuer.namesCa = false
    const daemon = supervise(host)
    await daemon.live(900)
    expect(host.record.administrator?.failures).toBeGreaterThan(2)
    host.issuer.issuedAt.length = 0
    host.log.lines.length = 0
    return { host, daemon }
  }

  test.each([
    { reason: 'sighup', ends: true },
    { reason: 'sigusr1', ends: false },
    { reason: 'file-event', ends: false },
    { reason: 'tick', ends: false },
  ] as const)('are ended by $reason: $ends', async ({ reason, ends }) => {
    const { host, daemon } = await refusedThrice()
    daemon.supervisor.wake(reason)
    await host.clock.advance(1)
    expect(host.issuer.issuedAt).toHaveLength(ends ? 1 : 0)
    await daemon.stop()
  })

  test('are ended by a restart, once in five minutes; then they are in the log and in the status', async () => {
    const { host, daemon } = await refusedThrice()
    await daemon.stop()
    const second = supervise(host)
    await host.clock.advance(1)
    expect(host.issuer.issuedAt).toHaveLength(1)
    expect(host.log.messages('info')).not.toContainEqual(expect.stringContaining('still waiting after'))
    await second.stop()
    const third = supervise(host)
    await host.clock.advance(1)
    expect(host.issuer.issuedAt).toHaveLength(1)
    const { failures, until } = host.record.administrator ?? { failures: 0, until: 0 }
    expect(failures).toBe(1)
    expect(host.log.lines).toContainEqual({
      level: 'info',
      message: 'still waiting after the restart: administrator',
      fields: { code: 'ISSUER_FORBIDDEN', waits_for: 'administrator', retry_in_seconds: expect.any(Number) },
    })
    expect(third.turns[0]?.waits).toEqual([
      { for: 'administrator', code: 'ISSUER_FORBIDDEN', until: formatTime(until) },
    ])
    await third.stop()
  })

  test('outlast a crash', async () => {
    const { host, daemon } = await refusedThrice()
    const left = structuredClone(host.record)
    await daemon.stop()
    host.record = left
    const next = supervise(host)
    await host.clock.advance(1)
    expect(host.issuer.issuedAt).toHaveLength(0)
    await next.stop()
  })

  test('a stop that finds the lock taken still ends, and the waits stay', async () => {
    const { host, daemon } = await refusedThrice()
    host.lockFailure = new AgentError('STORE_FAILED', 'locked by renew')
    await daemon.stop()
    expect(host.record.stoppedAt).toBeNull()
  })
})

describe('the loop', () => {
  test('a wait that ends while its turn goes on is not forgotten until the next tick', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b'])
    host.sshd.enabled = false
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    // The second request takes longer than the first key has to wait.
    host.issuer.onIssue = async (signal) => {
      if (host.issuer.issuedAt.length === 1) await host.clock.sleep(8000, signal)
    }
    const daemon = supervise(host)
    await host.clock.advance(15)
    expect([...host.files.keys()].toSorted()).toEqual(['a', 'b'])
    await daemon.stop()
  })

  test('READY comes after the first look, the watchdog is fed after each', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    expect(daemon.told).toEqual([])
    await host.clock.advance(1)
    expect(daemon.told[0]).toMatch(/^ready 1 host key: 1 valid; next renewal in \d+d/)
    expect(daemon.told[1]).toBe('watchdog')
    await daemon.live(180)
    expect(daemon.told.filter((line) => line === 'watchdog').length).toBeGreaterThanOrEqual(3)
    await daemon.stop()
  })

  test('READY does not wait for an issuer that does not answer', async () => {
    const host = new FakeHost()
    const asking = Promise.withResolvers<void>()
    host.issuer.onIssue = () => asking.promise
    const daemon = supervise(host)
    await host.clock.advance(4)
    expect(daemon.told).toEqual([])
    await host.clock.advance(2)
    expect(daemon.told).toEqual(['ready first pass'])
    asking.resolve()
    await host.clock.advance(1)
    expect(daemon.told[1]).toMatch(/^status 1 host key: 1 valid/)
    await daemon.stop()
  })

  test('events during a turn make one more turn, not one each', async () => {
    const host = new FakeHost()
    const asking = Promise.withResolvers<void>()
    host.issuer.onIssue = () => asking.promise
    const daemon = supervise(host)
    await host.clock.advance(1)
    for (let event = 0; event < 50; event++) daemon.supervisor.wake('file-event')
    const lists = countCalls(host)
    asking.resolve()
    await host.clock.advance(1)
    const perTurn = 6
    expect(lists()).toBeLessThan(3 * perTurn)
    expect(host.issuer.issuedAt).toHaveLength(1)
    await daemon.stop()
  })

  test('a request during a turn is answered by a turn right after it, without a tick', async () => {
    const host = new FakeHost()
    const asking = Promise.withResolvers<void>()
    host.issuer.onIssue = () => asking.promise
    const daemon = supervise(host)
    await host.clock.advance(1)
    daemon.supervisor.wake('sigusr1')
    asking.resolve()
    await host.clock.advance(1)
    expect(daemon.turns).toHaveLength(2)
    expect(host.sshd.questions).toBe(2)
    await daemon.stop()
  })

  test('what could not be saved is known in the next turn', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.saveFails = true
    daemon.supervisor.wake('sigusr1')
    await host.clock.advance(901)
    daemon.supervisor.wake('tick')
    await host.clock.advance(1)
    const { questions } = host.sshd
    daemon.supervisor.wake('tick')
    await host.clock.advance(1)
    expect([daemon.turns.length, host.sshd.questions]).toEqual([4, questions])
    await daemon.stop()
  })

  test('with pinned CAs there is no warning about the CA of the issuer', async () => {
    const host = new FakeHost()
    host.pinned = [readPublicKey(parsePublicKeyLine(host.issuer.ca.line))]
    await runOnce(host)
    expect([...host.log.messages('error'), ...host.log.messages('warn')]).toEqual([])
  })

  test('a turn that hangs is abandoned after two minutes and does not feed the watchdog', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    const fed = daemon.told.length
    host.hostKeys.list = async () => new Promise(() => {})
    daemon.supervisor.wake('tick')
    await host.clock.advance(121)
    expect(host.log.messages('error')).toContain('a pass took longer than two minutes and was abandoned')
    expect(daemon.told).toHaveLength(fed)
    await daemon.stop()
  })

  test('while an abandoned turn hangs, the turns after it do not feed the watchdog; when it ends, they do', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    const { list } = host.hostKeys
    const hanging = Promise.withResolvers<never>()
    host.hostKeys.list = async () => hanging.promise
    daemon.supervisor.wake('tick')
    await host.clock.advance(121)
    host.hostKeys.list = list
    const fed = (): number => daemon.told.filter((line) => line === 'watchdog').length
    const before = fed()
    await daemon.live(300)
    expect(daemon.told.filter((line) => line.startsWith('status')).length).toBeGreaterThan(3)
    expect(fed()).toBe(before)
    hanging.reject(new Error('the disk is back'))
    await daemon.live(120)
    expect(fed()).toBeGreaterThan(before)
    await daemon.stop()
  })

  test('of two abandoned turns the first ends: while the second hangs, the watchdog is still not fed', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    const { list } = host.hostKeys
    const hanging = [Promise.withResolvers<never>(), Promise.withResolvers<never>()]
    for (const { promise } of hanging) {
      host.hostKeys.list = async () => promise
      daemon.supervisor.wake('tick')
      await host.clock.advance(121)
    }
    host.hostKeys.list = list
    const fed = (): number => daemon.told.filter((line) => line === 'watchdog').length
    const before = fed()
    hanging[0]?.reject(new Error('the disk is back'))
    await daemon.live(120)
    expect(fed()).toBe(before)
    hanging[1]?.reject(new Error('the disk is back'))
    await daemon.live(120)
    expect(fed()).toBeGreaterThan(before)
    await daemon.stop()
  })

  test('a SIGHUP or SIGUSR1 whose turn fails is answered by the next one, and by that one only', async () => {
    for (const reason of ['sighup', 'sigusr1'] as const) {
      const host = new FakeHost()
      const daemon = supervise(host)
      await host.clock.advance(1)
      const { questions } = host.sshd
      host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
      daemon.supervisor.wake(reason)
      await host.clock.advance(1)
      expect(host.sshd.questions, reason).toBe(questions)
      host.lockFailure = null
      await daemon.live(60)
      await host.clock.advance(1)
      expect(host.sshd.questions, reason).toBe(questions + 1)
      await daemon.live(120)
      expect(host.sshd.questions, reason).toBe(questions + 1)
      await daemon.stop()
    }
  })

  test('a first turn that fails: sshd and the helper are asked in the next one', async () => {
    const host = new FakeHost()
    await runOnce(host)
    host.sshd.hasHelper = true
    host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
    const [questions, installs] = [host.sshd.questions, host.sshd.installs]
    const daemon = supervise(host)
    await host.clock.advance(1)
    expect([host.sshd.questions, host.sshd.installs]).toEqual([questions, installs])
    host.lockFailure = null
    await daemon.live(60)
    await host.clock.advance(1)
    expect([host.sshd.questions, host.sshd.installs]).toEqual([questions + 1, installs + 1])
    await daemon.stop()
  })

  test('sshd that goes down is logged once, and once when it answers again', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.log.lines.length = 0
    host.sshd.isDown = true
    daemon.supervisor.wake('sigusr1')
    await daemon.live(300)
    host.sshd.isDown = false
    await daemon.live(120)
    expect(host.log.lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'warn sshd accepts no connections: connection refused',
      'info sshd answers again',
    ])
    await daemon.stop()
  })

  test('sshd that is down is reported, also beside a host key that cannot be read', async () => {
    const host = new FakeHost(30 * DAY, ['b'])
    host.keys.set('a', 'half-written')
    host.sshd.isDown = true
    const daemon = supervise(host)
    await host.clock.advance(1)
    expect(daemon.supervisor.status?.sshd).toMatchObject({ state: 'down' })
    expect(host.log.messages('warn')).toContain('sshd accepts no connections: connection refused')
    await daemon.stop()
  })

  test('a lock that cannot be had is an error, and what is can still be seen', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
    host.files.delete(KEY)
    daemon.supervisor.wake('file-event')
    await host.clock.advance(1)
    expect(host.log.messages('error')).toContain('cannot lock')
    expect(daemon.supervisor.status?.certificates[0]?.state).toBe('absent')
    await daemon.stop()
  })

  test('a lock that cannot be had: a certificate that ends meanwhile is logged once', async () => {
    const host = new FakeHost()
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
    host.clock.jump(START + 31 * DAY)
    for (let turn = 0; turn < 2; turn++) {
      daemon.supervisor.wake('tick')
      await host.clock.advance(1)
    }
    const ended = host.log.messages('error').filter((line) => line === 'the certificate has expired')
    expect(ended).toHaveLength(1)
    await daemon.stop()
  })

  test('pinned CAs that cannot be read: no certificate passes, and the status says why', async () => {
    const host = new FakeHost()
    await runOnce(host)
    host.pinFailure = new AgentError('CONFIG_INVALID', 'verify.host_ca_file: /ca.pub: not there')
    const daemon = supervise(host)
    await host.clock.advance(1)
    expect(daemon.supervisor.status?.certificates).toMatchObject([
      {
        state: 'invalid',
        reason: 'CONFIG_INVALID',
        serial: '1001',
        last_error: { code: 'CONFIG_INVALID', message: 'verify.host_ca_file: /ca.pub: not there' },
      },
    ])
    expect(readinessOf(daemon.supervisor.status, null, host.clock.now())?.status).toBe('fail')
    expect(host.log.messages('error')).toContain('verify.host_ca_file: /ca.pub: not there')
    host.pinFailure = null
    await daemon.live(60)
    await host.clock.advance(1)
    expect(daemon.supervisor.status?.certificates[0]?.state).toBe('valid')
    await daemon.stop()
  })

  test('a lock that cannot be had from the start: what the issuer said before still counts', async () => {
    const host = new FakeHost()
    await runOnce(host)
    const [before] = host.record.issuerCas ?? []
    expect(before).toBeDefined()
    host.record = { ...host.record, issuerCas: [craftKey().line.split(' ').slice(0, 2).join(' ')] }
    host.lockFailure = new AgentError('STORE_FAILED', 'cannot lock')
    const daemon = supervise(host)
    await host.clock.advance(1)
    expect(daemon.supervisor.status?.certificates[0]).toMatchObject({
      state: 'invalid',
      reason: 'CERT_CA_MISMATCH',
    })
    await daemon.stop()
  })

  test('not enrolled: idle, ready, and enrolled as soon as there is a configuration', async () => {
    const host = new FakeHost()
    let enrolled = false
    const identity = { version: '1', issuerUrl: 'https://issuer.example.com', loginMethod: 'aws' }
    const daemon = supervise(host, async () =>
      enrolled ? { kind: 'enrolled', host, identity } : { kind: 'not-enrolled' },
    )
    await host.clock.advance(1)
    expect(daemon.told).toEqual(['ready not enrolled: no configuration file', 'watchdog'])
    enrolled = true
    await daemon.live(60)
    await host.clock.advance(1)
    expect(daemon.supervisor.status?.certificates[0]?.state).toBe('valid')
    await daemon.stop()
  })
})

function countCalls(host: FakeHost): () => number {
  let calls = 0
  const { list } = host.hostKeys
  host.hostKeys.list = async () => {
    calls += 1
    return list()
  }
  return () => calls
}
