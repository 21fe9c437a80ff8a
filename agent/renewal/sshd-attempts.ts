import type { Failure } from '../cert/errors.ts'
import { backoffSeconds, type Wait } from './backoff.ts'
import type { SshdAnswer } from './ports.ts'
import type { Evidence, KeyIdentity, SshdRecord } from './record.ts'
import { errorAt, withoutErrors, type WorkingRecord } from './working-record.ts'

/** What a question showed of one host key: evidence, or why there is none. */
export type Finding = { readonly evidence: Evidence } | { readonly unknown: string }

/** The part of the attempt record that concerns sshd: what it was seen to present, copies and reloads. */
export class SshdAttempts {
  readonly #working: WorkingRecord

  constructor(working: WorkingRecord) {
    this.#working = working
  }

  /** sshd was asked. */
  answered(state: SshdAnswer['state']): void {
    const { record, now } = this.#working
    const before = record.sshd
    const since = before.state === state && before.since !== null && before.since <= now ? before.since : now
    this.#updateSshd({ state, since, askedAt: now })
  }

  /** What asking sshd showed of this key. What could not be found out leaves the evidence that there is. */
  found(key: KeyIdentity, finding: Finding): void {
    const { unknown } = this.#working.of(key)
    if ('evidence' in finding) {
      this.#working.update(key, { evidence: finding.evidence, unknown: null })
    } else {
      const since = unknown !== null && unknown.since <= this.#working.now ? unknown.since : this.#working.now
      this.#working.update(key, { unknown: { reason: finding.unknown, since } })
    }
  }

  /** A reload did not make sshd offer this key, or there is no way to reload: that is how sshd is configured. */
  settle(key: KeyIdentity): void {
    const { evidence } = this.#working.of(key)
    if (evidence?.kind === 'not-offered' || evidence?.kind === 'other-key')
      this.#working.update(key, { evidence: { ...evidence, isSettled: true } })
  }

  /** sshd serves this key's certificate. */
  served(key: KeyIdentity): void {
    const { lastError } = this.#working.of(key)
    const { reloadOwed, install } = this.#working.record
    if (lastError?.scope === 'sshd' && !reloadOwed && install === null)
      this.#working.update(key, { lastError: null })
  }

  /** The root helper could not copy what these keys have in place. */
  notInstalled(keys: readonly KeyIdentity[], failure: Failure, validitySecondsLeft: number | null): Wait {
    return this.#failed('install', 'sshd-trouble', keys, failure, validitySecondsLeft)
  }

  /** Every copy is what it should be. */
  copiesMatch(): void {
    const { install } = this.#working.record
    if (install === null) return
    this.#working.replace(
      withoutErrors({ ...this.#working.record, install: null }, 'sshd', (code) => code === install.code),
    )
  }

  /** The root helper reported where sshd listens, and what it left out. */
  helperReported(listen: readonly string[], notes: readonly string[] | null): void {
    const { sshd } = this.#working.record
    this.#updateSshd({ listen, notes: notes ?? sshd.notes, helperAt: this.#working.now })
  }

  /** What sshd serves is not what it should, or it could not be reloaded. Wants no new certificate. */
  notServed(keys: readonly KeyIdentity[], failure: Failure, validitySecondsLeft: number | null): Wait {
    const cause = failure.code === 'SSHD_NOT_SERVING' ? 'reload' : 'sshd-trouble'
    return this.#failed('reload', cause, keys, failure, validitySecondsLeft)
  }

  /** The helper reloads no more often than its limit: a wait, no failure, and the reload is still owed. */
  reloadPostponed(seconds: number): void {
    const failures = this.#working.record.reload?.failures ?? 0
    const wait: Wait = { code: 'SSHD_RELOAD_FAILED', failures, until: this.#working.now + seconds }
    this.#working.change({ reload: wait, reloadOwed: true })
  }

  /** sshd serves everything, as far as it shows. */
  allServed(): void {
    const { reloadOwed, reload } = this.#working.record
    if (!reloadOwed && reload !== null) this.#working.change({ reload: null })
  }

  /** Everything was seen to be served: whether sshd was reloaded for it does not matter any more. */
  nothingOwed(): void {
    if (this.#working.record.reloadOwed) this.#working.change({ reloadOwed: false })
  }

  /** sshd has to be reloaded, and what it presents will not show whether it was. */
  oweReload(): void {
    this.#working.change({ reloadOwed: true })
  }

  /** sshd was reloaded. What it still does not serve will be noted anew. */
  reloaded(): void {
    this.#working.replace(withoutErrors({ ...this.#working.record, reloadOwed: false }, 'sshd'))
  }

  #failed(
    what: 'install' | 'reload',
    cause: 'reload' | 'sshd-trouble',
    keys: readonly KeyIdentity[],
    failure: Failure,
    validitySecondsLeft: number | null,
  ): Wait {
    const at = this.#working.now
    const failures = (this.#working.record[what]?.failures ?? 0) + 1
    const until = at + backoffSeconds(cause, failures, validitySecondsLeft, this.#working.clock.dice())
    const wait: Wait = { code: failure.code, failures, until }
    this.#working.change({ [what]: wait })
    for (const key of keys) this.#working.update(key, { lastError: errorAt(failure, at, 'sshd') })
    return wait
  }

  #updateSshd(change: Partial<SshdRecord>): void {
    this.#working.change({ sshd: { ...this.#working.record.sshd, ...change } })
  }
}
