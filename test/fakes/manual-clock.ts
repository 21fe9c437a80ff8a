import type { UnixSeconds } from '../../agent/cert/time.ts'
import type { Clock } from '../../agent/renewal/ports.ts'

interface Sleeper {
  readonly until: UnixSeconds
  readonly wake: () => void
}

/** A clock that stands still until a test moves it; sleepers wake in order on the way. Its dice always show 0. */
export class ManualClock implements Clock {
  #now: UnixSeconds
  #sleepers: Sleeper[] = []

  constructor(now: UnixSeconds) {
    this.#now = now
  }

  now(): UnixSeconds {
    return this.#now
  }

  uptime(): number {
    return this.#now
  }

  dice(): number {
    return 0
  }

  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const sleeper = { until: this.#now + milliseconds / 1000, wake: resolve }
    const onAbort = (): void => {
      this.#sleepers = this.#sleepers.filter(({ wake }) => wake !== resolve)
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    this.#sleepers.push(sleeper)
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** How many sleep. */
  get sleeping(): number {
    return this.#sleepers.length
  }

  /** Set the clock without anybody waking. */
  jump(to: UnixSeconds): void {
    this.#now = to
  }

  /** A suspend: it is later, and whoever sleeps has as long to sleep as before. */
  suspend(seconds: number): void {
    this.#now += seconds
    this.#sleepers = this.#sleepers.map(({ until, wake }) => ({ until: until + seconds, wake }))
  }

  /** Let time pass; everybody who wakes on the way does what it has to do before time goes on. */
  async advance(seconds: number): Promise<void> {
    const end = this.#now + seconds
    await settle()
    for (;;) {
      const [first] = this.#sleepers.toSorted((a, b) => a.until - b.until)
      if (first === undefined || first.until > end) break
      this.#sleepers = this.#sleepers.filter((other) => other !== first)
      this.#now = Math.max(this.#now, first.until)
      first.wake()
      await settle()
    }
    this.#now = end
    await settle()
  }
}

/** Everything that can go on without time passing has gone on: fakes need no more than this. */
export async function settle(): Promise<void> {
  for (let round = 0; round < 3; round++) await new Promise((resolve) => setImmediate(resolve))
}
