import { describe, expect, test } from 'vitest'
import { Attempts } from '../../agent/renewal/attempts.ts'
import { pass as makePass, ROUTINE_PASS } from '../../agent/renewal/pass.ts'
import { sshString, stringList, uint32, uint64 } from '../cert/craft.ts'
import { DAY, DUE, FakeHost, OVERDUE, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY, NEVER, pass, stateOf } from './one-pass.ts'

describe('the path of one certificate', () => {
  test('first issue: swapped, served without a reload, confirmed', async () => {
    const host = new FakeHost()
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'renewed', reason: 'absent' }])
    expect(stateOf(result)).toBe('valid null')
    expect(host.sshd.reloads).toBe(0)
    expect(host.record.hostKeys[KEY]).toMatchObject({
      failures: 0,
      wait: null,
      evidence: { kind: 'certificate', serial: '1001' },
    })
    expect(host.files.get(KEY)).toMatch(/ root@fake\n$/)
    expect((await pass(host)).outcomes).toEqual([])
  })

  const THREE = ['a', 'b_ecdsa', 'c_ecdsa384']

  test('each file is read once: three certificates in an idle pass over three keys, and for a first issue', async () => {
    const host = new FakeHost(30 * DAY, THREE)
    await pass(host)
    expect(host.certificatesRead).toBe(3)
    await pass(host)
    expect(host.certificatesRead).toBe(6)
    host.clock.jump(OVERDUE)
    expect((await pass(host)).outcomes).toHaveLength(3)
    expect(host.certificatesRead).toBe(9)
  })

  test('several keys are served by one reload', async () => {
    const host = new FakeHost(30 * DAY, THREE)
    host.sshd.readsPerConnection = false
    host.sshd.load()
    await pass(host)
    expect(host.issuer.issuedAt).toHaveLength(3)
    expect(host.sshd.reloads).toBe(1)
  })

  test('reload: always reloads although it is served already, never does not reload at all', async () => {
    for (const [reload, reloads] of [
      ['always', 1],
      ['never', 0],
    ] as const) {
      const host = new FakeHost()
      host.settings = { ...host.settings, reload }
      await pass(host)
      expect(host.sshd.reloads, reload).toBe(reloads)
    }
  })

  test('address: none: sshd is not asked, but reloaded', async () => {
    const host = new FakeHost()
    host.sshd.enabled = false
    const result = await pass(host)
    expect(stateOf(result)).toBe('valid null')
    expect([host.sshd.questions, host.sshd.reloads]).toEqual([0, 1])
  })

  test('address: none: a reload that fails is owed, and tried again without a new certificate', async () => {
    const host = new FakeHost()
    host.sshd.enabled = false
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    await pass(host)
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('SSHD_RELOAD_FAILED')
    host.sshd.reloadFailure = null
    await pass(host)
    expect(host.sshd.reloads).toBe(1)
    host.clock.jump(host.clock.now() + 61)
    await pass(host)
    expect([host.sshd.reloads, host.issuer.issuedAt.length]).toEqual([2, 1])
    expect(host.record).toMatchObject({ reloadOwed: false, reload: null })
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('a dry run verifies and writes nothing', async () => {
    const host = new FakeHost()
    const result = await pass(host, { dryRun: true, force: true })
    expect(result.outcomes).toMatchObject([{ kind: 'would-renew' }])
    expect(host.files.size).toBe(0)
    expect(host.sshd.reloads).toBe(0)
  })

  test('a key that changes under the request is signed anew, the answer for the old one is dropped', async () => {
    const host = new FakeHost()
    let changes = 0
    host.issuer.onIssue = () => {
      if (changes++ === 0) host.rotate(KEY)
    }
    const result = await pass(host)
    expect(host.issuer.issuedAt).toHaveLength(2)
    expect(result.outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(stateOf(result)).toBe('valid null')
  })

  test('the second of two keys that changes under its request is signed anew, and only that one', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.issuer.onIssue = () => {
      if (host.issuer.issuedAt.length === 1) host.rotate('b_ecdsa')
    }
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([
      { kind: 'renewed', hostKey: 'a' },
      { kind: 'renewed', hostKey: 'b_ecdsa' },
    ])
    expect(stateOf(result, 'b_ecdsa')).toBe('valid null')
    expect(host.issuer.issuedAt).toHaveLength(3)
  })

  test('by force, for every key: not for a file that is no key', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    await pass(host)
    host.sshd.enabled = false
    host.keys.set('a', 'half-written')
    const { outcomes } = await pass(host, { force: true, byHand: true })
    expect(outcomes).toMatchObject([{ kind: 'renewed', hostKey: 'b_ecdsa' }])
  })

  test.each([
    { name: 'all is issued', status: 'fulfilled' },
    { name: 'the program made a mistake', status: 'rejected' },
  ])('once $name, the issuer is released for this pass', async ({ status }) => {
    const host = new FakeHost()
    let ends = 0
    host.issuer.end = () => void ends++
    host.issuer.onIssue = () => {
      expect(ends).toBe(0)
      if (status === 'rejected') throw new Error('a mistake')
    }
    expect(await Promise.allSettled([pass(host)])).toMatchObject([{ status }])
    expect(ends).toBe(1)
  })

  test('a key that keeps changing does not keep the pass', async () => {
    const host = new FakeHost()
    host.issuer.onIssue = () => host.rotate(KEY)
    const result = await pass(host)
    expect(host.issuer.issuedAt).toHaveLength(3)
    expect(result.outcomes).toMatchObject([{ kind: 'waiting' }])
    expect(host.files.size).toBe(0)
  })

  test('a routine renewal waits for the maintenance window, an overdue one does not', async () => {
    const host = new FakeHost()
    await pass(host)
    host.settings = { ...host.settings, maintenance: { contains: () => false } }
    host.clock.jump(DUE)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'waiting', reason: 'window-open' }])
    host.clock.jump(OVERDUE)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed', reason: 'overdue' }])
  })

  test('principals that are wanted and lacking are asked for, and their lack is an error of the answer', async () => {
    const host = new FakeHost()
    await pass(host)
    host.settings = { ...host.settings, wantedPrincipals: ['web2.example.com'] }
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'CERT_PRINCIPALS_MISMATCH' } }])
    expect(stateOf(result)).toBe('invalid CERT_PRINCIPALS_MISMATCH')
  })
})

describe('failures', () => {
  test('one that is the issuer’s makes all keys wait, after one request', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b', 'c'])
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff'))
    await pass(host)
    expect(host.issuer.issuedAt).toHaveLength(1)
    expect(Object.values(host.record.hostKeys).map(({ failures }) => failures)).toEqual([1, 1, 1])
    expect((await pass(host)).outcomes.map(({ kind }) => kind)).toEqual(['waiting', 'waiting', 'waiting'])
    expect(host.issuer.issuedAt).toHaveLength(1)
  })

  test('one on this host makes nothing wait, is logged once, and is over with its cause', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b'])
    host.issuer.failures.push(failureOf('CREDENTIAL_UNREADABLE', 'local'))
    host.issuer.failsForGood = true
    host.issuer.namesCa = false
    const attempts = new Attempts(host.records, host.clock)
    for (let look = 0; look < 3; look++) await makePass(host, attempts, ROUTINE_PASS, NEVER)
    expect(Object.values(host.record.hostKeys).map(({ failures }) => failures)).toEqual([3, 3])
    expect(host.record).toMatchObject({ issuer: null, login: null, administrator: null })
    const told = host.log.lines.filter(({ fields }) => fields['code'] === 'CREDENTIAL_UNREADABLE')
    expect(told.map(({ level }) => level)).toEqual(['error', 'debug', 'debug'])
    host.issuer.failsForGood = false
    host.issuer.failures.length = 0
    expect((await pass(host)).outcomes.map(({ kind }) => kind)).toEqual(['renewed', 'renewed'])
    expect(Object.values(host.record.hostKeys).map(({ lastError }) => lastError)).toEqual([null, null])
  })

  test('one that is the answer’s makes that key wait only', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b'])
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    const result = await pass(host)
    expect(result.outcomes.map(({ kind }) => kind)).toEqual(['failed', 'renewed'])
  })

  test('by hand, every wait is skipped but that for a locked identity', async () => {
    const host = new FakeHost()
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    await pass(host)
    expect((await pass(host, { byHand: true })).outcomes).toMatchObject([{ kind: 'renewed' }])
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff', 54))
    await pass(host, { force: true, byHand: true })
    host.clock.jump(host.clock.now() + 10)
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([{ kind: 'renewed' }])
    host.issuer.failures.push(failureOf('LOGIN_LOCKED', 'login-backoff'))
    await pass(host, { force: true, byHand: true })
    host.clock.jump(host.clock.now() + 300)
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([{ kind: 'waiting' }])
    host.clock.jump(host.clock.now() + 30)
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('neither a restart nor a crash half-way resets a wait', async () => {
    const host = new FakeHost()
    host.issuer.onIssue = () => {
      throw new Error('as if the process had died here')
    }
    const saved: unknown[] = []
    const { records } = host
    const crashing = {
      load: records.load,
      save: async (record: typeof host.record) => {
        saved.push(record)
        // Only what was written before the request survives.
        if (saved.length === 1) await records.save(record)
      },
    }
    const attempts = new Attempts(crashing, host.clock)
    await attempts.load()
    await expect(makePass(host, attempts, ROUTINE_PASS, NEVER)).rejects.toThrow('as if')
    host.issuer.onIssue = () => {}
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'waiting' }])
    expect(host.issuer.issuedAt).toHaveLength(0)
  })

  test('each crash in a row waits longer than the one before', async () => {
    const host = new FakeHost()
    const waits: number[] = []
    for (let crash = 0; crash < 4; crash++) {
      const { records } = host
      let saves = 0
      const crashing = {
        load: records.load,
        save: async (record: typeof host.record) => {
          if (saves++ === 0) await records.save(record)
        },
      }
      host.issuer.onIssue = () => {
        throw new Error('as if the process had died here')
      }
      const attempts = new Attempts(crashing, host.clock)
      await attempts.load()
      await expect(makePass(host, attempts, ROUTINE_PASS, NEVER)).rejects.toThrow('as if')
      const { wait } = host.record.hostKeys[KEY] ?? {}
      waits.push((wait?.until ?? 0) - host.clock.now())
      host.clock.jump((wait?.until ?? 0) + 1)
    }
    expect(waits).toEqual([5, 15, 60, 180])
  })

  test('an attempt that we cut short ourselves counts for nothing', async () => {
    const host = new FakeHost()
    const stop = new AbortController()
    host.issuer.onIssue = () => stop.abort(new Error('ended'))
    await expect(pass(host, {}, stop.signal)).rejects.toThrow('ended')
    host.issuer.onIssue = () => {}
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('a swap that fails loses nothing', async () => {
    const host = new FakeHost()
    await pass(host)
    const old = host.files.get(KEY)
    host.swapFault = { when: 'before' }
    host.clock.jump(OVERDUE)
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'STORE_FAILED' } }])
    expect(host.files.get(KEY)).toBe(old)
    expect(stateOf(result)).toBe('overdue STORE_FAILED')
  })

  test('a swap that was done and reported failed counts as done: what lies on disk decides', async () => {
    const host = new FakeHost()
    host.sshd.enabled = false
    await pass(host)
    const old = host.files.get(KEY)
    host.swapFault = { when: 'after' }
    host.clock.jump(OVERDUE)
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(host.files.get(KEY)).not.toBe(old)
    expect(stateOf(result)).toBe('valid null')
    expect(host.record.hostKeys[KEY]).toMatchObject({ failures: 0, lastError: null })
    expect(host.log.messages('warn')).toContainEqual(
      expect.stringContaining('may not survive a power failure'),
    )
    // sshd has to be told all the same.
    expect(host.sshd.reloads).toBe(2)
  })

  test('a key that changes while the CA is asked again is signed anew', async () => {
    const host = new FakeHost()
    await pass(host)
    host.issuer.ca = new FakeHost().issuer.ca
    host.issuer.onHostCa = () => {
      if (host.issuer.issuedAt.length === 2) host.rotate(KEY)
    }
    const result = await pass(host, { force: true, byHand: true })
    expect(result.outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(stateOf(result)).toBe('valid null')
    expect(host.issuer.issuedAt).toHaveLength(3)
  })

  test.each([
    ['CERT_NOT_HOST', { kind: uint32(1) }],
    ['CERT_NO_PRINCIPALS', { principals: sshString('') }],
    ['CERT_EXPIRED', { validBefore: uint64(BigInt(START - 10)) }],
    ['CERT_NOT_YET_VALID', { validAfter: uint64(BigInt(START + DAY)) }],
    ['CERT_CRITICAL_OPTION', { criticalOptions: stringList(['force-command', sshString('id')]) }],
    ['CERT_SIGNATURE_INVALID', { ca: sshString(new FakeHost().issuer.ca.blob) }],
  ] as const)('an answer that is no good (%s) leaves the old certificate in place', async (code, spoilt) => {
    const host = new FakeHost()
    await pass(host)
    const old = host.files.get(KEY)
    host.issuer.spoil = () => spoilt
    const result = await pass(host, { force: true, byHand: true })
    expect(result.outcomes).toMatchObject([{ kind: 'failed', failure: { code } }])
    expect(host.files.get(KEY)).toBe(old)
    expect(stateOf(result)).toBe('valid null')
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe(code)
  })

  test('whoever deletes the certificate again and again does not cause a storm', async () => {
    const host = new FakeHost()
    for (let second = 0; second < 3600; second += 10) {
      host.files.delete(KEY)
      await pass(host)
      host.clock.jump(START + second)
    }
    expect(host.issuer.issuedAt.length).toBeGreaterThan(9)
    expect(host.issuer.issuedAt.length).toBeLessThan(80)
  })
})

describe('no storm', () => {
  test('from a key that is deleted and made again and again', async () => {
    const host = new FakeHost()
    for (let round = 0; round < 100; round++) {
      host.rotate(KEY)
      await pass(host)
      host.keys.delete(KEY)
      await pass(host)
      host.clock.jump(START + round * 2)
    }
    expect(host.issuer.issuedAt.length).toBeGreaterThan(5)
    expect(host.issuer.issuedAt.length).toBeLessThan(12)
    host.rotate(KEY)
    host.clock.jump(START + 900)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(host.record.hostKeys[KEY]?.lastAttempt).not.toBeNull()
  })

  test('from a key that changes under each request', async () => {
    const host = new FakeHost()
    host.issuer.onIssue = () => host.rotate(KEY)
    for (let round = 0; round < 50; round++) {
      await pass(host)
      host.clock.jump(host.clock.now() + 1)
    }
    expect(host.issuer.issuedAt.length).toBeLessThan(12)
  })

  test('from a life of a few seconds', async () => {
    const host = new FakeHost(3)
    for (let second = 0; second < 120; second++) {
      await pass(host)
      host.clock.jump(START + second)
    }
    expect(host.issuer.issuedAt.length).toBeLessThan(25)
  })

  test('where nothing can be recorded: nothing is asked, and waits hold in memory', async () => {
    const host = new FakeHost()
    host.saveFails = true
    const attempts = new Attempts(host.records, host.clock)
    for (let second = 0; second < 60; second++) {
      await attempts.load()
      await makePass(host, attempts, ROUTINE_PASS, NEVER)
      host.clock.jump(START + second)
    }
    expect(host.issuer.issuedAt).toHaveLength(0)
    expect(host.issuer.caQuestions).toBe(1)
    expect(attempts.record.hostKeys[KEY]?.lastError?.code).toBe('STORE_FAILED')
    host.saveFails = false
    host.clock.jump(START + 7200)
    await attempts.load()
    const { outcomes } = await makePass(host, attempts, ROUTINE_PASS, NEVER)
    expect(outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(host.record.hostKeys[KEY]?.failures).toBe(0)
  })

  test('an unchanged record is not written again', async () => {
    const host = new FakeHost()
    await pass(host)
    const { saves } = host
    await pass(host)
    expect(host.saves).toBe(saves)
  })
})

describe('a clock that is set back', () => {
  test('what was issued in its future neither delays a renewal nor measures a lifetime', async () => {
    const host = new FakeHost(30 * DAY)
    host.clock.jump(START + 20 * DAY)
    await pass(host)
    const issued = host.record.hostKeys[KEY]?.issued?.at ?? 0
    expect(issued).toBeGreaterThan(START + 19 * DAY)
    // The certificate starts in the future now, and is of no use.
    host.clock.jump(START)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed', reason: 'unusable' }])
  })

  test('a wait of its future holds no longer than any wait can', async () => {
    const host = new FakeHost()
    host.clock.jump(START + DAY)
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    await pass(host)
    host.clock.jump(START)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('repairs of its future are none', async () => {
    const host = new FakeHost()
    host.clock.jump(START + DAY)
    for (let repair = 0; repair < 12; repair++) {
      await pass(host)
      host.files.delete(KEY)
    }
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'waiting' }])
    host.clock.jump(START)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
  })
})

test('an issuer that takes longer than its part of a turn has failed, and the rest of the turn goes on', async () => {
  const host = new FakeHost(30 * DAY, ['a'])
  await pass(host)
  host.clock.jump(DUE)
  host.issuer.onIssue = async (signal) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const work = makePass(host, attempts, ROUTINE_PASS, NEVER)
  await host.clock.advance(61)
  expect((await work).outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'ISSUER_TIMEOUT' } }])
  expect(host.record.issuer).toMatchObject({ code: 'ISSUER_TIMEOUT', failures: 1 })
})

test('the wait for the issuer is as short as the shortest life left wants it', async () => {
  const host = new FakeHost(30 * DAY, ['b'])
  host.issuer.ttlSeconds = 400
  await pass(host)
  host.issuer.ttlSeconds = 30 * DAY
  host.rotate('c_ecdsa')
  await pass(host)
  host.rotate('a')
  host.issuer.failures.push(failureOf('ISSUER_FORBIDDEN', 'administrator'))
  await pass(host)
  const seconds = (host.record.administrator?.until ?? 0) - host.clock.now()
  expect(seconds).toBeGreaterThan(30)
  expect(seconds).toBeLessThanOrEqual(40)
})

describe('the CA', () => {
  test('that cannot be had within the turn is a failure like any other, and waited for', async () => {
    const host = new FakeHost()
    host.issuer.onHostCa = async (signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const attempts = new Attempts(host.records, host.clock)
    const work = makePass(host, attempts, ROUTINE_PASS, NEVER)
    await host.clock.advance(61)
    expect(stateOf(await work)).toBe('absent ISSUER_TIMEOUT')
    expect(host.record.issuer).toMatchObject({ code: 'ISSUER_TIMEOUT', failures: 1 })
  })

  test('when we cut the question short ourselves, that counts for nothing', async () => {
    const host = new FakeHost()
    const stop = new AbortController()
    host.issuer.onHostCa = () => stop.abort(new Error('ended'))
    await expect(pass(host, {}, stop.signal)).rejects.toThrow('ended')
    expect(host.record).toMatchObject({ issuer: null, hostKeys: {} })
    expect(host.log.messages('error')).toEqual([])
  })

  test('a mistake of the program in asking for it is no failure of the issuer', async () => {
    const host = new FakeHost()
    host.issuer.onHostCa = () => {
      throw new Error('a mistake')
    }
    await expect(pass(host)).rejects.toThrow('a mistake')
    expect(host.record.issuer).toBeNull()
  })

  test('is not asked for while a wait for the issuer holds', async () => {
    const host = new FakeHost()
    const down = failureOf('ISSUER_UNREACHABLE', 'issuer-backoff')
    host.issuer.failures.push(down)
    host.issuer.failsForGood = true
    for (let second = 0; second < 60; second++) {
      await pass(host)
      host.clock.jump(START + second)
    }
    expect(host.issuer.caQuestions).toBeGreaterThan(2)
    expect(host.issuer.caQuestions).toBeLessThan(7)
    host.clock.jump(START + 60)
    const { caQuestions } = host.issuer
    await pass(host)
    await pass(host)
    expect(host.issuer.caQuestions).toBeLessThanOrEqual(caQuestions + 1)
  })

  test('is asked of the issuer once, and kept', async () => {
    const host = new FakeHost()
    await pass(host)
    await pass(host, { force: true, byHand: true })
    expect(host.issuer.caQuestions).toBe(1)
    expect(host.record.issuerCas).toEqual([host.issuer.ca.line])
  })

  test('that cannot be asked for: the key that lacks a certificate says why', async () => {
    const host = new FakeHost()
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    host.issuer.failsForGood = true
    const result = await pass(host)
    expect(stateOf(result)).toBe('absent ISSUER_UNREACHABLE')
    expect(host.record.hostKeys[KEY]).toMatchObject({
      failures: 1,
      lastError: { code: 'ISSUER_UNREACHABLE' },
    })
    expect(host.results).toEqual([`${KEY} ISSUER_UNREACHABLE`])
    expect(host.issuer.issuedAt).toHaveLength(0)
  })

  test('when it is replaced at the issuer, the issuer is asked again, and the new one taken', async () => {
    const host = new FakeHost()
    await pass(host)
    host.issuer.ca = new FakeHost().issuer.ca
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(host.issuer.caQuestions).toBe(2)
    expect(host.log.messages('warn')).toContain('the issuer names another host CA than before')
  })

  test('that replaced another: what the other signed stays valid, and is renewed as a routine', async () => {
    const host = new FakeHost()
    await pass(host)
    const old = host.files.get(KEY)
    host.issuer.ca = new FakeHost().issuer.ca
    await pass(host, { force: true, byHand: true })
    host.files.set(KEY, old ?? '')
    host.settings = { ...host.settings, maintenance: { contains: () => false } }
    const before = await pass(host)
    expect(before.views[0]?.onDisk.kind).toBe('usable')
    expect(before.outcomes).toMatchObject([{ kind: 'waiting', reason: 'ca-changed' }])
    host.settings = { ...host.settings, maintenance: { contains: () => true } }
    host.clock.jump(host.clock.now() + 60)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed', reason: 'ca-changed' }])
  })

  test('that is not the pinned one is refused', async () => {
    const host = new FakeHost()
    host.pinned = [new FakeHost().keyOf(KEY)]
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'CERT_CA_MISMATCH' } }])
    expect(host.issuer.caQuestions).toBe(0)
    expect(host.files.size).toBe(0)
  })

  test('where the issuer does not name it, the one in place counts, or the first', async () => {
    const host = new FakeHost()
    host.issuer.namesCa = false
    await pass(host)
    expect(host.files.size).toBe(1)
    host.issuer.ca = new FakeHost().issuer.ca
    const result = await pass(host, { force: true, byHand: true })
    expect(result.outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'CERT_CA_MISMATCH' } }])
  })
})
