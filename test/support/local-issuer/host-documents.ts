import { isIP } from 'node:net'
import { Refusal } from './error-rows.ts'
import type { RegisteredHost, Registry } from './registry.ts'
import { objectIn } from './validation.ts'

const FQDN = /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$/i
const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, y: 31_557_600 }
/** The CAs have ids at the issuer; there is one of each here. */
const USER_CA_ID = '00000000-0000-4000-8000-00000000000a'
const HOST_CA_ID = '00000000-0000-4000-8000-00000000000b'

/** A host as `GET /api/v1/ssh/hosts/{id}` shows it. */
export function hostDescription(registry: Registry, host: RegisteredHost): object {
  return {
    id: host.id,
    projectId: registry.projectId,
    hostname: host.hostname,
    alias: host.alias,
    userCertTtl: '8h',
    hostCertTtl: `${host.ttlSeconds}s`,
    userSshCaId: USER_CA_ID,
    hostSshCaId: HOST_CA_ID,
    loginMappings: [],
  }
}

/**
 * What `POST /api/v1/ssh/hosts` asks for.
 *
 * @throws Refusal 422 when the name is no FQDN, or the ttl no duration
 */
export function parseNewHost(body: unknown): {
  projectId: string
  hostname: string
  alias: string | null
  ttlSeconds: number
} {
  const { projectId, hostname, alias = null, hostCertTtl = '1y' } = objectIn(body)
  if (typeof projectId !== 'string') invalid('projectId')
  if (typeof hostname !== 'string' || isIP(hostname) !== 0 || !FQDN.test(hostname)) invalid('hostname')
  if (alias !== null && typeof alias !== 'string') invalid('alias')
  const [, count, unit = ''] = /^(\d+)([smhdy])$/.exec(String(hostCertTtl)) ?? invalid('hostCertTtl')
  return { projectId, hostname, alias, ttlSeconds: Number(count) * (UNIT_SECONDS[unit] ?? 1) }
}

function invalid(name: string): never {
  const message = `Invalid ${name}`
  throw new Refusal('validation', { message: [{ code: 'custom', path: ['body', name], message }] })
}
