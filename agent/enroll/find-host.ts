import { AgentError } from '../cert/errors.ts'
import { certificateTtlSeconds } from '../cert/host-name.ts'
import { quote } from '../cert/text.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import { type HostQuestion, isUuid, type RegisteredHost } from '../issuer/host-questions.ts'
import type { Patience } from './patience.ts'

/** Which host of the issuer's this machine is to be. */
export interface HostWish {
  readonly hostId: string | null
  /** Id or slug. */
  readonly project: string | null
  /** In lower case. */
  readonly hostname: string
  /** Null: only one that is there already. */
  readonly register: { readonly ttl: string | null; readonly alias: string | null } | null
  /** Use a host of that name that is there already, although nothing on this machine names its id. */
  readonly takeOver: boolean
  /** Ids that this machine has from its certificates, its configuration and its enrollment. */
  readonly ownIds: readonly string[]
  /** The id in the configuration, when it is for this name at this issuer. */
  readonly configuredId: string | null
  /** The id under which this machine registered that name, in that project of that issuer. */
  readonly registeredId: string | null
  /** Whether this machine began to register that name and has no answer, so that a host of it may be its own. */
  readonly isUnanswered: () => boolean
}

export type FoundHost =
  | {
      readonly kind: 'found'
      readonly id: string
      readonly isNew: boolean
      /** How the host at the issuer differs from what `register` asked for, for people. */
      readonly notes: readonly string[]
    }
  /** Nothing is registered when nothing may be changed. */
  | { readonly kind: 'would-register' }

/**
 * Find or register the host. Registers first: only when the name is taken, the issuer is asked for the list of all hosts.
 * A host that is configured, or that this machine registered before, is registered again if it was deleted at the issuer.
 *
 * @param mayRegister false: only look
 * @throws AgentError with what has to be done
 */
export async function findHost(
  wish: HostWish,
  exchange: Pick<ExchangeClient, 'findHost' | 'registerHost'>,
  patience: Patience,
  mayRegister: boolean,
  signal: AbortSignal,
): Promise<FoundHost> {
  const { hostId, project, hostname, register, configuredId, registeredId } = wish
  if (hostId !== null) return found(hostId)
  const wanted = project === null || register === null ? null : { project, hostname, ...register }
  if (configuredId !== null) {
    if (wanted === null) return found(configuredId)
    const known = await findById(configuredId, exchange, patience, signal)
    if (known.kind !== 'deleted') return found(configuredId, false, differencesOf(wanted, known.host))
  }
  // Without the right to read, the issuer would only say that the name is taken.
  if (registeredId !== null && registeredId !== configuredId) {
    const known = await findById(registeredId, exchange, patience, signal)
    if (known.kind !== 'deleted')
      return found(registeredId, false, wanted === null ? [] : differencesOf(wanted, known.host))
  }
  if (project === null)
    throw new AgentError(
      'CONFIG_INVALID',
      'name the host: --host-id ID, --project PROJECT or --from-certificate',
    )
  if (register === null || !mayRegister) {
    const byName = { kind: 'name', project, hostname } as const
    const answer = await patience.ask(
      async (limit) => exchange.findHost({ by: byName }, limit),
      signal,
      // Without a permission the issuer shows an empty list: whether there are hosts is not known.
      ({ visible }) => (visible === 0 && register === null ? 'no host of the project is visible' : null),
    )
    if (answer.host !== null) {
      if (register === null || isOwn(answer.host.id, wish)) return found(answer.host.id)
      throw taken(answer.host.id, wish)
    }
    if (register === null) throw notFound(wish, answer)
    if (!mayRegister) return { kind: 'would-register' }
  }
  const question = { project, hostname, ...register }
  const answer = await patience.ask(async (limit) => exchange.registerHost(question, limit), signal)
  if (answer.kind === 'registered') return found(answer.host.id, true, differencesOf(question, answer.host))
  if (answer.what === 'alias') {
    const message = `the alias ${quote(register.alias ?? '')} is already used by ${answer.host.hostname}: choose another --alias`
    throw new AgentError('ISSUER_REJECTED', message)
  }
  if (isOwn(answer.host.id, wish)) return found(answer.host.id, false, differencesOf(question, answer.host))
  throw taken(answer.host.id, wish)
}

function found(id: string, isNew = false, notes: readonly string[] = []): FoundHost {
  return { kind: 'found', id, isNew, notes }
}

/**
 * How a host differs from what was asked for: an issuer may ignore what it does not know. A lifetime that cannot be read
 * is not compared.
 *
 * @param host null: this identity may not read it
 */
function differencesOf(
  { hostname, project, ttl, alias }: HostQuestion<'register-host'>,
  host: RegisteredHost | null,
): string[] {
  if (host === null) return []
  const notes: string[] = []
  if (isUuid(project) && host.projectId.toLowerCase() !== project.toLowerCase())
    notes.push(`${hostname} is in the project ${host.projectId} at the issuer, not in ${project}`)
  if (ttl !== null && host.hostCertTtl === null)
    notes.push(`the issuer does not say whether certificates of ${hostname} are valid for ${ttl}`)
  const [asked, given] = [ttl, host.hostCertTtl].map((text) => certificateTtlSeconds(text ?? ''))
  if (asked !== null && given !== null && asked !== given)
    notes.push(
      `certificates of ${hostname} are valid for ${host.hostCertTtl} by the issuer's settings, not for ${ttl}`,
    )
  if (alias !== null && host.alias === null)
    notes.push(`the issuer does not say whether ${hostname} has the alias ${quote(alias)}`)
  else if (alias !== null && host.alias !== alias)
    notes.push(`${hostname} has the alias ${quote(host.alias ?? '')} at the issuer, not ${quote(alias)}`)
  return notes
}

/**
 * A host by its id. It is deleted only by the word of the issuer itself, whose answers have an id; one that may not be read
 * is there.
 */
async function findById(
  id: string,
  exchange: Pick<ExchangeClient, 'findHost'>,
  patience: Patience,
  signal: AbortSignal,
): Promise<{ readonly kind: 'there'; readonly host: RegisteredHost | null } | { readonly kind: 'deleted' }> {
  return patience.ask(async (limit) => {
    const answer = await exchange.findHost({ by: { kind: 'id', id } }, limit)
    if (answer.kind !== 'failed') return { kind: 'there' as const, host: answer.host }
    const { code, requestId } = answer.failure
    if (code === 'ISSUER_NOT_FOUND' && requestId !== null) return { kind: 'deleted' as const }
    return code === 'ISSUER_FORBIDDEN' ? { kind: 'there' as const, host: null } : answer
  }, signal)
}

function isOwn(id: string, { ownIds, takeOver }: HostWish): boolean {
  return takeOver || ownIds.some((own) => own.toLowerCase() === id.toLowerCase())
}

function taken(id: string, { hostname, isUnanswered }: HostWish): AgentError {
  const what = `${hostname} is registered already, as ${id}`
  const message = isUnanswered()
    ? `${what}; this machine began to register that name and got no answer, so it may be its own, but another machine may have registered it: if no other machine uses that name, add --take-over`
    : `${what}, and nothing on this machine shows that it is this one; if it is, or if this machine replaces it, add --take-over`
  return new AgentError('ISSUER_REJECTED', message)
}

function notFound(
  { project, hostname }: HostWish,
  { visible, similar }: { readonly visible: number; readonly similar: readonly string[] },
): AgentError {
  const where = `the project ${quote(project ?? '')}`
  if (visible === 0) {
    const message = `the issuer shows no host of ${where}: the identity has no permission to read them, or there is none; name the host by --host-id, or add --register`
    return new AgentError('ISSUER_NOT_FOUND', message)
  }
  const names =
    similar.length === 0 ? '' : ` (similar: ${similar.map(quote).join(', ')}; names are in lower case)`
  return new AgentError(
    'ISSUER_NOT_FOUND',
    `${hostname} is not among the ${visible} hosts of ${where}${names}: add --register`,
  )
}
