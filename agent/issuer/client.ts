import { messageOf } from '../cert/errors.ts'
import { parseCaKeys } from '../cert/public-key.ts'
import type { Login } from '../config/config.ts'
import type {
  Clock,
  HostCaAnswer,
  IssueAnswer,
  IssueRequest,
  Issuer,
  IssuerHealth,
  IssuerMetrics,
  Log,
} from '../renewal/ports.ts'
import { type Answer, parseObject } from './answer.ts'
import { answerFailure, invalidAnswer, isTokenRefused, saysNoSuchRoute } from './failures.ts'
import { HttpExchange, type Outcome } from './http-exchange.ts'
import { TlsRoots } from './http.ts'
import { HealthRecord } from './issuer-health.ts'
import { readCredentialFile, type ReadCredentialFile } from './logins/credential-file.ts'
import { AccessTokenFile, type Authenticator, LoginSession } from './logins/login.ts'
import { methodOf } from './logins/methods.ts'
import { proxyPasswords } from './proxy.ts'
import { Secrets } from './secrets.ts'

export interface IssuerOptions {
  /** No slash at the end; https, or http to a loopback address. */
  readonly url: string
  readonly sshHostId: string
  /** TLS roots in PEM form, besides the system's; read anew when the file changes. */
  readonly caFile: string | null
  /** For one exchange, from connecting to the last byte; `issue` may need four of them (login, issue, both again). */
  readonly timeoutMilliseconds: number
  readonly auth: Login
  /** How credential files are read; left out: from the disk, anew at each use. */
  readonly readCredentialFile?: ReadCredentialFile | undefined
  /** Of this program, for `User-Agent`. */
  readonly version: string
  readonly clock: Clock
  readonly log: Log
  readonly metrics: IssuerMetrics
}

/** The issuing endpoint over HTTP. Does nothing before the first call; keeps no connection between calls. */
export function createIssuer(options: IssuerOptions): Issuer {
  const health = new HealthRecord(options.clock)
  const secrets = new Secrets()
  for (const password of proxyPasswords(process.env)) secrets.add(password)
  const ports = { ...options, log: secrets.guardLog(options.log) }
  const exchange = new HttpExchange(options, new TlsRoots(options.caFile), health, secrets, ports)
  const authenticator = authenticatorOf(options, exchange, secrets)
  return secrets.guardIssuer(new HttpIssuer(options.sshHostId, exchange, authenticator, health))
}

/** The way to a token that the configuration asks for. */
export function authenticatorOf(
  options: IssuerOptions,
  exchange: HttpExchange,
  secrets: Secrets,
): Authenticator {
  const { auth, clock, metrics, readCredentialFile: readFile = readCredentialFile } = options
  const log = secrets.guardLog(options.log)
  const tools = { secrets, clock, log, environment: process.env, readFile }
  if (auth.method === 'token') return new AccessTokenFile(auth.tokenFile, tools)
  return new LoginSession(auth, async () => methodOf(auth, tools), exchange, { clock, secrets, metrics })
}

/** Made by {@link createIssuer}; a probe makes one that shares its login. */
export class HttpIssuer implements Issuer {
  readonly #hostPath: string
  readonly #exchange: HttpExchange
  readonly #authenticator: Authenticator
  readonly #health: HealthRecord

  constructor(sshHostId: string, exchange: HttpExchange, authenticator: Authenticator, health: HealthRecord) {
    this.#hostPath = `/api/v1/ssh/hosts/${encodeURIComponent(sshHostId)}`
    this.#exchange = exchange
    this.#authenticator = authenticator
    this.#health = health
  }

  async issue({ publicKey }: IssueRequest, signal: AbortSignal): Promise<IssueAnswer> {
    const first = await this.#authenticator.token(null, signal)
    if (first.kind === 'failed') return { ok: false, failure: first.failure }
    const outcome = await this.#askToIssue(publicKey, first.token, signal)
    if (!outcome.ok || !isTokenRefused(outcome.answer)) return readIssued(outcome)
    const second = await this.#authenticator.token(first.token, signal)
    if (second.kind === 'failed') return { ok: false, failure: second.failure }
    // The same request with the same token would get the same answer.
    if (second.token === first.token) return readIssued(outcome)
    return readIssued(await this.#askToIssue(publicKey, second.token, signal))
  }

  async hostCa(signal: AbortSignal): Promise<HostCaAnswer> {
    const path = `${this.#hostPath}/host-ca-public-key`
    const outcome = await this.#exchange.ask({ route: 'host-ca', path }, signal)
    if (!outcome.ok) return { ok: false, failure: outcome.failure, noSuchRoute: false }
    return readHostCa(outcome.answer)
  }

  health(): IssuerHealth {
    return this.#health.current
  }

  #askToIssue(publicKey: string, token: string, signal: AbortSignal): Promise<Outcome> {
    const path = `${this.#hostPath}/issue-host-cert`
    return this.#exchange.ask({ route: 'issue', path, body: { publicKey }, token }, signal)
  }
}

function readIssued(outcome: Outcome): IssueAnswer {
  if (!outcome.ok) return outcome
  const { answer } = outcome
  if (answer.status !== 200) return { ok: false, failure: answerFailure(answer) }
  const issued = parseObject(answer.text)
  const signedKey = issued?.['signedKey']
  const serialNumber = issued?.['serialNumber']
  if (issued === null || !answer.complete)
    return { ok: false, failure: invalidAnswer(answer, notJson(answer)) }
  if (typeof signedKey !== 'string' || signedKey.trim() === '') {
    return { ok: false, failure: invalidAnswer(answer, '200 without the text signedKey') }
  }
  // Up to 63 bits: a JSON number would have lost some.
  if (typeof serialNumber !== 'string' || !/^\d{1,20}$/.test(serialNumber)) {
    return { ok: false, failure: invalidAnswer(answer, '200 without a decimal text serialNumber') }
  }
  return { ok: true, signedKey, serialNumber, requestId: answer.body.requestId }
}

function readHostCa(answer: Answer): HostCaAnswer {
  if (answer.status !== 200)
    return { ok: false, failure: answerFailure(answer), noSuchRoute: saysNoSuchRoute(answer) }
  try {
    const keys = answer.complete && !answer.isHtml ? parseCaKeys(answer.text) : []
    if (keys.length > 0) return { ok: true, keys }
    return {
      ok: false,
      failure: invalidAnswer(answer, '200 without a public key of a CA'),
      noSuchRoute: false,
    }
  } catch (error) {
    const flaw = `200 with something else than a public key of a CA: ${messageOf(error)}`
    return { ok: false, failure: invalidAnswer(answer, flaw), noSuchRoute: false }
  }
}

function notJson({ complete, isHtml }: Answer): string {
  if (!complete) return '200 with more than an answer can be long'
  return isHtml ? '200 with a web page; is a proxy in the way?' : '200 with something that is no JSON object'
}
