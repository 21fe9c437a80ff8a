import { untilReady } from '../support/looks.ts'
import type { World, WorldOptions } from '../support/world.ts'

/** What is measured on them are seconds. */
export const EACH_SECOND = { tick: '* * * * * *' }

/** One host of the fleet, in a state that alerts are about. */
export interface Member {
  /** Those that must fire, and no others. */
  readonly alerts: readonly string[]
  readonly options?: WorldOptions
  /** From nothing to that state. @returns what makes all well again */
  readonly bringAbout: (world: World, needs: Needs) => Promise<() => Promise<void>>
}

interface Needs {
  /** What has to be taken away with the fleet. */
  readonly stack: AsyncDisposableStack
  /** Have Prometheus scrape it now, and wait until it has; else that is done when the state is brought about. */
  readonly scraped: () => Promise<void>
}

/** A busy machine starts a daemon, and has its certificates issued, within this. */
const START_SECONDS = 60

export async function startWell(world: World): Promise<void> {
  await world.agent.start()
  await untilReady(world, START_SECONDS)
}

/** Where the daemon listens, or would. */
export function healthPortOf({ configWith }: World): number {
  const { health } = configWith({}) as { readonly health: { readonly listen: string } }
  return Number(/:(\d+)$/.exec(health.listen)?.[1])
}
