import type { IncomingMessage } from 'node:http'
import { Refusal, type RawAnswer } from './error-rows.ts'
import type { RateKind, RateLimits } from './rate-limits.ts'
import type { Identity } from './registry.ts'
import { ROUTES, type IssuerState, type Route } from './routes.ts'

/** A request as it came in, its body read to the end. */
export interface ReceivedRequest {
  readonly method: string
  readonly path: string
  readonly authorization: string | undefined
  readonly address: string
  /** Null: longer than the server takes. */
  readonly body: string | null
}

/** Larger bodies are a 500. */
const BODY_LIMIT_BYTES = 2 ** 20

export function routeOf(method: string, path: string): Route | null {
  return ROUTES.find((route) => route.method === method && route.path.test(path)) ?? null
}

/**
 * The answer to a request, faults aside. Checks in the order of the real server: header, rate, token, body, then what
 * the route itself checks. Never throws.
 *
 * @param limits null: no limits, as on a server of one's own
 */
export async function respond(
  state: IssuerState,
  limits: RateLimits | null,
  request: ReceivedRequest,
): Promise<RawAnswer> {
  const { method, path } = request
  const route = routeOf(method, path)
  try {
    const identity = identify(state, route, request.authorization)
    if (route === null) throw noSuchRoute(method, path)
    const rate = limits?.count(route.path.source, kindOf(route), request.address, state.now())
    if (rate !== undefined && rate.retryAfterSeconds !== null) {
      const message = `Rate limit exceeded. Please try again in ${rate.retryAfterSeconds} seconds`
      throw new Refusal('rate-limited', { message, headers: rate.headers })
    }
    const answer = await answerOf(state, route, identity, request)
    return { ...answer, headers: { ...rate?.headers, ...answer.headers } }
  } catch (error) {
    if (error instanceof Refusal) return error.answer
    console.error('local issuer:', error)
    return new Refusal('server-error').answer
  }
}

async function answerOf(
  state: IssuerState,
  route: Route,
  identity: Identity | null,
  request: ReceivedRequest,
) {
  if (route.access === 'token' && identity === null) throw new Refusal('token-missing')
  const id = decodeURIComponent(route.path.exec(request.path)?.[1] ?? '')
  const body = route.method === 'POST' ? parse(request.body) : undefined
  try {
    return await route.answer(state, { id, body, identity })
  } catch (error) {
    if (error instanceof Refusal) return error.answer
    throw error
  }
}

/** A header is looked at on every route, and a bad one is a 403 even where none is needed. */
function identify(state: IssuerState, route: Route | null, authorization: string | undefined) {
  if (authorization === undefined) return null
  try {
    return state.tokens.identify(authorization)
  } catch (error) {
    const known = error instanceof Refusal && error.answer.status === 401
    if (known && route?.access === 'public') throw new Refusal('token-malformed')
    throw error
  }
}

function noSuchRoute(method: string, path: string): Refusal {
  return new Refusal('route-not-found', { message: `Route ${method}:${path} not found` })
}

function kindOf(route: Route): RateKind {
  if (route.method !== 'GET') return 'write'
  return route.access === 'public' ? 'public-read' : 'read'
}

function parse(body: string | null): unknown {
  if (body === null) throw new Refusal('server-error')
  if (body === '') return undefined
  try {
    return JSON.parse(body)
  } catch {
    throw new Refusal('server-error')
  }
}

/** Read a body to its end, so that the client gets the answer, but keep no more than the server takes. */
export async function readBody(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length <= BODY_LIMIT_BYTES) chunks.push(chunk)
  }
  return length > BODY_LIMIT_BYTES ? null : Buffer.concat(chunks).toString('utf8')
}
