import type { RawAnswer } from './error-rows.ts'

/** What a fault may be limited to: the names of the agent's metrics, and the routes that enrolling needs. */
export type FaultRoute =
  | 'login'
  | 'issue'
  | 'host-ca'
  | 'user-ca'
  | 'host'
  | 'register'
  | 'delete'
  /** By the two paths that servers of different age have. */
  | 'workspaces'
  | 'projects'
  | 'project-hosts'
  | 'workspace-hosts'

/**
 * What goes wrong with one request. Those marked "done" are carried out first: the issuer has signed, and the answer
 * is lost.
 */
export type Fault =
  /** This answer instead. */
  | (RawAnswer & { readonly kind?: undefined })
  /** No answer at all, as with the issuer's cache down; with `done` after the work. */
  | { readonly kind: 'hang'; readonly done?: boolean }
  /** The connection is destroyed; with `done` after the work. */
  | { readonly kind: 'reset'; readonly done?: boolean }
  /** Done; half of the answer's body, then the connection is destroyed. */
  | { readonly kind: 'half-body' }
  /** The answer comes later. */
  | { readonly kind: 'slow'; readonly milliseconds: number }
  /** A page for people, as from a proxy; default status 502. */
  | { readonly kind: 'html'; readonly status?: number }
  /** Default status 302. */
  | { readonly kind: 'redirect'; readonly location: string; readonly status?: number }
  /** 200 and a body without end. */
  | { readonly kind: 'huge' }
  /** Done; another `signedKey` in the answer. */
  | { readonly kind: 'tamper'; readonly edit: (signedKey: string) => string | Promise<string> }
  /** Done; the `Date` header is so many seconds ahead (behind, if negative). */
  | { readonly kind: 'skew'; readonly seconds: number }
  /** Done; this text as the `Date` header, or none at all. */
  | { readonly kind: 'date'; readonly value: string | null }
  /** Nothing is looked at or signed before the promise settles. */
  | { readonly kind: 'pause'; readonly until: Promise<unknown> }

interface Planned {
  readonly fault: Fault
  readonly route: FaultRoute | null
  left: number
}

/** The faults to come: those for a number of requests first, in order, then those for all times. */
export class FaultPlan {
  #counted: Planned[] = []
  #lasting: Planned[] = []

  /** @param times how many requests it befalls; `Infinity`: until {@link clear}, or another for the same route */
  add(fault: Fault, times: number, route: FaultRoute | null): void {
    const planned = { fault, route, left: times }
    if (times === Infinity) this.#lasting = [...this.#lasting.filter((old) => old.route !== route), planned]
    else if (times > 0) this.#counted.push(planned)
  }

  clear(): void {
    this.#counted = []
    this.#lasting = []
  }

  /** The fault for a request, used up by it; null when all is well. */
  take(route: FaultRoute | null): Fault | null {
    const fits = (entry: Planned) => entry.route === null || entry.route === route
    const planned = this.#counted.find(fits)
    if (planned === undefined) return this.#lasting.find(fits)?.fault ?? null
    planned.left -= 1
    if (planned.left <= 0) this.#counted = this.#counted.filter((entry) => entry !== planned)
    return planned.fault
  }
}
