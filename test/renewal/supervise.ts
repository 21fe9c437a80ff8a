import { expect } from 'vitest'
import type { ServiceManager } from '../../agent/renewal/ports.ts'
import type { StatusDocument } from '../../agent/renewal/status-document.ts'
import { Supervisor, type Enrolment } from '../../agent/renewal/supervisor.ts'
import type { FakeHost } from '../fakes/fake-host.ts'

/** A supervisor at work on a fake host. */
export function supervise(
  host: FakeHost,
  given?: () => Promise<Enrolment>,
  watchdogSeconds: number | null = null,
) {
  const told: string[] = []
  const turns: StatusDocument[] = []
  const serviceManager: ServiceManager = {
    ready: async (status) => void told.push(`ready ${status}`),
    status: async (status) => void told.push(`status ${status}`),
    watchdog: async () => void told.push('watchdog'),
    reloading: async () => {},
    stopping: async () => {},
    watchdogSeconds,
  }
  const identity = { version: '1', issuerUrl: 'https://issuer.example.com', loginMethod: 'aws' }
  const supervisor = new Supervisor({
    version: '1',
    clock: host.clock,
    log: host.log,
    metrics: host.metrics,
    serviceManager,
    enrolment: given ?? (async () => ({ kind: 'enrolled', host, identity })),
    onTurn: (status) => void turns.push(status),
  })
  const stop = new AbortController()
  const ended = supervisor.run(stop.signal)
  return {
    supervisor,
    /** To the service manager. */
    told,
    /** The status after each turn. */
    turns,
    stop: async () => {
      stop.abort(new Error('ended'))
      await host.clock.advance(10)
      await ended
    },
    /** Let time pass, with a tick each minute. */
    live: async (seconds: number) => {
      for (let left = seconds; left > 0; left -= 60) {
        await host.clock.advance(Math.min(60, left))
        supervisor.wake('tick')
      }
    },
  }
}

/** Let a daemon bring the host into order, and end it. */
export async function runOnce(host: FakeHost): Promise<void> {
  const daemon = supervise(host)
  await host.clock.advance(1)
  await daemon.stop()
  expect(daemon.supervisor.status?.certificates[0]?.state).toBe('valid')
}
