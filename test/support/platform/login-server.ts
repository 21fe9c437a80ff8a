import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { TLSSocket } from 'node:tls'
import { Agent, request as ask } from 'undici'
import { listen } from '../../issuer/harness.ts'
import type { LocalIssuer } from '../local-issuer.ts'
import type { RawAnswer } from '../local-issuer/error-rows.ts'
import type { TlsCertificate } from '../local-issuer/tls-certificate.ts'

/** A login that arrived. */
export interface LoginRequest {
  /** `jwt-auth`. */
  readonly route: string
  readonly body: Readonly<Record<string, unknown>>
  /** Common name of the client certificate that TLS has verified; null for none. */
  readonly clientName: string | null
  /** Milliseconds since the epoch, by the issuer's clock. */
  readonly at: number
}

/** Verifies a login, and throws {@link LoginRefusal} for one that it does not accept. */
export type Verify = (login: LoginRequest) => void

/** An error answer of the issuer. */
export class LoginRefusal extends Error {
  override readonly name = 'LoginRefusal'
  readonly status: number
  readonly error: string

  /** @param reason that of the platform, which the issuer does not pass on */
  constructor(status: number, error: string, message: string, reason = message) {
    super(message, { cause: reason })
    this.status = status
    this.error = error
  }
}

export interface LoginServerOptions {
  /** Gives out the tokens, and answers everything but logins. */
  readonly issuer: LocalIssuer
  /** IPv4, of this machine or network namespace. Default `127.0.0.1`. */
  readonly address?: string
  /** The methods that the identity has; any other is a 404. */
  readonly methods: Readonly<Record<string, Verify>>
  readonly identityId: string
  /** Milliseconds since the epoch. Default: `Date.now`. */
  readonly now?: () => number
  readonly tokenTtlSeconds?: number
  /** Slug of the one organization that the identity is in. */
  readonly organization?: string
  /** HTTPS, and what it does about client certificates: whether it asks for one, and which CA it accepts. */
  readonly tls?: TlsCertificate & { readonly asks: boolean; readonly clientCa?: string }
}

export interface LoginServer extends AsyncDisposable {
  readonly url: string
  /** Every login so far, refused ones included. */
  readonly logins: readonly LoginRequest[]
  /** Why logins were refused: the platform's reason where it was the platform. */
  readonly refusals: readonly string[]
  /** Every token given out. */
  readonly tokens: readonly string[]
  /** What is answered to a login, whatever its proof; null: it is verified. */
  instead: ((login: LoginRequest) => RawAnswer) | null
  /** `login issue`: the requests so far. */
  routes(): string
}

/**
 * Machine identity logins as the real server has them, in front of a local issuer. Bodies are checked first, then the
 * identity, then the proof.
 */
export async function startLoginServer(options: LoginServerOptions): Promise<LoginServer> {
  const { address = '127.0.0.1', tls } = options
  const logins: LoginRequest[] = []
  const refusals: string[] = []
  const state: Pick<LoginServer, 'instead'> = { instead: null }
  const tokens: string[] = []
  const seen: string[] = []
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const text = Buffer.concat(await request.toArray()).toString('utf8')
    const route = /^\/api\/v1\/auth\/([\w-]+)\/login$/.exec(request.url ?? '')?.[1]
    seen.push(route === undefined ? 'issue' : 'login')
    if (route === undefined) {
      await forward(options.issuer, request, text, response)
      return
    }
    const login = {
      route,
      body: JSON.parse(text) as LoginRequest['body'],
      clientName: clientNameOf(request),
      at: (options.now ?? Date.now)(),
    }
    logins.push(login)
    const { instead } = state
    const answer = instead === null ? answerOf(options, login, request.headers, refusals) : instead(login)
    const { body = '' } = answer
    if (typeof body === 'object' && 'accessToken' in body) tokens.push(String(body.accessToken))
    send(response, answer)
  }
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    void handle(request, response)
  }
  const server =
    tls === undefined
      ? createServer(listener)
      : createTlsServer(
          {
            key: tls.key,
            cert: tls.certificate,
            requestCert: tls.asks,
            rejectUnauthorized: tls.asks,
            ...(tls.clientCa === undefined ? {} : { ca: tls.clientCa }),
          },
          listener,
        )
  const listening = await listen(server, address)
  return Object.assign(state, {
    url: `${tls === undefined ? 'http' : 'https'}://${address}:${listening.port}`,
    logins,
    refusals,
    tokens,
    routes: () => seen.join(' '),
    [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose](),
  })
}

function answerOf(
  options: LoginServerOptions,
  login: LoginRequest,
  headers: IncomingMessage['headers'],
  refusals: string[],
): RawAnswer {
  try {
    // The real server looks at a header on every route, and refuses a bad one even where none is needed.
    if (headers.authorization !== undefined)
      throw new LoginRefusal(403, 'TokenError', 'The provided access token is malformed.')
    const { identityId, organizationSlug = null } = login.body
    // A client id says itself whose it is.
    const hasIdentityId = login.route !== 'universal-auth'
    if (hasIdentityId && typeof identityId !== 'string')
      throw new LoginRefusal(422, 'ValidationFailure', 'identityId: Required')
    const verify = options.methods[login.route]
    if ((hasIdentityId && identityId !== options.identityId) || verify === undefined)
      throw new LoginRefusal(
        404,
        'NotFound',
        `The identity with ID ${String(identityId)} has no such auth method`,
      )
    if (organizationSlug !== null && organizationSlug !== options.organization)
      throw new LoginRefusal(
        404,
        'NotFound',
        `Sub organization with slug ${JSON.stringify(organizationSlug).slice(1, -1)} not found`,
      )
    verify(login)
    const expiresIn = options.tokenTtlSeconds ?? 2_592_000
    const accessToken = options.issuer.addToken({ tokenTtlSeconds: expiresIn })
    return {
      status: 200,
      body: { accessToken, expiresIn, accessTokenMaxTTL: expiresIn, tokenType: 'Bearer' },
    }
  } catch (refusal) {
    if (!(refusal instanceof LoginRefusal)) throw refusal
    const { status, error, message, cause } = refusal
    refusals.push(String(cause))
    return { status, body: { reqId: `req-${randomUUID()}`, statusCode: status, message, error } }
  }
}

function clientNameOf({ socket }: IncomingMessage): string | null {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return null
  const { CN: name } = socket.getPeerCertificate().subject
  return typeof name === 'string' ? name : null
}

async function forward(
  issuer: LocalIssuer,
  request: IncomingMessage,
  body: string,
  response: ServerResponse,
): Promise<void> {
  const { method = 'GET', headers } = request
  const { url } = issuer
  const ca = url.startsWith('https:') ? { ca: await readFile(issuer.tlsCaFile, 'utf8') } : {}
  const answer = await ask(`${url}${request.url}`, {
    method,
    headers: {
      'content-type': 'application/json',
      ...(headers.authorization === undefined ? {} : { authorization: headers.authorization }),
    },
    body: method === 'GET' ? null : body,
    dispatcher: new Agent({ connect: ca, pipelining: 0 }),
  })
  response.writeHead(answer.statusCode, {
    'content-type': String(answer.headers['content-type'] ?? 'text/plain'),
  })
  response.end(await answer.body.text())
}

function send(response: ServerResponse, { status, body = '', headers }: RawAnswer): void {
  const isText = typeof body === 'string'
  const type = isText ? 'text/html' : 'application/json; charset=utf-8'
  response.writeHead(status, { 'content-type': type, ...headers })
  response.end(isText ? body : JSON.stringify(body))
}
