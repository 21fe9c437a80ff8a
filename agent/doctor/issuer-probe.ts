import { AgentError } from '../cert/errors.ts'
import { parseObject, type Answer } from '../issuer/answer.ts'
import { HttpIssuer, authenticatorOf, type IssuerOptions } from '../issuer/client.ts'
import { answerFailure, localFailure } from '../issuer/failures.ts'
import { HttpExchange, answerOf } from '../issuer/http-exchange.ts'
import { authorityOf, send, transportFailure } from '../issuer/http.ts'
import { HealthRecord } from '../issuer/issuer-health.ts'
import { Secrets } from '../issuer/secrets.ts'
import { TlsRoots } from '../issuer/tls-roots.ts'
import type { Issuer, IssuerFailure } from '../renewal/ports.ts'

type LoginAnswer = { readonly ok: true } | { readonly ok: false; readonly failure: IssuerFailure }

/** The issuer's entry for this host, if this identity may read it. */
type HostAnswer =
  | { readonly kind: 'readable'; readonly hostname: string | null }
  /** Reading is a permission of its own, which issuing does not need. */
  | { readonly kind: 'not-permitted' }
  | { readonly kind: 'failed'; readonly failure: IssuerFailure }

/** Requests that only a diagnosis makes. They share one login and its token. */
export interface IssuerProbe {
  /** Issues with the same token. */
  readonly issuer: Issuer
  /** Log in; with `auth.method` token, only its file is read. After a failure the next call tries again. */
  login(signal: AbortSignal): Promise<LoginAnswer>
  /** The issuer's entry for this host. Only after a successful login. */
  readHost(signal: AbortSignal): Promise<HostAnswer>
}

/** The error of a 403 if a permission is missing. */
const MISSING_PERMISSION = 'PermissionDenied'

/** Does nothing before the first call. */
export function createIssuerProbe(options: IssuerOptions): IssuerProbe {
  const health = new HealthRecord(options.clock)
  const roots = new TlsRoots(options.caFile)
  const secrets = new Secrets()
  const ports = { ...options, log: secrets.guardLog(options.log) }
  const exchange = new HttpExchange(options, roots, health, secrets, ports)
  const authenticator = authenticatorOf(options, exchange, secrets)

  const login = async (signal: AbortSignal): Promise<LoginAnswer> => {
    const got = await authenticator.token(null, signal)
    return got.kind === 'token' ? { ok: true } : { ok: false, failure: got.failure }
  }

  const readHost = async (signal: AbortSignal): Promise<HostAnswer> => {
    const got = await authenticator.token(null, signal)
    if (got.kind === 'failed') return { kind: 'failed', failure: got.failure }
    const read = await askForHost(options, roots, secrets, got.token, signal)
    if (!read.ok) return { kind: 'failed', failure: read.failure }
    const { status, text, body } = read.answer
    if (status === 200) {
      const hostname = parseObject(text)?.['hostname']
      return { kind: 'readable', hostname: typeof hostname === 'string' ? hostname : null }
    }
    if (status === 403 && body.error === MISSING_PERMISSION) return { kind: 'not-permitted' }
    return { kind: 'failed', failure: answerFailure(read.answer) }
  }

  return {
    issuer: secrets.guardIssuer(new HttpIssuer(options.sshHostId, exchange, authenticator, health)),
    login,
    readHost,
  }
}

type Read =
  | { readonly ok: true; readonly answer: Answer }
  | { readonly ok: false; readonly failure: IssuerFailure }

/** Not by the exchange: this route has no place in the metrics. Refusals mean what they mean when issuing. */
async function askForHost(
  { url, sshHostId, timeoutMilliseconds, version, clock }: IssuerOptions,
  roots: TlsRoots,
  secrets: Secrets,
  token: string,
  signal: AbortSignal,
): Promise<Read> {
  const address = new URL(`${url}/api/v1/ssh/hosts/${encodeURIComponent(sshHostId)}`)
  const host = authorityOf(address)
  const timeout = AbortSignal.timeout(timeoutMilliseconds)
  const headers = {
    accept: 'application/json',
    authorization: `Bearer ${token}`,
    'user-agent': `hostcertd/${version}`,
  }
  try {
    const asked = { url: address, method: 'GET', headers, body: null } as const
    const reply = await send(asked, roots, AbortSignal.any([signal, timeout]))
    const answer = answerOf('issue', address, reply, secrets, clock.now())
    return { ok: true, answer }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof AgentError)
      return { ok: false, failure: localFailure(error.code, 'local', error.message) }
    const timedOut = timeout.aborted ? { milliseconds: timeoutMilliseconds } : null
    return { ok: false, failure: transportFailure(error, host, timedOut, secrets) }
  }
}
