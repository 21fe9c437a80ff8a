import { AgentError, type ErrorCode } from '../cert/errors.ts'
import type { Clock, IssuerFailure } from '../renewal/ports.ts'

/** A grant takes effect after up to ten seconds. */
const GRANT_SECONDS = 15
const GRANT_PAUSE_SECONDS = 3
/**
 * For one question. Thousands of hosts behind one address share one limit of 200 requests a minute: 5,000 of them, with
 * three host keys each, need 100 minutes.
 */
export const LONGEST_WAIT_SECONDS = 4 * 3600
/** 5,000 requests at 200 a minute, and a little more. */
const FLEET_SECONDS = 26 * 60
const SHORTEST_SPREAD_SECONDS = 4 * 60
/** For one question, whatever else the issuer answers in between. */
const MOST_FAULTS = 3
const FAULT_PAUSE_SECONDS = 5

/** What an administrator may have permitted a moment ago. */
const GRANTED: readonly ErrorCode[] = ['ISSUER_FORBIDDEN', 'ISSUER_NOT_FOUND']
/** What may pass by itself. */
const FAULTS: readonly ErrorCode[] = ['ISSUER_BUSY', 'ISSUER_TIMEOUT', 'ISSUER_UNREACHABLE']

type Failed = { readonly kind: 'failed'; readonly failure: IssuerFailure }

/** Repeats a question while the issuer says "later", while a grant is new, and after a few faults. */
export class Patience {
  readonly #clock: Clock
  readonly #report: (text: string) => void

  constructor(clock: Clock, report: (text: string) => void) {
    this.#clock = clock
    this.#report = report
  }

  /**
   * Ask until there is an answer.
   *
   * @param ask asks once
   * @param whyIncomplete why the answer may be another one once a grant takes effect; null: it is final
   * @throws AgentError with the issuer's failure; the signal's reason
   */
  async ask<Answer extends { readonly kind: string }>(
    ask: (signal: AbortSignal) => Promise<Answer | Failed>,
    signal: AbortSignal,
    whyIncomplete: (answer: Exclude<Answer, Failed>) => string | null = () => null,
  ): Promise<Exclude<Answer, Failed>> {
    const since = this.#clock.uptime()
    let faults = 0
    for (;;) {
      const answer = await ask(signal)
      const waited = this.#clock.uptime() - since
      let why: string
      let pause: number | null
      if (isFailed(answer)) {
        const { failure } = answer
        if (isFault(failure)) faults += 1
        pause = this.#pauseAfter(failure, waited, faults)
        why = failure.message
        if (pause === null) throw new AgentError(failure.code, failure.message)
      } else {
        const final = answer as Exclude<Answer, Failed>
        const reason = whyIncomplete(final)
        pause = pauseForGrant(waited)
        if (reason === null || pause === null) return final
        why = reason
      }
      this.#report(`${why}; trying again in ${Math.ceil(pause)} s`)
      await this.#clock.sleep(pause * 1000, signal)
    }
  }

  /**
   * @param faults so far, this one included
   * @returns seconds; null: give up
   */
  #pauseAfter(
    { code, next, retryAfterSeconds }: IssuerFailure,
    waited: number,
    faults: number,
  ): number | null {
    if (next === 'administrator' && GRANTED.includes(code)) return pauseForGrant(waited)
    if (!FAULTS.includes(code)) return null
    const left = LONGEST_WAIT_SECONDS - waited
    if (retryAfterSeconds === null) {
      const pause = FAULT_PAUSE_SECONDS * 2 ** (faults - 1)
      return faults <= MOST_FAULTS && pause <= left ? pause : null
    }
    if (retryAfterSeconds > left) return null
    // How many others wait is not known, but it grows with the time that this host has waited: nobody is told the same
    // moment as all others, and nobody begins anew when most are through.
    const longest = Math.max(FLEET_SECONDS - waited, SHORTEST_SPREAD_SECONDS)
    const spread = this.#clock.dice() * Math.min(60 + waited, longest)
    return Math.min(retryAfterSeconds + spread, left)
  }
}

function isFault({ code, retryAfterSeconds }: IssuerFailure): boolean {
  return FAULTS.includes(code) && retryAfterSeconds === null
}

function isFailed(answer: { readonly kind: string }): answer is Failed {
  return answer.kind === 'failed'
}

/** @returns seconds; null: no grant takes that long */
function pauseForGrant(waited: number): number | null {
  return waited < GRANT_SECONDS ? GRANT_PAUSE_SECONDS : null
}
