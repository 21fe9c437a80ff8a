import { AgentError } from '../cert/errors.ts'
import { readHostName } from '../cert/host-name.ts'
import type { Configured, Current } from './current.ts'
import type { HostWish } from './find-host.ts'
import type { OwnCertificate } from './own-host-keys.ts'
import { isUnanswered, registeredAs, registeredIn } from './registering.ts'
import type { EnrollOptions, EnrollTools } from './wanted.ts'

/** Names that the host with an id has by what is on this machine; null: nothing says. */
function namesOf(
  hostId: string,
  { principals, hostId: configuredId, enrollment }: Current,
  certificates: readonly OwnCertificate[],
): readonly string[] | null {
  const isIt = (id: string | null): boolean => id?.toLowerCase() === hostId.toLowerCase()
  if (isIt(configuredId) && principals !== null && principals.length > 0) return principals
  if (enrollment !== null && isIt(enrollment.host_id)) return [enrollment.hostname]
  const names = certificates.filter((one) => isIt(one.hostId)).flatMap((one) => one.principals)
  return names.length > 0 ? names : null
}

/**
 * The name of this host: by the option, the configuration, what is known of the host with that id, or the machine.
 *
 * @param hostId null: not known yet
 */
export async function hostnameOf(
  hostname: string | null,
  hostId: string | null,
  current: Current,
  certificates: readonly OwnCertificate[],
  { hostNames }: EnrollTools,
): Promise<string> {
  if (hostname !== null) return hostname
  const [configured] = current.principals ?? []
  if (configured !== undefined) return configured
  const ownName = readHostName((await hostNames()).at(-1) ?? '')
  const names = (hostId === null ? null : namesOf(hostId, current, certificates)) ?? []
  const isNamed = ownName.ok && (names.length === 0 || names.includes(ownName.value))
  const name = isNamed ? ownName : (names.map(readHostName).find(({ ok }) => ok) ?? ownName)
  if (name.ok) return name.value
  throw new AgentError('CONFIG_INVALID', `this host's name ${name.why}; give --hostname`)
}

/** Which host this machine is to be, by the options and what the machine has of it. */
export function wishOf(
  options: EnrollOptions,
  current: Current,
  hostname: string,
  certificates: readonly OwnCertificate[],
  { issuer }: Configured,
  { journal }: EnrollTools,
): HostWish {
  const certificateIds = [...new Set(certificates.map(({ hostId }) => hostId))]
  const [fromCertificate, ...others] = certificateIds
  if (options.fromCertificate && fromCertificate === undefined)
    throw new AgentError(
      'CERT_UNPARSABLE',
      'no host certificate in /etc/ssh or /etc/ssh/hostcertd is for a host key of this machine and has a key id of the form host-ID; name the host by --host-id or --project',
    )
  const isSame = current.hostId !== null && current.url === issuer.url && isNamed(current.hostId)
  if (options.fromCertificate && !isSame && others.length > 0)
    throw new AgentError(
      'CONFIG_INVALID',
      `certificates on this machine are for different hosts, ${certificateIds.join(' and ')}: name the right one by --host-id`,
    )
  return {
    ...options,
    hostId: options.hostId ?? (options.fromCertificate && !isSame ? (fromCertificate ?? null) : null),
    hostname,
    ownIds: [
      ...certificateIds,
      ...registeredIn(journal.runs),
      current.enrollment?.host_id ?? '',
      current.hostId ?? '',
    ],
    configuredId: isSame ? current.hostId : null,
    registeredId: registeredAs(journal.runs, { url: issuer.url, project: options.project, hostname }),
    isUnanswered: () => isUnanswered(journal, hostname),
  }

  /** Where nothing says which name the configured host has, it is this one, unless the name is looked up in a project. */
  function isNamed(id: string): boolean {
    const names = namesOf(id, current, certificates)
    return names === null ? options.project === null : names.includes(hostname)
  }
}
