import { randomBytes, randomUUID } from 'node:crypto'
import { Refusal } from './error-rows.ts'

/** A host as registered at the issuer. */
export interface RegisteredHost {
  readonly id: string
  readonly hostname: string
  readonly alias: string | null
  ttlSeconds: number
}

/** Hosts by id, or all there are and will be. */
type HostSelection = readonly string[] | 'all'

/** What an identity may do; by default issue for all hosts, and nothing else. */
export interface Permissions {
  readonly mayIssueFor?: HostSelection
  readonly mayRead?: HostSelection
  /** All names, or these: a rule with `$eq`. */
  readonly mayCreate?: boolean | readonly string[]
  readonly mayDelete?: HostSelection
  /** Of the project. Default true. */
  readonly isMember?: boolean
  /** Milliseconds since the epoch from which all this counts: a grant does so after up to ten seconds. Default: ever. */
  readonly grantedAt?: number
}

export interface Identity {
  readonly clientId: string
  clientSecret: string
  readonly tokenTtlSeconds: number
  readonly permissions: Permissions
  /** Logins in a row with a wrong secret. */
  failedLogins: number
  /** Milliseconds since the epoch. */
  lockedUntil: number
}

type HostAction = 'issue-host-cert' | 'read' | 'delete'

/** How long the issuer locks an identity out, and how long a token lives by default. */
const LOCK_MILLISECONDS = 300_000
const TOKEN_TTL_SECONDS = 30 * 86_400
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** The issuer's hosts and machine identities. */
export class Registry {
  readonly projectId = randomUUID()
  readonly projectSlug = 'ssh-hosts-a1b2'
  readonly hosts = new Map<string, RegisteredHost>()
  readonly #identities = new Map<string, Identity>()
  readonly #now: () => number

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now
  }

  addHost(hostname: string, ttlSeconds: number, id: string = randomUUID(), alias: string | null = null) {
    const host: RegisteredHost = { id, hostname, alias, ttlSeconds }
    this.hosts.set(id, host)
    return host
  }

  addIdentity(wish: Partial<Pick<Identity, 'clientId' | 'clientSecret' | 'tokenTtlSeconds'>> & Permissions) {
    const identity: Identity = {
      clientId: wish.clientId ?? randomUUID(),
      clientSecret: wish.clientSecret ?? randomBytes(32).toString('hex'),
      tokenTtlSeconds: wish.tokenTtlSeconds ?? TOKEN_TTL_SECONDS,
      permissions: wish,
      failedLogins: 0,
      lockedUntil: -Infinity,
    }
    this.#identities.set(identity.clientId, identity)
    return identity
  }

  identity(clientId: string): Identity {
    const identity = this.#identities.get(clientId)
    if (identity === undefined) throw new Refusal('unknown-client-id')
    return identity
  }

  /**
   * Check a login.
   *
   * @param now milliseconds since the epoch
   * @param lockAfter so many failures in a row lock the identity; Infinity: never
   * @throws Refusal 404 unknown client id, 401 wrong secret or locked
   */
  logIn(clientId: string, clientSecret: string, now: number, lockAfter: number): Identity {
    const identity = this.identity(clientId)
    if (now < identity.lockedUntil) throw new Refusal('identity-locked')
    if (identity.clientSecret !== clientSecret) {
      identity.failedLogins += 1
      if (identity.failedLogins >= lockAfter) {
        identity.lockedUntil = now + LOCK_MILLISECONDS
        identity.failedLogins = 0
      }
      throw new Refusal('wrong-secret')
    }
    identity.failedLogins = 0
    return identity
  }

  /** @throws Refusal 500 when the id is no UUID, as the real server's database does; 404 when there is no such host */
  host(id: string): RegisteredHost {
    if (!UUID.test(id)) throw new Refusal('server-error')
    const host = this.hosts.get(id)
    if (host === undefined)
      throw new Refusal('host-not-found', { message: `SSH host with ID ${id} not found` })
    return host
  }

  /** @throws Refusal 403; its `details` are the rules that the identity has for this action, as the real server's */
  demand(identity: Identity, action: HostAction, host: RegisteredHost): void {
    const permissions = this.#permissionsOf(identity)
    if (allows(permissions, action, host)) return
    const permitted = [...this.hosts.values()].filter((one) => allows(permissions, action, one))
    throw denied(
      action,
      permitted.map(({ hostname }) => hostname),
    )
  }

  /** @throws Refusal 404 unknown project, 403 not a member */
  demandMembership(identity: Identity, projectId: string): void {
    if (!UUID.test(projectId)) throw new Refusal('server-error')
    if (projectId !== this.projectId)
      throw new Refusal('host-not-found', { message: `Project with ID '${projectId}' not found` })
    if (this.isMember(identity)) return
    const message = `Identity is not a member of the specified project with ID '${projectId}'`
    throw new Refusal('not-member', { message })
  }

  isMember(identity: Identity): boolean {
    return this.#permissionsOf(identity).isMember ?? true
  }

  /**
   * Register a host. The case of a name counts: `web1` and `WEB1` are two.
   *
   * @throws Refusal 403; 500 when the name or the alias is taken, as the real server's database does
   */
  register(identity: Identity, hostname: string, ttlSeconds: number, alias: string | null): RegisteredHost {
    const { mayCreate = false } = this.#permissionsOf(identity)
    const names = typeof mayCreate === 'boolean' ? [] : mayCreate
    if (mayCreate !== true && !names.includes(hostname)) throw denied('create', names)
    const isTaken = [...this.hosts.values()].some(
      (host) => host.hostname === hostname || (alias !== null && host.alias === alias),
    )
    if (isTaken) throw new Refusal('server-error', { error: 'Create' })
    return this.addHost(hostname, ttlSeconds, undefined, alias)
  }

  /** The hosts that an identity may read. */
  readable(identity: Identity): RegisteredHost[] {
    const permissions = this.#permissionsOf(identity)
    return [...this.hosts.values()].filter((host) => allows(permissions, 'read', host))
  }

  #permissionsOf({ permissions }: Identity): Permissions {
    const isGranted = this.#now() >= (permissions.grantedAt ?? -Infinity)
    return isGranted ? permissions : { mayIssueFor: [], isMember: permissions.isMember ?? true }
  }
}

/** @param hostnames of the rules that the identity has for this action */
function denied(action: HostAction | 'create', hostnames: readonly string[]): Refusal {
  const details = hostnames.map((hostname) => ({
    action,
    subject: 'ssh-hosts',
    inverted: false,
    conditions: { hostname: { $eq: hostname } },
  }))
  return new Refusal('permission-denied', {
    message: `You are not allowed to ${action} on ssh-hosts`,
    details,
  })
}

function allows(permissions: Permissions, action: HostAction, host: RegisteredHost): boolean {
  switch (action) {
    case 'issue-host-cert':
      return includes(permissions.mayIssueFor ?? 'all', host)
    case 'read':
      return includes(permissions.mayRead ?? [], host)
    case 'delete':
      return includes(permissions.mayDelete ?? [], host)
  }
}

function includes(selection: HostSelection, host: RegisteredHost): boolean {
  return selection === 'all' || selection.includes(host.id)
}
