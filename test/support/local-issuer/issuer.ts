import type { IncomingMessage, ServerResponse } from 'node:http'
import type { KeyType } from '../ssh-keygen.ts'
import { FaultPlan, type Fault, type FaultRoute } from './faults.ts'
import { makeCertificateAuthority, type IssuedCertificate } from './host-ca.ts'
import { Listener } from './listener.ts'
import { RateLimits, type Rates } from './rate-limits.ts'
import type { Identity, Permissions } from './registry.ts'
import { readBody, respond, routeOf } from './respond.ts'
import type { IssuerState } from './routes.ts'
import { send } from './send.ts'
import type { TlsCertificate } from './tls-certificate.ts'

export interface LocalIssuerOptions {
  /** An existing folder for its keys. */
  readonly folder: string
  /** Default false. */
  readonly https?: boolean
  /** Default `ed25519`. */
  readonly caType?: KeyType
  /** IPv4, of this machine or network namespace. Default `127.0.0.1`. */
  readonly address?: string
  /** Default: any that is free. */
  readonly port?: number
  /** The issuer's clock, milliseconds since the epoch: certificates, tokens, `Date`. Default `Date.now`. */
  readonly now?: () => number
  /** So many wrong secrets in a row lock an identity for 300 s; the real server's number is 3. Default: never. */
  readonly lockAfterFailures?: number
  /** Limits as on the cloud, `{}` for its numbers. Default: none. */
  readonly rateLimit?: Rates
}

/** One request, in the order of arrival. */
export interface RecordedRequest {
  readonly method: string
  /** With its query. */
  readonly path: string
  /** Milliseconds since the epoch, by the issuer's clock. */
  readonly at: number
  /** Whether the header was there. */
  readonly authorization: boolean
  /** Parsed, if it is JSON; else the text; null when too long or none. */
  readonly body: unknown
  /** Null until an answer went out, and for good when none did. */
  status: number | null
}

type IdentityWish = Partial<Pick<Identity, 'clientId' | 'clientSecret' | 'tokenTtlSeconds'>> & Permissions

/** What an issuer is made of; `startLocalIssuer` makes it. */
export interface IssuerParts {
  readonly state: IssuerState
  readonly tls: TlsCertificate | null
  readonly tlsCaFile: string | null
}

/**
 * An issuer that answers as the real one does, and goes wrong as told. Times are those of its own clock.
 * `await using` stops it.
 */
export class LocalIssuer implements AsyncDisposable {
  /** Every request since the first start. */
  readonly requests: RecordedRequest[] = []
  readonly #options: LocalIssuerOptions
  readonly #address: string
  readonly #parts: IssuerParts
  readonly #state: IssuerState
  readonly #faults = new FaultPlan()
  readonly #listener: Listener
  #limits: RateLimits | null
  #cas = 1

  /** @param parts see `startLocalIssuer`, which also calls {@link start} */
  constructor(options: LocalIssuerOptions, parts: IssuerParts) {
    this.#options = options
    this.#address = options.address ?? '127.0.0.1'
    this.#parts = parts
    this.#state = parts.state
    this.#listener = new Listener(this.#address, options.port ?? 0, parts.tls, (request, response) => {
      void this.#handle(request, response)
    })
    this.#limits = options.rateLimit === undefined ? null : new RateLimits(options.rateLimit)
  }

  /** No slash at the end. */
  get url(): string {
    return `${this.#parts.tls === null ? 'http' : 'https'}://${this.#address}:${this.port}`
  }

  get port(): number {
    return this.#listener.port
  }

  /** The CA that signs now, `TYPE BASE64 COMMENT`. */
  get caPublicKey(): string {
    return this.#state.hostCa.publicKey
  }

  /** The CA's private key, to sign with beside the issuer. */
  get caKeyPath(): string {
    return this.#state.hostCa.keyPath
  }

  /** What a client must trust, PEM. @throws when the issuer speaks plain http */
  get tlsCaFile(): string {
    const { tlsCaFile } = this.#parts
    if (tlsCaFile === null) throw new Error('this local issuer speaks http; start it with https: true')
    return tlsCaFile
  }

  get projectId(): string {
    return this.#state.registry.projectId
  }

  get projectSlug(): string {
    return this.#state.registry.projectSlug
  }

  /** `TYPE BASE64 COMMENT`. */
  get userCaPublicKey(): string {
    return this.#state.userCa.publicKey
  }

  /** Every certificate signed, in order. */
  get issued(): readonly IssuedCertificate[] {
    return this.#state.issued
  }

  /** Register a host. @returns its id, a UUID unless told otherwise */
  addHost(host: {
    readonly hostname: string
    readonly ttlSeconds: number
    readonly id?: string
    readonly alias?: string
  }): string {
    return this.#state.registry.addHost(host.hostname, host.ttlSeconds, host.id, host.alias).id
  }

  /** The lifetime of the certificates to come. */
  setTtl(hostId: string, seconds: number): void {
    this.#state.registry.host(hostId).ttlSeconds = seconds
  }

  /** The id of each host, by its name. */
  get hosts(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      [...this.#state.registry.hosts.values()].map(({ id, hostname }) => [hostname, id]),
    )
  }

  /** Delete a host: 404 from now on. */
  removeHost(hostId: string): void {
    this.#state.registry.hosts.delete(hostId)
  }

  /** Add a machine identity, by default with random credentials, tokens of 30 days, and leave to issue for all. */
  addIdentity(wish: IdentityWish = {}): { clientId: string; clientSecret: string } {
    const { clientId, clientSecret } = this.#state.registry.addIdentity(wish)
    return { clientId, clientSecret }
  }

  setClientSecret(clientId: string, clientSecret: string): void {
    this.#state.registry.identity(clientId).clientSecret = clientSecret
  }

  /** An access token without a login, as an administrator makes one, of an identity of its own. */
  addToken(wish: IdentityWish = {}): string {
    const identity = this.#state.registry.addIdentity(wish)
    return this.#state.tokens.make(identity, identity.tokenTtlSeconds)
  }

  /** Every token given out so far is expired: 403. */
  expireTokens(): void {
    this.#state.tokens.expireAll()
  }

  /** Every token given out so far is unknown: 401. */
  revokeTokens(): void {
    this.#state.tokens.deleteAll()
  }

  /** Replace the CA. What is being signed keeps the old one. */
  async rotateCa(type: KeyType = this.#options.caType ?? 'ed25519'): Promise<void> {
    this.#cas += 1
    const name = `host-ca-${this.#cas}`
    this.#state.hostCa = await makeCertificateAuthority(this.#options.folder, name, type)
  }

  /** Sign keys of this type too, as a later version of the server might. */
  signType(type: string): void {
    this.#state.signedTypes.add(type)
  }

  /** Limit the rate of requests from now on; null: no more. */
  limitRate(rates: Rates | null): void {
    this.#limits = rates === null ? null : new RateLimits(rates)
  }

  /** Let the next requests, of one route or any, go wrong. Several calls queue up. */
  failNext(fault: Fault, times = 1, route: FaultRoute | null = null): void {
    this.#faults.add(fault, times, route)
  }

  /** Let requests go wrong until {@link heal}; what `failNext` was told comes first. */
  failAlways(fault: Fault, route: FaultRoute | null = null): void {
    this.#faults.add(fault, Infinity, route)
  }

  /** Forget all faults to come. */
  heal(): void {
    this.#faults.clear()
  }

  /** Listen, again on the same port after {@link stop}. @throws when the port is taken */
  async start(): Promise<void> {
    await this.#listener.open()
  }

  /** Close the port and every connection at once. Hosts, tokens and faults stay. May be called twice. */
  async stop(): Promise<void> {
    await this.#listener.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    try {
      const { method = '', url = '/', headers } = request
      const { now } = this.#state
      const at = now()
      const body = await readBody(request)
      const path = url.replace(/\?.*$/, '')
      const authorization = headers.authorization
      const record = {
        method,
        path: url,
        at,
        authorization: authorization !== undefined,
        body: readable(body),
      }
      const recorded: RecordedRequest = { ...record, status: null }
      this.requests.push(recorded)
      response.once('finish', () => (recorded.status = response.statusCode))
      const address = request.socket.remoteAddress ?? ''
      const received = { method, path, authorization, address, body }
      const answer = () => respond(this.#state, this.#limits, received)
      const fault = this.#faults.take(routeOf(method, path)?.name ?? null)
      await send({ response, now, answer, signal: gone.signal }, fault)
    } catch (error) {
      // A client that went away is what many tests are about; anything else is a mistake in a test.
      if (!gone.signal.aborted && !request.destroyed) throw error
    }
  }
}

function readable(body: string | null): unknown {
  if (body === null || body === '') return null
  try {
    return JSON.parse(body)
  } catch {
    return body
  }
}
