import type { ExchangeClient } from '../issuer/exchange-client.ts'
import { isUuid } from '../issuer/host-questions.ts'
import type { RegistrationChange } from './change.ts'
import type { Journal, JournalRun } from './journal.ts'

type Hosts = Pick<ExchangeClient, 'findHost' | 'registerHost'>

/**
 * Hosts at the issuer, whose registrations are written into the journal before the issuer is asked, with no id: if the
 * answer is lost, a host of that name may be this machine's own. The id is added when the issuer gives it, and what the
 * issuer surely did not register is taken out again.
 *
 * @param url of the issuer
 */
export function recordRegistrations({ findHost, registerHost }: Hosts, journal: Journal, url: string): Hosts {
  return {
    findHost,
    async registerHost(question, signal) {
      const { hostname, project } = question
      const before = registrationsIn(journal.runs)
      // This answer does not say what became of an earlier request that got none.
      const isFirst = !isUnanswered(journal, hostname)
      const record = { kind: 'registration', step: `register ${hostname}`, hostId: null, hostname } as const
      if (isFirst) await journal.setRegistrations([...before, record])
      const answer = signal.aborted ? null : await registerHost(question, signal)
      if (answer?.kind === 'registered') {
        const others = before.filter((one) => one.hostId !== null || one.hostname !== hostname)
        const { id, projectId } = answer.host
        await journal.setRegistrations([
          ...others,
          { ...record, hostId: id, at: { url, projectId, project } },
        ])
      } else if (isFirst && (answer?.kind === 'failed' ? !answer.mayBeRegistered : true))
        await journal.setRegistrations(before)
      if (answer === null) throw signal.reason
      return answer
    },
  }
}

/**
 * Whether this machine began to register a name and did not get an answer. It proves nothing about a host of that name:
 * another machine may have registered it before, or since.
 */
export function isUnanswered({ runs }: Journal, hostname: string): boolean {
  return registrationsIn(runs).some((one) => one.hostId === null && one.hostname === hostname)
}

/**
 * Forget the registrations without an answer.
 *
 * @returns their host names
 */
export async function forgetUnanswered(journal: Journal): Promise<readonly string[]> {
  const all = registrationsIn(journal.runs)
  const answered = all.filter(({ hostId }) => hostId !== null)
  if (answered.length < all.length) await journal.setRegistrations(answered)
  return all.flatMap(({ hostId, hostname }) => (hostId === null ? [hostname] : []))
}

/** Forget a host that was deleted at the issuer. */
export async function forgetHost(journal: Journal, hostId: string): Promise<void> {
  const all = registrationsIn(journal.runs)
  const others = all.filter((one) => one.hostId !== hostId)
  if (others.length < all.length) await journal.setRegistrations(others)
}

/** For people, of a host name that was forgotten so. */
export function unansweredText(hostname: string): string {
  return `this machine began to register ${hostname} and got no answer: if no other machine uses a host of that name, delete it at the issuer`
}

/**
 * Ids of hosts that this machine registered, the newest last.
 *
 * @param url null: at whatever issuer. Those of which the issuer was not recorded count at any
 */
export function registeredIn(runs: readonly JournalRun[], url: string | null = null): readonly string[] {
  return registrationsIn(runs).flatMap(({ hostId, at }) => {
    const isThere = url === null || at === undefined || at.url === url
    return hostId === null || !isThere ? [] : [hostId]
  })
}

/** The URL of the issuer at which this machine registered a host; null when that is not known. */
export function issuerOf(runs: readonly JournalRun[], hostId: string): string | null {
  const isIt = (one: RegistrationChange): boolean => one.hostId !== null && isSame(one.hostId, hostId)
  return registrationsIn(runs).findLast(isIt)?.at?.url ?? null
}

/**
 * The host that this machine registered last under a name in a project of an issuer: its own, whether or not it may read
 * it. It may have been deleted since.
 *
 * @param project id or slug; null: not known
 * @returns its id; null when there is none, or where it was registered is not known
 */
export function registeredAs(
  runs: readonly JournalRun[],
  {
    url,
    project,
    hostname,
  }: { readonly url: string; readonly project: string | null; readonly hostname: string },
): string | null {
  if (project === null) return null
  const isWanted = ({ at, hostname: name }: RegistrationChange): boolean =>
    at?.url === url && name === hostname && [at.project, at.projectId].some((one) => isSame(one, project))
  return registrationsIn(runs).findLast(isWanted)?.hostId ?? null
}

/** An id in any case; a slug as it is. */
function isSame(one: string, other: string): boolean {
  return isUuid(one) ? one.toLowerCase() === other.toLowerCase() : one === other
}

function registrationsIn(runs: readonly JournalRun[]): readonly RegistrationChange[] {
  return runs.flatMap(({ changes }) => changes).filter((one) => one.kind === 'registration')
}
