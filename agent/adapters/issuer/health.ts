import type { UnixSeconds } from '../../core/time.ts'
import type { IssuerHealth } from '../../renewal/ports.ts'
import { parseHttpDate } from './retry-after.ts'

/** When an exchange began and ended, by our clock. */
export interface ExchangeTimes {
  readonly began: UnixSeconds
  readonly ended: UnixSeconds
}

/** What the exchanges so far say about the issuer. */
export class HealthRecord {
  #health: IssuerHealth = { reachable: null, lastSuccess: null, clockSkewSeconds: null }

  get current(): IssuerHealth {
    return this.#health
  }

  /** No HTTP answer, or only part of one. */
  unreached(): void {
    this.#health = { ...this.#health, reachable: false }
  }

  /**
   * An HTTP answer of any status.
   *
   * @param date its `Date` header; null when it has none, or when a cache gave it
   */
  answered(status: number, date: string | null, times: ExchangeTimes): void {
    const { lastSuccess, clockSkewSeconds } = this.#health
    this.#health = {
      reachable: true,
      lastSuccess: status === 200 ? times.ended : lastSuccess,
      clockSkewSeconds: skewOf(date, times) ?? clockSkewSeconds,
    }
  }
}

/** `Date` is cut to the second, so what is left of the difference is rounded up; `+ 0` turns -0 into 0. */
function skewOf(date: string | null, { began, ended }: ExchangeTimes): number | null {
  const theirs = parseHttpDate(date ?? '')
  return theirs === null ? null : Math.ceil(theirs - (began + ended) / 2) + 0
}
