import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { listen } from '../../issuer/harness.ts'
import type { RawAnswer } from '../local-issuer/error-rows.ts'
import type { AwsKey } from './aws.ts'

/** What the platform has for this machine; a test changes it as it goes. */
export interface Machine {
  /** What the list of roles says; null: no role is attached. */
  role: string | null
  /** Whether there are keys of that role. */
  hasRoleKeys: boolean
  keys: AwsKey & { readonly sessionToken: string }
  region: string
  /** Of Google Cloud's service account, or Azure's managed identity; null: there is none. */
  jwt: ((query: URLSearchParams) => string) | null
  /** Client ids of the managed identities that are assigned to this machine, besides its own. */
  identities: readonly string[]
  fault: Fault | null
}

/**
 * `silent`: no answer; `slow`: one after the time that the agent waits; `stalled`: half of one; `not-http`; `hop-limit`:
 * the answer with the session's token is lost on its way into a container; `session-expired`: by the time that it is
 * used; or this answer to everything.
 */
type Fault = 'silent' | 'slow' | 'stalled' | 'not-http' | 'hop-limit' | 'session-expired' | RawAnswer

export interface MetadataServer extends AsyncDisposable {
  readonly url: string
  readonly machine: Machine
  /** `PUT /latest/api/token`: the requests so far, without their queries. */
  readonly seen: readonly string[]
}

/** How late a slow answer is: the agent waits for two seconds. */
const SLOW_MILLISECONDS = 2500
/** What the variables of a container say. */
export const CONTAINER_TOKEN = 'canary-token-of-the-container'
export const CONTAINER_PATH = '/container-keys'

/** The metadata services of AWS (version 2 only), Google Cloud and Azure, and the credentials service of containers. */
export async function startMetadataServer(
  machine: Machine,
  { address = '127.0.0.1', port = 0 } = {},
): Promise<MetadataServer> {
  const seen: string[] = []
  const sessions = new Set<string>()
  const timers = new Set<NodeJS.Timeout>()
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '/', 'http://metadata')
    seen.push(`${request.method} ${url.pathname}`)
    const send = ({ status, body = '', headers }: RawAnswer): void => {
      response.writeHead(status, headers)
      response.end(typeof body === 'string' ? body : JSON.stringify(body))
    }
    const { fault } = machine
    const isSession = url.pathname === '/latest/api/token'
    if (fault === 'silent' || (fault === 'hop-limit' && isSession)) return
    if (fault === 'slow')
      timers.add(setTimeout(() => send(answerOf(request, url, machine, sessions)), SLOW_MILLISECONDS))
    else if (fault === 'stalled') response.writeHead(200, { 'content-length': 100 }).write('half')
    else if (fault === 'not-http') request.socket.end('SSH-2.0-OpenSSH_10.0\r\n')
    else if (fault !== null && typeof fault === 'object') send(fault)
    else {
      if (fault === 'session-expired' && !isSession) sessions.clear()
      send(answerOf(request, url, machine, sessions))
    }
  })
  const listening = await listen(server, address, port)
  return {
    url: `http://${address}:${String(listening.port)}`,
    machine,
    seen,
    async [Symbol.asyncDispose]() {
      for (const timer of timers) clearTimeout(timer)
      await listening[Symbol.asyncDispose]()
    },
  }
}

function answerOf(request: IncomingMessage, url: URL, machine: Machine, sessions: Set<string>): RawAnswer {
  const { headers } = request
  if (url.pathname === CONTAINER_PATH)
    return headers.authorization === CONTAINER_TOKEN
      ? { status: 200, body: keysOf(machine) }
      : { status: 401, body: { message: 'bad token' } }
  if (url.pathname.startsWith('/latest/')) return awsAnswer(request, url.pathname, machine, sessions)
  if (url.pathname.startsWith('/computeMetadata/')) return googleAnswer(request, url, machine)
  return url.pathname === '/metadata/identity/oauth2/token'
    ? azureAnswer(request, url, machine)
    : { status: 404 }
}

/** "Use IMDSv2", EC2 User Guide. */
function awsAnswer(
  { method, headers }: IncomingMessage,
  path: string,
  machine: Machine,
  sessions: Set<string>,
): RawAnswer {
  if (path === '/latest/api/token') {
    const seconds = Number(headers['x-aws-ec2-metadata-token-ttl-seconds'])
    if (method !== 'PUT') return { status: 405 }
    if (!(seconds >= 1 && seconds <= 21_600)) return { status: 400 }
    const session = `canary-session-${String(sessions.size + 1)}==`
    sessions.add(session)
    return { status: 200, body: session }
  }
  const session = headers['x-aws-ec2-metadata-token']
  if (method !== 'GET' || typeof session !== 'string' || !sessions.has(session)) return { status: 401 }
  if (path === '/latest/dynamic/instance-identity/document')
    return { status: 200, body: { region: machine.region, instanceId: 'i-0123' } }
  const roles = '/latest/meta-data/iam/security-credentials/'
  if (machine.role === null) return { status: 404, body: 'Not Found' }
  if (path === roles) return { status: 200, body: machine.role }
  return machine.hasRoleKeys && path === roles + machine.role
    ? { status: 200, body: keysOf(machine) }
    : { status: 404, body: 'Not Found' }
}

/** "Verify the identity of an instance", documentation of Compute Engine. */
function googleAnswer({ headers }: IncomingMessage, { pathname, searchParams }: URL, machine: Machine) {
  const flavor = { 'metadata-flavor': 'Google' }
  if (headers['metadata-flavor'] !== 'Google') return { status: 403, headers: flavor }
  const isIdentity = pathname === '/computeMetadata/v1/instance/service-accounts/default/identity'
  if (machine.jwt === null || !isIdentity)
    return { status: 404, body: 'Error 404 (Not Found)', headers: flavor }
  if (!searchParams.has('audience') || searchParams.get('format') !== 'full')
    return { status: 400, body: 'non-empty audience parameter required', headers: flavor }
  return { status: 200, body: machine.jwt(searchParams), headers: flavor }
}

/** "Use managed identities on a virtual machine", documentation of Entra. */
function azureAnswer({ headers }: IncomingMessage, { searchParams }: URL, machine: Machine): RawAnswer {
  const refuse = (error: string, error_description: string): RawAnswer => ({
    status: 400,
    body: { error, error_description },
  })
  if (headers['metadata'] !== 'true')
    return refuse('bad_request_102', 'Required metadata header not specified')
  const [version, resource, clientId] = ['api-version', 'resource', 'client_id'].map((name) =>
    searchParams.get(name),
  )
  if (version !== '2018-02-01' || !URL.canParse(resource ?? ''))
    return refuse('invalid_request', 'a parameter is missing or invalid')
  const isKnown = typeof clientId !== 'string' || machine.identities.includes(clientId)
  if (machine.jwt === null || !isKnown) return refuse('invalid_request', 'Identity not found')
  return { status: 200, body: { access_token: machine.jwt(searchParams), expires_in: '3600' } }
}

function keysOf({ keys }: Machine): object {
  const { accessKeyId, secretAccessKey, sessionToken } = keys
  return {
    Code: 'Success',
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    Token: sessionToken,
  }
}
