import { isIPv4, isIPv6 } from 'node:net'
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
  /** Null before the first pass is done; another object whenever anything in it has changed. */
  status(): StatusDocument | null
  live(): Liveness
  metricsText(): Promise<string>
  readonly metricsContentType: string
  /** For the status page: who this is, what time it is, what happened last (the newest first). */
  readonly version: string
  hostName(): string
  now(): UnixSeconds
  recentEvents(): readonly RecentEvent[]
  /** Host names by which browsers may ask for the page, besides `localhost`. */
  ownNames(): Promise<readonly string[]>
}

/** What an answer depends on. */
interface HealthRequest {
  readonly method: string
  /** As on the request line: a path with or without a query, or a whole URL (RFC 9112, section 3.2.2). */
  readonly target: string
  /** The Host header; undefined when there is none. */
  readonly host: string | undefined
  readonly hasBody: boolean
}

/** One answer of the server, before it is on the wire. */
export interface HealthAnswer {
  readonly status: 200 | 404 | 405 | 413 | 421 | 500 | 503
  readonly contentType: string
  readonly body: Buffer
  readonly headers?: Readonly<Record<string, string>>
}

const METHODS = ['GET', 'HEAD']
/** A 404 repeats no more of the request than this. */
const LONGEST_ECHO = 100

/** The answers of the health server. The large ones are rendered once for all who ask while they would be the same. */
export class HealthRoutes {
  readonly #sources: HealthSources
  readonly #page = new Rendered()
  readonly #status = new Rendered()
  readonly #metrics = new Rendered()

  constructor(sources: HealthSources) {
    this.#sources = sources
  }

  /**
   * The answer to one request. HEAD is answered as GET; the server leaves out the body.
   *
   * @throws whatever a source throws
   */
  async answerTo({ method, target, host, hasBody }: HealthRequest): Promise<HealthAnswer> {
    if (!METHODS.includes(method)) {
      return { ...json(405, { error: 'method not allowed' }), headers: { allow: METHODS.join(', ') } }
    }
    if (hasBody) return json(413, { error: 'requests have no body here' })
    const { authority = host, path } = partsOf(target)
    switch (path) {
      case '/':
      case '/status':
        if (!(await this.#isOwnName(authority)))
          return json(421, { error: 'not served under this host name; add it to health.hosts' })
        return path === '/' ? this.#pageNow() : this.#statusNow()
      case '/livez':
        return liveness(this.#sources.live())
      case '/readyz':
      case '/healthz':
        return readiness(this.#sources, null) ?? notFound(path)
      case '/metrics': {
        const [text, contentType] = [await this.#sources.metricsText(), this.#sources.metricsContentType]
        return { status: 200, contentType, body: this.#metrics.of([text], () => text) }
      }
      default: {
        const hostKey = hostKeyIn(path)
        return (hostKey === null ? null : readiness(this.#sources, hostKey)) ?? notFound(path)
      }
    }
  }

  /**
   * A web page elsewhere can have its own host name resolve to an address of this host, and would then read what the
   * browser may read here (DNS rebinding). An address or `localhost` cannot be had that way.
   */
  async #isOwnName(authority: string | undefined): Promise<boolean> {
    if (authority === undefined) return true
    const [, bracketed, plain] = /^(?:\[([^[\]]*)\]|([^[\]:@]+))(?::\d*)?$/.exec(authority) ?? []
    if (bracketed !== undefined) return isIPv6(bracketed)
    const name = plain === undefined ? '' : canonical(plain)
    if (isIPv4(name) || name === 'localhost') return true
    return name !== '' && (await this.#sources.ownNames()).some((own) => canonical(own) === name)
  }

  #pageNow(): HealthAnswer {
    const { version } = this.#sources
    const [hostName, now, status] = [this.#sources.hostName(), this.#sources.now(), this.#sources.status()]
    const [live, events] = [this.#sources.live(), this.#sources.recentEvents()]
    // The page shows times to the second, and each event is an object of its own.
    const madeFrom = [hostName, Math.floor(now), status, live.ok, live.lastTurn, events[0], events.length]
    const render = (): string => renderPage({ hostName, version, now, status, live, events })
    return {
      status: 200,
      contentType: 'text/html; charset=utf-8',
      body: this.#page.of(madeFrom, render),
      headers: PAGE_HEADERS,
    }
  }

  #statusNow(): HealthAnswer {
    const status = this.#sources.status()
    if (status === null) return json(503, { error: 'starting' })
    return { status: 200, contentType: JSON_TYPE, body: this.#status.of([status], () => jsonText(status)) }
  }
}

/** For when a source threw; the log has the reason. */
export function internalError(): HealthAnswer {
  return json(500, { error: 'internal error' })
}

/** A body, kept until what it was made from is no longer the same. */
class Rendered {
  #madeFrom: readonly unknown[] = []
  #body: Buffer | null = null

  of(madeFrom: readonly unknown[], render: () => string): Buffer {
    const isSame = madeFrom.every((part, index) => part === this.#madeFrom[index])
    if (this.#body === null || !isSame) this.#body = Buffer.from(render())
    this.#madeFrom = madeFrom
    return this.#body
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

const JSON_TYPE = 'application/json; charset=utf-8'

function json(status: HealthAnswer['status'], value: object): HealthAnswer {
  return { status, contentType: JSON_TYPE, body: Buffer.from(jsonText(value)) }
}

function jsonText(value: object): string {
  return `${JSON.stringify(value)}\n`
}

/** @returns `authority` of a whole URL: it takes the place of the Host header (RFC 9112, section 3.2.2) */
function partsOf(target: string): { readonly authority?: string; readonly path: string } {
  const [whole, authority] = /^https?:\/\/([^/?#]*)/i.exec(target) ?? ['']
  const [path = ''] = target.slice(whole.length).split(/[?#]/, 1)
  return { ...(authority === undefined ? {} : { authority }), path: path === '' ? '/' : path }
}

/** In lower case, without the dot of the DNS root. */
function canonical(hostName: string): string {
  return hostName.toLowerCase().replace(/\.$/, '')
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
