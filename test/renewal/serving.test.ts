import { describe, expect, test } from 'vitest'
import { DAY, DUE, FakeHost, START } from '../fakes/fake-host.ts'
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
    const second = await pass(host, {}, first.knowledge)
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
      result = await pass(host, {}, result.knowledge)
    }
    expect(host.sshd.reloads).toBeGreaterThan(3)
    expect(host.sshd.reloads).toBeLessThan(10)
    expect(host.issuer.issuedAt).toHaveLength(1)
    host.sshd.reloadFailure = null
    host.clock.jump(host.clock.now() + 3700)
    expect(stateOf(await pass(host, {}, result.knowledge))).toBe('valid null')
    expect(host.issuer.issuedAt).toHaveLength(1)
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('that does not offer a key even after a reload: the key is ignored until it does', async () => {
    const host = new FakeHost(30 * DAY, ['a'])
    host.sshd.notConfigured.add('a')
    const first = await pass(host)
    expect(stateOf(first, 'a')).toBe('ignored sshd does not offer a host key of type ssh-ed25519')
    host.clock.jump(START + 31 * DAY)
    expect((await pass(host)).outcomes).toEqual([])
    expect(host.sshd.reloads).toBe(1)
    host.sshd.notConfigured.clear()
    expect((await pass(host)).outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test('that is to get the private half of a new key only after the reload: the key is not left alone for long', async () => {
    const host = new FakeHost(30 * DAY, ['a'])
    host.sshd.readsPerConnection = false
    host.sshd.load()
    const old = new Map(host.keys)
    host.rotate('a')
    // What sshd loads is still the old pair.
    host.sshd.loadsInstead = old
    const first = await pass(host)
    expect(stateOf(first, 'a')).toBe('ignored sshd offers another host key of type ssh-ed25519')
    expect((await pass(host, {}, first.knowledge)).outcomes).toEqual([])
    expect(host.sshd.reloads).toBe(1)
    host.sshd.loadsInstead = null
    host.pairVersion = 'the private half has come'
    host.clock.jump(host.clock.now() + 61)
    const second = await pass(host, {}, first.knowledge)
    expect(stateOf(second, 'a')).toBe('valid null')
    expect([host.sshd.reloads, host.issuer.issuedAt.length]).toEqual([2, 1])
  })

  test('is asked seldom: at the start, after a swap, on request, every 15 minutes', async () => {
    const host = new FakeHost()
    let result = await pass(host)
    const after = host.sshd.questions
    for (let minute = 0; minute < 14; minute++) {
      host.clock.jump(host.clock.now() + 60)
      result = await pass(host, {}, result.knowledge)
    }
    expect(host.sshd.questions).toBe(after)
    result = await pass(host, { ask: true }, result.knowledge)
    expect(host.sshd.questions).toBe(after + 1)
    host.clock.jump(host.clock.now() + 901)
    await pass(host, {}, result.knowledge)
    expect(host.sshd.questions).toBe(after + 2)
  })

  test('that was seen not to serve it, and then says nothing, serves it no more for that', async () => {
    const host = new FakeHost()
    await pass(host)
    host.settings = { ...host.settings, reload: 'never' }
    host.sshd.hasCertificateLines = false
    let result = await pass(host)
    expect(stateOf(result)).toBe('unconfirmed SSHD_NOT_SERVING')
    host.sshd.isDown = true
    result = await pass(host, { ask: true }, result.knowledge)
    expect(stateOf(result)).toMatch(/^unconfirmed/)
    // And a process that knows only what is on record says the same.
    expect(stateOf(await pass(host))).toMatch(/^unconfirmed/)
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
  test('what it cannot copy is tried again, without a new certificate', async () => {
    const host = new FakeHost()
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    let result = await pass(host)
    expect(result.trouble).toMatchObject({ failure: { code: 'STORE_FAILED' }, hostKeys: [KEY] })
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('STORE_FAILED')
    host.sshd.installFailure = null
    host.clock.jump(host.clock.now() + 120)
    result = await pass(host, {}, result.knowledge)
    expect([host.sshd.installs, host.sshd.needsInstall]).toEqual([2, false])
    expect(host.issuer.issuedAt).toHaveLength(1)
    expect(stateOf(result)).toBe('valid null')
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test.each([{ asked: true }, { asked: false }])(
    'is asked later and later while it fails (sshd asked: $asked)',
    async ({ asked }) => {
      const host = new FakeHost()
      host.sshd.enabled = asked
      let result = await pass(host)
      host.sshd.needsInstall = true
      host.sshd.installFailure = { code: 'SSHD_CONFIG_INVALID', message: 'line 3: bad' }
      const before = host.sshd.installs
      for (let minute = 0; minute < 60; minute++) {
        host.clock.jump(host.clock.now() + 60)
        result = await pass(host, {}, result.knowledge)
      }
      expect(host.sshd.installs - before).toBeGreaterThan(4)
      expect(host.sshd.installs - before).toBeLessThan(10)
    },
  )

  test('that need not copy any more has no wait left', async () => {
    const host = new FakeHost()
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    const { knowledge } = await pass(host)
    host.sshd.needsInstall = false
    host.clock.jump(host.clock.now() + 1)
    await pass(host, {}, knowledge)
    expect(host.record.install).toBeNull()
  })
})
