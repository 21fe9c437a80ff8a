import { setTimeout as sleep, setTimeout as wait } from 'node:timers/promises'
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

/** Call it before each thing that must not happen too often; it waits while there were too many. */
export type Pace = (signal: AbortSignal) => Promise<void>

/**
 * Allow so many calls within so many milliseconds; further ones wait until the oldest is that long ago.
 *
 * @returns what throws the signal's reason when that fires
 */
export function createPace(calls: number, milliseconds: number): Pace {
  let recent: number[] = []
  return async (signal) => {
    for (;;) {
      signal.throwIfAborted()
      const now = performance.now()
      recent = recent.filter((at) => now - at < milliseconds)
      if (recent.length < calls) {
        recent.push(now)
        return
      }
      const [oldest = now] = recent
      // An abort ends the wait; the loop then throws its reason.
      await sleep(oldest + milliseconds - now, undefined, { signal }).catch(() => undefined)
    }
  }
}
