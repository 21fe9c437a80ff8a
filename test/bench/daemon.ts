/**
 * `npm run bench`: how long the daemon takes to be ready and what it holds in memory after the first issue, in several
 * settings side by side. Figures of one run are compared with each other only: machines are noisy.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeWorld } from '../support/world.ts'

const ROUNDS = 5

interface Figures {
  readonly readyMilliseconds: number
  readonly residentMebibytes: number
}

async function measure(environment: Readonly<Record<string, string>>): Promise<Figures> {
  await using world = await makeWorld({ environment, config: { log: { level: 'info' } } })
  const since = performance.now()
  await world.agent.launch()
  await world.agent.waitForLog('the health server listens')
  const readyMilliseconds = performance.now() - since
  await world.agent.waitFor(
    'all are served',
    async () => (await world.agent.health('/readyz')).status === 200,
  )
  const status = await readFile(`/proc/${world.agent.pid}/status`, 'utf8')
  const kibibytes = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1])
  return { readyMilliseconds, residentMebibytes: kibibytes / 1024 }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

const cache = await mkdtemp(join(tmpdir(), 'hostcertd-bench-'))
try {
  const allocator = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536' }
  const settings: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    plain: {},
    'compile cache': { NODE_COMPILE_CACHE: cache },
    'compile cache, allocator': { NODE_COMPILE_CACHE: cache, ...allocator },
  }
  const figures = new Map<string, Figures[]>(Object.keys(settings).map((name) => [name, []]))
  // In turn, so that a slow minute of the machine hits all of them; the first round only fills the caches.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, environment] of Object.entries(settings)) {
      const measured = await measure(environment)
      if (round > 0) figures.get(name)?.push(measured)
    }
  }
  const rows = [...figures].map(([setting, all]) => ({
    setting,
    ready: median(all.map(({ readyMilliseconds }) => readyMilliseconds)),
    resident: median(all.map(({ residentMebibytes }) => residentMebibytes)),
  }))
  const [base] = rows
  console.table(
    rows.map(({ setting, ready, resident }) => ({
      setting,
      'ready, ms': Math.round(ready),
      'to plain': (ready / (base?.ready ?? 1)).toFixed(2),
      'resident, MiB': resident.toFixed(1),
      'to plain ': (resident / (base?.resident ?? 1)).toFixed(2),
    })),
  )
} finally {
  await rm(cache, { recursive: true, force: true })
}
