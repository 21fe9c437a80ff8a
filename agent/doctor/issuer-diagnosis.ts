import { CLOCKS_DIFFER } from '../cert/errors.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { oneLine } from '../cert/text.ts'
import { FUTURE_TOLERANCE_SECONDS } from '../cert/verify-issued.ts'
import { failureLine } from '../cli/context.ts'
import type { Login } from '../config/config.ts'
import type { DiagnosisQuestion, IssuerFinding } from '../issuer/exchange-protocol.ts'
import { authorityOf } from '../issuer/http.ts'
import { proxyFor } from '../issuer/proxy.ts'
import type { IssuerFailure, Log } from '../renewal/ports.ts'
import { SKEW_WARNING_SECONDS } from '../renewal/status-document.ts'
import { failure, hasFailure, ok, remedyOf, skipped, unknown, warning } from './finding.ts'
import { createIssuerProbe, type HostAnswer, type IssuerProbe, type ReadableHost } from './issuer-probe.ts'
import { loginRemedy } from './login-remedies.ts'
import {
  type Address,
  examineNetwork,
  loginAddress,
  type WayToIssuer,
  WHERE_PROXIES_ARE_SET,
} from './network.ts'
import { tryIssuing } from './trial-issuance.ts'

interface Examination extends WayToIssuer {
  readonly question: DiagnosisQuestion
  readonly probe: IssuerProbe
}

/**
 * The part of `doctor` that asks the issuer. Runs in the exchange only. Logs in once at most, and issues only for the
 * keys that the question names. Each step needs those before it; what cannot be tried is skipped, with what it needs.
 */
export async function diagnoseIssuer(
  way: WayToIssuer,
  question: DiagnosisQuestion,
  { version, log }: { readonly version: string; readonly log: Log },
): Promise<IssuerFinding[]> {
  const { clock, issuer } = way
  // The requests of a diagnosis are not counted.
  const metrics = { issuerRequest: () => {}, loginFailed: () => {} }
  const probe = createIssuerProbe({ ...issuer, version, clock, log, metrics })
  const examination = { ...way, question, probe }
  const base: Address = { setting: 'issuer.url', url: issuer.url }
  const network = await examineNetwork(way, base)
  if (hasFailure(network)) {
    const rest = (['issuer', 'clock', 'login', 'permission'] as const).map(needsWay)
    return [...network, ...rest, ...skippedIssue(question)]
  }
  const { findings: answered, hostCas } = await examineIssuer(examination)
  const elsewhere = loginAddress(issuer)
  const toLogin =
    authorityOf(new URL(elsewhere.url)) === authorityOf(new URL(base.url))
      ? []
      : await examineNetwork(way, elsewhere)
  const reached = [...network, ...toLogin, ...answered]
  if (probe.issuer.health().reachable === false)
    return [...reached, needsWay('login'), needsWay('permission'), ...skippedIssue(question)]
  if (!question.login) {
    const rest = (['login', 'permission'] as const).map((step) => skipped(step, 'needs the credentials'))
    return [...reached, ...rest, ...skippedIssue(question)]
  }
  if (hasFailure(toLogin)) {
    const login = skipped('login', `needs a connection to ${elsewhere.setting}`)
    return [...reached, login, skipped('permission', 'needs a login'), ...skippedIssue(question)]
  }
  const login = await examineLogin(examination)
  if (login.status === 'failure')
    return [...reached, login, skipped('permission', 'needs a login'), ...skippedIssue(question)]
  const found = [...reached, login, ...(await examinePermission(examination))]
  const remedyFor = (failed: IssuerFailure): string => issuerRemedy(failed, examination)
  const trial = { issuer: probe.issuer, question, clock, signal: way.signal, remedyFor }
  return [...found, ...(hasFailure(found) ? skippedIssue(question) : await tryIssuing(trial, hostCas))]
}

function needsWay(step: IssuerFinding['step']): IssuerFinding {
  return skipped(step, 'needs a connection to the issuer')
}

function skippedIssue({ issueFor }: DiagnosisQuestion): IssuerFinding[] {
  return issueFor.length === 0 ? [] : [skipped('issue', 'needs all steps up to `permission`')]
}

/**
 * Ask for the CA of this host's certificates, which needs no login. This also tests the base URL, the host id, the clock.
 *
 * @returns `hostCas` null when the issuer does not name them
 */
async function examineIssuer(
  examination: Examination,
): Promise<{ readonly findings: IssuerFinding[]; readonly hostCas: readonly PublicKey[] | null }> {
  const { probe, question, signal } = examination
  const answer = await probe.issuer.hostCa(signal)
  const clock = clockFinding(probe.issuer.health().clockSkewSeconds)
  if (answer.ok) return { findings: [caFinding(answer.keys, question), clock], hostCas: answer.keys }
  const line = failureLine(answer.failure)
  const finding = answer.noSuchRoute
    ? warning(
        'issuer',
        `the issuer does not publish its host CA: ${line}`,
        'if the issuer is an old version, pin its CA with verify.host_ca_file; otherwise correct issuer.url',
      )
    : failure('issuer', line, issuerRemedy(answer.failure, examination))
  return { findings: [finding, clock], hostCas: null }
}

function caFinding(keys: readonly PublicKey[], { pinned }: DiagnosisQuestion): IssuerFinding {
  const fingerprints = keys.map(({ fingerprint }) => fingerprint).join(', ')
  const signs = `the issuer answers; its CA for this host is ${fingerprints}`
  if (pinned === null) return ok('issuer', `${signs} (none is pinned)`)
  const { file } = pinned
  if (pinned.keys === null) return ok('issuer', `${signs} (the pinned CA cannot be read)`)
  const known = parseCaKeys(pinned.keys.join('\n'))
  const strange = keys.filter((key) => !known.some(({ blob }) => blob.equals(key.blob)))
  if (strange.length === 0) return ok('issuer', `${signs}, as pinned`)
  if (strange.length < keys.length) {
    const notPinned = strange.map(({ fingerprint }) => fingerprint).join(', ')
    return warning(
      'issuer',
      `${signs}, of which ${file} does not pin ${notPinned}`,
      `ask the administrators of the issuer: if it is genuine, add it to ${file} before the issuer signs with it`,
    )
  }
  const ours = known.map(({ fingerprint }) => fingerprint).join(', ')
  return failure(
    'issuer',
    `CERT_CA_MISMATCH: ${signs}, but ${file} pins ${ours}`,
    `ask the administrators of the issuer: if the CA was changed on purpose, put the new public key into ${file}`,
  )
}

function clockFinding(skew: number | null): IssuerFinding {
  if (skew === null) return unknown('clock', 'the issuer did not answer, or its answer had no Date header')
  const size = Math.abs(skew)
  const message = `this host's clock is ${size} s ${skew > 0 ? 'behind' : 'ahead of'} the issuer's`
  const remedy = remedyOf(CLOCKS_DIFFER)
  if (size > FUTURE_TOLERANCE_SECONDS) return failure('clock', message, remedy)
  return size > SKEW_WARNING_SECONDS ? warning('clock', message, remedy) : ok('clock', message)
}

/** The one login of a diagnosis: each one that fails counts against the identity. */
async function examineLogin(examination: Examination): Promise<IssuerFinding> {
  const { issuer, probe, signal } = examination
  const { method } = issuer.auth
  const answer = await probe.login(signal)
  const claims = shownClaims(probe.claims)
  if (!answer.ok) {
    const { failure: failed } = answer
    const said = claims === '' || !isAboutProof(failed) ? '' : `. The proof of identity: ${claims}`
    const remedy =
      loginRemedy(examination.shownAuth, failed) ?? issuerRemedy(failed, examination, loginAddress(issuer))
    return failure('login', `${failureLine(failed)}${said}`, remedy)
  }
  if (method === 'token') return skipped('login', 'not needed: the access token comes from a file')
  const as = `logged in by ${method}${claims === '' ? '' : ` as: ${claims}`}`
  return ok('login', method === 'universal-auth' ? `the issuer accepts the client id and secret; ${as}` : as)
}

/** The expiry is the last of them, and must not be what is cut off. */
function shownClaims(claims: readonly string[]): string {
  const isExpiry = (claim: string): boolean => claim.startsWith('expires ')
  const others = oneLine(claims.filter((claim) => !isExpiry(claim)).join(', '))
  return [others, ...claims.filter(isExpiry)].filter((part) => part !== '').join(', ')
}

/** Whether the issuer, or the platform for it, judged what the host sent. */
function isAboutProof({ code }: IssuerFailure): boolean {
  return /^(?:ISSUER_UNAUTHORIZED|ISSUER_FORBIDDEN|ISSUER_REJECTED|LOGIN_LOCKED|LOGIN_PLATFORM)$/.test(code)
}

/** Whether the issuer has this host; whether it issues for it is only known after --issue. */
async function examinePermission(examination: Examination): Promise<IssuerFinding[]> {
  const answer = await examination.probe.readHost(examination.signal)
  return [
    permissionFinding(answer, examination),
    ...ownSignature(examination.shownAuth),
    ...(answer.kind === 'readable' ? await examineReach(answer, examination) : []),
  ]
}

function permissionFinding(answer: HostAnswer, examination: Examination): IssuerFinding {
  const { issuer, question } = examination
  const { sshHostId } = issuer
  switch (answer.kind) {
    case 'failed':
      return failure('permission', failureLine(answer.failure), issuerRemedy(answer.failure, examination))
    case 'not-permitted':
      return skipped(
        'permission',
        `cannot read host ${sshHostId} (not required); \`hostcertd doctor --issue\` shows whether the identity may issue for it`,
      )
    case 'readable': {
      const name = answer.hostname ?? 'a host without a name'
      const missing = (question.principals ?? []).filter((wanted) => wanted !== answer.hostname)
      if (missing.length === 0) return ok('permission', `host ${sshHostId} is ${name}`)
      return failure(
        'permission',
        `certificates will be for ${name}, but verify.principals also requires ${missing.join(', ')}`,
        'add the missing names at the issuer, or remove them from verify.principals',
      )
    }
  }
}

/** A JWT that the host signs says what the host likes. */
function ownSignature(auth: Login): IssuerFinding[] {
  if (auth.method !== 'jwt' || !('keyFile' in auth.jwt)) return []
  return [
    warning(
      'permission',
      `this host signs its own JWT: that proves that it has the key ${auth.jwt.keyFile}, and nothing about the claims, which whoever has the key chooses`,
      'give each host a key and an identity of its own, and use no claim of this login in a template or a condition of a permission',
    ),
  ]
}

/** Whether the identity sees other hosts too: what it may read it may often issue for. Nothing is issued for them. */
async function examineReach(
  { hostname, projectId }: ReadableHost,
  { probe, signal }: Examination,
): Promise<IssuerFinding[]> {
  const others = projectId === null ? null : await probe.countOthers(projectId, signal)
  if (others === 0) return []
  if (others === null || hostname === null)
    return [unknown('permission', 'the issuer does not say which other hosts this identity can see')]
  const hosts =
    others === 'many' ? 'many other hosts' : others === 1 ? '1 other host' : `${others} other hosts`
  return [
    warning(
      'permission',
      `this identity can see ${hosts} of the project; with the role ssh-host-bootstrapper, or a permission without conditions, it can issue certificates for all of them`,
      `at the issuer, limit its permissions (issue-host-cert, read) on ssh-hosts to this host, by the condition {"hostname":{"$eq":${JSON.stringify(hostname)}}}, and give it no role that covers other hosts`,
    ),
  ]
}

/** What to do about a failure of the issuer, or of the way to it: the catalogue's remedy, with the configured values. */
function issuerRemedy(
  failed: IssuerFailure,
  examination: Examination,
  address: Address = { setting: 'issuer.url', url: examination.issuer.url },
): string {
  const { code } = failed
  const { sshHostId } = examination.issuer
  const { setting, url } = address
  if (code === 'ISSUER_UNREACHABLE') return unreachableRemedy(url, examination)
  if (setting === 'auth.login_url' && (code === 'ISSUER_NOT_FOUND' || code === 'ISSUER_INVALID_RESPONSE'))
    return `check ${setting} (${url}), and whether a proxy or a login page responds instead`
  if (code === 'ISSUER_UNAUTHORIZED') return loginRemedy(examination.shownAuth, failed) ?? remedyOf(code)
  if (code === 'ISSUER_NOT_FOUND')
    return `${remedyOf(code)}. The configured values are ${url} and ${sshHostId}`
  if (code === 'ISSUER_INVALID_RESPONSE') return `${remedyOf(code)}. The configured URL is ${url}`
  return remedyOf(code)
}

function unreachableRemedy(address: string, { environment }: Examination): string {
  const url = new URL(address)
  const proxy = proxyFor(url, environment)
  const cut = `the connection was closed before a response arrived: check the log of the load balancer or firewall in front of ${address}, and try again`
  return proxy === null
    ? cut
    : `${cut}; also check the log of the proxy (${proxy.variable}). To bypass it, add ${url.hostname} to NO_PROXY: ${WHERE_PROXIES_ARE_SET}`
}
