import { expect, test } from 'vitest'
import { PrometheusMetrics } from '../../agent/adapters/metrics.ts'
import { servedEndsIn } from '../../agent/cli/served-ends.ts'
import { shownCertificate, shownStatus } from '../browser/states.ts'

test('back from the metrics of a daemon, whatever the host keys are called', async () => {
  const ends = new Map([
    ['plain', 1_795_444_985],
    ['a "b" \\ c\nd}', Infinity],
    ['n\\n', 2 ** 63],
  ])
  const served = { serial: '1', matches: false, checked_at: '2026-11-23T13:05:00Z' }
  const keys = [...ends.keys(), 'unknown'].map((host_key) =>
    shownCertificate('rsa', { host_key, state: 'unconfirmed', served }),
  )
  const metrics = new PrometheusMetrics({ version: '1', node: '26' })
  metrics.status(shownStatus(keys), ends)
  expect(servedEndsIn(await metrics.metricsText())).toEqual(ends)
})

test.each([null, '', 'hostcertd_build_info{version="1",node="26"} 1\n'])('nothing in %j', (text) => {
  expect(servedEndsIn(text).size).toBe(0)
})
