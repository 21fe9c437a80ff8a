import { AgentError, type ErrorCode } from '../cert/errors.ts'
import { quote } from '../cert/text.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Clock, IssuerFailure } from '../renewal/ports.ts'

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
  /** Whether this machine asked for that name to be registered and has no answer, so that a host of it may be its own. */
  readonly mayHaveRegistered: () => boolean
}

export type FoundHost =
  | { readonly kind: 'found'; readonly id: string; readonly isNew: boolean }
  /** Nothing is registered when nothing may be changed. */
  | { readonly kind: 'would-register' }

/** A question that may be asked again. */
type Ask<Answer> = (signal: AbortSignal) => Promise<Answer>
type Failed = { readonly kind: 'failed'; readonly failure: IssuerFailure }

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

function taken(id: string, { hostname, mayHaveRegistered }: HostWish): AgentError {
  const what = `${hostname} is registered already, as ${id}`
  const message = mayHaveRegistered()
    ? `${what}; this machine asked the issuer to register that name and got no answer, so it may be its own, but another machine may have registered it: if no other machine uses that name, add --take-over`
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

/** A grant takes effect after up to ten seconds. */
const GRANT_SECONDS = 15
const GRANT_PAUSE_MILLISECONDS = 3_000
/**
 * Thousands of hosts behind one address share one limit of 200 requests a minute: 5,000 of them, with three host keys
 * each, need 100 minutes.
 */
const LONGEST_WAIT_SECONDS = 4 * 3600
/** 5,000 requests at 200 a minute, and a little more. */
const FLEET_SECONDS = 26 * 60
const SHORTEST_SPREAD_SECONDS = 4 * 60
const MOST_FAULTS = 3
const PAUSE_MILLISECONDS = 5_000

/** What an administrator may have permitted a moment ago. */
const GRANTED: readonly ErrorCode[] = ['ISSUER_FORBIDDEN', 'ISSUER_NOT_FOUND']

/** @returns milliseconds; null: no grant takes that long */
function pauseForGrant(waited: number): number | null {
  return waited < GRANT_SECONDS ? GRANT_PAUSE_MILLISECONDS : null
}

/** Waits for an issuer that says "later", and for a grant that is new. */
export class Patience {
  readonly #clock: Clock
  readonly #tell: (text: string) => void

  constructor(clock: Clock, tell: (text: string) => void) {
    this.#clock = clock
    this.#tell = tell
  }

  /**
   * Ask until there is an answer.
   *
   * @param lacking why an answer may be another one once a grant takes effect; null: it is one to go by
   * @throws AgentError with the issuer's failure; the signal's reason
   */
  async ask<Answer extends { readonly kind: string }>(
    ask: Ask<Answer | Failed>,
    signal: AbortSignal,
    lacking: (answer: Exclude<Answer, Failed>) => string | null = () => null,
  ): Promise<Exclude<Answer, Failed>> {
    const since = this.#clock.uptime()
    let faults = 0
    for (;;) {
      const answer = await ask(signal)
      const waited = this.#clock.uptime() - since
      const isAnswer = answer.kind !== 'failed' || !('failure' in answer)
      const why = isAnswer ? lacking(answer as Exclude<Answer, Failed>) : answer.failure.message
      // "Later" is no fault, and an exchange that ends meanwhile is none after many of them.
      if (!isAnswer) faults = answer.failure.retryAfterSeconds === null ? faults + 1 : 0
      const pause = isAnswer ? pauseForGrant(waited) : this.#pauseAfter(answer.failure, waited, faults)
      if (isAnswer && (why === null || pause === null)) return answer as Exclude<Answer, Failed>
      if (!isAnswer && pause === null) throw new AgentError(answer.failure.code, answer.failure.message)
      const milliseconds = pause ?? 0
      this.#tell(`${why}; trying again in ${Math.ceil(milliseconds / 1000)} s`)
      await this.#clock.sleep(milliseconds, signal)
    }
  }

  /** @returns milliseconds; null: give up */
  #pauseAfter(
    { code, next, retryAfterSeconds }: IssuerFailure,
    waited: number,
    faults: number,
  ): number | null {
    if (next === 'administrator' && GRANTED.includes(code)) return pauseForGrant(waited)
    if (code !== 'ISSUER_BUSY' && code !== 'ISSUER_TIMEOUT' && code !== 'ISSUER_UNREACHABLE') return null
    if (retryAfterSeconds === null)
      return faults <= MOST_FAULTS ? PAUSE_MILLISECONDS * 2 ** (faults - 1) : null
    if (waited > LONGEST_WAIT_SECONDS) return null
    // How many others wait is not known, but it grows with the time that this host has waited: nobody is told the same
    // moment as all others, and nobody begins anew when most are through.
    const longest = Math.max(FLEET_SECONDS - waited, SHORTEST_SPREAD_SECONDS)
    const spread = this.#clock.dice() * Math.min(60 + waited, longest)
    return (retryAfterSeconds + spread) * 1000
  }
}
