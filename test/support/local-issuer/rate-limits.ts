/** How many requests a minute the cloud allows for each route and client address. */
export interface Rates {
  /** POST and DELETE. Default 200. */
  readonly writes?: number
  /** Routes without login. Default 30. */
  readonly publicReads?: number
  /** Default 60. */
  readonly windowSeconds?: number
}

/** How often one may read with a token is not known: no limit was met. */
export type RateKind = 'write' | 'public-read' | 'read'

export interface RateAnswer {
  readonly headers: Readonly<Record<string, string>>
  /** Null when the request may pass. */
  readonly retryAfterSeconds: number | null
}

interface Bucket {
  used: number
  readonly endsAt: number
}

/** Counts requests in windows that begin with the first request. */
export class RateLimits {
  readonly #rates: Rates
  readonly #buckets = new Map<string, Bucket>()

  constructor(rates: Rates) {
    this.#rates = rates
  }

  /**
   * Count a request.
   *
   * @param now milliseconds since the epoch
   */
  count(route: string, kind: RateKind, address: string, now: number): RateAnswer {
    if (kind === 'read') return { headers: {}, retryAfterSeconds: null }
    const limit = kind === 'write' ? (this.#rates.writes ?? 200) : (this.#rates.publicReads ?? 30)
    const bucket = this.#bucket(`${route} ${address}`, now)
    bucket.used += 1
    const secondsLeft = Math.ceil((bucket.endsAt - now) / 1000)
    const headers = {
      'x-ratelimit-limit': String(limit),
      'x-ratelimit-remaining': String(Math.max(limit - bucket.used, 0)),
      'x-ratelimit-reset': String(secondsLeft),
    }
    if (bucket.used <= limit) return { headers, retryAfterSeconds: null }
    return { headers: { ...headers, 'retry-after': String(secondsLeft) }, retryAfterSeconds: secondsLeft }
  }

  #bucket(key: string, now: number): Bucket {
    const found = this.#buckets.get(key)
    if (found !== undefined && now < found.endsAt) return found
    const bucket = { used: 0, endsAt: now + (this.#rates.windowSeconds ?? 60) * 1000 }
    this.#buckets.set(key, bucket)
    return bucket
  }
}
