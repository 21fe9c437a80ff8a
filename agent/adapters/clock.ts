import { setTimeout as wait } from 'node:timers/promises'
import type { Clock } from '../renewal/ports.ts'

/** The machine's clock, timers and dice. */
export const systemClock: Clock = {
  now: () => Date.now() / 1000,
  dice: () => Math.random(),
  sleep: async (milliseconds, signal) => {
    try {
      await wait(milliseconds, undefined, { signal })
    } catch (error) {
      // Node rejects with an AbortError of its own, which hides why.
      throw signal.aborted ? signal.reason : error
    }
  },
}
