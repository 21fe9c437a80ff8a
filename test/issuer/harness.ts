import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createIssuer, type IssuerOptions } from '../../agent/issuer/client.ts'
import type { IssueRequest, Issuer, LogFields } from '../../agent/renewal/ports.ts'
import type { TlsCertificate } from '../support/local-issuer/tls-certificate.ts'

const HOST_ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
export const NEVER = new AbortController().signal

/** Have this key signed, for any principals. */
export function requestFor(publicKey: string): IssueRequest {
  return { publicKey, hostKey: 'ssh_host_ed25519_key', principals: [] }
}

/** An issuer adapter, with everything it logged and counted. */
export interface Subject {
  readonly issuer: Issuer
  readonly logged: { readonly fields: LogFields; readonly message: string }[]
  readonly metrics: { readonly route: string; readonly code: string; readonly seconds: number }[]
  /** `aws LOGIN_PLATFORM`, each. */
  readonly loginFailures: string[]
}

export type Wish = Partial<Omit<IssuerOptions, 'log' | 'metrics' | 'clock'>> &
  Pick<IssuerOptions, 'url' | 'auth'> & { readonly now?: () => number; readonly uptime?: () => number }

export function makeSubject({ now, uptime, ...wish }: Wish): Subject {
  const logged: Subject['logged'] = []
  const metrics: Subject['metrics'] = []
  const loginFailures: string[] = []
  const log = (fields: LogFields, message: string): void => void logged.push({ fields, message })
  const issuer = createIssuer({
    sshHostId: HOST_ID,
    caFile: null,
    timeoutMilliseconds: 10_000,
    version: '1.2.3',
    clock: {
      now: now ?? (() => Date.now() / 1000),
      uptime: uptime ?? (() => 0),
      dice: () => 0,
      sleep: () => Promise.reject(new Error('nothing here sleeps')),
    },
    log: { debug: log, info: log, warn: log, error: log },
    metrics: {
      issuerRequest: (route, code, seconds) => void metrics.push({ route, code, seconds }),
      loginFailed: (method, code) => void loginFailures.push(`${method} ${code}`),
    },
    ...wish,
  })
  return { issuer, logged, metrics, loginFailures }
}

interface SeenRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
}

/** A server whose every answer the test writes itself. */
export interface RawServer extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly seen: SeenRequest[]
}

export async function startRawServer(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  tls?: TlsCertificate,
): Promise<RawServer> {
  const seen: SeenRequest[] = []
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    seen.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers })
    request.resume()
    answer(request, response)
  }
  const server =
    tls === undefined
      ? createServer(onRequest)
      : createTlsServer({ key: tls.key, cert: tls.certificate }, onRequest)
  const listening = await listen(server)
  return { ...listening, url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${listening.port}`, seen }
}

/** Any server on a free loopback port; closing it cuts all its connections. */
export async function listen(
  server: Server,
  address = '127.0.0.1',
  port = 0,
): Promise<{ readonly port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(port, address)
  await once(server, 'listening')
  const close = async (): Promise<void> => {
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  return { port: (server.address() as AddressInfo).port, [Symbol.asyncDispose]: close }
}

/** An answer as the issuer gives it. */
export function sendJson(response: ServerResponse, status: number, body: object, headers: object = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}

/** A port where nothing listens. */
export async function closedPort(): Promise<number> {
  const listening = await listen(createTcpServer())
  await listening[Symbol.asyncDispose]()
  return listening.port
}
