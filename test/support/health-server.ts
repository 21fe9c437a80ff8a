import { once } from 'node:events'
import { request, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import type { ListenAddress } from '../../agent/health/listen.ts'
import type { HealthSources } from '../../agent/health/routes.ts'
import { HEALTH_LIMITS, HealthServer, type HealthLimits } from '../../agent/health/server.ts'
import type { CertificateState } from '../../agent/renewal/certificate-state.ts'
import type { CertificateStatus, ServedStatus, StatusDocument } from '../../agent/renewal/status-document.ts'
import { RecordingLog } from '../fakes/recording-log.ts'

const FREE_PORT: ListenAddress = { kind: 'tcp', host: '127.0.0.1', port: 0 }

export function certificate(host_key: string, state: CertificateState, failures = 0): CertificateStatus {
  return {
    host_key,
    key_type: 'ssh-ed25519',
    certificate: '/c',
    state,
    reason: state === 'valid' ? null : 'CERT_EXPIRED',
    serial: '1',
    key_id: 'host-x',
    principals: [],
    ca_fingerprint: null,
    valid_after: null,
    valid_before: null,
    renewal_due: null,
    served: null,
    last_attempt: null,
    last_success: null,
    failures,
    last_error: null,
  }
}

/** What is known of what sshd presents; by default nothing. */
export function servedAs(changes: Partial<ServedStatus>): ServedStatus {
  return { serial: null, matches: null, valid_before: null, checked_at: null, unknown: null, ...changes }
}

export function statusOf(certificates: CertificateStatus[], enrolled = true): StatusDocument {
  return {
    version: '1.2.3',
    enrolled,
    issuer: { url: null, reachable: null, last_success: null, clock_skew_seconds: null },
    certificates,
    waits: [],
    notes: [],
    sshd: { state: null, since: null },
    machine: { copied: null },
    login: { method: null },
  }
}

export const GOOD = statusOf([
  certificate('ssh_host_ed25519_key', 'valid'),
  certificate('ssh_host_rsa_key', 'valid'),
])

export const SOURCES: HealthSources = {
  status: () => GOOD,
  live: () => ({ ok: true, lastTurn: 1_795_438_800 }),
  metricsText: () => Promise.resolve('hostcertd_x 1\n'),
  metricsContentType: 'text/plain; version=0.0.4; charset=utf-8',
  version: '1.2.3',
  hostName: () => 'web1.example.com',
  ownNames: async () => ['web1', 'web1.example.com'],
  now: () => 1_795_438_800,
  recentEvents: () => [],
}

interface Setup {
  readonly listen?: ListenAddress
  readonly sources?: Partial<HealthSources>
  readonly limits?: Partial<HealthLimits>
}

interface Running {
  readonly server: HealthServer
  readonly log: RecordingLog
  readonly port: number
}

/** A server on a free port, stopped when the test is over. */
export async function started({
  listen = FREE_PORT,
  sources = {},
  limits = {},
}: Setup = {}): Promise<Running> {
  const log = new RecordingLog()
  const server = new HealthServer(listen, { ...SOURCES, ...sources }, log, { ...HEALTH_LIMITS, ...limits })
  onTestFinished(() => server.stop())
  const result = await server.start()
  if (!result.ok) throw new Error(result.message)
  return { server, log, port: Number(/:(\d+)$/.exec(result.address ?? '')?.[1]) }
}

interface Answer {
  readonly status: number | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

type To = { readonly port: number } | { readonly socketPath: string }

/** One request on a connection of its own. */
export async function ask(
  to: To,
  path: string,
  method = 'GET',
  headers: OutgoingHttpHeaders = {},
): Promise<Answer> {
  const outgoing = request({ ...to, host: '127.0.0.1', path, method, headers, agent: false })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  return { status: incoming.statusCode, headers: incoming.headers, body: await text(incoming) }
}

/** A bare connection, closed when the test is over. */
export async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {}) // a reset is as good an end as any
  onTestFinished(() => {
    socket.destroy()
  })
  await once(socket, 'connect')
  return socket
}
