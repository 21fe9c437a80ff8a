import { formatTime, type UnixSeconds } from '../cert/time.ts'
import { readinessOf, type RecentEvent, type StatusDocument } from '../renewal/status-document.ts'
import { PAGE_HEADERS, renderPage } from './page/page.ts'

/** Whether the loop turns. */
interface Liveness {
  readonly ok: boolean
  /** Null before the first turn is over. */
  readonly lastTurn: UnixSeconds | null
}

/** Where the answers come from; asked anew for each request, cheap, and free of secrets. */
export interface HealthSources {
  /** Null before the first look is done. */
  status(): StatusDocument | null
  live(): Liveness
  metricsText(): Promise<string>
  readonly metricsContentType: string
  /** For the status page: who this is, what time it is, what happened last (the newest first). */
  readonly version: string
  hostName(): string
  now(): UnixSeconds
  recentEvents(): readonly RecentEvent[]
}

/** What an answer depends on. */
export interface HealthRequest {
  readonly method: string
  /** As on the request line: a path with or without a query, or a whole URL (RFC 9112, section 3.2.2). */
  readonly target: string
  readonly hasBody: boolean
}

/** One answer of the server, before it is on the wire. */
export interface HealthAnswer {
  readonly status: 200 | 404 | 405 | 413 | 500 | 503
  readonly contentType: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

const METHODS = ['GET', 'HEAD']
/** A 404 repeats no more of the request than this. */
const LONGEST_ECHO = 100

/**
 * The answer to one request. HEAD is answered as GET; whoever sends it leaves the body out.
 *
 * @throws whatever a source throws
 */
export async function answerTo(
  { method, target, hasBody }: HealthRequest,
  sources: HealthSources,
): Promise<HealthAnswer> {
  if (!METHODS.includes(method)) {
    return { ...json(405, { error: 'method not allowed' }), headers: { allow: METHODS.join(', ') } }
  }
  if (hasBody) return json(413, { error: 'requests have no body here' })
  const path = pathOf(target)
  switch (path) {
    case '/':
      return page(sources)
    case '/livez':
      return liveness(sources.live())
    case '/readyz':
    case '/healthz':
      return readiness(sources, null) ?? notFound(path)
    case '/status': {
      const status = sources.status()
      return status === null ? json(503, { error: 'starting' }) : json(200, status)
    }
    case '/metrics':
      return { status: 200, contentType: sources.metricsContentType, body: await sources.metricsText() }
    default: {
      const hostKey = hostKeyIn(path)
      return (hostKey === null ? null : readiness(sources, hostKey)) ?? notFound(path)
    }
  }
}

/** For when a source threw; why stands in the log. */
export function internalError(): HealthAnswer {
  return json(500, { error: 'internal error' })
}

function page(sources: HealthSources): HealthAnswer {
  const { version } = sources
  const [hostName, now, status] = [sources.hostName(), sources.now(), sources.status()]
  const view = { hostName, version, now, status, live: sources.live(), events: sources.recentEvents() }
  return {
    status: 200,
    contentType: 'text/html; charset=utf-8',
    body: renderPage(view),
    headers: PAGE_HEADERS,
  }
}

function liveness({ ok, lastTurn }: Liveness): HealthAnswer {
  return json(ok ? 200 : 503, { status: ok ? 'pass' : 'fail', last_turn: formatTime(lastTurn) })
}

function readiness(sources: HealthSources, hostKey: string | null): HealthAnswer | null {
  const document = readinessOf(sources.status(), hostKey, sources.now())
  return document === null ? null : json(document.status === 'fail' ? 503 : 200, document)
}

function notFound(path: string): HealthAnswer {
  return json(404, { error: 'not found', path: path.slice(0, LONGEST_ECHO) })
}

function json(status: HealthAnswer['status'], value: object): HealthAnswer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` }
}

function pathOf(target: string): string {
  const [path = ''] = target.replace(/^https?:\/\/[^/?]*/i, '').split(/[?#]/, 1)
  return path === '' ? '/' : path
}

/** Null when the path names none. */
function hostKeyIn(path: string): string | null {
  const name = /^\/readyz\/([^/]+)$/.exec(path)?.[1]
  if (name === undefined) return null
  try {
    return decodeURIComponent(name)
  } catch {
    return null
  }
}
