import type { RawAnswer } from '../../support/local-issuer/error-rows.ts'

/** What the process of the local issuer can be told: its methods, as far as they can be written as JSON. */
export type IssuerRequest =
  | { readonly do: 'add-host'; readonly hostname: string; readonly ttlSeconds: number }
  | { readonly do: 'add-identity' }
  | { readonly do: 'set-ttl'; readonly hostId: string; readonly seconds: number }
  | { readonly do: 'fail-always'; readonly fault: RawAnswer | { readonly kind: 'hang' } }
  | { readonly do: 'heal' | 'stop' | 'start' }
  /** How many certificates it has signed. */
  | { readonly do: 'count' }
  /** How many requests have reached it, answered or not. */
  | { readonly do: 'count-requests' }

export type IssuerAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly message: string }

/** The first answer, unasked. */
export interface IssuerFacts {
  readonly url: string
  readonly caPublicKey: string
  readonly caKeyPath: string
  readonly tlsCaFile: string
}
