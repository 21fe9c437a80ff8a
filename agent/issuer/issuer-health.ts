import type { UnixSeconds } from '../cert/time.ts'
import type { Clock, IssuerHealth } from '../renewal/ports.ts'
import { parseHttpDate } from './answer.ts'

/** When an exchange began and ended, by our clock. */
interface ExchangeTimes {
  readonly began: UnixSeconds
  readonly ended: UnixSeconds
}

/**
 * How long a comparison of the clocks counts. Longer than any wait between two attempts, so a skew shows for as long as
 * renewals fail by it; but the next exchange may be months away, and by then either clock may have been corrected. The
 * issuer is not asked just to compare again: if its own clock is wrong, a whole fleet would ask.
 */
const SKEW_COUNTS_SECONDS = 6 * 3600

/** A clock that is slewed is not one that was set: so much in six hours is the most that NTP does. */
const SET_SECONDS = 12

/** What the requests so far show about the issuer. */
export class HealthRecord {
  readonly #clock: Pick<Clock, 'now' | 'uptime'>
  #reachable: boolean | null = null
  #lastSuccess: UnixSeconds | null = null
  #skew: { readonly seconds: number; readonly at: UnixSeconds; readonly uptime: number } | null = null

  constructor(clock: Pick<Clock, 'now' | 'uptime'>) {
    this.#clock = clock
  }

  get current(): IssuerHealth {
    return {
      reachable: this.#reachable,
      lastSuccess: this.#lastSuccess,
      clockSkewSeconds: this.#skew !== null && this.#counts(this.#skew) ? this.#skew.seconds : null,
    }
  }

  /** No HTTP answer, or only part of one. */
  unreached(): void {
    this.#reachable = false
  }

  /**
   * An HTTP answer of any status.
   *
   * @param date its `Date` header; null when it has none, or when a cache gave it
   */
  answered(status: number, date: string | null, times: ExchangeTimes): void {
    this.#reachable = true
    if (status === 200) this.#lastSuccess = times.ended
    const seconds = skewOf(date, times)
    if (seconds !== null) this.#skew = { seconds, at: times.ended, uptime: this.#clock.uptime() }
  }

  /** What a process of its own found out in its exchanges; null of what it did not. */
  learn({ reachable, lastSuccess, clockSkewSeconds }: IssuerHealth): void {
    this.#reachable = reachable ?? this.#reachable
    this.#lastSuccess = lastSuccess ?? this.#lastSuccess
    if (clockSkewSeconds === null) return
    this.#skew = { seconds: clockSkewSeconds, at: this.#clock.now(), uptime: this.#clock.uptime() }
  }

  /** Not when our clock was set since, forward or back: whether the two still differ is unknown then. */
  #counts({ at, uptime }: { readonly at: UnixSeconds; readonly uptime: number }): boolean {
    const age = this.#clock.now() - at
    const wasSet = Math.abs(age - (this.#clock.uptime() - uptime)) > SET_SECONDS
    return !wasSet && age <= SKEW_COUNTS_SECONDS
  }
}

/** `Date` is cut to the second, so what is left of the difference is rounded up; `+ 0` turns -0 into 0. */
function skewOf(date: string | null, { began, ended }: ExchangeTimes): number | null {
  const theirs = parseHttpDate(date ?? '')
  return theirs === null ? null : Math.ceil(theirs - (began + ended) / 2) + 0
}
