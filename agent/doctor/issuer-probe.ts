import { AgentError } from '../cert/errors.ts'
import { type Answer, parseObject } from '../issuer/answer.ts'
import { authenticatorOf, HttpIssuer, type IssuerOptions } from '../issuer/client.ts'
import { answerFailure, localFailure } from '../issuer/failures.ts'
import { answerOf, HttpExchange, transportFailure } from '../issuer/http-exchange.ts'
import { authorityOf, send } from '../issuer/http.ts'
import { HealthRecord } from '../issuer/issuer-health.ts'
import { Secrets } from '../issuer/secrets.ts'
import { TlsRoots } from '../issuer/tls-roots.ts'
import type { Issuer, IssuerFailure } from '../renewal/ports.ts'

type LoginAnswer = { readonly ok: true } | { readonly ok: false; readonly failure: IssuerFailure }

export interface ReadableHost {
  readonly kind: 'readable'
  /** Null for what cannot be the name of a host. */
  readonly hostname: string | null
  /** Null for what cannot be the id of a project. */
  readonly projectId: string | null
}

/** The issuer's entry for this host, if this identity may read it. */
export type HostAnswer =
  | ReadableHost
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
  /**
   * How many hosts of the project this identity can read, without this one. Only after a successful login.
   *
   * @returns `many` when they do not fit into an answer; null when the issuer does not say
   */
  countOthers(projectId: string, signal: AbortSignal): Promise<number | 'many' | null>
  /** What the proof of the last login said, without secrets; empty before the first. */
  readonly claims: readonly string[]
}

/** The error of a 403 if a permission is missing. */
const MISSING_PERMISSION = 'PermissionDenied'

/** A host name as in a certificate; it goes into a remedy that is to be copied. */
const HOST_NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/i
const PROJECT_ID = /^[\w-]{1,64}$/
/** What the answer to the list of hosts begins with, if there is one in it. */
const LIST_OF_HOSTS = /^\s*\{\s*"hosts"\s*:\s*\[\s*\{/

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
    const path = `/api/v1/ssh/hosts/${encodeURIComponent(options.sshHostId)}`
    const read = await get(path, options, roots, secrets, got.token, signal)
    if (!read.ok) return { kind: 'failed', failure: read.failure }
    const { status, text, body } = read.answer
    if (status === 200) {
      const host = parseObject(text)
      const hostname = matching(host?.['hostname'], HOST_NAME)
      return { kind: 'readable', hostname, projectId: matching(host?.['projectId'], PROJECT_ID) }
    }
    if (status === 403 && body.error === MISSING_PERMISSION) return { kind: 'not-permitted' }
    return { kind: 'failed', failure: answerFailure(read.answer) }
  }

  const countOthers = async (projectId: string, signal: AbortSignal): Promise<number | 'many' | null> => {
    const got = await authenticator.token(null, signal)
    if (got.kind === 'failed') return null
    const path = `/api/v1/projects/${encodeURIComponent(projectId)}/ssh-hosts`
    const read = await get(path, options, roots, secrets, got.token, signal)
    if (!read.ok || read.answer.status !== 200) return null
    const { text, complete } = read.answer
    if (!complete) return LIST_OF_HOSTS.test(text) ? 'many' : null
    const found = idsIn(parseObject(text)?.['hosts'])
    if (found === null) return null
    const ids = new Set(found)
    ids.delete(options.sshHostId.toLowerCase())
    return ids.size
  }

  return {
    issuer: secrets.guardIssuer(
      new HttpIssuer({ exchange, authenticator, health, sshHostId: options.sshHostId }),
    ),
    login,
    readHost,
    countOthers,
    get claims() {
      return authenticator.claims.map((claim) => secrets.redact(claim))
    },
  }
}

/** Of a list of hosts, in lower case; null for what is none. */
function idsIn(hosts: unknown): string[] | null {
  if (!Array.isArray(hosts)) return null
  const ids = hosts.map((host: unknown) => {
    const id = typeof host === 'object' && host !== null && 'id' in host ? host.id : null
    return typeof id === 'string' ? id.toLowerCase() : null
  })
  return ids.every((id) => id !== null) ? ids : null
}

function matching(value: unknown, pattern: RegExp): string | null {
  return typeof value === 'string' && pattern.test(value) ? value : null
}

type Read =
  | { readonly ok: true; readonly answer: Answer }
  | { readonly ok: false; readonly failure: IssuerFailure }

/** Not by the exchange: these routes have no place in the metrics. Refusals mean what they mean when issuing. */
async function get(
  path: string,
  { url, timeoutMilliseconds, version, clock }: IssuerOptions,
  roots: TlsRoots,
  secrets: Secrets,
  token: string,
  signal: AbortSignal,
): Promise<Read> {
  const address = new URL(`${url}${path}`)
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
    const answer = answerOf({ route: 'issue', setting: 'issuer.url', address }, reply, secrets, clock.now())
    return { ok: true, answer }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof AgentError)
      return { ok: false, failure: localFailure(error.code, 'local', error.message) }
    const timedOut = timeout.aborted ? { milliseconds: timeoutMilliseconds } : null
    return { ok: false, failure: transportFailure(error, host, timedOut, secrets) }
  }
}
