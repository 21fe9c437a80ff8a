import { AgentError, CLOCKS_DIFFER } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import { FUTURE_TOLERANCE_SECONDS } from '../cert/verify-issued.ts'
import { failureLine } from '../cli/context.ts'
import { proxyFor } from '../issuer/proxy.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { SKEW_WARNING_SECONDS } from '../renewal/status-document.ts'
import { failure, type Finding, ok, remedyOf, skipped, unknown, warning } from './finding.ts'
import { WHERE_PROXIES_ARE_SET } from './network.ts'
import { asksOverHttp, type HttpPatient, type Patient } from './patient.ts'

/** Ask what needs no login: the CA of this host's certificates. It also shows the base URL, the host id, the clock. */
export async function examineIssuer(patient: HttpPatient): Promise<Finding[]> {
  const { probe, signal } = patient
  const answer = await probe.issuer.hostCa(signal)
  const { clockSkewSeconds } = probe.issuer.health()
  const clock = clockFinding(clockSkewSeconds)
  if (!answer.ok) {
    const line = failureLine(answer.failure)
    if (!answer.noSuchRoute) return [failure('issuer', line, issuerRemedy(answer.failure, patient)), clock]
    const remedy = `if it is the issuer, an old one, pin its CA with verify.host_ca_file; else correct issuer.url`
    return [warning('issuer', `it does not name its host CA: ${line}`, remedy), clock]
  }
  return [caFinding(answer.keys, await readPinned(patient), patient), clock]
}

type Pinned = readonly PublicKey[] | null | 'unreadable'

/** What is wrong with them is reported with the configuration. */
async function readPinned({ host }: Patient): Promise<Pinned> {
  try {
    return await host.pinnedCas.read()
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return 'unreadable'
  }
}

function caFinding(keys: readonly PublicKey[], pinned: Pinned, { config }: Patient): Finding {
  const fingerprints = keys.map(({ fingerprint }) => fingerprint).join(', ')
  const signs = `the issuer answers; its CA for this host is ${fingerprints}`
  if (pinned === null) return ok('issuer', `${signs} (none is pinned)`)
  if (pinned === 'unreadable') return ok('issuer', `${signs} (what is pinned cannot be read)`)
  if (keys.some((key) => pinned.some(({ blob }) => blob.equals(key.blob))))
    return ok('issuer', `${signs}, as pinned`)
  const file = config.verify.hostCaFile ?? 'verify.host_ca_file'
  const ours = pinned.map(({ fingerprint }) => fingerprint).join(', ')
  return failure(
    'issuer',
    `CERT_CA_MISMATCH: ${signs}, but ${file} pins ${ours}`,
    `ask who runs the issuer: if the CA was changed on purpose, put the new public key into ${file}`,
  )
}

function clockFinding(skew: number | null): Finding {
  if (skew === null) return unknown('clock', 'the answer of the issuer had no time in it, or there was none')
  const size = Math.abs(skew)
  const message = `this host's clock is ${size} s ${skew > 0 ? 'behind' : 'ahead of'} the issuer's`
  const remedy = remedyOf(CLOCKS_DIFFER)
  if (size > FUTURE_TOLERANCE_SECONDS) return failure('clock', message, remedy)
  return size > SKEW_WARNING_SECONDS ? warning('clock', message, remedy) : ok('clock', message)
}

/** The one login of a diagnosis: each one that fails counts against the identity. */
export async function examineLogin(patient: HttpPatient): Promise<Finding> {
  const { config, probe, signal } = patient
  const answer = await probe.login(signal)
  if (!answer.ok) return failure('login', failureLine(answer.failure), loginRemedy(answer.failure, patient))
  if (config.issuer.auth.method === 'token')
    return skipped('login', 'there is none: the access token comes from a file')
  return ok('login', 'the issuer accepts the client id and secret')
}

/** Whether the issuer knows the host; that it may be issued for shows only when it is. */
export async function examinePermission(patient: HttpPatient): Promise<Finding> {
  const { config, probe, signal } = patient
  const answer = await probe.readHost(signal)
  switch (answer.kind) {
    case 'failed':
      return failure('permission', failureLine(answer.failure), issuerRemedy(answer.failure, patient))
    case 'not-permitted':
      return skipped(
        'permission',
        `cannot read host ${config.issuer.sshHostId} (not required); whether the identity may issue for it shows with --issue`,
      )
    case 'readable': {
      const name = answer.hostname ?? 'a host without a name'
      const missing = (config.verify.principals ?? []).filter((wanted) => wanted !== answer.hostname)
      if (missing.length === 0) return ok('permission', `host ${config.issuer.sshHostId} is ${name}`)
      return failure(
        'permission',
        `certificates will be for ${name}, but verify.principals requires ${missing.join(', ')} too`,
        'remove from verify.principals what the host is not registered for, or add the name at the issuer',
      )
    }
  }
}

/** What to do about a failure that the issuer, or the way to it, gave: the catalogue's remedy, with what is configured. */
export function issuerRemedy({ code }: Pick<IssuerFailure, 'code'>, patient: Patient): string {
  if (!asksOverHttp(patient)) return remedyOf(code)
  const { sshHostId, url } = patient.config.issuer
  if (code === 'ISSUER_UNREACHABLE') return unreachableRemedy(patient)
  if (code === 'ISSUER_UNAUTHORIZED')
    return `${credentialRemedy(patient)}. An identity that is locked opens after 5 minutes`
  if (code === 'ISSUER_NOT_FOUND') return `${remedyOf(code)}. Configured are ${url} and ${sshHostId}`
  if (code === 'ISSUER_INVALID_RESPONSE') return `${remedyOf(code)}. Configured is ${url}`
  return remedyOf(code)
}

function unreachableRemedy({ config: { issuer }, environment }: HttpPatient): string {
  const url = new URL(issuer.url)
  const proxy = proxyFor(url, environment)
  const cut = `it takes connections, and then one broke off: look at the log of what is in front of ${issuer.url} (a load balancer, a firewall), and try again`
  return proxy === null
    ? cut
    : `${cut}; or at that of the proxy (${proxy.variable}). To go past it add ${url.hostname} to NO_PROXY: ${WHERE_PROXIES_ARE_SET}`
}

function loginRemedy(failed: Pick<IssuerFailure, 'code' | 'message'>, patient: HttpPatient): string {
  // No permission is needed to log in: only the address can be what is forbidden.
  if (failed.code === 'ISSUER_FORBIDDEN')
    return "add this host's address to those that the issuer allows the identity"
  // Only its words tell a locked identity from a wrong secret; this is about the order of the advice.
  if (failed.code === 'ISSUER_UNAUTHORIZED' && failed.message.includes('locked'))
    return `wait 5 minutes: for so long the issuer refuses an identity after wrong secrets. Then, if it refuses the secret: ${credentialRemedy(patient)}`
  return issuerRemedy(failed, patient)
}

function credentialRemedy({ config: { issuer } }: HttpPatient): string {
  const { auth } = issuer
  if (auth.method === 'token')
    return `put a new access token of the identity into ${auth.tokenFile}; an access token expires`
  const id = 'value' in auth.clientId ? `auth.client_id (${auth.clientId.value})` : auth.clientId.file
  return `check ${id}, make a new client secret for that identity and put it into ${auth.clientSecretFile}; then \`systemctl reload hostcertd\``
}
