import type { AccessTokens } from './access-tokens.ts'
import { Refusal, type RawAnswer } from './error-rows.ts'
import type { FaultRoute } from './faults.ts'
import { issueCertificate, type CertificateAuthority, type IssuedCertificate } from './host-ca.ts'
import { hostDescription, parseNewHost } from './host-documents.ts'
import type { Identity, Registry } from './registry.ts'
import { checkStrings } from './validation.ts'

/** All that the issuer knows; what its routes work on. */
export interface IssuerState {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly registry: Registry
  readonly tokens: AccessTokens
  readonly issued: IssuedCertificate[]
  readonly userCa: CertificateAuthority
  /** Types of the keys that it signs. */
  readonly signedTypes: Set<string>
  /** Replaced when the CA is rotated. */
  hostCa: CertificateAuthority
  /** Infinity: never. */
  lockAfterFailures: number
}

/** A request that has a route. */
interface RoutedRequest {
  /** What the path has in the route's place for an id; empty where there is none. */
  readonly id: string
  readonly body: unknown
  /** Whose token came along; null for none. */
  readonly identity: Identity | null
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: RegExp
  /** What a fault may be limited to. */
  readonly name: FaultRoute | null
  /** Public routes refuse a bad header all the same. */
  readonly access: 'public' | 'token'
  readonly answer: (state: IssuerState, request: RoutedRequest) => RawAnswer | Promise<RawAnswer>
}

const HOST = '/api/v1/ssh/hosts/([^/]+)'

/** Every route that is used here, but for logins other than universal-auth. */
export const ROUTES: readonly Route[] = [
  route('POST', '/api/v1/auth/universal-auth/login', 'login', 'public', logIn),
  route('POST', '/api/v1/auth/token/renew', null, 'public', renewToken),
  route('POST', `${HOST}/issue-host-cert`, 'issue', 'token', issue),
  route('GET', `${HOST}/host-ca-public-key`, 'host-ca', 'public', (state, { id }) => {
    state.registry.host(id)
    return { status: 200, body: state.hostCa.publicKey }
  }),
  route('GET', `${HOST}/user-ca-public-key`, 'user-ca', 'public', (state, { id }) => {
    state.registry.host(id)
    return { status: 200, body: state.userCa.publicKey }
  }),
  route('GET', HOST, 'host', 'token', (state, { id, identity }) => {
    const host = state.registry.host(id)
    state.registry.demand(known(identity), 'read', host)
    return { status: 200, body: hostDescription(state.registry, host) }
  }),
  route('DELETE', HOST, 'delete', 'token', (state, { id, identity }) => {
    const host = state.registry.host(id)
    state.registry.demand(known(identity), 'delete', host)
    state.registry.hosts.delete(id)
    return { status: 200, body: hostDescription(state.registry, host) }
  }),
  route('POST', '/api/v1/ssh/hosts', 'register', 'token', (state, { body, identity }) => {
    const { projectId, hostname, ttlSeconds, alias } = parseNewHost(body)
    state.registry.demandMembership(known(identity), projectId)
    const host = state.registry.register(known(identity), hostname, ttlSeconds, alias)
    return { status: 200, body: hostDescription(state.registry, host) }
  }),
  route('GET', '/api/v1/projects/([^/]+)/ssh-hosts', 'project-hosts', 'token', listHosts),
  route('GET', '/api/v2/workspace/([^/]+)/ssh-hosts', 'workspace-hosts', 'token', listHosts),
  route('GET', '/api/v1/workspace', 'workspaces', 'token', (state, { identity }) => {
    return { status: 200, body: { workspaces: projectsOf(state, known(identity)) } }
  }),
  route('GET', '/api/v1/projects', 'projects', 'token', (state, { identity }) => {
    return { status: 200, body: { projects: projectsOf(state, known(identity)) } }
  }),
  route('GET', '/api/status', null, 'public', (state) => ({
    status: 200,
    body: { date: new Date(state.now()).toISOString(), message: 'Ok', emailConfigured: false },
  })),
]

function route(
  method: Route['method'],
  path: string,
  name: Route['name'],
  access: Route['access'],
  answer: Route['answer'],
): Route {
  return { method, path: new RegExp(`^${path}$`), name, access, answer }
}

function logIn(state: IssuerState, { body }: RoutedRequest): RawAnswer {
  const { clientId, clientSecret } = checkStrings(body, ['clientId', 'clientSecret'])
  const identity = state.registry.logIn(clientId, clientSecret, state.now(), state.lockAfterFailures)
  const expiresIn = identity.tokenTtlSeconds
  return {
    status: 200,
    body: {
      accessToken: state.tokens.make(identity, expiresIn),
      expiresIn,
      accessTokenMaxTTL: expiresIn,
      tokenType: 'Bearer',
    },
  }
}

/** With the default settings a renewal is always past the maximum, and deletes the token. */
function renewToken(state: IssuerState, { body }: RoutedRequest): RawAnswer {
  state.tokens.delete(checkStrings(body, ['accessToken']).accessToken)
  throw new Refusal('token-used-up')
}

async function issue(state: IssuerState, { id, body, identity }: RoutedRequest): Promise<RawAnswer> {
  const { publicKey } = checkStrings(body, ['publicKey'])
  const host = state.registry.host(id)
  state.registry.demand(known(identity), 'issue-host-cert', host)
  const issued = await issueCertificate(state.hostCa, host, publicKey, state.signedTypes, state.now())
  state.issued.push(issued)
  return { status: 200, body: { serialNumber: issued.serial, signedKey: issued.line } }
}

/** All that the identity may read, in one piece: a query such as `?hostname=` is ignored. */
function listHosts(state: IssuerState, { id, identity }: RoutedRequest): RawAnswer {
  state.registry.demandMembership(known(identity), id)
  const hosts = state.registry.readable(known(identity))
  return { status: 200, body: { hosts: hosts.map((host) => hostDescription(state.registry, host)) } }
}

function projectsOf({ registry }: IssuerState, identity: Identity): object[] {
  const { projectId: id, projectSlug: slug } = registry
  return registry.isMember(identity) ? [{ id, slug, name: 'SSH hosts', type: 'ssh', environments: [] }] : []
}

function known(identity: Identity | null): Identity {
  if (identity === null) throw new Refusal('token-missing')
  return identity
}
