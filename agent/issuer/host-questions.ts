import * as v from 'valibot'
import type { IssuerFailure } from '../renewal/ports.ts'

/** What `enroll` asks of the exchange, besides certificates: part of the protocol in `exchange-protocol.ts`. */

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
export const PROJECT_ID = /^[\w-]{1,64}$/
/** A host name as in a certificate; hosts that others registered may have upper-case letters. */
const HOST_NAME = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/i
export const ALIAS = /^[\w.-]{1,255}$/
/** As the server takes it: `30d`, `1 year`. */
const TTL = /^\d{1,12}(?:\.\d{1,9})? ?[a-z]{0,12}$/i
/** Of the names in one answer. */
export const MOST_SIMILAR = 8
/** Of the hosts in one answer, which is limited in bytes anyway. */
const MOST_HOSTS = 16 * 1024 * 1024

export function isUuid(text: string): boolean {
  return UUID.test(text)
}

/** The id of the host in the key id of a certificate of the issuer's, `host-ID`; null when there is none. */
export function hostIdIn(keyId: string): string | null {
  const id = keyId.startsWith('host-') ? keyId.slice('host-'.length) : ''
  return isUuid(id) ? id.toLowerCase() : null
}

const text = v.string()
const hostId = v.pipe(text, v.regex(UUID))
const projectId = v.pipe(text, v.regex(PROJECT_ID))
const hostname = v.pipe(text, v.regex(HOST_NAME))
/** What is damaged counts as absent: nothing is decided by it. */
const orNull = (pattern: RegExp) => v.fallback(v.nullable(v.pipe(text, v.regex(pattern))), null)

/** A host as the issuer describes it; what else it says is left out. */
export const registeredHost = v.object({
  id: hostId,
  projectId,
  hostname,
  alias: orNull(ALIAS),
  hostCertTtl: orNull(TTL),
})

/** The questions; each has a number on top. */
export const HOST_QUESTIONS = {
  'find-host': v.object({
    ask: v.literal('find-host'),
    by: v.variant('kind', [
      v.object({ kind: v.literal('id'), id: hostId }),
      /** `project` is an id or a slug. */
      v.object({ kind: v.literal('name'), project: projectId, hostname: text }),
    ]),
  }),
  'register-host': v.object({
    ask: v.literal('register-host'),
    /** An id or a slug. */
    project: projectId,
    hostname: text,
    alias: v.nullable(v.pipe(text, v.regex(ALIAS))),
    /** `30d`; null: as the server has it, a year. */
    ttl: v.nullable(text),
  }),
  'delete-host': v.object({ ask: v.literal('delete-host'), hostId }),
  'user-ca': v.object({ ask: v.literal('user-ca'), hostId }),
} as const

export const HOST_ANSWERS = [
  v.object({
    kind: v.literal('found'),
    project: v.nullable(v.object({ id: projectId, slug: v.nullable(projectId) })),
    /** Null: not among those that this identity can read, which says nothing when `visible` is 0. */
    host: v.nullable(registeredHost),
    /** Names of hosts that differ only in case, or whose alias is the name. */
    similar: v.pipe(v.array(hostname), v.maxLength(MOST_SIMILAR)),
    /** How many hosts of the project this identity can read; 0: it has no right to, or there are none. */
    visible: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MOST_HOSTS)),
  }),
  v.object({ kind: v.literal('registered'), host: registeredHost }),
  /** A host has that name, or that alias. */
  v.object({ kind: v.literal('taken'), what: v.picklist(['hostname', 'alias']), host: registeredHost }),
  /** `wasThere` false: it was deleted before. */
  v.object({ kind: v.literal('deleted'), wasThere: v.boolean() }),
  /** `TYPE BASE64`. */
  v.object({ kind: v.literal('user-ca'), key: text }),
] as const

export type RegisteredHost = v.InferOutput<typeof registeredHost>

type HostAnswer = v.InferOutput<(typeof HOST_ANSWERS)[number]>
type Ask = keyof typeof HOST_QUESTIONS

/** What each of the questions is answered with. */
export const HOST_ANSWER_KINDS = {
  'find-host': ['found'],
  'register-host': ['registered', 'taken'],
  'delete-host': ['deleted'],
  'user-ca': ['user-ca'],
} as const satisfies Readonly<Record<Ask, readonly HostAnswer['kind'][]>>

/** A question without its number and its name. */
export type HostQuestion<A extends Ask> = Omit<v.InferOutput<(typeof HOST_QUESTIONS)[A]>, 'ask'>

export type HostAnswerOf<A extends Ask> =
  | Extract<HostAnswer, { kind: (typeof HOST_ANSWER_KINDS)[A][number] }>
  | (A extends 'register-host' ? FailedRegistration : FailedQuestion)

interface FailedQuestion {
  readonly kind: 'failed'
  readonly failure: IssuerFailure
}

interface FailedRegistration extends FailedQuestion {
  /** False: this request surely registered nothing. True: it may have, and the answer does not say. */
  readonly mayBeRegistered: boolean
}

/**
 * What `enroll` asks of the issuer besides certificates. Each does the least that there is to ask, never asks again by
 * itself for a limit of the rate, and rejects only when `signal` fires.
 */
export interface Hosts {
  findHost(question: HostQuestion<'find-host'>, signal: AbortSignal): Promise<HostAnswerOf<'find-host'>>
  /** Not idempotent: after an answer that was lost, the name is `taken`. */
  registerHost(
    question: HostQuestion<'register-host'>,
    signal: AbortSignal,
  ): Promise<HostAnswerOf<'register-host'>>
  /** Idempotent. */
  deleteHost(question: HostQuestion<'delete-host'>, signal: AbortSignal): Promise<HostAnswerOf<'delete-host'>>
  userCa(question: HostQuestion<'user-ca'>, signal: AbortSignal): Promise<HostAnswerOf<'user-ca'>>
}

/** Nothing is asked of the issuer. */
export function refusingHosts(failure: IssuerFailure): Hosts {
  const refuse = async () => ({ kind: 'failed', failure, mayBeRegistered: false }) as const
  return { findHost: refuse, registerHost: refuse, deleteHost: refuse, userCa: refuse }
}
