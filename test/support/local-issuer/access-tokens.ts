import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { Refusal } from './error-rows.ts'
import type { Identity } from './registry.ts'

interface Entry {
  readonly identity: Identity
  /** Milliseconds since the epoch; Infinity for a token without end. */
  expiresAt: number
}

/**
 * The access tokens that the issuer has given out: JWTs, as the real one's, signed with a key of this run. A token is
 * known by its id; what was deleted is unknown, not malformed.
 */
export class AccessTokens {
  readonly #key = randomBytes(32)
  readonly #entries = new Map<string, Entry>()
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  /** @param ttlSeconds 0: never expires */
  make(identity: Identity, ttlSeconds: number): string {
    const id = randomUUID()
    const expiresAt = ttlSeconds === 0 ? Infinity : this.#now() + ttlSeconds * 1000
    this.#entries.set(id, { identity, expiresAt })
    const content = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ identityAccessTokenId: id })}`
    return `${content}.${this.#sign(content)}`
  }

  /**
   * Whose token an `Authorization` header carries.
   *
   * @throws Refusal 403 malformed, forged or expired; 401 unknown
   */
  identify(authorization: string): Identity {
    const entry = this.#entries.get(this.#idIn(authorization.replace(/^Bearer /, '')))
    if (entry === undefined) throw new Refusal('token-unknown')
    if (this.#now() >= entry.expiresAt) throw new Refusal('token-expired')
    return entry.identity
  }

  /** Take a token out of the register. @throws Refusal when it was not in it */
  delete(token: string): void {
    if (!this.#entries.delete(this.#idIn(token))) throw new Refusal('token-unknown')
  }

  /** All tokens given out so far expire now. */
  expireAll(): void {
    for (const entry of this.#entries.values()) entry.expiresAt = -Infinity
  }

  /** All tokens given out so far become unknown. */
  deleteAll(): void {
    this.#entries.clear()
  }

  #idIn(token: string): string {
    const [header = '', payload = '', signature = '', ...more] = token.split('.')
    const id = more.length === 0 ? idOf(payload) : null
    if (id === null) throw new Refusal('token-malformed')
    if (this.#sign(`${header}.${payload}`) !== signature) throw new Refusal('token-signature')
    return id
  }

  #sign(content: string): string {
    return createHmac('sha256', this.#key).update(content).digest('base64url')
  }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function idOf(payload: string): string | null {
  try {
    const content: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'))
    if (typeof content !== 'object' || content === null || !('identityAccessTokenId' in content)) return null
    return String(content.identityAccessTokenId)
  } catch {
    return null
  }
}
