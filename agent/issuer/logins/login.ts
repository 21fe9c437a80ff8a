import { AgentError, messageOf } from '../../cert/errors.ts'
import { oneLine } from '../../cert/text.ts'
import type { UnixSeconds } from '../../cert/time.ts'
import type { CredentialSource, Login } from '../../config/config.ts'
import type { Clock, IssuerFailure, Log, Metrics } from '../../renewal/ports.ts'
import { type Answer, parseObject } from '../answer.ts'
import { LONGEST_PROOF_MILLISECONDS } from '../exchange-protocol.ts'
import { invalidAnswer, localFailure, loginFailure, type LoginWords } from '../failures.ts'
import type { HttpExchange, MutualTls } from '../http-exchange.ts'
import { untilAborted } from '../http.ts'
import type { Secrets } from '../secrets.ts'
import { isToken, readCredential, type ReadCredentialFile } from './credential-file.ts'

/** What proves to the issuer, now, which identity this host is. */
export interface Proof {
  /** Of the login request, without `organizationSlug`. */
  readonly body: object
  /** Who it says that this is, for people, in parts: `subject system:serviceaccount:ssh:web1`. No secret. */
  readonly claims: readonly string[]
  /** Where to send it instead of `issuer.url`, and the certificate that TLS shows there. */
  readonly mutualTls?: MutualTls
}

/** A login of the server's: one for each `auth.method`, but for `token`, in a file of its own. */
export interface LoginMethod extends LoginWords {
  /** `kubernetes-auth`, in `/api/v1/auth/kubernetes-auth/login`. */
  readonly route: string
  /**
   * Read or fetch the proof, anew at each login. Every secret in it is added to {@link LoginTools.secrets} first.
   *
   * @throws AgentError CREDENTIAL_UNREADABLE for a file of the configuration, LOGIN_PLATFORM for anything else; the
   *   signal's reason
   */
  prove(signal: AbortSignal): Promise<Proof>
}

/** What a method needs besides its settings. */
export interface LoginTools {
  readonly secrets: Secrets
  readonly clock: Pick<Clock, 'now'>
  /** No secret gets into it. */
  readonly log: Pick<Log, 'info'>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly readFile: ReadCredentialFile
}

/**
 * A setting that is a value or a file of one.
 *
 * @param what its name in messages, `identity id`
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export async function valueOf(
  source: CredentialSource,
  what: string,
  { readFile }: Pick<LoginTools, 'readFile'>,
): Promise<string> {
  return 'value' in source ? source.value : readCredential(source.file, what, readFile)
}

/**
 * A secret from a file, which nothing that leaves the process may hold from now on.
 *
 * @throws AgentError CREDENTIAL_UNREADABLE
 */
export async function secretOf(
  path: string,
  what: string,
  { readFile, secrets }: Pick<LoginTools, 'readFile' | 'secrets'>,
): Promise<string> {
  const secret = await readCredential(path, what, readFile)
  secrets.add(secret)
  return secret
}

export type TokenAnswer =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'failed'; readonly failure: IssuerFailure }

/** The way to an access token. */
export interface Authenticator {
  /**
   * An access token to use now. Kept in memory at most.
   *
   * @param refused the token that the issuer has just refused, null otherwise: then another one is fetched, once.
   *   The same one again means that there is no other
   * @returns `failed` with what to do next. Rejects only when `signal` fires
   */
  token(refused: string | null, signal: AbortSignal): Promise<TokenAnswer>
  /** What the last proof said; empty before the first. */
  readonly claims: readonly string[]
}

/** An access token that an administrator made, in a file that is read anew each time. There is no login. */
export class AccessTokenFile implements Authenticator {
  readonly claims: readonly string[] = []
  readonly #path: string
  readonly #tools: Pick<LoginTools, 'readFile' | 'secrets'>

  constructor(path: string, tools: Pick<LoginTools, 'readFile' | 'secrets'>) {
    this.#path = path
    this.#tools = tools
  }

  async token(_refused: string | null, signal: AbortSignal): Promise<TokenAnswer> {
    signal.throwIfAborted()
    try {
      const token = await secretOf(this.#path, 'access token', this.#tools)
      if (isToken(token)) return { kind: 'token', token }
      const message = `the access token in ${this.#path} is not one word of printable characters`
      return { kind: 'failed', failure: localFailure('CREDENTIAL_UNREADABLE', 'local', message) }
    } catch (error) {
      return { kind: 'failed', failure: proofFailure(error, this.#tools.secrets) }
    }
  }
}

/** A token this near to its end, or with less than a tenth of its life left, is not used any more. */
const MARGIN_SECONDS = 60
const MARGIN_SHARE = 0.1

interface HeldToken {
  readonly token: string
  /** `Infinity` for one that never expires. */
  readonly usableUntil: UnixSeconds
}

/** A login of the server's. */
type SessionLogin = Pick<Exclude<Login, { readonly method: 'token' }>, 'method' | 'organization'>

interface SessionPorts {
  readonly clock: Pick<Clock, 'now'>
  readonly secrets: Secrets
  readonly metrics: Pick<Metrics, 'loginFailed'>
}

/**
 * Logs in by a method. The token lives in memory only. It is never renewed (`token/renew` deletes tokens that are still
 * good); near its end there is a new login instead.
 */
export class LoginSession implements Authenticator {
  readonly #auth: SessionLogin
  readonly #method: () => Promise<LoginMethod>
  readonly #exchange: HttpExchange
  readonly #ports: SessionPorts
  readonly #proofMilliseconds: number
  #claims: readonly string[] = []
  #held: HeldToken | null = null
  #login: Promise<TokenAnswer> | null = null

  /** @param method loads the method's file */
  constructor(
    auth: SessionLogin,
    method: () => Promise<LoginMethod>,
    exchange: HttpExchange,
    ports: SessionPorts,
    proofMilliseconds = LONGEST_PROOF_MILLISECONDS,
  ) {
    this.#auth = auth
    this.#method = method
    this.#exchange = exchange
    this.#ports = ports
    this.#proofMilliseconds = proofMilliseconds
  }

  get claims(): readonly string[] {
    return this.#claims
  }

  async token(refused: string | null, signal: AbortSignal): Promise<TokenAnswer> {
    signal.throwIfAborted()
    if (refused !== null && this.#held?.token === refused) this.#held = null
    if (this.#held !== null && this.#ports.clock.now() < this.#held.usableUntil) {
      return { kind: 'token', token: this.#held.token }
    }
    return await this.#logInOnce(signal)
  }

  /** Calls that overlap share one login, under the signal of the first: a wrong secret must not count twice. */
  async #logInOnce(signal: AbortSignal): Promise<TokenAnswer> {
    if (this.#login !== null) return await this.#login
    this.#login = this.#logIn(signal)
    try {
      const answer = await this.#login
      if (answer.kind === 'failed') this.#ports.metrics.loginFailed(this.#auth.method, answer.failure.code)
      return answer
    } finally {
      this.#login = null
    }
  }

  async #logIn(signal: AbortSignal): Promise<TokenAnswer> {
    const method = await this.#method()
    let proof: Proof
    try {
      proof = await this.#prove(method, signal)
    } catch (error) {
      signal.throwIfAborted()
      return { kind: 'failed', failure: proofFailure(error, this.#ports.secrets) }
    }
    this.#claims = proof.claims
    const began = this.#ports.clock.now()
    const organization = this.#auth.organization === null ? {} : { organizationSlug: this.#auth.organization }
    const question = {
      route: 'login',
      path: `/api/v1/auth/${method.route}/login`,
      body: { ...proof.body, ...organization },
      mutualTls: proof.mutualTls ?? null,
    } as const
    const outcome = await this.#exchange.ask(question, signal)
    if (!outcome.ok) return { kind: 'failed', failure: outcome.failure }
    return this.#keep(outcome.answer, began, method)
  }

  /** Whatever it hangs in. */
  async #prove(method: LoginMethod, signal: AbortSignal): Promise<Proof> {
    signal.throwIfAborted()
    const limit = AbortSignal.timeout(this.#proofMilliseconds)
    const either = AbortSignal.any([signal, limit])
    try {
      return await untilAborted(method.prove(either), either)
    } catch (error) {
      if (!limit.aborted) throw error
      const message = `the proof of identity for the login by ${this.#auth.method} did not finish within ${this.#proofMilliseconds / 1000} s`
      throw new AgentError('LOGIN_PLATFORM', message, { cause: error })
    }
  }

  #keep(answer: Answer, began: UnixSeconds, method: LoginMethod): TokenAnswer {
    if (answer.status !== 200)
      return { kind: 'failed', failure: loginFailure(answer, method, this.#auth.organization) }
    const body = parseObject(answer.text)
    const token = body?.['accessToken']
    if (typeof token !== 'string' || !isToken(token)) {
      const flaw = `200 to the login without an access token${answer.isHtml ? ' but with a web page' : ''}`
      return { kind: 'failed', failure: invalidAnswer(answer, flaw) }
    }
    this.#held = { token, usableUntil: usableUntil(began, body?.['expiresIn']) }
    return { kind: 'token', token }
  }
}

/** As a value, for what a proof threw. The issuer was not asked, so there is no refused login to wait for. */
function proofFailure(error: unknown, secrets: Secrets): IssuerFailure {
  if (error instanceof AgentError) return localFailure(error.code, 'local', error.message)
  const why = oneLine(secrets.redact(messageOf(error)))
  return localFailure('LOGIN_PLATFORM', 'local', `cannot make the proof of identity: ${why}`)
}

/** @param expiresIn seconds; 0 means never. An invalid value means never as well: a refused token is replaced anyway. */
function usableUntil(began: UnixSeconds, expiresIn: unknown): UnixSeconds {
  if (typeof expiresIn !== 'number' || expiresIn <= 0) return Infinity
  return began + expiresIn - Math.min(MARGIN_SECONDS, expiresIn * MARGIN_SHARE)
}
