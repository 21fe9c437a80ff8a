import { dirname } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { certAuthorityLine, hostPatternsOf } from '../cert/known-hosts.ts'
import type { PublicKey } from '../cert/public-key.ts'
import type { Config } from '../config/config.ts'
import { USER_CA_STATUS_FILE } from '../host/user-ca-status.ts'
import type { Change } from './change.ts'
import {
  type Configured,
  configuredWith,
  type Current,
  hostnameOf,
  readCurrent,
  readPinned,
  requireAll,
  requireMethod,
} from './current.ts'
import { askUserCa, planUserCa } from './enroll-user-ca.ts'
import { findHost, type FoundHost, type HostWish } from './find-host.ts'
import type { OpenRun } from './journal.ts'
import { administratorLogin, loginSettings } from './login-settings.ts'
import { firstOf, idsInCertificates, type OwnHostKey, ownHostKeys } from './own-host-keys.ts'
import { Patience } from './patience.ts'
import { NEEDS_REGISTER, planChanges } from './plan.ts'
import { proveCa } from './prove-ca.ts'
import {
  forgetUnanswered,
  isUnanswered,
  recordRegistrations,
  registeredIn,
  unansweredText,
} from './registering.ts'
import { agrees, isLooking, type Step, stepsOf } from './show.ts'
import { isUnfinished, makeOrUndo, undoEarlier } from './undoing.ts'
import { requireKeygenAccepts } from './user-ca-files.ts'
import { type EnrollOptions, type EnrollTools, NO_HOST, settingsWithoutHost } from './wanted.ts'

export interface Enrolled {
  readonly changed: boolean
  readonly hostId: string | null
  readonly hostname: string
  readonly steps: readonly Step[]
  /** For clients: a line for each CA that is trusted, the one that signed first; none when no certificate was issued. */
  readonly knownHosts: readonly string[]
  /** False: there are changes to make, and they were not made because that was not permitted. */
  readonly isDone: boolean
}

/**
 * Make this host a member: find or register it, have a certificate issued and verified, show what changes, change it,
 * and wait until sshd serves. Whatever fails or is interrupted is undone.
 *
 * @throws AgentError; the signal's reason
 */
export async function enroll(
  options: EnrollOptions,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<Enrolled> {
  const { environment, journal, person } = tools
  if (options.ephemeral === true && (options.register === null || options.project === null))
    throw new AgentError('CONFIG_INVALID', NEEDS_REGISTER)
  const isInterrupted = isUnfinished(journal)
  await undoEarlier(tools, options.mode)
  // What would be registered now could not be written into the journal.
  if (!isLooking(options.mode) && isUnfinished(journal)) throw new AgentError('STORE_FAILED', NOT_UNDONE)

  const current = await readCurrent(tools)
  if (current.loaded.kind === 'not-enrolled') requireAll(options)
  requireMethod(options, current)
  const hostname = await hostnameOf(options, current, tools)
  const { settings, secrets } = await loginSettings(options, current, person, signal)
  const url = options.url ?? current.config?.url ?? null
  const configuredFor = async (hostId: string): Promise<Configured> => {
    // Names that a person added stay.
    const name = current.principals.includes(hostname) ? null : hostname
    const all = settingsWithoutHost(options, url, settings, name)
    return configuredWith(current, [...all, [['issuer', 'ssh_host_id'], hostId]], environment)
  }
  const before = await configuredFor(NO_HOST)
  const pinned = await readPinned(before.config)
  const wanted = { secrets, pinned, hostname, options, current }

  // Whatever on this host is in the way is found before the issuer is asked to register it.
  const rehearsed = await planChanges(
    { ...wanted, ...before, hostId: NO_HOST, cas: pinned.keys },
    tools,
    signal,
  )
  if (!rehearsed.changes.some(isOfSshd)) await requireAccepted(tools, signal)
  const hostKeys = await ownHostKeys(before.config, signal)
  const hostKey = firstOf(hostKeys, before.config)
  const wish = await wishOf(options, current, hostname, hostKeys, before, tools)
  const { adminTokenFile } = options
  const administrator = adminTokenFile === null ? null : await administratorLogin(adminTokenFile, person)

  const patience = new Patience(tools.clock, person.tell)
  const knownId = wish.hostId ?? wish.configuredId ?? ''
  const finding = tools.openExchange(
    { ...before.issuer, auth: administrator?.auth ?? before.issuer.auth, sshHostId: knownId },
    administrator?.secrets ?? secrets,
  )
  let issuing = finding
  let found: FoundHost
  let cas = pinned.keys
  let userCaKey: PublicKey | null = null
  try {
    found = await findHost(
      wish,
      recordRegistrations(finding, journal),
      patience,
      !isLooking(options.mode),
      signal,
    )
    if (found.kind === 'found') {
      if (found.isNew) person.tell(`registered ${hostname} at the issuer, as ${found.id}`)
      // One login for all of it, but for an administrator: whether the host's own identity may have certificates issued
      // shows only by its own login, and a token that is not kept issues none.
      const isOther = knownId !== '' && found.id !== knownId
      if (administrator !== null || isOther) {
        finding.end()
        issuing = tools.openExchange({ ...before.issuer, sshHostId: found.id }, secrets)
      }
      const { principals } = before.config.verify
      cas = await proveCa(options, pinned.keys, hostKey, principals, issuing, { ...tools, patience }, signal)
      if (options.userCa) userCaKey = await askUserCa(issuing, found.id, signal)
    }
  } finally {
    for (const exchange of new Set([finding, issuing])) exchange.end()
  }

  const hostId = found.kind === 'found' ? found.id : NO_HOST
  const after = await configuredFor(hostId)
  const userCa = userCaKey && (await planUserCa(userCaKey, after.config.userCa, tools.clock.now()))
  if (userCaKey !== null && !isLooking(options.mode))
    await requireKeygenAccepts(userCaKey, dirname(USER_CA_STATUS_FILE), signal)
  // Anew: the issuer may have said "later" for an hour.
  const { changes, notes } = await planChanges({ ...wanted, ...after, hostId, cas, userCa }, tools, signal)
  for (const note of notes) person.tell(`note: ${note}`)
  const isRegistering = found.kind === 'would-register' || found.isNew
  if (found.kind === 'would-register')
    person.tell(`note: ${NO_HOST} stands for the id that the issuer gives to the host`)
  const hosts = hostPatternsOf(after.config.verify.principals ?? [hostname])
  const enrolled = {
    changed: isRegistering || changes.length > 0,
    hostId: found.kind === 'found' ? found.id : null,
    hostname,
    steps: [
      ...(isRegistering ? [{ step: 'register the host', changed: true, detail: hostname }] : []),
      ...stepsOf(changes),
    ],
    knownHosts: found.kind === 'found' ? cas.map((ca) => certAuthorityLine(hosts, ca)) : [],
  }
  if (changes.length === 0) {
    if (!isLooking(options.mode)) await forgetOthers(hostname, tools)
    return {
      ...enrolled,
      changed: enrolled.changed || (isInterrupted && isLooking(options.mode)),
      isDone: true,
    }
  }
  if (!(await agrees(options.mode, changes, person, signal))) return { ...enrolled, isDone: false }
  await makeOrUndo(tools, async (run) => make(run, withReload(changes), after.config, options, tools, signal))
  await forgetOthers(hostname, tools)
  return { ...enrolled, isDone: true }
}

const NOT_UNDONE = 'changes of an earlier call could not be undone: fix the errors above, and run this again'

/** Which host this machine is, is known by now. */
async function forgetOthers(hostname: string, { journal, person }: EnrollTools): Promise<void> {
  const others = (await forgetUnanswered(journal)).filter((name) => name !== hostname)
  for (const name of others) person.tell(unansweredText(name))
}

/** When it is undone sshd reads its configuration again, and this is known before anything of sshd's is changed. */
function withReload(changes: readonly Change[]): readonly Change[] {
  const first = changes.findIndex((change) => change.kind === 'copies' || isOfSshd(change))
  return first === -1 ? changes : changes.toSpliced(first, 0, { kind: 'sshd', step: 'reload sshd' })
}

function isOfSshd(change: Change): boolean {
  return change.kind === 'file' && change.path.startsWith('/etc/ssh/')
}

async function requireAccepted({ testSshd }: EnrollTools, signal: AbortSignal): Promise<void> {
  const why = await testSshd(signal)
  if (why !== null) throw new AgentError('SSHD_CONFIG_INVALID', `sshd refuses its configuration: ${why}`)
}

async function make(
  run: OpenRun,
  changes: readonly Change[],
  config: Config,
  { waitSeconds, userCa }: EnrollOptions,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<void> {
  const { person, clock, untilServed } = tools
  let since = clock.now()
  // By the new configuration a service that runs already, or is started by a boot, gets certificates before it is told to.
  await run.note(changes.filter(({ kind }) => kind === 'copies' || kind === 'service'))
  for (const change of changes) {
    if (change.kind === 'service') await requireAccepted(tools, signal)
    signal.throwIfAborted()
    if (change.kind !== 'sshd') person.tell(change.step)
    since = clock.now()
    await run.make(change)
  }
  // The service does it for new certificates only.
  if (userCa && changes.some(isOfSshd)) {
    const why = await tools.reloadSshd(signal)
    if (why !== null) throw new AgentError('SSHD_RELOAD_FAILED', `sshd was not reloaded: ${why}`)
  }
  person.tell('waiting until sshd presents the certificates')
  const missing = await untilServed(config, { since, seconds: waitSeconds }, signal)
  if (missing !== null) throw new AgentError('SSHD_NOT_SERVING', missing)
}

/** Which host this machine is to be, by the options and what the machine has of it. */
async function wishOf(
  options: EnrollOptions,
  { config, principals, enrollment }: Current,
  hostname: string,
  hostKeys: readonly OwnHostKey[],
  { issuer }: Configured,
  { journal }: EnrollTools,
): Promise<HostWish> {
  const certificateIds = await idsInCertificates(hostKeys)
  const [fromCertificate, ...others] = certificateIds
  if (options.fromCertificate && fromCertificate === undefined)
    throw new AgentError(
      'CERT_UNPARSABLE',
      'no host certificate in /etc/ssh or /etc/ssh/hostcertd is for a host key of this machine and has a key id of the form host-ID; name the host by --host-id or --project',
    )
  const isSame = config !== null && config.url === issuer.url && principals.includes(hostname)
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
      enrollment?.host_id ?? '',
      config?.sshHostId ?? '',
    ],
    configuredId: isSame ? config.sshHostId : null,
    isUnanswered: () => isUnanswered(journal, hostname),
  }
}
