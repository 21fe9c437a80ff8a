import { describe, expect, test } from 'vitest'
import { SSHD_NOT_ASKED } from '../../agent/renewal/record.ts'
import { craftKey } from '../cert/craft.ts'
import { DAY, DUE, FakeHost } from '../fakes/fake-host.ts'
import { failureOf } from '../fakes/fake-issuer.ts'
import { KEY, pass, stateOf } from './one-pass.ts'

/** An sshd that reads certificates at a reload only, with a first certificate that it does not serve yet. */
function slow(names?: readonly string[]): FakeHost {
  const host = new FakeHost(30 * DAY, names)
  host.sshd.readsPerConnection = false
  host.sshd.load()
  return host
}

describe('after a reload', () => {
  /** Its old processes answer for so many seconds more. */
  const takes = (host: FakeHost, seconds: number): void => {
    const { reload, load } = host.sshd
    host.sshd.load = () => {}
    host.sshd.reload = async () => {
      const outcome = await reload.call(host.sshd)
      void host.clock.sleep(seconds * 1000, new AbortController().signal).then(() => load.call(host.sshd))
      return outcome
    }
  }

  test.each([
    { name: 'at once', seconds: 0.2, questions: 2 },
    { name: 'a moment later', seconds: 2, questions: 3 },
  ])(
    'sshd may serve it $name: it is asked again before it is said not to',
    async ({ seconds, questions }) => {
      const host = slow()
      takes(host, seconds)
      const result = await pass(host)
      expect(result.trouble).toBeNull()
      expect(stateOf(result)).toBe('valid null')
      expect([host.sshd.reloads, host.sshd.questions]).toEqual([1, questions])
      expect(host.log.messages('error')).toEqual([])
      expect(host.results).toEqual([`${KEY} ok`, 'reload ok'])
      expect(host.log.lines.find(({ message }) => message === 'reloaded sshd')?.fields).toEqual({
        host_keys: [KEY],
      })
    },
  )

  test('that did not help it is asked twice, and that is the trouble', async () => {
    const host = slow()
    takes(host, 3600)
    const result = await pass(host)
    expect(result.trouble).toEqual({
      failure: {
        code: 'SSHD_NOT_SERVING',
        message: 'sshd presents another certificate or none, even after a reload',
      },
      hostKeys: [KEY],
    })
    expect(host.sshd.questions).toBe(3)
    expect(host.log.messages('warn')).toEqual([])
    expect(host.log.lines.at(-1)).toMatchObject({
      level: 'error',
      message: result.trouble?.failure.message,
      fields: { code: 'SSHD_NOT_SERVING', host_keys: [KEY], serials: ['1001'], retry_in_seconds: 60 },
    })
  })

  test('that did not help: the error stays until sshd serves the certificate', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.hasCertificateLines = false
    await pass(host, { ask: true })
    expect(host.record.reloadOwed).toBe(false)
    host.clock.jump(host.clock.now() + 5)
    expect((await pass(host)).trouble).toBeNull()
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('SSHD_NOT_SERVING')
    host.sshd.hasCertificateLines = true
    await pass(host, { ask: true })
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('what the root helper reported is a warning', async () => {
    const host = slow()
    const { reload } = host.sshd
    host.sshd.reload = async () => {
      const outcome = await reload.call(host.sshd)
      return outcome.kind === 'done' ? { ...outcome, notes: ['sshd is not running'] } : outcome
    }
    await pass(host)
    expect(host.log.messages('warn')).toEqual(['the root helper reported: sshd is not running'])
    expect(host.log.messages('info')).not.toContain('reloaded sshd')
  })

  test('that leaves it unknown: what is said is that, and why', async () => {
    const host = new FakeHost()
    host.sshd.isSilent = true
    expect((await pass(host)).trouble).toEqual({
      failure: {
        code: 'SSHD_UNREACHABLE',
        message: 'what sshd presents is unknown: no answer within 5 s',
      },
      hostKeys: [KEY],
    })
    expect(host.sshd.reloads).toBe(1)
  })

  test('of one key that is served and one that is not: only that one has an error', async () => {
    const host = slow(['a', 'b_ecdsa'])
    host.sshd.loadsInstead = new Map([['b_ecdsa', host.keys.get('b_ecdsa') ?? '']])
    host.sshd.unanswered.add('ssh-ed25519')
    const { trouble } = await pass(host)
    expect(trouble).toMatchObject({ failure: { code: 'SSHD_UNREACHABLE' }, hostKeys: ['a'] })
    expect([host.record.hostKeys['a']?.lastError?.code, host.record.hostKeys['b_ecdsa']?.lastError]).toEqual([
      'SSHD_UNREACHABLE',
      null,
    ])
  })
})

describe('a reload that fails', () => {
  const failing = (host: FakeHost): FakeHost => {
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    return host
  }

  test('is counted, logged and waited for', async () => {
    const host = failing(slow())
    const { trouble } = await pass(host)
    expect(trouble).toEqual({
      failure: { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' },
      hostKeys: [KEY],
    })
    expect(host.results).toEqual([`${KEY} ok`, 'reload SSHD_RELOAD_FAILED'])
    expect(host.log.lines.at(-1)?.fields).toMatchObject({
      code: 'SSHD_RELOAD_FAILED',
      serials: ['1001'],
      retry_in_seconds: 5,
    })
    expect(host.log.messages('info')).not.toContain('reloaded sshd')
  })

  test('with reload: always: is owed, though sshd serves the certificate', async () => {
    const host = failing(new FakeHost())
    host.settings = { ...host.settings, reload: 'always' }
    const { trouble } = await pass(host)
    expect(trouble).toMatchObject({ failure: { code: 'SSHD_RELOAD_FAILED' }, hostKeys: [KEY] })
    await pass(host)
    expect(host.sshd.reloads).toBe(1)
    host.sshd.reloadFailure = null
    host.clock.jump(host.clock.now() + 6)
    expect((await pass(host)).trouble).toBeNull()
    expect(host.sshd.reloads).toBe(2)
    expect(host.record).toMatchObject({ reloadOwed: false, reload: null })
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
    host.clock.jump(host.clock.now() + 901)
    await pass(host)
    expect(host.sshd.reloads).toBe(2)
  })

  test('is not owed any more when sshd is seen to serve the certificate by itself', async () => {
    const host = new FakeHost()
    await pass(host)
    host.sshd.unanswered.add('ssh-ed25519')
    await pass(host, { ask: true })
    failing(host)
    host.clock.jump(DUE)
    expect((await pass(host)).trouble).not.toBeNull()
    expect(host.record.reloadOwed).toBe(true)
    host.sshd.unanswered.clear()
    expect((await pass(host, { ask: true })).trouble).toBeNull()
    expect(host.record).toMatchObject({ reloadOwed: false, reload: null })
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })

  test('waits longer each time; a person or a new certificate ends the wait', async () => {
    const host = failing(slow())
    await pass(host)
    await pass(host)
    expect(host.sshd.reloads).toBe(1)
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('SSHD_RELOAD_FAILED')
    await pass(host, { byHand: true })
    expect(host.sshd.reloads).toBe(2)
    await pass(host, { force: true })
    expect(host.sshd.reloads).toBe(3)
    expect(host.record.reload).toMatchObject({ failures: 3 })
  })
})

describe('no way to reload', () => {
  test.each([
    { name: 'there is none', never: false },
    { name: 'reload: never', never: true },
  ])('$name: what is not served is an error that says so, and waited for', async ({ never }) => {
    const host = slow()
    if (never) host.settings = { ...host.settings, reload: 'never' }
    else host.sshd.canReload = false
    expect((await pass(host)).trouble?.failure).toEqual({
      code: 'SSHD_NOT_SERVING',
      message: 'sshd presents another certificate or none, and there is no way to reload it',
    })
    expect([host.sshd.reloads, host.sshd.questions]).toEqual([0, 1])
    expect(host.record.reload).toMatchObject({ failures: 1 })
    await pass(host)
    expect(host.record.reload).toMatchObject({ failures: 1 })
    host.sshd.load()
    expect((await pass(host, { ask: true })).trouble).toBeNull()
    expect(host.record.reload).toBeNull()
  })

  test('a key that sshd does not offer is ignored for that at once, with a warning', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.notConfigured.add('a')
    host.sshd.canReload = false
    const first = await pass(host)
    expect(first.trouble).toBeNull()
    expect(stateOf(first, 'a')).toMatch(/^ignored/)
    expect(host.log.lines.filter(({ level }) => level === 'warn')).toEqual([
      {
        level: 'warn',
        message:
          'sshd does not offer a host key of type ssh-ed25519; the host key is ignored until that changes, and still renewed',
        fields: { host_key: 'a', serial: '1001', code: 'SSHD_NOT_SERVING' },
      },
    ])
    expect(host.record.hostKeys['a']?.evidence).toMatchObject({ isSettled: true })
  })
})

describe('a key that sshd does not offer', () => {
  const unoffered = async (): Promise<FakeHost> => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.notConfigured.add('a')
    expect(stateOf(await pass(host), 'a')).toMatch(/^ignored/)
    return host
  }

  test('is asked about every quarter of an hour: it may be offered again', async () => {
    const host = await unoffered()
    host.sshd.notConfigured.clear()
    const askedAt = host.record.sshd.askedAt ?? 0
    host.clock.jump(askedAt + 899)
    expect(stateOf(await pass(host), 'a')).toMatch(/^ignored/)
    host.clock.jump(askedAt + 900)
    expect(stateOf(await pass(host), 'a')).toBe('valid null')
    expect(host.log.messages('info').filter((line) => line === 'sshd serves the certificate')).toHaveLength(2)
  })

  test('is so for its files: when they change, a reload is tried once more', async () => {
    const host = await unoffered()
    host.pairVersion = 'written anew'
    // At once: what was seen of the files before is no evidence for these.
    expect(stateOf(await pass(host), 'a')).toMatch(/^ignored/)
    expect(host.sshd.reloads).toBe(2)
    await pass(host)
    expect(host.sshd.reloads).toBe(2)
  })

  test('but another of its type in its place, even after a reload: it is not reloaded for that again', async () => {
    const host = slow(['a', 'b_ecdsa'])
    host.sshd.loadsInstead = new Map([['a', craftKey().line]])
    const first = await pass(host)
    expect(stateOf(first, 'a')).toMatch(/^ignored sshd offers another host key of type ssh-ed25519/)
    expect(first.trouble).toBeNull()
    expect(host.log.messages('warn')).toEqual([
      expect.stringMatching(/^sshd offers another host key .*; the host key is ignored until that changes/),
    ])
    for (let quarter = 0; quarter < 8; quarter++) {
      host.clock.jump(host.clock.now() + 901)
      await pass(host)
    }
    expect([host.sshd.reloads, host.log.messages('warn').length]).toEqual([1, 1])
  })
})

describe('of two keys', () => {
  const two = (): FakeHost => new FakeHost(30 * DAY, ['a', 'b_ecdsa'])

  test('one without an answer: both are asked about again after five minutes', async () => {
    const host = two()
    await pass(host)
    host.sshd.unanswered.add('ssh-ed25519')
    await pass(host, { ask: true })
    const { questions } = host.sshd
    const askedAt = host.record.sshd.askedAt ?? 0
    host.clock.jump(askedAt + 299)
    await pass(host)
    expect(host.sshd.questions).toBe(questions)
    host.clock.jump(askedAt + 300)
    await pass(host)
    expect(host.sshd.questions).toBe(questions + 1)
  })

  test('one that is not asked about at all: that is no answer that is missing', async () => {
    const host = two()
    host.keys.set('b_ecdsa', 'half-written')
    await pass(host)
    const { questions } = host.sshd
    host.clock.jump((host.record.sshd.askedAt ?? 0) + 600)
    await pass(host)
    expect(host.sshd.questions).toBe(questions)
  })

  test('one that is not served and one that is not known: what was seen is said, and sshd is reloaded for it', async () => {
    const host = two()
    host.sshd.unanswered.add('ssh-ed25519')
    await pass(host)
    expect(host.sshd.reloads).toBe(1)
    host.clock.jump(host.clock.now() + 301)
    host.sshd.hasCertificateLines = false
    const { trouble } = await pass(host)
    expect(trouble).toEqual({
      failure: {
        code: 'SSHD_NOT_SERVING',
        message: 'sshd presents another certificate or none, even after a reload',
      },
      hostKeys: ['a', 'b_ecdsa'],
    })
    expect(host.sshd.reloads).toBe(2)
  })

  test('one that has no certificate: a reload that fails is no error of its', async () => {
    const host = two()
    host.sshd.enabled = false
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    host.issuer.failures.push(failureOf('ISSUER_REJECTED', 'key-backoff'))
    expect((await pass(host)).trouble).toMatchObject({ hostKeys: ['b_ecdsa'] })
    expect(host.record.hostKeys['a']?.lastError?.code).toBe('ISSUER_REJECTED')
    expect(host.record.hostKeys['b_ecdsa']?.lastError?.code).toBe('SSHD_RELOAD_FAILED')
  })

  test('one whose certificate is of no use any more: what sshd did not serve is not said to be over', async () => {
    const host = two()
    await pass(host)
    host.sshd.hasCertificateLines = false
    await pass(host, { ask: true })
    expect(host.record.hostKeys['a']?.lastError?.code).toBe('SSHD_NOT_SERVING')
    host.settings = { ...host.settings, wantedPrincipals: ['web2.example.com'] }
    await pass(host, { only: 'b_ecdsa' })
    expect(host.record.hostKeys['a']?.lastError?.code).toBe('SSHD_NOT_SERVING')
  })
})

describe('sshd that is down', () => {
  test('is not reloaded for what it did not serve: it reads everything when it starts', async () => {
    const host = slow()
    host.sshd.reloadFailure = { code: 'SSHD_RELOAD_FAILED', message: 'exit 1' }
    await pass(host)
    host.sshd.isDown = true
    const { reloads } = host.sshd
    for (let minute = 0; minute < 10; minute++) {
      host.clock.jump(host.clock.now() + 60)
      expect((await pass(host)).trouble).toBeNull()
    }
    expect(host.sshd.reloads).toBe(reloads)
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('SSHD_RELOAD_FAILED')
    host.sshd.isDown = false
    host.sshd.load()
    host.clock.jump(host.clock.now() + 60)
    expect(stateOf(await pass(host))).toBe('valid null')
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
  })
})

describe('under a clock that was set back', () => {
  test('somewhat, so that the certificate stays good: sshd is asked at once, not when that time comes again', async () => {
    const host = new FakeHost()
    await pass(host)
    const { questions } = host.sshd
    const askedAt = host.record.sshd.askedAt ?? 0
    host.clock.jump(askedAt)
    await pass(host)
    expect(host.sshd.questions).toBe(questions)
    host.clock.jump(askedAt - 200)
    expect((await pass(host)).outcomes).toEqual([])
    expect(host.sshd.questions).toBe(questions + 1)
    expect(host.record.sshd).toMatchObject({ askedAt: askedAt - 200, since: askedAt - 200 })
  })
})

test('sshd that was never asked, after an upgrade: it is asked', async () => {
  const host = new FakeHost()
  await pass(host)
  const { questions } = host.sshd
  host.record = { ...host.record, sshd: SSHD_NOT_ASKED }
  await pass(host)
  expect(host.sshd.questions).toBe(questions + 1)
})

describe('the helper', () => {
  const helped = (names?: readonly string[]): FakeHost => {
    const host = new FakeHost(30 * DAY, names)
    host.sshd.hasHelper = true
    return host
  }

  test('compares what is usable in the store, for every host key that is there', async () => {
    const host = helped(['a', 'b_ecdsa', 'c_ecdsa384'])
    await pass(host)
    host.files.set('b_ecdsa', 'spoilt')
    host.keys.set('c_ecdsa384', 'spoilt')
    host.sshd.compared.length = 0
    await pass(host, { only: 'a' })
    expect(host.sshd.compared).toEqual([
      { staged: new Map([['a', host.files.get('a')]]), present: ['a', 'b_ecdsa', 'c_ecdsa384'] },
    ])
  })

  test('is not there: nothing is compared, and nothing installed', async () => {
    const host = new FakeHost()
    await pass(host, { askHelper: true })
    expect([host.sshd.compared, host.sshd.installs]).toEqual([[], 0])
  })

  test('that is busy is no failure: it is asked again in the next pass', async () => {
    const host = helped()
    host.sshd.needsInstall = true
    host.sshd.installBusy = 20
    const first = await pass(host)
    expect([first.trouble, host.sshd.installs, host.sshd.questions]).toEqual([null, 1, 0])
    expect(host.record.hostKeys[KEY]?.lastError).toBeNull()
    expect(host.log.messages('error')).toEqual([])
    host.sshd.installBusy = null
    expect(stateOf(await pass(host))).toBe('valid null')
    expect(host.sshd.installs).toBe(2)
  })

  test('that is busy: what it could not copy before is not over', async () => {
    const host = helped()
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    await pass(host)
    host.sshd.installFailure = null
    host.sshd.installBusy = 20
    await pass(host, { byHand: true })
    expect(host.record.install).toMatchObject({ code: 'STORE_FAILED' })
    expect(host.record.hostKeys[KEY]?.lastError?.code).toBe('STORE_FAILED')
  })

  test('that will not reload yet says until when, and where sshd listens', async () => {
    const host = helped()
    await pass(host)
    host.sshd.readsPerConnection = false
    host.sshd.reloadBusy = 40
    const { reload } = host.sshd
    host.sshd.reload = async () => {
      host.sshd.listen = ['0.0.0.0:2222']
      return reload.call(host.sshd)
    }
    await pass(host, { force: true, byHand: true })
    expect(host.record.sshd.listen).toEqual(['0.0.0.0:2222'])
    expect(host.log.lines.at(-1)).toEqual({
      level: 'info',
      message: 'sshd was reloaded too often within a short time: the next reload is postponed',
      fields: { retry_in_seconds: 40 },
    })
    expect(host.log.messages('warn')).toEqual([])
  })

  test('that changed the configuration of sshd: it is reloaded, also where it is not asked', async () => {
    const host = helped()
    await pass(host)
    host.sshd.enabled = false
    host.sshd.needsInstall = true
    host.sshd.reloadNeeded = true
    await pass(host)
    expect([host.sshd.reloads, host.record.reloadOwed]).toEqual([1, false])
    host.sshd.needsInstall = true
    host.sshd.reloadNeeded = false
    await pass(host)
    expect(host.sshd.reloads).toBe(1)
  })

  test('that wrote lines anew: sshd is reloaded without being asked once more', async () => {
    const host = helped()
    host.sshd.readsPerConnection = false
    await pass(host)
    host.sshd.hasCertificateLines = false
    const [questions, reloads] = [host.sshd.questions, host.sshd.reloads]
    const { reload } = host.sshd
    host.sshd.reloadNeeded = true
    host.sshd.reload = async () => {
      host.sshd.hasCertificateLines = true
      return reload.call(host.sshd)
    }
    expect(stateOf(await pass(host, { ask: true }))).toBe('valid null')
    // Before, and after.
    expect([host.sshd.questions - questions, host.sshd.reloads - reloads]).toEqual([2, 1])
  })

  test.each([
    { name: 'where sshd listens now', says: ['0.0.0.0:2222'], want: ['0.0.0.0:2222'] },
    { name: 'nothing of that', says: [], want: ['0.0.0.0:22'] },
  ])('says at a reload $name; what it left out before stays', async ({ says, want }) => {
    const host = helped()
    host.sshd.notes = ['left out: x']
    host.sshd.listen = ['0.0.0.0:22']
    await pass(host)
    host.sshd.readsPerConnection = false
    const { reload } = host.sshd
    host.sshd.reload = async () => {
      const outcome = await reload.call(host.sshd)
      return { ...outcome, listen: says, notes: [] }
    }
    await pass(host, { force: true, byHand: true })
    expect(host.sshd.reloads).toBe(1)
    expect(host.record.sshd).toMatchObject({ listen: want, notes: ['left out: x'] })
  })

  test('that cannot copy: the error is every key’s, with the serial of what it has', async () => {
    const host = helped(['a', 'b_ecdsa'])
    await pass(host)
    host.keys.set('c', 'spoilt')
    host.files.set('b_ecdsa', 'spoilt')
    host.sshd.needsInstall = true
    host.sshd.installFailure = { code: 'STORE_FAILED', message: 'no space left on device' }
    host.results.length = 0
    const { trouble } = await pass(host, { only: 'a' })
    expect(trouble).toEqual({ failure: host.sshd.installFailure, hostKeys: ['a', 'b_ecdsa'] })
    expect(host.results).toEqual(['reload STORE_FAILED'])
    expect(host.log.lines.at(-1)?.fields).toMatchObject({
      host_keys: ['a', 'b_ecdsa'],
      serials: ['1001', null],
    })
  })
})
