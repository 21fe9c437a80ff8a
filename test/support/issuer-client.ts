import type { LocalIssuer } from './local-issuer.ts'

/** An answer as it came; `body` is empty unless it is JSON. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly body: Readonly<Record<string, unknown>>
}

/** Paths of a local issuer. */
export const issuerPaths = {
  login: '/api/v1/auth/universal-auth/login',
  issue: (hostId: string) => `/api/v1/ssh/hosts/${hostId}/issue-host-cert`,
  hostCa: (hostId: string) => `/api/v1/ssh/hosts/${hostId}/host-ca-public-key`,
}

/** GET with plain fetch. @param authorization the whole header; default: none */
export async function get(issuer: LocalIssuer, path: string, authorization?: string): Promise<Answer> {
  return await read(await fetch(issuer.url + path, { headers: headersWith(authorization) }))
}

/** POST JSON with plain fetch. */
export async function post(
  issuer: LocalIssuer,
  path: string,
  body: unknown,
  authorization?: string,
): Promise<Answer> {
  const headers = { 'content-type': 'application/json', ...headersWith(authorization) }
  return await read(await fetch(issuer.url + path, { method: 'POST', headers, body: JSON.stringify(body) }))
}

/** Have a public key signed. @param token default: a fresh one that may do it */
export async function issue(
  issuer: LocalIssuer,
  hostId: string,
  publicKey: string,
  token: string = issuer.addToken(),
): Promise<Answer> {
  return await post(issuer, issuerPaths.issue(hostId), { publicKey }, `Bearer ${token}`)
}

function headersWith(authorization?: string): Record<string, string> {
  return authorization === undefined ? {} : { authorization }
}

async function read(response: Response): Promise<Answer> {
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false
  return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : {} }
}
