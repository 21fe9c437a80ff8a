import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { listen } from '../../issuer/harness.ts'

/** What the platform has for this machine; a test changes it as it goes. */
export interface Machine {
  /** Null: no role is attached. */
  role: string | null
  keys: { accessKeyId: string; secretAccessKey: string; sessionToken: string }
  region: string
  /** Of Google Cloud's service account, or Azure's managed identity; null: there is none. */
  jwt: ((query: URLSearchParams) => string) | null
  /** `silent`: no answer; `closed`: the metadata service is switched off; `words`: and says why; `large`, `garbage`: an answer that is no use. */
  fault: 'silent' | 'closed' | 'words' | 'large' | 'garbage' | null
}

export interface MetadataServer extends AsyncDisposable {
  readonly url: string
  readonly machine: Machine
  /** `PUT /latest/api/token`: the requests so far. */
  readonly seen: readonly string[]
}

const CONTAINER_TOKEN = 'canary-token-of-the-container'

/** The metadata services of AWS (version 2 only), Google Cloud and Azure, and the credentials service of containers. */
export async function startMetadataServer(
  machine: Machine,
  { address = '127.0.0.1', port = 0 } = {},
): Promise<MetadataServer> {
  const seen: string[] = []
  let sessions = 0
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '/', 'http://metadata')
    seen.push(`${request.method} ${url.pathname}`)
    const answer = (status: number, text: string, headers: object = {}): void => {
      response.writeHead(status, { ...headers })
      response.end(text)
    }
    switch (machine.fault) {
      case 'silent':
        return
      case 'closed':
        answer(403, '')
        return
      case 'words':
        answer(403, 'disabled by an administrator', { 'metadata-flavor': 'Google' })
        return
      case 'large':
        answer(200, 'x'.repeat(100_000), { 'metadata-flavor': 'Google' })
        return
      case 'garbage':
        answer(200, '\x1b[2J{"a":', { 'metadata-flavor': 'Google' })
        return
      case null:
    }
    const { headers, method } = request
    if (url.pathname === '/latest/api/token') {
      const seconds = Number(headers['x-aws-ec2-metadata-token-ttl-seconds'])
      if (method !== 'PUT' || !(seconds >= 1 && seconds <= 21_600)) answer(400, '')
      else answer(200, `canary-session-${String(++sessions)}`)
    } else if (url.pathname.startsWith('/latest/')) {
      if (headers['x-aws-ec2-metadata-token'] !== `canary-session-${String(sessions)}`) answer(401, '')
      else answerAws(url.pathname, machine, answer)
    } else if (url.pathname === '/container-keys') {
      if (headers.authorization === CONTAINER_TOKEN) answer(200, keysOf(machine))
      else answer(401, '{"message":"bad token"}')
    } else if (url.pathname.startsWith('/computeMetadata/')) {
      const flavor = { 'metadata-flavor': 'Google' }
      if (headers['metadata-flavor'] !== 'Google') answer(403, '')
      else if (machine.jwt === null) answer(404, 'Error 404 (Not Found)', flavor)
      else answer(200, machine.jwt(url.searchParams), flavor)
    } else if (url.pathname === '/metadata/identity/oauth2/token') {
      if (headers['metadata'] !== 'true') answer(400, '{"error":"bad_request_102"}')
      else if (machine.jwt === null)
        answer(400, '{"error":"invalid_request","error_description":"Identity not found"}')
      else answer(200, JSON.stringify({ access_token: machine.jwt(url.searchParams), expires_in: '3600' }))
    } else answer(404, '')
  })
  const listening = await listen(server, address, port)
  return {
    url: `http://${address}:${String(listening.port)}`,
    machine,
    seen,
    [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose](),
  }
}

function answerAws(path: string, machine: Machine, answer: (status: number, text: string) => void): void {
  const roles = '/latest/meta-data/iam/security-credentials/'
  if (path === '/latest/dynamic/instance-identity/document')
    answer(200, JSON.stringify({ region: machine.region, instanceId: 'i-0123' }))
  else if (machine.role === null) answer(404, 'Not Found')
  else if (path === roles) answer(200, machine.role)
  else if (path === roles + machine.role) answer(200, keysOf(machine))
  else answer(404, 'Not Found')
}

function keysOf({ keys }: Machine): string {
  const { accessKeyId, secretAccessKey, sessionToken } = keys
  return JSON.stringify({
    Code: 'Success',
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    Token: sessionToken,
  })
}

/** What the container's variables say. */
export const CONTAINER = { AWS_CONTAINER_AUTHORIZATION_TOKEN: CONTAINER_TOKEN }
