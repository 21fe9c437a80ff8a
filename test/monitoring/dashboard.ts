import { readFileSync } from 'node:fs'

export interface Panel {
  readonly id: number
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets: readonly { readonly expr: string; readonly datasource: { readonly uid: string } }[]
}

export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly schemaVersion: number
  readonly panels: readonly Panel[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] }
}

const PATH = new URL('../../packaging/monitoring/hostcertd.grafana.json', import.meta.url)

export const DASHBOARD = JSON.parse(readFileSync(PATH, 'utf8')) as Dashboard

/** What Grafana puts in the place of its variables; a range is at least four scrapes. */
const VARIABLES: Readonly<Record<string, string>> = { instance: '.*', __rate_interval: '1h' }

/** Every query, as Prometheus gets it from Grafana when all hosts are chosen. */
export const DASHBOARD_QUERIES = DASHBOARD.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr }) => ({ title, expression: substitute(expr) })),
)

function substitute(expression: string): string {
  return expression.replaceAll(/\$(\w+)/g, (_, name: string) => {
    const value = VARIABLES[name]
    if (value === undefined) throw new Error(`an unknown variable in a dashboard query: $${name}`)
    return value
  })
}
