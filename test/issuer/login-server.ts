import { createServer } from 'node:http'
import type { LocalIssuer } from '../support/local-issuer.ts'
import type { RawAnswer } from '../support/local-issuer/error-rows.ts'
import { listen, sendJson } from './harness.ts'

export type LoginBody = Readonly<Record<string, unknown>>

/** The login route of one method in front of a local issuer, which answers everything else. */
export interface LoginServer extends AsyncDisposable {
  readonly url: string
  /** The bodies of the logins so far. */
  readonly logins: LoginBody[]
}

/** @param judge the refusal of a login; null accepts it */
export async function startLoginServer(
  behind: LocalIssuer,
  route: string,
  judge: (body: LoginBody) => RawAnswer | null,
): Promise<LoginServer> {
  const logins: LoginBody[] = []
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
      const body = Buffer.concat(chunks).toString()
      if (request.url === `/api/v1/auth/${route}/login` && request.headers.authorization === undefined) {
        const login = JSON.parse(body) as LoginBody
        logins.push(login)
        const refusal = judge(login)
        const granted = { accessToken: behind.addToken(), expiresIn: 3600, tokenType: 'Bearer' }
        return sendJson(response, refusal?.status ?? 200, refusal === null ? granted : Object(refusal.body))
      }
      const headers = {
        'content-type': 'application/json',
        authorization: request.headers.authorization ?? '',
      }
      const answer = await fetch(`${behind.url}${request.url}`, { method: 'POST', headers, body })
      return sendJson(response, answer.status, Object(await answer.json()))
    })()
  })
  const listening = await listen(server)
  return {
    url: `http://127.0.0.1:${listening.port}`,
    logins,
    [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose](),
  }
}
