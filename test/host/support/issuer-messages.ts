import type { RawAnswer } from '../../support/local-issuer/error-rows.ts'
import type { FaultRoute } from '../../support/local-issuer/faults.ts'
import type { Permissions } from '../../support/local-issuer/registry.ts'
import type { PublishedKey } from '../../support/platform/jwks.ts'
import type { Machine } from '../../support/platform/metadata.ts'

/** What the process of the local issuer can be told: its methods, as far as they can be written as JSON. */
export type IssuerRequest =
  | { readonly do: 'add-host'; readonly hostname: string; readonly ttlSeconds: number }
  /** An access token of an administrator, who may do everything with all hosts. */
  | { readonly do: 'add-admin-token' }
  | { readonly do: 'add-identity'; readonly permissions?: Permissions }
  /** Answered by the access token of an identity of its own. */
  | { readonly do: 'add-token'; readonly permissions: Permissions }
  /** Forget a host. */
  | { readonly do: 'remove-host'; readonly hostId: string }
  /** Answered by {@link ProjectFacts}. */
  | { readonly do: 'project' }
  /** Replace the CA of hosts; answered by the new one's public key. */
  | { readonly do: 'rotate-host-ca' }
  | { readonly do: 'set-ttl'; readonly hostId: string; readonly seconds: number }
  | {
      readonly do: 'fail-always'
      readonly fault: RawAnswer | { readonly kind: 'hang' }
      readonly route?: FaultRoute
    }
  /** Answered by the names of all hosts, each with its id: {@link Registered}. */
  | { readonly do: 'hosts' }
  | { readonly do: 'heal' | 'stop' | 'start' }
  /** How many certificates it has signed. */
  | { readonly do: 'count' }
  /** How many requests have reached it, answered or not. */
  | { readonly do: 'count-requests' }
  /** Once; answered by {@link LoginFacts}. */
  | { readonly do: 'open-logins'; readonly identityId: string; readonly clientCa: string }
  | { readonly do: 'accept-logins'; readonly accepted: Accepted }
  | { readonly do: 'run-metadata'; readonly role: Pick<Machine, 'role' | 'keys' | 'region'> | null }
  /** Answered by {@link SeenLogins}. */
  | { readonly do: 'seen-logins' }

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

/** The project in which hosts are registered. */
export interface ProjectFacts {
  readonly id: string
  readonly slug: string
}

/** Ids by host name. */
export type Registered = Readonly<Record<string, string>>

/** Where the logins are, besides universal-auth, which is at the issuer itself. */
export interface LoginFacts {
  readonly url: string
  /** Behind a TLS proxy that asks for a client certificate. */
  readonly askingUrl: string
  /** PEM; of both. */
  readonly tlsCa: string
}

/** JWTs that are accepted: signed by one of these keys, with these claims. */
export interface Signed {
  readonly jwks: readonly PublishedKey[]
  readonly issuer: string
  readonly subject: string
  readonly audience: string
}

/** What the identity accepts, by method. */
export interface Accepted {
  readonly jwt?: Signed
  readonly kubernetes?: Signed
  readonly spiffe?: Signed
  readonly aws?: Machine['keys']
  readonly tlsCert?: { readonly commonName: string }
}

export interface SeenLogins {
  /** Oldest first. */
  readonly logins: readonly {
    readonly route: string
    readonly body: Readonly<Record<string, unknown>>
    readonly clientName: string | null
    /** Null: accepted. */
    readonly refusal: string | null
  }[]
  /** The access tokens given out. */
  readonly tokens: readonly string[]
}
