import { setTimeout as sleep } from 'node:timers/promises'

const PAUSE_MILLISECONDS = 100

/**
 * Look again and again until something is so.
 *
 * @param look returns what it saw; undefined, null and false mean "not yet", and so does an error
 * @param milliseconds how long to look; generous, for the machine may be slow
 * @throws with the last error, or what was seen last, when the time is over
 */
export async function eventually<Seen>(
  what: string,
  milliseconds: number,
  look: () => Promise<Seen | undefined | null | false>,
): Promise<Seen> {
  const end = performance.now() + milliseconds
  let last: unknown
  for (;;) {
    try {
      const seen = await look()
      if (seen !== undefined && seen !== null && seen !== false) return seen
      last = seen
    } catch (error) {
      last = error
    }
    if (performance.now() > end) throw new Error(`${what}: not within ${milliseconds} ms`, { cause: last })
    await sleep(PAUSE_MILLISECONDS)
  }
}
