import { beforeEach, describe, expect, test } from 'vitest'
import type { Copied } from '../../agent/renewal/ports.ts'
import { readinessOf, summarize } from '../../agent/renewal/status-document.ts'
import { DUE, FakeHost } from '../fakes/fake-host.ts'
import { KEY, pass, stateOf } from './one-pass.ts'
import { runOnce, supervise } from './supervise.ts'

const MESSAGE = 'this machine was copied after it was enrolled: its machine-id differs'
const COPIED = { code: 'MACHINE_COPIED', message: MESSAGE } as const
const STOPPED = `${MESSAGE}; nothing is renewed here (enrollment.on_copy: stop)`

/** With a certificate that has fallen due. */
let host: FakeHost
let issued: number
beforeEach(async () => {
  host = new FakeHost()
  await runOnce(host)
  host.clock.jump(DUE)
  issued = host.issuer.issuedAt.length
  host.log.lines.length = 0
})

const news = (): string[] =>
  host.log.lines.map(({ level, message }) => `${level} ${message}`).filter((line) => /machine/.test(line))

describe('warn', () => {
  test('one line for each start, the status says so, and renewal goes on', async () => {
    host.copied = COPIED
    for (let start = 0; start < 2; start++) {
      const daemon = supervise(host)
      await daemon.live(600)
      expect(daemon.supervisor.status).toMatchObject({ enrolled: true, machine: { copied: true } })
      expect(readinessOf(daemon.supervisor.status, null, host.clock.now())).toMatchObject({
        status: 'warn',
        reason: 'machine-copied',
      })
      expect(daemon.told.at(-2)).toContain('this machine was copied; 1 host key: 1 valid')
      await daemon.stop()
    }
    expect(news()).toEqual([`warn ${MESSAGE}`, `warn ${MESSAGE}`])
    expect(host.issuer.issuedAt).toHaveLength(issued + 1)
  })

  test('accepted, it is news once; not known, it is none', async () => {
    const daemon = supervise(host)
    const looks: readonly Copied[] = [COPIED, null, COPIED, false, null, false, COPIED]
    for (const copied of looks) {
      host.copied = copied
      await daemon.live(120)
      const want = copied === null ? null : copied !== false
      expect(daemon.supervisor.status?.machine).toEqual({ copied: want })
    }
    await daemon.stop()
    const accepted = 'info this machine is the one that was enrolled'
    expect(news()).toEqual([`warn ${MESSAGE}`, accepted, `warn ${MESSAGE}`])
  })

  test('by hand it renews', async () => {
    host.copied = COPIED
    const { outcomes } = await pass(host, { byHand: true })
    expect(outcomes).toMatchObject([{ kind: 'renewed' }])
  })
})

describe('stop', () => {
  beforeEach(() => {
    host.settings = { ...host.settings, onCopy: 'stop' }
    host.copied = COPIED
  })

  test('nothing is asked of the issuer, the certificate stays served, and the status says why', async () => {
    const daemon = supervise(host)
    await daemon.live(3600)
    const status = daemon.supervisor.status
    expect(host.issuer.issuedAt).toHaveLength(issued)
    expect(status).toMatchObject({
      enrolled: false,
      machine: { copied: true },
      certificates: [
        {
          host_key: KEY,
          state: 'due',
          served: { matches: true, unknown: null },
          last_error: { code: 'MACHINE_COPIED', message: MESSAGE },
        },
      ],
    })
    for (const hostKey of [null, KEY])
      expect(readinessOf(status, hostKey, host.clock.now())).toMatchObject({
        status: 'fail',
        reason: 'not-enrolled: this machine was copied',
        checks: [{ host_key: KEY }],
      })
    expect(readinessOf(status, 'other', host.clock.now())).toBeNull()
    const summary = status === null ? null : summarize(status, host.clock.now())
    expect(summary).toMatch(/^not enrolled: this machine was copied; 1 host key: 1 due/)
    // A tick each minute, and nothing in between.
    expect(daemon.turns.length).toBeLessThan(70)
    await daemon.stop()
    expect(news()).toEqual([`error ${STOPPED}`])
    expect(host.log.lines.find(({ level }) => level === 'error')?.fields).toEqual({ code: 'MACHINE_COPIED' })
  })

  test('without a pinned CA the issuer is not asked for its CA either', async () => {
    const fresh = new FakeHost()
    fresh.settings = { ...fresh.settings, onCopy: 'stop' }
    fresh.copied = COPIED
    const result = await pass(fresh)
    expect(fresh.issuer.issuedAt).toEqual([])
    expect(fresh.issuer.caQuestions).toBe(0)
    expect(stateOf(result)).toMatch(/^absent/)
  })

  test('accepted: the next pass renews, without a restart', async () => {
    const daemon = supervise(host)
    await daemon.live(120)
    host.copied = false
    await daemon.live(120)
    expect(host.issuer.issuedAt).toHaveLength(issued + 1)
    expect(daemon.supervisor.status).toMatchObject({
      enrolled: true,
      machine: { copied: false },
      certificates: [{ state: 'valid', last_error: null }],
    })
    await daemon.stop()
  })

  test('not known: it renews', async () => {
    host.copied = null
    const { outcomes } = await pass(host)
    expect(outcomes).toMatchObject([{ kind: 'renewed' }])
  })

  test.each([{}, { force: true }, { dryRun: true }])('by hand it refuses: %o', async (request) => {
    await expect(pass(host, { ...request, byHand: true })).rejects.toMatchObject({ code: 'MACHINE_COPIED' })
    expect(host.issuer.issuedAt).toHaveLength(issued)
  })

  test('set later, it is news', async () => {
    host.settings = { ...host.settings, onCopy: 'warn' }
    const daemon = supervise(host)
    await daemon.live(120)
    host.settings = { ...host.settings, onCopy: 'stop' }
    await daemon.live(120)
    await daemon.stop()
    expect(news()).toEqual([`warn ${MESSAGE}`, `error ${STOPPED}`])
  })
})
