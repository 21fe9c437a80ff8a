import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { messageOf } from '../cert/errors.ts'
import type { Log } from '../renewal/ports.ts'
import { listenOn, type ListenAddress } from './listen.ts'
import { HealthRoutes, internalError, type HealthAnswer, type HealthSources } from './routes.ts'

/** Limits against careless or hostile clients; milliseconds where not said otherwise. */
export interface HealthLimits {
  /** Connections open at a time; one more ends the one that has gone longest without a request. */
  readonly connections: number
  readonly headers: number
  readonly request: number
  readonly keepAlive: number
  /** Without a byte read or written. */
  readonly silence: number
  /** For one answer to be taken: a client that does not read is cut off. */
  readonly answer: number
  /** How often `headers` and `request` are looked after, so that they are late by this much at most. */
  readonly check: number
  readonly headerBytes: number
  readonly requestsPerConnection: number
  /** Requests without an answer on one connection: one more ends it. Browsers and monitors never have two. */
  readonly outstanding: number
  /** Answered on one connection, after which it is closed: it may all be in the kernel's buffers, unread. */
  readonly bytesPerConnection: number
}

export const HEALTH_LIMITS: HealthLimits = {
  connections: 64,
  headers: 5000,
  request: 10_000,
  keepAlive: 5000,
  silence: 10_000,
  answer: 5000,
  check: 5000,
  headerBytes: 8192,
  requestsPerConnection: 100,
  outstanding: 8,
  bytesPerConnection: 256 * 1024,
}

type StartResult =
  /** `address` is where it listens, for people; null when it is not to listen at all. */
  { readonly ok: true; readonly address: string | null } | { readonly ok: false; readonly message: string }

/**
 * The health server: liveness, readiness, status and metrics over HTTP.
 *
 * Connections are not refused when there are too many: the one that has gone longest without a request is ended
 * instead. Idle connections, however many, so never keep a monitor out.
 *
 * Nor does a client that never reads cost memory: on each connection one answer is on its way at a time, large ones are
 * shared by all who ask, and what a connection may have waiting is bounded. So the whole is bounded by `connections`.
 */
export class HealthServer {
  readonly #listen: ListenAddress
  readonly #routes: HealthRoutes
  readonly #log: Log
  readonly #limits: HealthLimits
  /** The one that has gone longest without a request comes first. */
  readonly #connections = new Map<Socket, Connection>()
  #server: Server | null = null
  #address: string | null = null
  /** Starts and stops happen one after the other. */
  #queue: Promise<unknown> = Promise.resolve()

  constructor(listen: ListenAddress, sources: HealthSources, log: Log, limits: HealthLimits = HEALTH_LIMITS) {
    this.#listen = listen
    this.#routes = new HealthRoutes(sources)
    this.#log = log
    this.#limits = limits
  }

  /** Listen; when it does already, nothing happens. Never throws: the caller tries again at its next tick. */
  async start(): Promise<StartResult> {
    return this.#next(async () => {
      if (this.#listen.kind === 'none' || this.#server !== null) return { ok: true, address: this.#address }
      const server = this.#createServer()
      try {
        this.#address = await listenOn(server, this.#listen)
      } catch (error) {
        server.close()
        return { ok: false, message: messageOf(error) }
      }
      server.on('error', (error) => this.#log.warn({ error }, 'the health server cannot accept a connection'))
      this.#server = server
      return { ok: true, address: this.#address }
    })
  }

  /** Close the socket, its file and every connection, answered or not. Idempotent; {@link start} works again after it. */
  async stop(): Promise<void> {
    return this.#next(async () => {
      const server = this.#server
      if (server === null) return
      this.#server = null
      this.#address = null
      const { promise: closed, resolve } = Promise.withResolvers<void>()
      server.close(() => resolve())
      for (const socket of this.#connections.keys()) socket.destroy()
      await closed
    })
  }

  async #next<T>(step: () => Promise<T>): Promise<T> {
    const before = this.#queue
    const after = (async () => {
      await Promise.allSettled([before])
      return step()
    })()
    this.#queue = after
    return after
  }

  #createServer(): Server {
    const limits = this.#limits
    // A malformed request needs no handler: node:http answers 400, 408 or 431 and closes the connection.
    const server = createServer({
      requireHostHeader: false,
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headers,
      requestTimeout: limits.request,
      keepAliveTimeout: limits.keepAlive,
      connectionsCheckingInterval: limits.check,
    })
    server.maxRequestsPerSocket = limits.requestsPerConnection
    server.timeout = limits.silence
    server.on('connection', (socket: Socket) => this.#admit(socket))
    server.on('request', (request, response) => this.#receive(request, response))
    return server
  }

  #admit(socket: Socket): void {
    const { promise: closed, resolve } = Promise.withResolvers<void>()
    this.#connections.set(socket, { closed, outstanding: 0, bytes: 0, last: Promise.resolve() })
    socket.once('close', () => {
      this.#connections.delete(socket)
      resolve()
    })
    this.#refuseCrowds(socket)
    if (this.#connections.size <= this.#limits.connections) return
    const others = [...this.#connections].filter(([other]) => other !== socket)
    const idle = others.find(([, { outstanding }]) => outstanding === 0) ?? others[0]
    if (idle !== undefined) this.#end(idle[0])
  }

  /**
   * Node parses all that it has read before anything is answered, and a hundred requests take 10 ms: so each chunk is
   * looked at first, and one with too many requests ends the connection without being parsed.
   */
  #refuseCrowds(socket: Socket): void {
    const [parse] = socket.listeners('data') as ((chunk: unknown) => void)[]
    if (parse === undefined) return
    socket.off('data', parse)
    socket.on('data', (chunk) => {
      if (hasMoreRequests(chunk, this.#limits.outstanding)) this.#end(socket)
      else parse.call(socket, chunk)
    })
  }

  /** End a connection at once; whatever was requested on it gets no answer any more. */
  #end(socket: Socket): void {
    this.#connections.delete(socket)
    // After close(2) the kernel would keep what was not read for minutes, and count it as ours. A reset drops it.
    if (socket.bytesWritten > 0 && this.#listen.kind === 'tcp') socket.resetAndDestroy()
    else socket.destroy()
  }

  /** Requests that came together are answered one after the other, in the order that they came. */
  #receive(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const connection = this.#connections.get(socket)
    // It has been ended, and its parser goes on with what it had read.
    if (connection === undefined) return
    this.#connections.delete(socket)
    this.#connections.set(socket, connection)
    if (connection.outstanding >= this.#limits.outstanding) {
      this.#end(socket)
      return
    }
    connection.outstanding += 1
    const before = connection.last
    connection.last = (async () => {
      await before
      if (this.#connections.has(socket)) await this.#respond(request, response, connection)
      connection.outstanding -= 1
    })()
  }

  /** Resolves when the answer was handed to the kernel, or the connection is closed. */
  async #respond(request: IncomingMessage, response: ServerResponse, connection: Connection): Promise<void> {
    const { socket } = request
    const { status, contentType, body, headers } = await this.#answer(request)
    if (!this.#connections.has(socket)) return
    connection.bytes += body.length
    // What is left of a body is not read.
    if (hasBody(request) || connection.bytes > this.#limits.bytesPerConnection)
      response.setHeader('connection', 'close')
    response.writeHead(status, {
      'content-type': contentType,
      'content-length': body.length,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    })
    const late = setTimeout(() => this.#end(socket), this.#limits.answer)
    const { promise: taken, resolve } = Promise.withResolvers<void>()
    response.end(request.method === 'HEAD' ? undefined : body, resolve)
    await Promise.race([taken, connection.closed])
    clearTimeout(late)
  }

  async #answer(request: IncomingMessage): Promise<HealthAnswer> {
    const { method = '', url: target = '' } = request
    try {
      const { host } = request.headers
      return await this.#routes.answerTo({ method, target, host, hasBody: hasBody(request) })
    } catch (error) {
      this.#log.error({ error }, 'the health server could not answer a request')
      return internalError()
    }
  }
}

/** What is known of one connection. */
interface Connection {
  readonly closed: Promise<void>
  /** Requests without an answer. */
  outstanding: number
  /** Of the bodies answered so far. */
  bytes: number
  /** Resolves with the answer to the last request that came; never rejects. */
  last: Promise<void>
}

/** Whether more requests than so many end in a chunk: each by an empty line. */
function hasMoreRequests(chunk: Buffer | string, most: number): boolean {
  let ends = 0
  for (
    let at = chunk.indexOf(EMPTY_LINE);
    at !== -1;
    at = chunk.indexOf(EMPTY_LINE, at + EMPTY_LINE.length)
  ) {
    ends += 1
    if (ends > most) return true
  }
  return false
}

const EMPTY_LINE = '\r\n\r\n'

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}
