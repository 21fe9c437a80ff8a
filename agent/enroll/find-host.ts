import { AgentError } from '../cert/errors.ts'
import { quote } from '../cert/text.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
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
  /** Whether this machine began to register that name and has no answer, so that a host of it may be its own. */
  readonly isUnanswered: () => boolean
}

export type FoundHost =
  | { readonly kind: 'found'; readonly id: string; readonly isNew: boolean }
  /** Nothing is registered when nothing may be changed. */
  | { readonly kind: 'would-register' }

/**
 * Find or register the host. Registers first: only when the name is taken, the issuer is asked for the list of all hosts.
 * A configured host that was deleted at the issuer is registered again.
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
  const { hostId, project, hostname, register, configuredId } = wish
  if (hostId !== null) return { kind: 'found', id: hostId, isNew: false }
  const mayReplace = project !== null && register !== null
  if (configuredId !== null && !(mayReplace && (await isDeleted(configuredId, exchange, patience, signal))))
    return { kind: 'found', id: configuredId, isNew: false }
  if (project === null)
    throw new AgentError(
      'CONFIG_INVALID',
      'name the host: --host-id ID, --project PROJECT or --from-certificate',
    )
  if (register === null || !mayRegister) {
    const byName = { kind: 'name', project, hostname } as const
    const found = await patience.ask(
      async (limit) => exchange.findHost({ by: byName }, limit),
      signal,
      // Without a permission the issuer shows an empty list: whether there are hosts is not known.
      ({ visible }) => (visible === 0 && register === null ? 'no host of the project is visible' : null),
    )
    if (found.host !== null) {
      if (register === null || isOwn(found.host.id, wish))
        return { kind: 'found', id: found.host.id, isNew: false }
      throw taken(found.host.id, wish)
    }
    if (register === null) throw notFound(wish, found)
    if (!mayRegister) return { kind: 'would-register' }
  }
  const question = { project, hostname, ...register }
  const answer = await patience.ask(async (limit) => exchange.registerHost(question, limit), signal)
  if (answer.kind === 'registered') return { kind: 'found', id: answer.host.id, isNew: true }
  if (answer.what === 'alias') {
    const message = `the alias ${quote(register.alias ?? '')} is already used by ${answer.host.hostname}: choose another --alias`
    throw new AgentError('ISSUER_REJECTED', message)
  }
  if (isOwn(answer.host.id, wish)) return { kind: 'found', id: answer.host.id, isNew: false }
  throw taken(answer.host.id, wish)
}

/** Only by the word of the issuer itself, whose answers have an id; a host that may not be read is there. */
async function isDeleted(
  id: string,
  exchange: Pick<ExchangeClient, 'findHost'>,
  patience: Patience,
  signal: AbortSignal,
): Promise<boolean> {
  const known = await patience.ask(async (limit) => {
    const answer = await exchange.findHost({ by: { kind: 'id', id } }, limit)
    if (answer.kind !== 'failed') return { kind: 'known' as const, isGone: false }
    const { code, requestId } = answer.failure
    const isGone = code === 'ISSUER_NOT_FOUND' && requestId !== null
    return isGone || code === 'ISSUER_FORBIDDEN' ? { kind: 'known' as const, isGone } : answer
  }, signal)
  return known.isGone
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
