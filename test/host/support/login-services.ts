import type { LocalIssuer } from '../../support/local-issuer.ts'
import { issueTlsCertificate } from '../../support/local-issuer/tls-certificate.ts'
import { awsLogin } from '../../support/platform/aws.ts'
import {
  jwtLogin,
  type JwtRules,
  kubernetesLogin,
  spiffeLogin,
  tlsCertLogin,
} from '../../support/platform/login-methods.ts'
import { startLoginServer, type Verify } from '../../support/platform/login-server.ts'
import { type Machine, type MetadataServer, startMetadataServer } from '../../support/platform/metadata.ts'
import type { Accepted, LoginFacts, SeenLogins, Signed } from './issuer-messages.ts'

/** Where every cloud has its metadata service. */
const METADATA = { address: '169.254.169.254', port: 80 }

/** What the other platforms have. */
const NOTHING_ELSE = { hasRoleKeys: true, jwt: null, identities: [], fault: null }

/** The logins of one identity in front of the local issuer, and a metadata service beside it. */
export class LoginServices {
  readonly #methods: Record<string, Verify> = {}
  readonly #seen: SeenLogins['logins'][number][] = []
  readonly #tokens: (() => readonly string[])[] = []
  #metadata: MetadataServer | null = null

  /**
   * Serve the logins twice, with one TLS certificate: as the issuer, and behind a proxy that asks for a client
   * certificate. Nothing is accepted yet.
   *
   * @param clientCa PEM; the proxy verifies client certificates by it
   */
  async open(
    issuer: LocalIssuer,
    address: string,
    identityId: string,
    clientCa: string,
  ): Promise<LoginFacts> {
    const own = issueTlsCertificate({ name: 'hostcertd login server', address })
    const common = { issuer, address, identityId, methods: this.#methods }
    const plain = await startLoginServer({ ...common, tls: { ...own, asks: false } })
    const asking = await startLoginServer({ ...common, tls: { ...own, asks: true, clientCa } })
    this.#tokens.push(
      () => plain.tokens,
      () => asking.tokens,
    )
    return { url: plain.url, askingUrl: asking.url, tlsCa: own.certificate }
  }

  /** What the identity accepts from now on; a method that is not named is none of its methods. */
  accept({ jwt, kubernetes, spiffe, aws, tlsCert }: Accepted): void {
    for (const route of Object.keys(this.#methods)) delete this.#methods[route]
    if (jwt !== undefined) this.#serve('jwt-auth', jwtLogin(rulesOf(jwt)))
    if (kubernetes !== undefined) {
      this.#serve('kubernetes-auth', kubernetesLogin(rulesOf(kubernetes), { fails: false }))
    }
    if (spiffe !== undefined) this.#serve('spiffe-auth', spiffeLogin(rulesOf(spiffe)))
    if (aws !== undefined)
      this.#serve(
        'aws-auth',
        awsLogin(() => [aws], { allowed: true }),
      )
    if (tlsCert !== undefined)
      this.#serve(
        'tls-cert-auth',
        tlsCertLogin(() => tlsCert.commonName),
      )
  }

  /** The metadata service of an AWS instance with this role; null: there is none. */
  async runMetadata(role: Pick<Machine, 'role' | 'keys' | 'region'> | null): Promise<void> {
    await this.#metadata?.[Symbol.asyncDispose]()
    this.#metadata = null
    if (role !== null) this.#metadata = await startMetadataServer({ ...role, ...NOTHING_ELSE }, METADATA)
  }

  seen(): SeenLogins {
    return { logins: this.#seen, tokens: this.#tokens.flatMap((tokens) => tokens()) }
  }

  #serve(route: string, verify: Verify): void {
    this.#methods[route] = (login) => {
      const seen = { route, body: login.body, clientName: login.clientName }
      try {
        verify(login)
        this.#seen.push({ ...seen, refusal: null })
      } catch (error) {
        this.#seen.push({ ...seen, refusal: String(error) })
        throw error
      }
    }
  }
}

function rulesOf({ jwks, ...rules }: Signed): JwtRules {
  return { ...rules, keys: () => jwks }
}
