/**
 * `npm run bench -- PACKAGE.deb…`: how long the daemon of each package takes to be ready, and what it holds in memory: idle,
 * after the first issue over TLS, and after 600 health requests. On the installed layout, with the flags and variables of
 * its unit. Figures of one run are compared with each other only: machines are noisy.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeWorld } from '../support/world.ts'

const ROUNDS = 5
const HEALTH_REQUESTS = 600
/** For memory to settle. */
const PAUSE_MILLISECONDS = 2_000

interface Layout {
  readonly name: string
  readonly launch: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

type Figures = Readonly<Record<string, number>>

/** Unpack a package, and read from its unit how it starts. */
async function unpack(deb: string, root: string): Promise<Layout> {
  execFileSync('dpkg-deb', ['--extract', deb, root])
  const unit = await readFile(join(root, 'usr/lib/systemd/system/hostcertd.service'), 'utf8')
  const [, start = ''] = /^ExecStart=(.*) run$/m.exec(unit) ?? []
  // There is no systemd to start an exchange behind a socket: here it is a child.
  const settings = [...unit.matchAll(/^Environment=(.*)$/gm)]
    .flatMap(([, line = '']) => line.split(' '))
    .filter((setting) => !setting.startsWith('HOSTCERTD_EXCHANGE_SOCKET='))
  const inRoot = (text: string): string => text.replace('/usr/lib/hostcertd', join(root, 'usr/lib/hostcertd'))
  return {
    name: deb,
    launch: start.split(' ').map(inRoot),
    environment: Object.fromEntries(settings.map((setting) => inRoot(setting).split(/=(.*)/s).slice(0, 2))),
  }
}

async function memoryOf(pid: number): Promise<{ resident: number; anonymous: number }> {
  await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS))
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)?.[1]) / 1024
  return { resident: of('Rss'), anonymous: of('Anonymous') }
}

async function measure({ launch, environment }: Layout): Promise<Figures> {
  await using world = await makeWorld({
    launch,
    environment,
    issuer: { https: true },
    config: { log: { level: 'info' } },
  })
  const { agent, issuer } = world
  const roots = join(world.folder, 'roots.pem')
  await writeFile(roots, await readFile(issuer.tlsCaFile))
  await agent.configure(world.configWith({ issuer: { ca_file: roots }, log: { level: 'info' } }))
  const since = performance.now()
  await agent.launch()
  await agent.waitForLog('the health server listens')
  const ready = performance.now() - since
  await agent.waitFor('all are served', async () => (await agent.health('/readyz')).status === 200)
  const issued = await memoryOf(agent.pid)
  for (let request = 0; request < HEALTH_REQUESTS; request++) await agent.health('/status')
  const asked = await memoryOf(agent.pid)
  return {
    'ready, ms': ready,
    'issued: resident, MiB': issued.resident,
    'anonymous, MiB': issued.anonymous,
    '600 requests: resident, MiB': asked.resident,
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

const packages = process.argv.slice(2)
if (packages.length === 0)
  throw new Error('usage: npm run bench -- PACKAGE.deb…; `npm run package` makes one')
const folder = await mkdtemp(join(tmpdir(), 'hostcertd-bench-'))
try {
  const layouts: Layout[] = []
  for (const [index, deb] of packages.entries()) layouts.push(await unpack(deb, join(folder, String(index))))
  const figures = new Map<string, Figures[]>(packages.map((name) => [name, []]))
  // In turn, so that a slow minute of the machine hits all of them; the first round only warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const layout of layouts) {
      const measured = await measure(layout)
      if (round > 0) figures.get(layout.name)?.push(measured)
    }
  }
  const rows = [...figures].map(([name, all]) => {
    const keys = Object.keys(all[0] ?? {})
    return [
      name,
      Object.fromEntries(keys.map((key) => [key, median(all.map((one) => one[key] ?? NaN))])),
    ] as const
  })
  const [, base = {}] = rows[0] ?? []
  for (const [name, row] of rows) {
    console.log(name)
    for (const [key, value] of Object.entries(row))
      console.log(`  ${key}: ${value.toFixed(1)} (${(value / (base[key] ?? NaN)).toFixed(2)})`)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
