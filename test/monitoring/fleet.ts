import { makeWorld } from '../support/world.ts'
import { EACH_SECOND, healthPortOf } from './member.ts'
import { MEMBERS } from './members.ts'

/** What must have fired, `ALERT HOST` each, sorted. */
export const EXPECTED_ALERTS = Object.entries(MEMBERS)
  .flatMap(([name, { alerts }]) => alerts.map((alert) => `${alert} ${name}`))
  .toSorted()

type Scrape = (ports: ReadonlyMap<string, number>, instance: string) => Promise<void>

/** Hosts in all kinds of trouble, and one without. `await using` takes all of it away. */
export class Fleet implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack()
  readonly #mend: (() => Promise<void>)[] = []
  /** Where the health server of each listens. */
  readonly ports = new Map<string, number>()

  /**
   * All of it, or nothing is left.
   *
   * @param scrape is to make Prometheus scrape these ports, and to wait until it has scraped this instance
   */
  static async start(scrape: Scrape): Promise<Fleet> {
    const fleet = new Fleet()
    try {
      await fleet.#start(scrape)
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  async #start(scrape: Scrape): Promise<void> {
    for (const [name, { bringAbout, options = {} }] of Object.entries(MEMBERS)) {
      const config = { renewal: EACH_SECOND, ...options.config }
      const world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] }, ...options, config })
      this.#stack.use(world)
      const scraped = async (): Promise<void> => {
        this.ports.set(name, healthPortOf(world))
        await scrape(this.ports, name)
      }
      this.#mend.push(await bringAbout(world, { stack: this.#stack, scraped }))
      if (!this.ports.has(name)) await scraped()
    }
  }

  /** Mend all that is wrong. */
  async mend(): Promise<void> {
    for (const mend of this.#mend) await mend()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}
