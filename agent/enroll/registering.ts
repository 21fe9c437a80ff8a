import { AgentError, type ErrorCode } from '../cert/errors.ts'
import type { ExchangeClient } from '../issuer/exchange-client.ts'
import type { Change } from './change.ts'
import type { Journal } from './journal.ts'

type Hosts = Pick<ExchangeClient, 'findHost' | 'registerHost'>

/** What the issuer says when it did not register a host; after any other failure it may have. */
const REFUSALS: readonly ErrorCode[] = [
  'ISSUER_FORBIDDEN',
  'ISSUER_NOT_FOUND',
  'ISSUER_REJECTED',
  'ISSUER_UNAUTHORIZED',
]

/**
 * Write into the journal that a name is being registered before the issuer is asked to: if the answer is lost, a host of
 * that name may be this machine's own. It is forgotten when the issuer did not register it, and by {@link settle}.
 */
export function noted({ findHost, registerHost }: Hosts, journal: Journal): Hosts {
  return {
    findHost,
    async registerHost(question, signal) {
      const { hostname } = question
      // After a lost answer, this one does not say what became of the earlier question.
      const wasLost = mayHaveRegistered(journal, hostname)
      if (!wasLost) {
        const run = journal.begin()
        await run.make({ kind: 'registration', step: `register ${hostname}`, hostId: null, hostname })
        await run.finish()
      }
      const answer = await registerHost(question, signal)
      const isRefused =
        answer.kind === 'taken' || (answer.kind === 'failed' && REFUSALS.includes(answer.failure.code))
      if (isRefused && !wasLost) await settle(journal, hostname)
      return answer
    },
  }
}

/**
 * Whether this machine asked for a name to be registered and never got an answer. It proves nothing about a host of that
 * name: another machine may have registered it before, or since.
 */
export function mayHaveRegistered({ runs }: Journal, hostname: string): boolean {
  return runs.some(({ changes }) => changes.some((change) => isAbout(change, hostname)))
}

/**
 * Forget that question: it is known by now which host this machine is.
 *
 * @throws AgentError STORE_FAILED when the journal still contains it
 */
export async function settle(journal: Journal, hostname: string): Promise<void> {
  const { left } = await journal.undoAll((change) => !isAbout(change, hostname))
  if (left.length > 0)
    throw new AgentError('STORE_FAILED', left.map(({ path, why }) => `${path}: ${why}`).join('; '))
}

function isAbout(change: Change, hostname: string): boolean {
  return change.kind === 'registration' && change.hostId === null && change.hostname === hostname
}
