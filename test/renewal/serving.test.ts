import { describe, expect, test } from 'vitest'
import { blobOf, craftCertificate, craftKey, sshString, uint64 } from '../cert/craft.ts'
import { DAY, DUE, FakeHost, OVERDUE, START } from '../fakes/fake-host.ts'
import { KEY, pass, stateOf } from './one-pass.ts'

describe('sshd', () => {
  test('that is down changes nothing for the certificate; it is confirmed when sshd is back', async () => {
    const host = new FakeHost()
    host.sshd.isDown = true
    const first = await pass(host)
    expect(first.outcomes).toMatchObject([{ kind: 'renewed' }])
    expect(stateOf(first)).toBe('unconfirmed SSHD_UNREACHABLE')
    host.sshd.isDown = false
    host.clock.jump(host.clock.now() + 31)
    const second = await pass(host)
    expect(stateOf(second)).toBe('valid null')
    expect(host.issuer.issuedAt).toHaveLength(1)
  })

  test('that does not answer any more leaves a confirmed certificate valid', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.isDown = true
    expect(stateOf(await pass(host))).toBe('valid null')
  })

  test('whose configuration is broken is not reloaded to death: the reload is tried again, later and later', async () => {
    const host = new FakeHost()
    host.sshd.readsPerConnection = false
    host.sshd.load()
    host.sshd.reloadFailure = { code: 'SSHD_CONFIG_INVALID', message: 'line 3: bad' }
    let result = await pass(host)
    expect(stateOf(result)).toBe('unconfirmed SSHD_NOT_SERVING')
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('SSHD_CONFIG_INVALID')
    for (let minute = 0; minute < 60; minute++) {
      host.clock.jump(host.clock.now() + 60)
      result = await pass(host)
    }
    expect(host.sshd.reloads).toBeGreaterThan(3)
    expect(host.sshd.reloads).toBeLessThan(10)
    expect(host.issuer.issuedAt).toHaveLength(1)
    host.sshd.reloadFailure = null
    host.clock.jump(host.clock.now() + 3700)
    expect(stateOf(await pass(host))).toBe('valid null')
    expect(host.issuer.issuedAt).toHaveLength(1)
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('that does not offer a key even after a reload: the key is ignored until it does, and still renewed', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.notConfigured.add('a')
    const first = await pass(host)
    expect(stateOf(first, 'a')).toBe('ignored sshd does not offer a host key of type ssh-ed25519')
    expect(stateOf(first, 'b_ecdsa')).toBe('valid null')
    host.clock.jump(START + 31 * DAY)
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }, { kind: 'renewed' }])
    host.sshd.notConfigured.clear()
    expect(stateOf(await pass(host, { ask: true }), 'a')).toBe('valid null')
  })

  test('is not reloaded again and again for a key that it is not configured to offer', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.notConfigured.add('a')
    await pass(host)
    const { reloads } = host.sshd
    expect(reloads).toBe(1)
    for (let quarter = 0; quarter < 8; quarter++) {
      host.clock.jump(host.clock.now() + 901)
      await pass(host)
    }
    expect(host.sshd.reloads).toBe(reloads)
  })

  test('another server, which shows no key of this host, proves nothing about what is offered', async () => {
    const host = new FakeHost(30 * DAY, ['a'])
    host.sshd.notConfigured.add('a')
    const result = await pass(host)
    expect(stateOf(result, 'a')).toBe('unconfirmed SSHD_UNREACHABLE')
    expect(host.record.hostKeys['a']?.unknown?.reason).toMatch(/it may be another server/)
    expect(result.trouble).toMatchObject({ failure: { code: 'SSHD_UNREACHABLE' }, hostKeys: ['a'] })
    expect((await pass(host, { force: true, byHand: true })).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('that is to get the private half of a new key only after the reload: the key is not ignored for long', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.readsPerConnection = false
    host.sshd.load()
    const old = new Map(host.keys)
    host.rotate('a')
    // What sshd loads is still the old pair.
    host.sshd.loadsInstead = old
    const first = await pass(host)
    expect(stateOf(first, 'a')).toMatch(/^ignored sshd offers another host key of type ssh-ed25519/)
    expect((await pass(host)).outcomes).toEqual([])
    expect(host.sshd.reloads).toBe(1)
    host.sshd.loadsInstead = null
    host.pairVersion = 'the private half has come'
    host.clock.jump(host.clock.now() + 61)
    const second = await pass(host)
    expect(stateOf(second, 'a')).toBe('valid null')
    expect([host.sshd.reloads, host.issuer.issuedAt.length]).toEqual([2, 2])
  })

  test('is asked seldom: at the start, after a swap, on request, every 15 minutes', async () => {
    const host = new FakeHost()
    await pass(host)
    const after = host.sshd.questions
    for (let minute = 0; minute < 14; minute++) {
      host.clock.jump(host.clock.now() + 60)
      await pass(host)
    }
    expect(host.sshd.questions).toBe(after)
    await pass(host, { ask: true })
    expect(host.sshd.questions).toBe(after + 1)
    host.clock.jump(host.clock.now() + 901)
    await pass(host)
    expect(host.sshd.questions).toBe(after + 2)
  })

  test('that was seen not to serve it, and then says nothing, serves it no more for that', async () => {
    const host = new FakeHost()
    await pass(host)
    host.settings = { ...host.settings, reload: 'never' }
    host.sshd.hasCertificateLines = false
    expect(stateOf(await pass(host, { ask: true }))).toBe('unconfirmed SSHD_NOT_SERVING')
    host.sshd.isDown = true
    expect(stateOf(await pass(host, { ask: true }))).toBe('unconfirmed SSHD_NOT_SERVING')
    expect(stateOf(await pass(host))).toBe('unconfirmed SSHD_NOT_SERVING')
  })

  test.each(['isDown', 'isSilent'] as const)(
    'that gives no answer (%s) leaves evidence as it is, and says why',
    async (how) => {
      const host = new FakeHost()
      await pass(host)
      const evidence = host.record.hostKeys[KEY]?.evidence
      host.sshd[how] = true
      host.clock.jump(host.clock.now() + 901)
      const { views } = await pass(host)
      expect(host.record.hostKeys[KEY]).toMatchObject({
        evidence,
        unknown: { since: expect.closeTo(host.clock.now(), 0) },
      })
      expect(views[0]?.served).toMatchObject({ kind: 'certificate', matches: true, at: evidence?.at })
      expect(host.record.sshd).toMatchObject({ state: how === 'isDown' ? 'down' : 'unknown' })
      host.sshd[how] = false
      await pass(host, { ask: true })
      expect(host.record.hostKeys[KEY]).toMatchObject({
        unknown: null,
        evidence: { at: expect.closeTo(host.clock.now(), 0) },
      })
    },
  )

  test('that is down is asked twice a minute, one that gives no answer every five minutes', async () => {
    for (const [how, questions] of [
      ['isDown', 20],
      ['isSilent', 2],
    ] as const) {
      const host = new FakeHost()
      await pass(host)
      host.sshd[how] = true
      await pass(host, { ask: true })
      const before = host.sshd.questions
      for (let second = 0; second < 600; second += 10) {
        host.clock.jump(host.clock.now() + 10)
        await pass(host)
      }
      expect(host.sshd.questions - before, how).toBe(questions)
    }
  })

  test('is not asked where there is no host key to ask about', async () => {
    const host = new FakeHost(30 * DAY, [])
    await pass(host, { ask: true })
    expect([host.sshd.questions, host.record.sshd.state]).toEqual([0, null])
  })

  test('that never gave an answer is asked every five minutes too', async () => {
    const host = new FakeHost()
    host.sshd.isSilent = true
    await pass(host)
    const { questions } = host.sshd
    for (let second = 0; second < 600; second += 10) {
      host.clock.jump(host.clock.now() + 10)
      await pass(host)
    }
    expect(host.sshd.questions - questions).toBe(2)
  })

  test('that gives no answer for one key: the others are known, this one is renewed, and a reload is owed', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.unanswered.add('ssh-ed25519')
    const first = await pass(host)
    expect([stateOf(first, 'a'), stateOf(first, 'b_ecdsa')]).toEqual([
      'unconfirmed SSHD_UNREACHABLE',
      'valid null',
    ])
    expect(host.sshd.reloads).toBe(1)
    host.clock.jump(OVERDUE)
    expect((await pass(host)).outcomes).toHaveLength(2)
    expect(host.sshd.reloads).toBe(2)
  })

  test('that presents what we cannot parse presents another certificate', async () => {
    const host = new FakeHost()
    await pass(host)
    const [ca, key] = [craftKey(), host.keyOf(KEY)]
    const fields = {
      keyId: sshString(Buffer.of(0xe9)),
      serial: uint64(77n),
      validBefore: uint64(BigInt(START + 60)),
    }
    const line = craftCertificate({ ...ca, blob: key.blob }, ca, fields)
    host.sshd.presentsInstead.set('ssh-ed25519', blobOf(line))
    const { views } = await pass(host, { ask: true })
    expect(views[0]?.state).toEqual({ state: 'unconfirmed', reason: 'SSHD_NOT_SERVING' })
    expect(views[0]?.served).toMatchObject({ matches: false, serial: '77', validBefore: START + 60 })
    // And it stays another one when sshd gives no answer any more.
    host.sshd.isSilent = true
    expect(stateOf(await pass(host, { ask: true }))).toBe('unconfirmed SSHD_NOT_SERVING')
  })

  test('that presents what is not even laid out as a certificate presents another one', async () => {
    const host = new FakeHost()
    await pass(host)
    const type = sshString('ssh-ed25519-cert-v01@openssh.com')
    host.sshd.presentsInstead.set('ssh-ed25519', Buffer.concat([type, Buffer.of(0xff)]))
    const { views } = await pass(host, { ask: true })
    expect(views[0]?.state).toEqual({ state: 'unconfirmed', reason: 'SSHD_NOT_SERVING' })
    expect(views[0]?.served).toMatchObject({ matches: false, serial: null, validBefore: null })
    host.sshd.presentsInstead.clear()
    expect(stateOf(await pass(host, { ask: true }))).toBe('valid null')
    expect(host.log.messages('info').filter((line) => line === 'sshd serves the certificate')).toHaveLength(2)
  })

  test('a clock that was set back: sshd is asked, and what it shows is dated anew', async () => {
    const host = new FakeHost()
    await pass(host)
    const { questions } = host.sshd
    host.clock.jump(START - 3600)
    await pass(host)
    expect(host.sshd.questions).toBe(questions + 1)
    expect(host.record.hostKeys[KEY]?.evidence?.at).toBeCloseTo(START - 3600, 0)
  })
})

describe('a reload that nothing shows', () => {
  test('and that fails, or is lost in a crash, is tried again', async () => {
    const host = new FakeHost()
    host.sshd.isSilent = true
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    await pass(host)
    expect([host.sshd.reloads, host.record.reloadOwed]).toEqual([1, true])
    host.sshd.reloadFailure = null
    host.clock.jump(host.clock.now() + 61)
    await pass(host)
    expect([host.sshd.reloads, host.record.reloadOwed]).toEqual([2, false])
    host.clock.jump(host.clock.now() + 3600)
    await pass(host)
    expect(host.sshd.reloads).toBe(2)
  })

  const copiedAgain = async (): Promise<FakeHost> => {
    const host = new FakeHost()
    host.sshd.hasHelper = true
    host.sshd.isSilent = true
    await pass(host)
    expect(host.record.reloadOwed).toBe(false)
    host.clock.jump((host.record.reload?.until ?? 0) + 1)
    host.sshd.needsInstall = true
    return host
  }

  test('and that fails after a copy was made anew is tried again', async () => {
    const host = await copiedAgain()
    const { reloads } = host.sshd
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    await pass(host)
    expect([host.sshd.reloads, host.record.reloadOwed]).toEqual([reloads + 1, true])
    host.sshd.reloadFailure = null
    host.clock.jump(host.clock.now() + 61)
    await pass(host)
    expect([host.sshd.reloads, host.record.reloadOwed]).toEqual([reloads + 2, false])
  })

  test('after a copy was made anew is on record before it starts', async () => {
    const host = await copiedAgain()
    host.sshd.reload = async () => {
      throw new Error('crash')
    }
    await expect(pass(host)).rejects.toThrow('crash')
    expect(host.record.reloadOwed).toBe(true)
  })

  test('is not owed while sshd is seen to present no certificate: that shows it', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.unanswered.add('ssh-ed25519')
    await pass(host)
    host.clock.jump((host.record.reload?.until ?? 0) + 1)
    host.sshd.hasCertificateLines = false
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    expect((await pass(host, { ask: true })).trouble).toMatchObject({ hostKeys: ['a', 'b_ecdsa'] })
    expect(host.record).toMatchObject({ reloadOwed: false, reload: { code: 'SSHD_RELOAD_FAILED' } })
  })

  test('is not stopped by what was known of sshd when it was still asked', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.isDown = true
    await pass(host, { ask: true })
    host.sshd.isDown = false
    host.sshd.enabled = false
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    host.clock.jump(OVERDUE)
    await pass(host)
    const { reloads } = host.sshd
    host.sshd.reloadFailure = null
    host.clock.jump(host.clock.now() + 61)
    await pass(host)
    expect([host.sshd.reloads, host.record.reloadOwed]).toEqual([reloads + 1, false])
  })
})

describe('a reload that sshd does not show', () => {
  const unasked = (): FakeHost => {
    const host = new FakeHost()
    host.sshd.enabled = false
    return host
  }

  test('is owed from before the swap on: a crash right behind it loses nothing', async () => {
    const host = unasked()
    await pass(host)
    const { swap } = host.store
    host.store.swap = async (...swapped) => {
      await swap(...swapped)
      throw new Error('crash')
    }
    host.clock.jump(DUE)
    await expect(pass(host)).rejects.toThrow('crash')
    host.store.swap = swap
    expect(host.sshd.reloads).toBe(1)
    await pass(host)
    expect(host.sshd.reloads).toBe(2)
    expect(host.record.reloadOwed).toBe(false)
  })

  test('that fails is what the pass says of it', async () => {
    const host = unasked()
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    const trouble = { failure: { code: 'SSHD_RELOAD_FAILED' }, hostKeys: [KEY] }
    expect((await pass(host, { byHand: true })).trouble).toMatchObject(trouble)
    expect((await pass(host, { byHand: true })).trouble).toMatchObject(trouble)
    host.sshd.reloadFailure = null
    expect((await pass(host, { byHand: true })).trouble).toBeNull()
  })
})

describe('the root helper', () => {
  const helped = (): FakeHost => {
    const host = new FakeHost()
    host.sshd.hasHelper = true
    return host
  }

  test('that failed and was then removed has nothing left to copy: its wait and its error are over', async () => {
    const host = helped()
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    await pass(host)
    expect(host.record.install).not.toBeNull()
    host.sshd.hasHelper = false
    await pass(host)
    expect(host.record.install).toBeNull()
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test.each([
    { name: 'is not asked', enabled: false, reloads: 1 },
    { name: 'is asked', enabled: true, reloads: 0 },
  ])(
    'that fails may have written its lines: where sshd $name, reloads that are owed: $reloads',
    async ({ enabled, reloads }) => {
      const host = helped()
      host.sshd.enabled = enabled
      await pass(host)
      const before = host.sshd.reloads
      host.sshd.needsInstall = true
      host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
      await pass(host)
      expect(host.record.reloadOwed).toBe(reloads > 0)
      host.sshd.installFailure = null
      host.clock.jump(host.clock.now() + 61)
      await pass(host)
      expect(host.sshd.reloads - before).toBe(reloads)
    },
  )

  test('that changed what sshd reads, where it is neither asked nor reloaded: that is the trouble', async () => {
    const host = helped()
    host.sshd.enabled = false
    host.settings = { ...host.settings, reload: 'never' }
    expect((await pass(host)).trouble).toBeNull()
    host.sshd.needsInstall = true
    host.sshd.reloadNeeded = true
    expect((await pass(host)).trouble).toEqual({
      failure: {
        code: 'SSHD_RELOAD_FAILED',
        message: 'sshd must be reloaded, and there is no way to reload it',
      },
      hostKeys: [KEY],
    })
    expect(host.record.reload).toMatchObject({ failures: 1 })
  })

  test('that was never asked is asked, though sshd serves everything; after that not again', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.hasHelper = true
    await pass(host)
    expect(host.sshd.installs).toBe(1)
    for (let minute = 0; minute < 30; minute++) {
      host.clock.jump(host.clock.now() + 60)
      await pass(host)
    }
    expect(host.sshd.installs).toBe(1)
  })

  test('is not asked again where sshd is not asked', async () => {
    const host = helped()
    host.sshd.enabled = false
    await pass(host)
    const { installs } = host.sshd
    host.clock.jump(host.clock.now() + 3600)
    await pass(host)
    expect(host.sshd.installs).toBe(installs)
  })

  test('is asked again at once when the clock was set back while sshd is down', async () => {
    const host = helped()
    await pass(host)
    host.sshd.isDown = true
    await pass(host, { ask: true })
    const { installs } = host.sshd
    host.clock.jump(host.clock.now() - 30)
    await pass(host)
    expect(host.sshd.installs).toBe(installs + 1)
  })

  test('that does not report where sshd listens leaves what is on record', async () => {
    const host = helped()
    host.sshd.listen = ['0.0.0.0:2222']
    await pass(host)
    host.sshd.listen = []
    await pass(host, { askHelper: true })
    expect(host.record.sshd.listen).toEqual(['0.0.0.0:2222'])
  })

  test('is asked at the start where sshd listens, and that stays on record', async () => {
    const host = helped()
    host.sshd.listen = ['0.0.0.0:2222']
    await pass(host, { askHelper: true })
    expect(host.sshd.asked.at(-1)).toEqual(['0.0.0.0:2222'])
    const { installs } = host.sshd
    await pass(host, { ask: true })
    expect([host.sshd.installs, host.sshd.asked.at(-1)]).toEqual([installs, ['0.0.0.0:2222']])
    host.sshd.listen = ['[::]:22']
    await pass(host, { askHelper: true, ask: true })
    expect(host.sshd.asked.at(-1)).toEqual(['[::]:22'])
  })

  test('what it leaves out is on record, and logged when it is new', async () => {
    const host = helped()
    host.sshd.notes = ['not installed: x is no certificate']
    for (let start = 0; start < 3; start++) await pass(host, { askHelper: true })
    expect(host.record.sshd.notes).toEqual(host.sshd.notes)
    expect(host.log.messages('warn')).toEqual([`the root helper reported: ${host.sshd.notes[0]}`])
    host.sshd.notes = []
    await pass(host, { askHelper: true })
    expect(host.record.sshd.notes).toEqual([])
  })

  test('that fails at the start is asked later and later, though there is nothing to copy', async () => {
    const host = helped()
    host.sshd.installFailure = { code: 'SSHD_CONFIG_INVALID', message: 'line 3: bad' }
    await pass(host, { askHelper: true })
    for (let minute = 0; minute < 60; minute++) {
      host.clock.jump(host.clock.now() + 60)
      await pass(host)
    }
    expect(host.sshd.installs).toBeGreaterThan(4)
    expect(host.sshd.installs).toBeLessThan(12)
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('SSHD_CONFIG_INVALID')
    host.sshd.installFailure = null
    host.clock.jump(host.clock.now() + 3700)
    await pass(host)
    expect(host.record).toMatchObject({
      install: null,
      sshd: { helperAt: expect.closeTo(host.clock.now(), 0) },
    })
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('writes its lines anew when sshd is seen to present no certificate', async () => {
    const host = helped()
    await pass(host)
    const { installs, reloads } = host.sshd
    host.sshd.hasCertificateLines = false
    const { install } = host.sshd
    host.sshd.install = async () => {
      host.sshd.hasCertificateLines = true
      return install.call(host.sshd)
    }
    host.clock.jump(host.clock.now() + 901)
    expect(stateOf(await pass(host))).toBe('valid null')
    expect([host.sshd.installs - installs, host.sshd.reloads - reloads]).toEqual([1, 0])
    expect(host.issuer.issuedAt).toHaveLength(1)
  })

  test('that will not reload yet is waited for: no failure, no new certificate, and then it is done', async () => {
    const host = helped()
    host.sshd.readsPerConnection = false
    host.sshd.load()
    host.sshd.reloadBusy = 40
    const first = await pass(host)
    expect(first.trouble).toBeNull()
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
    expect(host.record).toMatchObject({
      reloadOwed: true,
      reload: { code: 'SSHD_RELOAD_FAILED', until: expect.closeTo(host.clock.now() + 40, 0) },
    })
    await pass(host)
    expect(host.sshd.reloads).toBe(1)
    host.sshd.reloadBusy = null
    host.clock.jump(host.clock.now() + 41)
    expect(stateOf(await pass(host))).toBe('valid null')
    expect(host.record).toMatchObject({ reloadOwed: false, reload: null })
  })

  test('what it cannot copy is tried again, without a new certificate', async () => {
    const host = helped()
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    let result = await pass(host)
    expect(result.trouble).toMatchObject({ failure: { code: 'STORE_FAILED' }, hostKeys: [KEY] })
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('STORE_FAILED')
    host.sshd.installFailure = null
    host.clock.jump(host.clock.now() + 120)
    result = await pass(host)
    expect([host.sshd.installs, host.sshd.needsInstall]).toEqual([2, false])
    expect(host.issuer.issuedAt).toHaveLength(1)
    expect(stateOf(result)).toBe('valid null')
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test.each([{ asked: true }, { asked: false }])(
    'is asked later and later while it fails (sshd asked: $asked)',
    async ({ asked }) => {
      const host = helped()
      host.sshd.enabled = asked
      await pass(host)
      host.sshd.needsInstall = true
      host.sshd.installFailure = { code: 'SSHD_CONFIG_INVALID', message: 'line 3: bad' }
      const before = host.sshd.installs
      for (let minute = 0; minute < 60; minute++) {
        host.clock.jump(host.clock.now() + 60)
        await pass(host)
      }
      expect(host.sshd.installs - before).toBeGreaterThan(4)
      expect(host.sshd.installs - before).toBeLessThan(10)
    },
  )

  test('that failed is asked again though there is nothing to copy any more: only its answer ends that', async () => {
    const host = helped()
    await pass(host)
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    await pass(host)
    host.sshd.needsInstall = false
    host.clock.jump(host.clock.now() + 1)
    await pass(host)
    expect(host.record.install).not.toBeNull()
    host.sshd.installFailure = null
    host.clock.jump(host.clock.now() + 60)
    await pass(host)
    expect(host.record.install).toBeNull()
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('that cannot bring back what sshd no longer presents is asked later and later, and so is sshd', async () => {
    const host = helped()
    await pass(host)
    // The Include line is gone, and sshd was reloaded.
    host.sshd.hasCertificateLines = false
    host.sshd.installFailure = { code: 'SSHD_CONFIG_INVALID', message: 'sshd does not read the drop-in' }
    const [installs, questions] = [host.sshd.installs, host.sshd.questions]
    await pass(host, { ask: true })
    for (let second = 0; second < 3600; second += 5) {
      host.clock.jump(host.clock.now() + 5)
      await pass(host)
    }
    expect(host.sshd.installs - installs).toBeGreaterThan(4)
    expect(host.sshd.installs - installs).toBeLessThan(14)
    expect(host.sshd.questions - questions).toBeLessThan(40)
  })

  test('is asked again where sshd listens while sshd does not answer: it may have moved', async () => {
    const host = helped()
    host.sshd.listen = ['0.0.0.0:22']
    await pass(host)
    host.sshd.isDown = true
    host.sshd.listen = ['0.0.0.0:2222']
    host.clock.jump(host.clock.now() + 901)
    await pass(host)
    expect(host.sshd.asked.slice(-2)).toEqual([['0.0.0.0:22'], ['0.0.0.0:2222']])
    const { installs } = host.sshd
    for (let minute = 0; minute < 10; minute++) {
      host.clock.jump(host.clock.now() + 60)
      await pass(host)
    }
    expect(host.sshd.installs - installs).toBe(2)
  })
})
