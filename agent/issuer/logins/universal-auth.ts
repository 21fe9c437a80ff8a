import type { UnixSeconds } from '../../cert/time.ts'
import type { CredentialSource } from '../../config/config.ts'
import type { Clock } from '../../renewal/ports.ts'
import { type Answer, parseObject } from '../answer.ts'
import { answerFailure, invalidAnswer } from '../failures.ts'
import type { HttpExchange } from '../http-exchange.ts'
import type { Secrets } from '../secrets.ts'
import {
  type Authenticator,
  credentialFailure,
  isToken,
  readCredential,
  type ReadCredentialFile,
  type TokenAnswer,
} from './credential-file.ts'

/** A token this near to its end, or with less than a tenth of its life left, is not used any more. */
const MARGIN_SECONDS = 60
const MARGIN_SHARE = 0.1

const LOGIN_PATH = '/api/v1/auth/universal-auth/login'

interface HeldToken {
  readonly token: string
  /** `Infinity` for one that never expires. */
  readonly usableUntil: UnixSeconds
}

/**
 * Logs in with a client id and a client secret. The token lives in memory only. It is never renewed
 * (`token/renew` deletes tokens that are still good); near its end there is a new login instead.
 */
export class UniversalAuth implements Authenticator {
  readonly #clientId: CredentialSource
  readonly #clientSecretFile: string
  readonly #exchange: HttpExchange
  readonly #secrets: Secrets
  readonly #clock: Clock
  readonly #readFile: ReadCredentialFile
  #held: HeldToken | null = null
  #login: Promise<TokenAnswer> | null = null

  constructor(
    credentials: { readonly clientId: CredentialSource; readonly clientSecretFile: string },
    exchange: HttpExchange,
    secrets: Secrets,
    clock: Clock,
    readFile: ReadCredentialFile,
  ) {
    this.#clientId = credentials.clientId
    this.#clientSecretFile = credentials.clientSecretFile
    this.#exchange = exchange
    this.#secrets = secrets
    this.#clock = clock
    this.#readFile = readFile
  }

  async token(refused: string | null, signal: AbortSignal): Promise<TokenAnswer> {
    signal.throwIfAborted()
    if (refused !== null && this.#held?.token === refused) this.#held = null
    if (this.#held !== null && this.#clock.now() < this.#held.usableUntil) {
      return { kind: 'token', token: this.#held.token }
    }
    return await this.#logInOnce(signal)
  }

  /** Calls that overlap share one login, under the signal of the first: a wrong secret must not count twice. */
  async #logInOnce(signal: AbortSignal): Promise<TokenAnswer> {
    if (this.#login !== null) return await this.#login
    this.#login = this.#logIn(signal)
    try {
      return await this.#login
    } finally {
      this.#login = null
    }
  }

  async #logIn(signal: AbortSignal): Promise<TokenAnswer> {
    let clientId: string
    let clientSecret: string
    try {
      clientId =
        'value' in this.#clientId
          ? this.#clientId.value
          : await readCredential(this.#clientId.file, 'client id', this.#readFile)
      clientSecret = await readCredential(this.#clientSecretFile, 'client secret', this.#readFile)
    } catch (error) {
      return { kind: 'failed', failure: credentialFailure(error) }
    }
    this.#secrets.add(clientSecret)
    const began = this.#clock.now()
    const question = { route: 'login', path: LOGIN_PATH, body: { clientId, clientSecret } } as const
    const outcome = await this.#exchange.ask(question, signal)
    return outcome.ok ? this.#keep(outcome.answer, began) : { kind: 'failed', failure: outcome.failure }
  }

  #keep(answer: Answer, began: UnixSeconds): TokenAnswer {
    if (answer.status !== 200) return { kind: 'failed', failure: answerFailure(answer) }
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

/** @param expiresIn seconds; 0 means never. An invalid value means never as well: a refused token is replaced anyway. */
function usableUntil(began: UnixSeconds, expiresIn: unknown): UnixSeconds {
  if (typeof expiresIn !== 'number' || expiresIn <= 0) return Infinity
  return began + expiresIn - Math.min(MARGIN_SECONDS, expiresIn * MARGIN_SHARE)
}
