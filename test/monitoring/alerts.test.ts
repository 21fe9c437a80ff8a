import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runsIf } from '../support/skip.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { DASHBOARD_QUERIES } from './dashboard.ts'
import { EXPECTED_ALERTS, Fleet } from './fleet.ts'
import { missing, Prometheus, promtool, type Sample } from './prometheus.ts'

const RULES = new URL('../../packaging/monitoring/hostcertd.rules.yml', import.meta.url)
/** The shortest-lived certificate of the fleet, three failures, and a slow machine. */
const LONGEST_WAIT_MILLISECONDS = 150_000
/** To bring ten hosts into their states, one after the other, and then to wait. */
const FLEET_MILLISECONDS = 420_000
/** Of HostcertdLoopStuck; fifteen minutes in earnest. */
const STUCK_AFTER_SECONDS = 20

const skipped = missing('prometheus') ?? missing('promtool')

/** Of the alerts on a daemon that cannot be scraped: longer than a busy machine takes to answer one scrape or some. */
const DOWN_SECONDS = 20

/** The rules without their `for:`, which promtool tests, but for a short one where it says that a daemon is down. */
async function impatientRules(): Promise<string> {
  const text = await readFile(RULES, 'utf8')
  const late = text.replace(
    'loop_last_turn_timestamp_seconds > 900',
    `loop_last_turn_timestamp_seconds > ${STUCK_AFTER_SECONDS}`,
  )
  expect(late).not.toBe(text)
  const stuck = late.replace(
    'loop_last_turn_timestamp_seconds[15m]',
    `loop_last_turn_timestamp_seconds[${STUCK_AFTER_SECONDS}s]`,
  )
  expect(stuck).not.toBe(late)
  // The daemons are seconds old.
  const young = stuck.replaceAll(/ and on \(job, instance\) hostcertd_user_ca_enabled offset \w+/g, '')
  expect(young).not.toBe(stuck)
  return young
    .split('- alert: ')
    .map((rule) =>
      rule.replace(/^( +for: ).+\n/m, rule.startsWith('HostcertdDown') ? `$1${DOWN_SECONDS}s\n` : ''),
    )
    .join('- alert: ')
}

function alertsOf(samples: readonly Sample[]): string[] {
  return samples.map(({ metric }) => `${metric['alertname']} ${metric['instance'] ?? '-'}`).toSorted()
}

describe('a real Prometheus and real daemons', runsIf(skipped === null, skipped ?? ''), () => {
  const stack = new AsyncDisposableStack()
  let prometheus: Prometheus
  let starting: Promise<void> | null = null
  let started: Fleet | null = null

  const startPrometheus = async (): Promise<void> => {
    const folder = stack.use(await makeTemporaryFolder()).path
    const rules = join(folder, 'rules.yml')
    await writeFile(rules, await impatientRules())
    prometheus = stack.use(new Prometheus(folder, rules))
    await prometheus.start()
  }

  /** When it fails, the next attempt finds a Prometheus that has seen nothing. */
  const startFleet = async (): Promise<void> => {
    try {
      started = stack.use(await Fleet.start(scrape))
    } catch (error) {
      starting = null
      await prometheus[Symbol.asyncDispose]()
      await startPrometheus()
      throw error
    }
  }

  const fleet = (): Fleet => {
    if (started === null) throw new Error('the fleet did not start')
    return started
  }

  beforeAll(startPrometheus)

  afterAll(async () => {
    await stack.disposeAsync()
  })

  /** Ask until the answer is right; then, and when time is up, the answer. */
  async function until<T>(ask: () => Promise<T>, isRight: (answer: T) => boolean): Promise<T> {
    const end = performance.now() + LONGEST_WAIT_MILLISECONDS
    for (;;) {
      const answer = await ask()
      if (isRight(answer) || performance.now() > end) return answer
      await sleep(500)
    }
  }

  /** Until the rules have seen it, too: they are evaluated as often as it is scraped. */
  const scrape = async (ports: ReadonlyMap<string, number>, instance: string): Promise<void> => {
    await prometheus.scrape(ports)
    const scrapes = async (): Promise<Sample[]> =>
      prometheus.query(`count_over_time(up{instance="${instance}"}[1m]) >= 3`)
    await until(scrapes, (samples) => samples.length > 0)
  }

  const firing = async (): Promise<string[]> =>
    alertsOf(await prometheus.query('ALERTS{alertstate="firing"}'))
  const everFired = async (): Promise<string[]> =>
    alertsOf(
      await prometheus.query(
        'count by (alertname, instance) (count_over_time(ALERTS{alertstate="firing",instance!=""}[1h]))',
      ),
    )

  test('while nothing is scraped, that is the alert', async () => {
    expect(await until(firing, (alerts) => alerts.length > 0)).toEqual(['HostcertdAbsent -'])
  })

  test(
    'each host raises the alerts of its state and no others, a host where all is well none',
    async () => {
      await (starting ??= startFleet())
      const isComplete = (alerts: string[]): boolean =>
        EXPECTED_ALERTS.every((alert) => alerts.includes(alert))
      expect(await until(everFired, isComplete)).toEqual(EXPECTED_ALERTS)
      expect(await firing()).not.toContain('HostcertdAbsent -')
    },
    FLEET_MILLISECONDS,
  )

  test('every scrape parses', async () => {
    const down = /^down down .*connection refused$/
    const scraped = async (): Promise<string[]> =>
      (await prometheus.targets())
        .map(({ labels, health, lastError }) => `${labels['instance']} ${health} ${lastError}`)
        .filter((line) => !down.test(line))
        .toSorted()
    const all = [...fleet().ports.keys()]
      .filter((name) => name !== 'down')
      .map((name) => `${name} up `)
      .toSorted()
    // On a busy machine one scrape may come too late.
    expect(await until(scraped, (lines) => isDeepStrictEqual(lines, all))).toEqual(all)
    expect(prometheus.log).toBe('')
  })

  test('promtool finds nothing to say about the metrics', async () => {
    for (const [name, port] of fleet().ports) {
      if (name === 'down') continue
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
      expect(await promtool(['check', 'metrics'], text), name).toEqual({ status: 0, output: '' })
    }
  })

  test.each(DASHBOARD_QUERIES)('the dashboard has something to show: $title', async ({ expression }) => {
    expect(await prometheus.query(expression)).not.toEqual([])
  })

  test.each(['Renewals', 'Reloads of sshd', 'Requests to the issuer'])(
    'the dashboard counts what happened once: %s',
    async (panel) => {
      const { expression = '' } = DASHBOARD_QUERIES.find(({ title }) => title === panel) ?? {}
      const values = (await prometheus.query(expression)).map(({ value }) => Number(value[1]))
      expect(values.length).toBeGreaterThan(0)
      expect(values.filter((value) => value === 0)).toEqual([])
    },
  )

  test('the dashboard counts hosts by CA as the recording rule does', async () => {
    const { expression = '' } = DASHBOARD_QUERIES.find(({ title }) => title === 'Hosts by CA') ?? {}
    const counts = async (query: string): Promise<string[]> =>
      (await prometheus.query(query))
        .map(({ metric, value }) => `${metric['ca_fingerprint']} ${value[1]}`)
        .toSorted()
    const ruled = 'sum by (ca_fingerprint) (hostcertd:hosts_by_ca:count)'
    const both = async () => [await counts(expression), await counts(ruled)] as const
    const [shown, recorded] = await until(both, ([one, other]) => isDeepStrictEqual(one, other))
    expect(shown).toEqual(recorded)
    expect(shown).not.toEqual([])
  })

  test('when all is mended no alert fires', async () => {
    await fleet().mend()
    expect(await until(firing, (alerts) => alerts.length === 0)).toEqual([])
  })
})
