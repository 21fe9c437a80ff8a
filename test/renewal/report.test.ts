import { describe, expect, test } from 'vitest'
import { judgeNow } from '../../agent/renewal/judge.ts'
import { observe } from '../../agent/renewal/observe.ts'
import type { HostKeyFile } from '../../agent/renewal/ports.ts'
import type { SshdRecord } from '../../agent/renewal/record.ts'
import { NOTHING_REPORTED, reportChanges, type Reported } from '../../agent/renewal/report.ts'
import { DAY, FakeHost, OVERDUE, START } from '../fakes/fake-host.ts'
import { RecordingLog } from '../fakes/recording-log.ts'
import { KEY, pass } from './one-pass.ts'

/** Looks at a host one after the other. @returns what each adds to the log, `LEVEL MESSAGE` */
function reporter(host: FakeHost) {
  const log = new RecordingLog()
  let before: Reported = NOTHING_REPORTED
  return {
    log,
    look: async (state: SshdRecord['state'] = host.record.sshd.state): Promise<string[]> => {
      const from = log.lines.length
      const facts = await observe(host)
      const views = judgeNow(host, host.record, facts)
      before = reportChanges(log, before, views, { ...host.record.sshd, state }, null, facts.machine)
      return log.lines.slice(from).map(({ level, message }) => `${level} ${message}`)
    },
  }
}

/** A host with a certificate that is served. */
async function enrolled(): Promise<FakeHost> {
  const host = new FakeHost()
  await pass(host)
  return host
}

describe('sshd', () => {
  test('that answers from the start is nothing to report', async () => {
    expect(await reporter(await enrolled()).look()).toEqual([])
  })

  test('of which one key is not known: the reason is that of this key', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.unanswered.add('ecdsa-sha2-nistp256')
    await pass(host)
    expect(await reporter(host).look('unknown')).toEqual([
      'warn what sshd presents is unknown: no matching cipher found',
    ])
  })

  test('that goes down, answers again, and is not understood: each time it changes, with the reason', async () => {
    const host = await enrolled()
    const { log, look } = reporter(host)
    await look()
    host.sshd.isDown = true
    await pass(host, { ask: true })
    expect(await look()).toEqual(['warn sshd accepts no connections: connection refused'])
    expect(log.lines.at(-1)?.fields).toEqual({ code: 'SSHD_UNREACHABLE' })
    expect(await look()).toEqual([])
    host.sshd.isDown = false
    host.sshd.isSilent = true
    await pass(host, { ask: true })
    expect(await look()).toEqual(['warn what sshd presents is unknown: no answer within 5 s'])
    expect(log.lines.at(-1)?.fields).toEqual({ code: 'SSHD_UNREACHABLE' })
    host.sshd.isSilent = false
    await pass(host, { ask: true })
    expect(await look()).toEqual(['info sshd answers again'])
    expect(await look()).toEqual([])
  })

  test.each([
    ['down', 'warn sshd accepts no connections: no reason given'],
    ['unknown', 'warn what sshd presents is unknown: no reason given'],
  ] as const)('%s without a reason on record', async (state, line) => {
    const host = await enrolled()
    expect(await reporter(host).look(state)).toEqual([line])
    // Where it is not asked, what is on record is old.
    host.sshd.enabled = false
    expect(await reporter(host).look(state)).toEqual([])
  })
})

describe('a host key', () => {
  const of = (content: HostKeyFile['content']): FakeHost => {
    const host = new FakeHost()
    host.hostKeys.list = async () => [{ name: KEY, path: `/etc/ssh/${KEY}.pub`, content }]
    return host
  }

  test('that can never be certified: once, with the reason', async () => {
    const { log, look } = reporter(of({ kind: 'shadowed', by: '/a' }))
    expect(await look()).toEqual(['info host key ignored: /a has the same file name'])
    expect(log.lines[0]?.fields).toEqual({ host_key: KEY })
    expect(await look()).toEqual([])
  })

  test('that cannot be read: once, with its code', async () => {
    const failure = { code: 'HOST_KEY_UNREADABLE', message: 'permission denied' } as const
    const { log, look } = reporter(of({ kind: 'unreadable', failure }))
    expect(await look()).toEqual(['error permission denied'])
    expect(log.lines[0]?.fields).toEqual({ host_key: KEY, code: 'HOST_KEY_UNREADABLE' })
    expect(await look()).toEqual([])
  })

  test('that sshd does not offer: not here, it was logged when that was found out', async () => {
    const host = new FakeHost(30 * DAY, ['a', 'b_ecdsa'])
    host.sshd.notConfigured.add('a')
    await pass(host)
    expect(await reporter(host).look()).toEqual([])
  })

  test('with a certificate that is of no use: not here, what comes of asking for another is logged', async () => {
    const host = await enrolled()
    host.files.set(KEY, 'spoilt')
    expect(await reporter(host).look()).toEqual([])
    host.files.delete(KEY)
    expect(await reporter(host).look()).toEqual([])
  })

  test('whose certificate grows overdue and expires: each once, and again when it comes back', async () => {
    const host = await enrolled()
    const { log, look } = reporter(host)
    await look()
    host.clock.jump(OVERDUE)
    expect(await look()).toEqual(['error the renewal is overdue'])
    expect(log.lines.at(-1)?.fields).toEqual({ host_key: KEY, serial: '1001', code: null })
    host.clock.jump(START + 31 * DAY)
    expect(await look()).toEqual(['error the certificate has expired'])
    expect(await look()).toEqual([])
    const key = host.keys.get(KEY) ?? ''
    host.keys.clear()
    expect(await look()).toEqual([])
    host.keys.set(KEY, key)
    expect(await look()).toEqual(['error the certificate has expired'])
  })
})
