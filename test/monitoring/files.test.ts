import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { PrometheusMetrics } from '../../agent/health/metrics.ts'
import { runsIf } from '../support/skip.ts'
import { DASHBOARD, DASHBOARD_QUERIES } from './dashboard.ts'
import { missing, promtool } from './prometheus.ts'

const FOLDER = new URL('../../packaging/monitoring/', import.meta.url)
const pathOf = (name: string): string => fileURLToPath(new URL(name, FOLDER))
const read = (name: string): string => readFileSync(pathOf(name), 'utf8')

const RULES_TESTS = ['hostcertd.rules.test.yml', 'hostcertd.rules.days.test.yml']

const needsPromtool = runsIf(missing('promtool') === null, missing('promtool') ?? '')

test('promtool accepts the rules', needsPromtool, async () => {
  const { status, output } = await promtool(['check', 'rules', '--lint-fatal', pathOf('hostcertd.rules.yml')])
  expect({ status, output }).toMatchObject({ status: 0, output: expect.stringContaining('SUCCESS') })
})

test.each(RULES_TESTS)(
  'each alert fires when it should and not otherwise: %s',
  needsPromtool,
  async (name) => {
    const { status, output } = await promtool(['test', 'rules', pathOf(name)])
    expect(status, output).toBe(0)
  },
)

test('every alert has a test of its own', () => {
  const alerts = [...read('hostcertd.rules.yml').matchAll(/- alert: (\w+)/g)].map(([, name]) => name)
  const tests = RULES_TESTS.map(read).join('')
  expect(alerts).toHaveLength(20)
  for (const alert of alerts) expect(tests).toMatch(new RegExp(`alertname(: |=")${alert}\\b`))
})

test('rules and dashboard ask for metrics that there are', async () => {
  const text = await new PrometheusMetrics({ version: '1', node: '26' }, async () => null).metricsText()
  const known = new Set([...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name))
  const asked = [read('hostcertd.rules.yml'), ...DASHBOARD_QUERIES.map(({ expression }) => expression)]
    .flatMap((part) => part.match(/\bhostcertd_\w+/g) ?? [])
    .map((name) => name.replace(/_bucket$/, ''))
  expect(asked.length).toBeGreaterThan(30)
  for (const name of asked) expect(known).toContain(name)
})

test('the dashboard is one that Grafana can lay out', () => {
  const { panels, schemaVersion, templating, title, uid } = DASHBOARD
  expect({ title, uid, schemaVersion }).toEqual({ title: 'hostcertd', uid: 'hostcertd', schemaVersion: 38 })
  expect(templating.list.map(({ name }) => name)).toEqual(['datasource', 'instance'])
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  const taken = new Set<string>()
  for (const {
    gridPos: { x, y, w, h },
    targets,
    title: panel,
  } of panels) {
    expect(x + w, panel).toBeLessThanOrEqual(24)
    for (let column = x; column < x + w; column++) {
      for (let row = y; row < y + h; row++) {
        expect(taken, panel).not.toContain(`${column} ${row}`)
        taken.add(`${column} ${row}`)
      }
    }
    expect(targets.length, panel).toBeGreaterThan(0)
    for (const { datasource } of targets) expect(datasource.uid).toBe('${datasource}')
  }
})

test('Icinga and Nagios give `hostcertd check` options that it has', () => {
  const icinga = read('icinga2-hostcertd.conf')
  expect(icinga).toContain('command = [ "/usr/bin/hostcertd", "check" ]')
  expect([...icinga.matchAll(/^    "(--\w+)" = \{/gm)].map(([, option]) => option)).toEqual([
    '--warning',
    '--critical',
    '--config',
  ])
  expect(read('nagios-hostcertd.cfg')).toMatch(
    /^  command_line +\/usr\/bin\/hostcertd check --warning \S+ --critical \S+$/m,
  )
})

test('the README lists every alert with its severity, and every file', () => {
  const readme = read('README.md')
  const alerts = [...read('hostcertd.rules.yml').matchAll(/- alert: (\w+)\n[^]*?severity: (\w+)/g)]
  const listed = [...readme.matchAll(/^\| (Hostcertd\w+) \| (\w+) \|/gm)]
  expect(listed.map((row) => row.slice(1).join(' ')).toSorted()).toEqual(
    alerts.map((rule) => rule.slice(1).join(' ')).toSorted(),
  )
  for (const name of readdirSync(FOLDER)) expect(readme).toContain(name === 'README.md' ? '#' : name)
})
