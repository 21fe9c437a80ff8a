import { dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { AgentError } from '../cert/errors.ts'
import { certAuthorityLine, hostPatternsOf } from '../cert/known-hosts.ts'
import type { PublicKey } from '../cert/public-key.ts'
import type { Config } from '../config/config.ts'
import { USER_CA_STATUS_FILE } from '../host/user-ca-status.ts'
import type { Change } from './change.ts'
import { askUserCa, LATER_USER_CA, planUserCa, unlistedText } from './enroll-user-ca.ts'
import type { HostFacts } from './facts.ts'
import { findHost, type FoundHost } from './find-host.ts'
import type { OpenRun } from './journal.ts'
import { administratorLogin } from './login-settings.ts'
import { Patience } from './patience.ts'
import { NEEDS_REGISTER } from './plan-machine.ts'
import { planChanges, type Planned } from './plan.ts'
import { proveCa } from './prove-ca.ts'
import { CHANGED_MEANWHILE, isOfSshd, readHost, requireAccepted, type ThisHost } from './read-host.ts'
import { forgetUnanswered, recordRegistrations, unansweredText } from './registering.ts'
import { reloadByHand } from './reload.ts'
import { agrees, isReadOnly, type Step, stepsOf } from './show.ts'
import { USER_CA_FILE } from './sshd-logins.ts'
import { isUnfinished, makeOrUndo, UNDO_STEP, undoEarlier } from './undoing.ts'
import { requireKeygenAccepts } from './user-ca-files.ts'
import { type EnrollOptions, type EnrollTools, NO_HOST } from './wanted.ts'

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
  const { journal, person, clock } = tools
  // Of a template, which a person may have edited.
  if (options.ephemeral === true && (options.register === null || options.project === null))
    throw new AgentError('CONFIG_INVALID', NEEDS_REGISTER)
  const isToUndo = isUnfinished(journal) && isReadOnly(options.mode)
  await undoEarlier(tools, options.mode)
  // What would be registered now could not be written into the journal.
  if (!isReadOnly(options.mode) && isUnfinished(journal)) throw new AgentError('STORE_FAILED', NOT_UNDONE)

  const host = await readHost(options, tools, signal)
  const proven = await prove(host, options, tools, signal)
  const { config, planFor } = await planAfter(host, proven)
  let { changes, notes } = planFor(host.facts)
  for (const note of notes) person.print(`note: ${note}`)
  if (proven.userCaKey !== null && !config.userCa.fingerprints.includes(proven.userCaKey.fingerprint))
    person.print(unlistedText(proven.userCaKey))
  const enrolled = resultOf(host, proven, config, changes, isToUndo)
  if (changes.length === 0) {
    if (!isReadOnly(options.mode)) await forgetOthers(host.hostname, tools)
    return { ...enrolled, isDone: !isToUndo }
  }
  if (!(await agrees(options.mode, changes, person, signal))) return { ...enrolled, isDone: false }
  // A person, or an issuer that said "later", may have taken an hour.
  if (options.mode === 'ask' || clock.uptime() - host.gatheredAt > FRESH_SECONDS) {
    const shown = changes
    changes = planFor(await host.gather()).changes
    if (!isSameDiff(shown, changes)) throw new AgentError('STORE_FAILED', CHANGED_MEANWHILE)
  }
  await makeOrUndo(tools, async (run) => make(run, withReload(changes), config, options, tools, signal))
  await forgetOthers(host.hostname, tools)
  return { ...enrolled, isDone: true }
}

/** What the issuer said. */
interface Proven {
  readonly found: FoundHost
  /** The CAs to pin, the one that signed first. */
  readonly cas: readonly PublicKey[]
  readonly userCaKey: PublicKey | null
  /** Of this host's clock and the issuer's; null: not known. */
  readonly clockSkewSeconds: number | null
}

/**
 * Find or register the host, and have one certificate issued and verified.
 *
 * @throws AgentError; the signal's reason
 */
async function prove(
  { wish, hostname, hostKey, knownId, before, wanted: { secrets, pinned, enrollment } }: ThisHost,
  options: EnrollOptions,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<Proven> {
  const { journal, person } = tools
  const { adminTokenFile } = options
  const administrator = adminTokenFile === null ? null : await administratorLogin(adminTokenFile, person)

  const patience = new Patience(tools.clock, person.print)
  const finding = tools.openExchange(
    { ...before.issuer, auth: administrator?.auth ?? before.issuer.auth, sshHostId: knownId ?? '' },
    administrator?.secrets ?? secrets,
  )
  let issuing = finding
  try {
    const hosts = recordRegistrations(finding, journal, before.issuer.url)
    const found = await findHost(wish, hosts, patience, !isReadOnly(options.mode), signal)
    if (found.kind === 'would-register') {
      person.print(`note: ${NO_HOST} stands for the id that the issuer gives to the host`)
      if (before.config.userCa.install) person.print(`note: ${LATER_USER_CA}`)
      return { found, cas: pinned.keys, userCaKey: null, clockSkewSeconds: null }
    }
    if (found.isNew) person.print(`registered ${hostname} at the issuer, as ${found.id}`)
    for (const note of found.notes) person.print(`note: ${note}`)
    // One login for all of it, but for an administrator: whether the host's own identity may have certificates issued
    // shows only by its own login, and a token that is not kept issues none.
    const isOther = knownId !== null && found.id !== knownId
    if (administrator !== null || isOther) {
      finding.end()
      issuing = tools.openExchange({ ...before.issuer, sshHostId: found.id }, secrets)
    }
    const { principals } = before.config.verify
    const cas = await proveCa(
      options,
      pinned.keys,
      hostKey,
      principals,
      issuing,
      { ...tools, patience },
      signal,
    )
    // The users of the host before are no users of this one. On a host that is new, what the timer would put in place by
    // itself is shown and agreed to with the rest.
    const isNewHere = enrollment?.host_id.toLowerCase() !== found.id.toLowerCase()
    const asksUserCa = options.userCa || (before.config.userCa.install && isNewHere)
    const userCaKey = asksUserCa ? await askUserCa(issuing, found.id, patience, signal) : null
    if (userCaKey !== null && !isReadOnly(options.mode))
      await requireKeygenAccepts(userCaKey, dirname(USER_CA_STATUS_FILE), signal)
    return { found, cas, userCaKey, clockSkewSeconds: issuing.health().clockSkewSeconds }
  } finally {
    for (const exchange of new Set([finding, issuing])) exchange.end()
  }
}

/**
 * The configuration that is to be, and what has to change for it on a host with the facts given.
 *
 * @throws AgentError CONFIG_INVALID
 */
async function planAfter(
  { hostname, idBefore, wanted, configuredFor }: ThisHost,
  { found, cas, userCaKey, clockSkewSeconds }: Proven,
): Promise<{ readonly config: Config; readonly planFor: (facts: HostFacts) => Planned }> {
  const hostId = found.kind === 'found' ? found.id : NO_HOST
  const { text, config } = await configuredFor(hostId, hostname)
  const planFor = (facts: HostFacts): Planned => {
    // The CA of another host, or of an unknown one, lets other users in.
    const isSameHost = idBefore?.toLowerCase() === hostId.toLowerCase()
    const userCa =
      userCaKey &&
      planUserCa(userCaKey, config, isSameHost, { now: wanted.now, skewSeconds: clockSkewSeconds }, facts)
    const planned = planChanges({ ...wanted, text, hostId, cas, userCa }, facts)
    return userCa === null && !config.userCa.install && !isSameHost && trustsUserCas(facts)
      ? { ...planned, notes: [...planned.notes, OTHERS_USER_CAS] }
      : planned
  }
  return { config, planFor }
}

/** Whether a line names the file of the user CAs, and it has some, or they are not known. */
function trustsUserCas({ sshd: { userCas } }: HostFacts): boolean {
  return userCas.get(USER_CA_FILE)?.length !== 0 && userCas.has(USER_CA_FILE)
}

const OTHERS_USER_CAS = `sshd keeps trusting the user CAs in ${USER_CA_FILE}, which are not known to be this host's; --user-ca replaces them`

/** What is done, or would be; `isDone` is known later. Pure. */
function resultOf(
  { hostname }: ThisHost,
  { found, cas }: Proven,
  { verify }: Config,
  changes: readonly Change[],
  isToUndo: boolean,
): Omit<Enrolled, 'isDone'> {
  const isRegistering = found.kind === 'would-register' || found.isNew
  const hosts = hostPatternsOf(verify.principals ?? [hostname])
  return {
    changed: isRegistering || changes.length > 0 || isToUndo,
    hostId: found.kind === 'found' ? found.id : null,
    hostname,
    steps: [
      ...(isToUndo ? [UNDO_STEP] : []),
      ...(isRegistering ? [{ step: 'register the host', changed: true, detail: hostname }] : []),
      ...stepsOf(changes),
    ],
    knownHosts: found.kind === 'found' ? cas.map((ca) => certAuthorityLine(hosts, ca)) : [],
  }
}

/** What was read so long ago may be another by now. */
const FRESH_SECONDS = 60

/** Whether the same files are changed in the same way; what services keep may differ. */
function isSameDiff(one: readonly Change[], other: readonly Change[]): boolean {
  const seen = (change: Change): unknown =>
    change.kind === 'file' || change.kind === 'folder' ? change : change.step
  return isDeepStrictEqual(one.map(seen), other.map(seen))
}

const NOT_UNDONE = 'changes of an earlier call could not be undone: fix the errors above, and run this again'

/** Which host this machine is, is known by now. */
async function forgetOthers(hostname: string, { journal, person }: EnrollTools): Promise<void> {
  try {
    const others = (await forgetUnanswered(journal)).filter((name) => name !== hostname)
    for (const name of others) person.print(unansweredText(name))
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    // All else is done; the next call does this.
    person.print(`note: ${error.message}`)
  }
}

/** When it is undone sshd reads its configuration again, and this is known before anything of sshd's is changed. */
function withReload(changes: readonly Change[]): readonly Change[] {
  const first = changes.findIndex((change) => change.kind === 'copies' || isOfSshd(change))
  return first === -1 ? changes : changes.toSpliced(first, 0, { kind: 'sshd', step: 'reload sshd' })
}

async function make(
  run: OpenRun,
  changes: readonly Change[],
  config: Config,
  { waitSeconds }: EnrollOptions,
  tools: EnrollTools,
  signal: AbortSignal,
): Promise<void> {
  const { person, clock, untilServed } = tools
  let since = clock.now()
  // By the new configuration a service that runs already, or is started by a boot, gets certificates before it is told to,
  // and sshd reads them: undoing ends with a reload whatever was made by then.
  await run.note(changes.filter(({ kind }) => kind === 'sshd' || kind === 'copies' || kind === 'service'))
  for (const change of changes) {
    if (change.kind === 'service') await requireAccepted(tools, signal)
    signal.throwIfAborted()
    if (change.kind !== 'sshd') person.print(change.step)
    since = clock.now()
    await run.make(change)
  }
  if (config.sshd.reload === 'never' && changes.some(isOfSshd))
    person.print(reloadByHand('keeps its previous configuration'))
  // The service does it for new certificates only.
  else if (config.userCa.install && changes.some(isOfSshd)) {
    const why = await tools.reloadSshd(signal)
    if (why !== null) throw new AgentError('SSHD_RELOAD_FAILED', `sshd was not reloaded: ${why}`)
  }
  person.print('waiting until sshd presents the certificates')
  const missing = await untilServed(config, { since, seconds: waitSeconds }, signal)
  if (missing !== null) throw new AgentError('SSHD_NOT_SERVING', missing)
}
