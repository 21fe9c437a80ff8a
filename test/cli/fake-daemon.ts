import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { CertificateStatus, ServedStatus, StatusDocument } from '../../agent/renewal/status-document.ts'
import { type BareHost, makeBareHost } from './bare-host.ts'

export interface FakeAnswer {
  readonly status?: number
  readonly body: string
}

/** What listens on a health port in place of the daemon. `await using` ends it. */
export interface FakeDaemon extends AsyncDisposable {
  /** For `health.listen`. */
  readonly listen: string
}

/** @param answers by path; null: takes the request and says nothing. Any other path is a 404. */
export async function startFakeDaemon(
  answers: Readonly<Record<string, FakeAnswer | null>>,
): Promise<FakeDaemon> {
  const server: Server = createServer((request, response) => {
    const answer = answers[request.url ?? '']
    if (answer === null) return
    response.writeHead(answer?.status ?? (answer === undefined ? 404 : 200)).end(answer?.body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    listen: `127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

export const LIVE: FakeAnswer = { body: '{"status":"pass","last_turn":"2026-11-23T13:00:00Z"}' }
export const HANGS: FakeAnswer = {
  status: 503,
  body: '{"status":"fail","last_turn":"2026-11-23T13:00:00Z"}',
}

/** A bare host, and what answers on its health port. */
export async function makeHostWithDaemon(status: FakeAnswer, livez: FakeAnswer = LIVE): Promise<BareHost> {
  const daemon = await startFakeDaemon({ '/status': status, '/livez': livez })
  const host = await makeBareHost({ health: { listen: daemon.listen } })
  const dispose = async (): Promise<void> => {
    await host[Symbol.asyncDispose]()
    await daemon[Symbol.asyncDispose]()
  }
  return { ...host, [Symbol.asyncDispose]: dispose }
}

/** What a daemon says at `/status`. */
export function statusAnswer(
  certificates: readonly CertificateStatus[],
  issuer: Partial<StatusDocument['issuer']> = {},
  changes: Partial<StatusDocument> = {},
): FakeAnswer {
  const usual = { url: 'https://issuer', reachable: true, last_success: null, clock_skew_seconds: 0 }
  const document: StatusDocument = {
    version: '9',
    enrolled: true,
    issuer: { ...usual, ...issuer },
    certificates,
    waits: [],
    notes: [],
    sshd: { state: 'up', since: '2026-11-23T13:00:00Z' },
    machine: { copied: false },
    login: { method: 'kubernetes' },
    ...changes,
  }
  return { body: JSON.stringify(document) }
}

/** Of a valid certificate of an Ed25519 key, for {@link statusAnswer}. */
export function validCertificate(host_key: string, served: ServedStatus): CertificateStatus {
  return {
    host_key,
    key_type: 'ssh-ed25519',
    certificate: '/c',
    state: 'valid',
    reason: null,
    serial: '7',
    key_id: null,
    principals: [],
    ca_fingerprint: null,
    valid_after: null,
    valid_before: null,
    renewal_due: null,
    served,
    last_attempt: null,
    last_success: null,
    failures: 0,
    last_error: null,
  }
}
