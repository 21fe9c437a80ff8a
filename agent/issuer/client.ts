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
import { answerFailure, invalidAnswer, isTokenRefused, localFailure, saysNoSuchRoute } from './failures.ts'
import { HttpExchange, type Outcome } from './http-exchange.ts'
import { HealthRecord } from './issuer-health.ts'
import { readCredentialFile, type ReadCredentialFile } from './logins/credential-file.ts'
import { AccessTokenFile, type Authenticator, LoginSession } from './logins/login.ts'
import { methodOf } from './logins/methods.ts'
import { proxyPasswords } from './proxy.ts'
import { Secrets } from './secrets.ts'
import { TlsRoots } from './tls-roots.ts'

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

/** What everything that is asked of one issuer shares: one login, and one record of its health. */
export interface HttpWay {
  readonly exchange: HttpExchange
  readonly authenticator: Authenticator
  readonly health: HealthRecord
  readonly secrets: Secrets
  /** Of the host that certificates are for; empty until `enroll` has found or registered it. */
  sshHostId: string
}

/** Does nothing before the first question; keeps no connection between questions. */
export function openWay(options: IssuerOptions): HttpWay {
  const health = new HealthRecord(options.clock)
  const secrets = new Secrets()
  for (const password of proxyPasswords(process.env)) secrets.add(password)
  const ports = { ...options, log: secrets.guardLog(options.log) }
  const exchange = new HttpExchange(options, new TlsRoots(options.caFile), health, secrets, ports)
  const authenticator = authenticatorOf(options, exchange, secrets)
  return { exchange, authenticator, health, secrets, sshHostId: options.sshHostId }
}

/** The issuing endpoint over HTTP. */
export function createIssuer(options: IssuerOptions, way: HttpWay = openWay(options)): Issuer {
  return way.secrets.guardIssuer(new HttpIssuer(way))
}

/**
 * Ask something with an access token, and once more with another one when it is refused.
 *
 * @returns a failed login as a failure. Rejects only when `signal` fires
 */
export async function askWithToken(
  authenticator: Authenticator,
  ask: (token: string) => Promise<Outcome>,
  signal: AbortSignal,
): Promise<Outcome> {
  const first = await authenticator.token(null, signal)
  if (first.kind === 'failed') return { ok: false, failure: first.failure, mayBeDone: false }
  const outcome = await ask(first.token)
  if (!outcome.ok || !isTokenRefused(outcome.answer)) return outcome
  const second = await authenticator.token(first.token, signal)
  if (second.kind === 'failed') return { ok: false, failure: second.failure, mayBeDone: false }
  // The same request with the same token would get the same answer.
  return second.token === first.token ? outcome : ask(second.token)
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
  readonly #way: Omit<HttpWay, 'secrets'>

  constructor(way: Omit<HttpWay, 'secrets'>) {
    this.#way = way
  }

  async issue({ publicKey }: IssueRequest, signal: AbortSignal): Promise<IssueAnswer> {
    const { exchange, authenticator, sshHostId } = this.#way
    if (sshHostId === '') return { ok: false, failure: NO_HOST }
    const path = `${hostPath(sshHostId)}/issue-host-cert`
    const ask = async (token: string): Promise<Outcome> =>
      exchange.ask({ route: 'issue', path, body: { publicKey }, token }, signal)
    return readIssued(await askWithToken(authenticator, ask, signal))
  }

  async hostCa(signal: AbortSignal): Promise<HostCaAnswer> {
    const { exchange, sshHostId } = this.#way
    if (sshHostId === '') return { ok: false, failure: NO_HOST, noSuchRoute: false }
    const path = `${hostPath(sshHostId)}/host-ca-public-key`
    const outcome = await exchange.ask({ route: 'host-ca', path }, signal)
    if (!outcome.ok) return { ok: false, failure: outcome.failure, noSuchRoute: false }
    return readHostCa(outcome.answer)
  }

  health(): IssuerHealth {
    return this.#way.health.current
  }
}

const NO_HOST = localFailure('CONFIG_INVALID', 'local', 'no host was found or registered at the issuer yet')

/** The entry of a host. */
export function hostPath(id: string): string {
  return `/api/v1/ssh/hosts/${encodeURIComponent(id)}`
}

function readIssued(outcome: Outcome): IssueAnswer {
  if (!outcome.ok) return { ok: false, failure: outcome.failure }
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

/** What is wrong with an answer of status 200 that holds no JSON object. */
export function notJson({ complete, isHtml }: Answer): string {
  if (!complete) return '200 with more than an answer can be long'
  return isHtml ? '200 with a web page; is a proxy in the way?' : '200 with something that is no JSON object'
}
