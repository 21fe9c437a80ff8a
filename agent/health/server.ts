import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { messageOf } from '../cert/errors.ts'
import type { Log } from '../renewal/ports.ts'
import { listenOn, type ListenAddress } from './listen.ts'
import {
  answerTo,
  internalError,
  type HealthAnswer,
  type HealthRequest,
  type HealthSources,
} from './routes.ts'

/** What keeps a careless or hostile client from getting in the way; milliseconds where not said otherwise. */
export interface HealthLimits {
  /** Connections open at a time; one more ends the one that has gone longest without a request. */
  readonly connections: number
  readonly headers: number
  readonly request: number
  readonly keepAlive: number
  /** Without a byte read or written: clients that do not read their answer. */
  readonly silence: number
  /** How often `headers` and `request` are looked after, so that they are late by this much at most. */
  readonly check: number
  readonly headerBytes: number
  readonly requestsPerConnection: number
}

export const HEALTH_LIMITS: HealthLimits = {
  connections: 64,
  headers: 5000,
  request: 10_000,
  keepAlive: 5000,
  silence: 10_000,
  check: 5000,
  headerBytes: 8192,
  requestsPerConnection: 100,
}

type StartResult =
  /** `address` is where it listens, for people; null when it is not to listen at all. */
  { readonly ok: true; readonly address: string | null } | { readonly ok: false; readonly message: string }

/**
 * The health server: liveness, readiness, status and metrics over HTTP.
 *
 * Connections are not refused when there are too many: the one that has gone longest without a request is ended
 * instead. Idle connections, however many, so never keep a monitor out.
 */
export class HealthServer {
  readonly #listen: ListenAddress
  readonly #sources: HealthSources
  readonly #log: Log
  readonly #limits: HealthLimits
  /** The one that has gone longest without a request comes first. */
  readonly #connections = new Set<Socket>()
  #server: Server | null = null
  #address: string | null = null
  /** Starts and stops happen one after the other. */
  #queue: Promise<unknown> = Promise.resolve()

  constructor(listen: ListenAddress, sources: HealthSources, log: Log, limits: HealthLimits = HEALTH_LIMITS) {
    this.#listen = listen
    this.#sources = sources
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
      for (const socket of this.#connections) socket.destroy()
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
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headers,
      requestTimeout: limits.request,
      keepAliveTimeout: limits.keepAlive,
      connectionsCheckingInterval: limits.check,
    })
    server.maxRequestsPerSocket = limits.requestsPerConnection
    server.timeout = limits.silence
    server.on('connection', (socket: Socket) => this.#admit(socket))
    server.on('request', (request, response) => void this.#respond(request, response))
    return server
  }

  #admit(socket: Socket): void {
    this.#connections.add(socket)
    socket.once('close', () => this.#connections.delete(socket))
    if (this.#connections.size <= this.#limits.connections) return
    const [longestIdle] = this.#connections
    if (longestIdle === undefined) return
    this.#connections.delete(longestIdle)
    longestIdle.destroy()
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#connections.delete(request.socket)) this.#connections.add(request.socket)
    const { method = '', url: target = '' } = request
    const answer = await this.#answer({ method, target, hasBody: hasBody(request) })
    // What is left of a body is not read.
    if (hasBody(request)) response.setHeader('connection', 'close')
    response.writeHead(answer.status, {
      'content-type': answer.contentType,
      'content-length': Buffer.byteLength(answer.body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...answer.headers,
    })
    response.end(method === 'HEAD' ? undefined : answer.body)
  }

  async #answer(request: HealthRequest): Promise<HealthAnswer> {
    try {
      return await answerTo(request, this.#sources)
    } catch (error) {
      this.#log.error({ error }, 'the health server could not answer a request')
      return internalError()
    }
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}
