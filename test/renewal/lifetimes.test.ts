import { describe, expect, test } from 'vitest'
import { parseCertificate, validBeforeOf } from '../../agent/cert/host-certificate.ts'
import { DAY, FakeHost, START } from '../fakes/fake-host.ts'
import { KEY } from './one-pass.ts'
import { supervise } from './supervise.ts'

/** How long the certificate in place is still valid, at each call. */
function lifeOf(host: FakeHost): () => number {
  let text = ''
  let end = 0
  return () => {
    const inPlace = host.files.get(KEY) ?? ''
    if (inPlace !== text) end = validBeforeOf(parseCertificate(inPlace))
    text = inPlace
    return end - host.clock.now()
  }
}

describe('lifetimes', () => {
  test.each([
    { name: '20 s', ttl: 20, step: 5, live: 600, atMost: 62 },
    { name: '90 s', ttl: 90, step: 5, live: 1800, atMost: 42 },
    { name: '1 h', ttl: 3600, step: 60, live: DAY, atMost: 38 },
  ])('$name: renewed in time, always, and seldom', async ({ ttl, step, live, atMost }) => {
    const host = new FakeHost(ttl)
    const secondsLeft = lifeOf(host)
    const daemon = supervise(host)
    await host.clock.advance(1)
    for (let second = 0; second < live; second += step) {
      await host.clock.advance(step)
      if (second % 60 === 0) daemon.supervisor.wake('tick')
      expect(secondsLeft()).toBeGreaterThan(0)
    }
    await daemon.stop()
    expect(host.issuer.issuedAt.length).toBeGreaterThan((live / ttl) * 0.9)
    expect(host.issuer.issuedAt.length).toBeLessThanOrEqual(atMost)
  })

  test('30 d: renewed about once in 20 to 25 days', async () => {
    const host = new FakeHost(30 * DAY)
    const secondsLeft = lifeOf(host)
    const daemon = supervise(host)
    await host.clock.advance(1)
    for (let hour = 0; hour < 24 * 90; hour += 4) {
      host.clock.jump(host.clock.now() + 4 * 3600 - 1)
      daemon.supervisor.wake('tick')
      await host.clock.advance(1)
      expect(secondsLeft()).toBeGreaterThan(0)
    }
    await daemon.stop()
    expect(host.issuer.issuedAt.length).toBeGreaterThanOrEqual(4)
    expect(host.issuer.issuedAt.length).toBeLessThanOrEqual(6)
  })

  test('after a suspend of weeks it is seen at the next tick', async () => {
    const host = new FakeHost(30 * DAY)
    const secondsLeft = lifeOf(host)
    const daemon = supervise(host)
    await host.clock.advance(1)
    host.clock.jump(START + 40 * DAY)
    daemon.supervisor.wake('tick')
    await host.clock.advance(1)
    expect(secondsLeft()).toBeGreaterThan(29 * DAY)
    await daemon.stop()
  })
})
