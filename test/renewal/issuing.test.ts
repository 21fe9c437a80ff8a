import { describe, expect, test } from 'vitest'
import { AgentError } from '../../agent/cert/errors.ts'
import type { PublicKey } from '../../agent/cert/public-key.ts'
import { Attempts } from '../../agent/renewal/attempts.ts'
import { pass as makePass, ROUTINE_PASS } from '../../agent/renewal/pass.ts'
import { craftKey, stringList, uint64 } from '../cert/craft.ts'
import { DAY, DUE, FakeHost, OVERDUE, START } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY, NEVER, pass, stateOf } from './one-pass.ts'

const TWO = ['a', 'b_ecdsa']
const THREE = ['a', 'b_ecdsa', 'c_ecdsa384']

/** Lines of a log with this message, their fields. */
const fieldsOf = (host: FakeHost, message: string) =>
  host.log.lines.filter((line) => line.message === message).map(({ fields }) => fields)

describe('a request', () => {
  test('posts the key with its comment, or with its name, and says why in the log', async () => {
    const host = new FakeHost()
    const posted: string[] = []
    const { issue } = host.issuer
    host.issuer.issue = async (request, signal) => {
      posted.push(request.publicKey)
      expect(request).toMatchObject({ hostKey: KEY, principals: host.settings.wantedPrincipals ?? [] })
      return issue.call(host.issuer, request, signal)
    }
    const line = host.keys.get(KEY) ?? ''
    await pass(host)
    expect(posted).toEqual([line])
    expect(host.files.get(KEY)).toMatch(/ root@fake\n$/)
    host.keys.set(KEY, line.replace(' root@fake', ''))
    await pass(host, { force: true, byHand: true })
    expect(posted[1]).toBe(`${line.replace(' root@fake', '')} ${KEY}`)
    expect(host.files.get(KEY)).toMatch(/ ssh_host_ed25519_key\n$/)
    expect(fieldsOf(host, 'requesting a certificate')).toEqual([
      { host_key: KEY, serial: undefined, reason: 'absent' },
      { host_key: KEY, serial: '1001', reason: 'forced' },
    ])
  })

  test('that is answered well: what is in place now, and what it says, is in the log', async () => {
    const host = new FakeHost()
    await pass(host)
    expect(fieldsOf(host, 'a new certificate is installed')).toEqual([
      {
        host_key: KEY,
        serial: '1001',
        request_id: 'req-1001',
        reason: 'absent',
        principals: ['web1.example.com'],
        valid_after: '2026-11-23T11:59:00Z',
        valid_before: '2026-12-23T12:00:00Z',
        ca: expect.stringMatching(/^SHA256:/) as string,
      },
    ])
    host.issuer.spoil = () => ({
      validBefore: uint64(2n ** 64n - 1n),
      validAfter: uint64(BigInt(START + 60)),
    })
    await pass(host, { force: true, byHand: true })
    expect(fieldsOf(host, 'a new certificate is installed')[1]).toMatchObject({ valid_before: 'forever' })
    expect(host.log.lines.filter(({ level }) => level === 'warn')).toEqual([
      {
        level: 'warn',
        message: 'the certificate starts 60 s in the future: the clocks differ',
        fields: { host_key: KEY, serial: '1002', request_id: 'req-1002' },
      },
    ])
  })

  test('is on record before it is made, and not made where it cannot be put there', async () => {
    const host = new FakeHost()
    await pass(host)
    host.clock.jump(DUE)
    const waits: unknown[] = []
    host.issuer.onIssue = () => void waits.push(host.record.hostKeys[KEY]?.wait?.code)
    await pass(host)
    expect(waits).toEqual(['ISSUER_UNREACHABLE'])
    host.clock.jump(DUE + 30 * DAY)
    host.saveFails = true
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'STORE_FAILED' } }])
    expect(host.issuer.issuedAt).toHaveLength(2)
    expect(host.log.messages('error').at(-1)).toBe(
      'the attempt record could not be saved and is kept in memory: no space left on device',
    )
  })

  test('whose answer names another serial than the certificate has: a warning, and the certificate is installed', async () => {
    const host = new FakeHost()
    const { issue } = host.issuer
    host.issuer.issue = async (line, signal) => ({
      ...(await issue.call(host.issuer, line, signal)),
      serialNumber: '7',
    })
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(host.files.size).toBe(1)
    expect(host.log.lines).toContainEqual({
      level: 'warn',
      message: 'the response names serial 7, the certificate in it has 1001',
      fields: { host_key: KEY, serial: '1001', request_id: 'req-1001' },
    })
  })

  test('whose answer cannot be read at all is logged with the serial of what is in place', async () => {
    const host = new FakeHost()
    await pass(host)
    host.issuer.issue = async () => ({ ok: true, signedKey: 'x', serialNumber: '7', requestId: 'req-x' })
    host.clock.jump(DUE)
    expect((await pass(host)).outcomes).toMatchObject([{ failure: { code: 'CERT_UNPARSABLE' } }])
    expect(fieldsOf(host, host.log.messages('warn').at(-1) ?? '')).toMatchObject([
      { code: 'CERT_UNPARSABLE', serial: '1001', request_id: 'req-x' },
    ])
  })

  test('that is cut short by us leaves no trace, but in what else was learned', async () => {
    const host = new FakeHost()
    const stop = new AbortController()
    host.issuer.onIssue = () => stop.abort(new Error('ended'))
    await expect(pass(host, {}, stop.signal)).rejects.toThrow('ended')
    expect(host.record.hostKeys).toEqual({})
    expect(host.record.issuerCas).toHaveLength(1)
    expect(host.log.messages('error')).toEqual([])
  })

  test('after which the key is gone or cannot be read: the answer is dropped, without an error', async () => {
    for (const spoil of [
      (host: FakeHost) => void host.keys.delete(KEY),
      (host: FakeHost) => void host.keys.set(KEY, 'half-written'),
    ]) {
      const host = new FakeHost()
      host.issuer.onIssue = () => spoil(host)
      const { outcomes } = await pass(host)
      expect(outcomes).toMatchObject([{ kind: 'waiting', until: null }])
      expect([host.files.size, host.issuer.issuedAt.length]).toEqual([0, 1])
      expect(host.log.messages('error')).toEqual([])
    }
  })

  test('by hand for one key leaves the others as they are', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    const { outcomes } = await pass(host, { only: 'b_ecdsa', byHand: true })
    expect(outcomes.map(({ hostKey }) => hostKey)).toEqual(['b_ecdsa'])
    expect([...host.files.keys()]).toEqual(['b_ecdsa'])
  })

  test('a dry run asks, and counts as an answer, and leaves the record and sshd as they are', async () => {
    const host = new FakeHost()
    await pass(host)
    const [old, reloads, questions] = [host.files.get(KEY), host.sshd.reloads, host.sshd.questions]
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    await pass(host, { force: true })
    expect(host.record.issuer).not.toBeNull()
    const { outcomes } = await pass(host, { force: true, byHand: true, dryRun: true, ask: true })
    expect(outcomes).toMatchObject([{ kind: 'would-renew', certificate: { certificate: { serial: 1002n } } }])
    expect([host.files.get(KEY), host.sshd.reloads, host.sshd.questions]).toEqual([old, reloads, questions])
    expect(host.record).toMatchObject({ issuer: null, hostKeys: { [KEY]: { issued: { serial: '1001' } } } })
  })
})

describe('a failure of the issuer', () => {
  test('is that of every key which still wants a certificate, counted and measured once each', async () => {
    const host = new FakeHost(30 * DAY, THREE)
    const down = failureOf('ISSUER_BUSY', 'issuer-backoff')
    host.issuer.onIssue = () => {
      if (host.issuer.issuedAt.length === 1) host.issuer.failures.push(down)
    }
    const { outcomes } = await pass(host)
    expect(outcomes).toMatchObject([
      { kind: 'renewed', hostKey: 'a' },
      { kind: 'failed', hostKey: 'b_ecdsa', failure: down, issuerFailure: down },
      { kind: 'failed', hostKey: 'c_ecdsa384', failure: down, issuerFailure: down },
    ])
    expect(host.issuer.issuedAt).toHaveLength(2)
    expect(host.results.filter((line) => line.endsWith('BUSY'))).toEqual([
      'b_ecdsa ISSUER_BUSY',
      'c_ecdsa384 ISSUER_BUSY',
    ])
    expect(THREE.map((name) => host.record.hostKeys[name]?.failures)).toEqual([0, 1, 1])
    expect(host.log.messages('error').filter((line) => line === down.message)).toHaveLength(1)
  })

  test('is waited for no longer than a tenth of the life that is left to any key, renewed just now or not', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    host.issuer.ttlSeconds = 400
    host.issuer.onIssue = () => {
      if (host.issuer.issuedAt.length === 1)
        host.issuer.failures.push(failureOf('ISSUER_FORBIDDEN', 'administrator'))
    }
    await pass(host)
    expect(host.record.administrator?.until).toBe(START + 40)
  })

  test('is logged with what is in place, and until when it is waited', async () => {
    const host = new FakeHost()
    await pass(host)
    host.clock.jump(DUE)
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff', 54))
    await pass(host)
    expect(fieldsOf(host, 'made to fail: ISSUER_BUSY')).toEqual([
      {
        host_key: KEY,
        host_keys: undefined,
        serial: '1001',
        code: 'ISSUER_BUSY',
        failures: 1,
        retry_in_seconds: 54,
        request_id: 'req-failed',
      },
    ])
  })

  test('of several keys names them all, and the serial of the first', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.clock.jump(DUE)
    host.issuer.failures.push(failureOf('ISSUER_BUSY', 'issuer-backoff'))
    await pass(host)
    expect(fieldsOf(host, 'made to fail: ISSUER_BUSY')).toMatchObject([
      { host_key: 'a', host_keys: TWO, serial: '1001' },
    ])
  })

  test('that is the end of its time in this pass is no failure of the program', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    await pass(host)
    host.clock.jump(DUE)
    host.issuer.onIssue = async (signal) => host.clock.sleep(70_000, signal)
    const attempts = new Attempts(host.records, host.clock)
    await attempts.load()
    const work = makePass(host, attempts, ROUTINE_PASS, NEVER)
    await host.clock.advance(61)
    const { outcomes } = await work
    const failure = {
      code: 'ISSUER_TIMEOUT',
      message: 'the issuer took longer than the 60 s that a pass allows',
      next: 'issuer-backoff',
      retryAfterSeconds: null,
      requestId: null,
    }
    expect(outcomes).toMatchObject(TWO.map((hostKey) => ({ kind: 'failed', hostKey, failure })))
    expect(host.clock.sleeping).toBe(0)
  })
})

test('a stop after the issuer had its time: the attempt counts for nothing', async () => {
  const host = new FakeHost()
  await pass(host)
  const { issuer, hostKeys } = host.record
  host.clock.jump(DUE)
  const stop = new AbortController()
  host.issuer.onIssue = async (signal) =>
    host.clock.sleep(70_000, signal).finally(() => stop.abort(new Error('ended')))
  const attempts = new Attempts(host.records, host.clock)
  await attempts.load()
  const work = Promise.allSettled([makePass(host, attempts, ROUTINE_PASS, stop.signal)])
  await host.clock.advance(61)
  expect(await work).toMatchObject([{ status: 'rejected' }])
  expect(host.record).toMatchObject({ issuer, hostKeys })
})

describe('a storm of requests', () => {
  test('is not made for a key whose answer is refused each time', async () => {
    const host = new FakeHost()
    host.issuer.spoil = () => ({ principals: stringList([]) })
    for (let second = 0; second < 600; second += 2) {
      host.clock.jump(START + second)
      await pass(host)
    }
    expect(host.issuer.issuedAt.length).toBeGreaterThan(3)
    expect(host.issuer.issuedAt.length).toBeLessThan(8)
  })

  test('nor by a renewal that is overdue as soon as it is issued', async () => {
    const host = new FakeHost(30 * DAY)
    await pass(host)
    host.clock.jump(OVERDUE)
    // Another clock at the issuer: what it gives is overdue again.
    host.issuer.spoil = () => ({ validBefore: uint64(BigInt(OVERDUE + 30)) })
    for (let second = 0; second < 30; second++) {
      await pass(host)
      host.clock.jump(OVERDUE + second)
    }
    expect(host.issuer.issuedAt.length).toBeLessThan(6)
  })
})

test('a certificate that is overdue within ten seconds of its issue waits for these to pass', async () => {
  const host = new FakeHost(10)
  const { views } = await pass(host)
  const overdueAt = views[0]?.times?.overdueAt ?? Infinity
  expect(overdueAt).toBeLessThan(START + 10)
  host.clock.jump(overdueAt)
  const until = (host.record.hostKeys[KEY]?.issued?.at ?? 0) + 10
  expect((await pass(host)).outcomes).toMatchObject([{ kind: 'waiting', reason: 'overdue', until }])
})

test('a response that is refused again and again: while a certificate is valid for long, the wait grows long', async () => {
  const host = new FakeHost()
  await pass(host)
  host.issuer.spoil = () => ({ principals: stringList([]) })
  for (let attempt = 0; attempt < 6; attempt++) await pass(host, { force: true, byHand: true })
  expect((host.record.hostKeys[KEY]?.wait?.until ?? 0) - host.clock.now()).toBeGreaterThan(1700)
})

test('a response that is refused again and again, with no certificate in place: the wait is five minutes at most', async () => {
  const host = new FakeHost()
  host.issuer.spoil = () => ({ principals: stringList([]) })
  for (let attempt = 0; attempt < 6; attempt++) await pass(host, { force: true, byHand: true })
  expect((host.record.hostKeys[KEY]?.wait?.until ?? 0) - host.clock.now()).toBeCloseTo(300, 0)
})

test('a response that begins before the certificate in place is refused', async () => {
  const host = new FakeHost()
  host.clock.jump(START + DAY)
  await pass(host)
  host.issuer.spoil = () => ({ validAfter: uint64(BigInt(START)) })
  expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([
    { kind: 'failed', failure: { code: 'CERT_NOT_NEWER' } },
  ])
})

describe('whose signature counts', () => {
  test('where nothing is pinned the issuer is asked for its CA before the first request', async () => {
    const host = new FakeHost()
    const asked: string[] = []
    host.issuer.onHostCa = () => void asked.push('CA')
    host.issuer.onIssue = () => void asked.push('certificate')
    await pass(host)
    await pass(host, { force: true, byHand: true })
    expect(asked).toEqual(['CA', 'certificate', 'certificate'])
  })

  test('is asked for even while nothing is due: what lies on disk may be another’s', async () => {
    const host = new FakeHost()
    await pass(host)
    host.record = { ...host.record, issuerCas: null }
    host.issuer.ca = craftKey()
    const result = await pass(host)
    expect(result.outcomes).toMatchObject([{ kind: 'renewed', reason: 'unusable' }])
    expect(stateOf(result)).toBe('valid null')
  })

  test('with a pinned CA it is not asked for, also not when another signed', async () => {
    const host = new FakeHost()
    host.pinned = [host.keyOf(KEY)]
    await pass(host)
    expect([host.issuer.caQuestions, host.issuer.issuedAt.length, host.files.size]).toEqual([0, 1, 0])
  })

  test('a wait of the issuer’s holds up this question too, but for a person', async () => {
    const host = new FakeHost()
    host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
    host.issuer.failsForGood = true
    await pass(host)
    await pass(host)
    expect(host.issuer.caQuestions).toBe(1)
    await pass(host, { byHand: true })
    expect(host.issuer.caQuestions).toBe(2)
    host.keys.clear()
    await pass(host)
    expect(host.issuer.caQuestions).toBe(2)
    host.clock.jump(host.clock.now() + 60)
    await pass(host)
    expect(host.issuer.caQuestions).toBe(3)
  })

  test('that it could not be asked for is told so, for the keys that wait for it', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    const down = failureOf('ISSUER_UNREACHABLE', 'issuer-backoff')
    host.issuer.failures.push(down)
    host.issuer.failsForGood = true
    const { outcomes } = await pass(host)
    expect(outcomes).toMatchObject(TWO.map((hostKey) => ({ kind: 'failed', hostKey, issuerFailure: down })))
    expect(fieldsOf(host, `could not get the host CA from the issuer: ${down.message}`)).toMatchObject([
      { code: 'ISSUER_UNREACHABLE', host_keys: TWO },
    ])
  })

  test('an issuer that cannot name it is asked once, and the first certificate decides', async () => {
    const host = new FakeHost(30 * DAY, TWO)
    host.issuer.namesCa = false
    await pass(host)
    await pass(host, { force: true, byHand: true })
    expect(host.issuer.caQuestions).toBe(1)
    expect(host.record.issuerCas).toEqual([])
    const [ca] = [host.issuer.ca]
    host.issuer.ca = craftKey()
    const { outcomes } = await pass(host, { force: true, byHand: true })
    expect(outcomes.map(({ kind }) => kind)).toEqual(['failed', 'failed'])
    // What another key has in place counts for one that has none.
    host.files.delete('a')
    expect((await pass(host, { byHand: true })).outcomes).toMatchObject([{ kind: 'failed', hostKey: 'a' }])
    host.issuer.ca = ca
    expect((await pass(host, { byHand: true })).outcomes).toMatchObject([{ kind: 'renewed', hostKey: 'a' }])
  })

  test('when the issuer cannot be asked about another CA, the answer is refused', async () => {
    const host = new FakeHost()
    await pass(host)
    host.issuer.ca = craftKey()
    host.issuer.onHostCa = () => {
      host.issuer.failures.push(failureOf('ISSUER_UNREACHABLE', 'issuer-backoff'))
      host.issuer.failsForGood = true
    }
    const { outcomes } = await pass(host, { force: true, byHand: true })
    expect(outcomes).toMatchObject([{ kind: 'failed', failure: { code: 'CERT_CA_MISMATCH' } }])
    expect(host.record.issuerCas).toHaveLength(1)
    expect(host.log.messages('warn')).not.toContain('the issuer names another host CA than before')
  })

  test('an answer that is refused for another reason is no reason to ask for the CA', async () => {
    const host = new FakeHost()
    await pass(host)
    const { caQuestions } = host.issuer
    host.issuer.spoil = () => ({ principals: stringList([]) })
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([
      { kind: 'failed', failure: { code: 'CERT_NO_PRINCIPALS' } },
    ])
    expect(host.issuer.caQuestions).toBe(caQuestions)
  })

  test('when the issuer names the same CA again, nothing is logged, and a certificate by another CA is refused', async () => {
    const host = new FakeHost()
    await pass(host)
    const { keys } = (await host.issuer.hostCa(NEVER)) as { keys: readonly PublicKey[] }
    host.issuer.hostCa = async () => ({ ok: true, keys })
    host.issuer.ca = craftKey()
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([
      { kind: 'failed', failure: { code: 'CERT_CA_MISMATCH' } },
    ])
    expect(fieldsOf(host, 'the issuer names another host CA than before')).toEqual([])
  })

  test('a former CA does not sign anything new', async () => {
    const host = new FakeHost()
    await pass(host)
    const former = host.issuer.ca
    host.issuer.ca = craftKey()
    await pass(host, { force: true, byHand: true })
    expect(fieldsOf(host, 'the issuer names another host CA than before')).toEqual([
      { ca: [expect.stringMatching(/^SHA256:/) as string] },
    ])
    host.issuer.hostCa = async () => ({ ok: true, keys: [new FakeHost().keyOf(KEY)] })
    host.issuer.ca = former
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([
      { kind: 'failed', failure: { code: 'CERT_CA_MISMATCH' } },
    ])
  })

  test('pinned CAs that cannot be read end the pass: nothing is asked, nothing is changed', async () => {
    const host = new FakeHost()
    host.pinFailure = new AgentError('CONFIG_INVALID', 'verify.host_ca_file: not there')
    await expect(pass(host)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect([host.issuer.issuedAt.length, host.sshd.questions, host.saves]).toEqual([0, 0, 0])
    host.pinnedCas.read = async () => {
      throw new TypeError('x is not a function')
    }
    await expect(pass(host)).rejects.toThrow('x is not a function')
  })
})

describe('a swap', () => {
  test('that fails leaves a failure of this key, with the request and the serial', async () => {
    const host = new FakeHost()
    host.swapFault = { when: 'before' }
    const { outcomes } = await pass(host)
    expect(outcomes).toMatchObject([
      { kind: 'failed', failure: { code: 'STORE_FAILED' }, issuerFailure: null },
    ])
    expect(host.record.hostKeys[KEY]).toMatchObject({ failures: 1, lastError: { scope: 'key' } })
    expect(host.results).toEqual([`${KEY} STORE_FAILED`])
  })

  test('that throws something else is a mistake, and nothing is said to be in place', async () => {
    const host = new FakeHost()
    host.store.swap = async () => {
      throw new TypeError('x is not a function')
    }
    await expect(pass(host)).rejects.toThrow('x is not a function')
    expect(host.record.hostKeys[KEY]).toMatchObject({ issued: null, lastSuccess: null })
  })

  test('that was reported failed counts as done only if exactly this certificate lies there', async () => {
    const host = new FakeHost()
    await pass(host)
    const old = host.files.get(KEY) ?? ''
    const { swap } = host.store
    host.store.swap = async (...swapped) => {
      await swap(...swapped)
      host.files.set(KEY, old)
      throw new AgentError('STORE_FAILED', 'input/output error')
    }
    const { outcomes } = await pass(host, { force: true, byHand: true })
    expect(outcomes).toMatchObject([{ kind: 'failed' }])
    host.store.swap = async (...swapped) => {
      await swap(...swapped)
      host.files.delete(KEY)
      throw new AgentError('STORE_FAILED', 'input/output error')
    }
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([{ kind: 'failed' }])
  })

  test.each([
    { name: 'absent', reason: 'absent', repairs: 1 },
    { name: 'due', reason: 'window-open', repairs: 0 },
    { name: 'overdue', reason: 'overdue', repairs: 0 },
    { name: 'asked for by hand', reason: 'forced', repairs: 0 },
  ])('of a certificate that was $name counts as a repair or not: $repairs', async ({ reason, repairs }) => {
    const host = new FakeHost()
    await pass(host)
    host.clock.jump(reason === 'window-open' ? DUE : OVERDUE)
    if (reason === 'absent') host.files.delete(KEY)
    if (reason === 'forced') host.clock.jump(START + DAY)
    const { outcomes } = await pass(host, { force: reason === 'forced' })
    expect(outcomes).toMatchObject([{ kind: 'renewed', reason }])
    expect(host.record.hostKeys[KEY]?.repairs).toHaveLength(repairs)
  })
})

describe('a reload is owed from before the swap on', () => {
  /** Whether it was on record when the certificate was swapped. */
  async function owedAtSwap(host: FakeHost): Promise<boolean | null> {
    let owed: boolean | null = null
    const { swap } = host.store
    host.store.swap = async (...swapped) => {
      owed = host.record.reloadOwed
      return swap(...swapped)
    }
    await pass(host, { force: true, byHand: true })
    return owed
  }

  test.each<{ name: string; owed: boolean; set?: (host: FakeHost) => void }>([
    { name: 'sshd shows whether it needs one', owed: false },
    { name: 'sshd is not asked', owed: true, set: (host) => (host.sshd.enabled = false) },
    {
      name: 'sshd gave no answer the last time',
      owed: true,
      set: (host) => host.sshd.unanswered.add('ssh-ed25519'),
    },
    {
      name: 'reload: always',
      owed: true,
      set: (host) => (host.settings = { ...host.settings, reload: 'always' }),
    },
    {
      name: 'reload: never',
      owed: false,
      set: (host) => {
        host.sshd.enabled = false
        host.settings = { ...host.settings, reload: 'never' }
      },
    },
    {
      name: 'there is no way to reload',
      owed: false,
      set: (host) => {
        host.sshd.enabled = false
        host.sshd.canReload = false
      },
    },
  ])('where $name: $owed', async ({ owed, set }) => {
    const host = new FakeHost()
    await pass(host)
    set?.(host)
    await pass(host, { ask: true })
    expect(await owedAtSwap(host)).toBe(owed)
  })

  test('where nothing is known of sshd yet: true', async () => {
    expect(await owedAtSwap(new FakeHost())).toBe(true)
  })
})

describe('a maintenance window that is closed', () => {
  test('does not hold up what is no routine', async () => {
    const host = new FakeHost()
    host.settings = { ...host.settings, maintenance: { contains: () => false } }
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed', reason: 'absent' }])
    host.clock.jump(DUE)
    expect((await pass(host, { byHand: true })).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('is asked about at the time of the pass', async () => {
    const host = new FakeHost()
    await pass(host)
    const asked: number[] = []
    host.settings = {
      ...host.settings,
      maintenance: {
        contains: (now) => {
          asked.push(now)
          return true
        },
      },
    }
    host.clock.jump(DUE)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed', reason: 'window-open' }])
    expect(new Set(asked)).toEqual(new Set([DUE]))
  })
})
