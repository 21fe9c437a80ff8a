import { isDeepStrictEqual } from 'node:util'
import { AgentError, messageOf } from '../cert/errors.ts'
import { publicKeyText, type PublicKey } from '../cert/public-key.ts'
import { oneLine, reasonOf } from '../cert/text.ts'
import { formatTime } from '../cert/time.ts'
import { type Config, PROXY_VARIABLES } from '../config/config.ts'
import {
  type Enrollment,
  ENROLLMENT_FILE,
  enrollmentText,
  judgeCopied,
  type MachineIdentity,
  readMachineIdentity,
} from '../host/enrollment.ts'
import { userNamed, whyDenied } from '../host/file-access.ts'
import { pathsMatching } from '../host/files.ts'
import { runProgram } from '../host/programs.ts'
import type { Change, FileChange, FileState } from './change.ts'
import type { Current, Pinned } from './current.ts'
import { CA_TIMER, type UserCaPlan } from './enroll-user-ca.ts'
import { withVariables } from './environment-file.ts'
import { EPHEMERAL_UNIT } from './ephemeral.ts'
import { readFileState } from './files.ts'
import { ownHostKeys } from './own-host-keys.ts'
import { listServiceState, readCertificatesOfOthers } from './service-state.ts'
import { readSshdSetup } from './sshd-facts.ts'
import { planSshd } from './sshd.ts'
import { RETURN_FILE, returnText } from './template.ts'
import {
  CONFIG_FILE,
  CREDENTIALS_FOLDER,
  DEFAULTS_FILE,
  type EnrollOptions,
  type EnrollTools,
  SSHD_CONFIG,
} from './wanted.ts'

/** What the root helper writes. */
const COPIES = ['/etc/ssh/hostcertd/*-cert.pub', '/etc/ssh/sshd_config.d/40-hostcertd.conf']
const UNIT = 'hostcertd.service'
/** Of that unit. Root neither reads nor writes in it. */
const STATE_FOLDER = '/var/lib/hostcertd'
const PUBLIC = 0o644
const SECRET = 0o600

/** What this host is to become. */
export interface Wanted {
  /** Of the main configuration file. */
  readonly text: string
  readonly config: Config
  readonly secrets: Readonly<Record<string, string>>
  readonly pinned: Pinned
  /** Those to pin. */
  readonly cas: readonly PublicKey[]
  readonly hostId: string
  readonly hostname: string
  readonly options: EnrollOptions
  readonly current: Current
  /** Null or left out: none is put in place. */
  readonly userCa?: UserCaPlan | null
}

export interface Planned {
  readonly changes: readonly Change[]
  readonly notes: readonly string[]
}

/**
 * What has to change, in this order; nothing when this host is as it is wanted.
 *
 * @throws AgentError with what on this host is in the way
 */
export async function planChanges(wanted: Wanted, tools: EnrollTools, signal: AbortSignal): Promise<Planned> {
  const { text, pinned, cas, secrets, options, userCa = null } = wanted
  await refuseUnreadable(wanted, signal)
  const files: (FileChange | null)[] = []
  for (const [name, secret] of Object.entries(secrets)) {
    const path = `${CREDENTIALS_FOLDER}/${name}`
    const stored = await fileChange(`store the credential ${name}`, path, secret, SECRET, true)
    files.push(stored && { ...stored, isCredential: true })
  }
  files.push(await proxyChange(tools.environment))
  files.push(await fileChange('pin the host CA', pinned.path, withCas(pinned, cas), PUBLIC))
  files.push(await fileChange('write the configuration', CONFIG_FILE, text, PUBLIC))
  // Somebody who sees the diff agrees to it, or not.
  const takesOverRivals = options.takeOver || (options.mode !== 'yes' && tools.person.isThere)
  const sshd = planSshd(await readSshdSetup(SSHD_CONFIG, signal), {
    takesOverRivals,
    userCa: userCa?.lines ?? null,
  })
  if (sshd.problems.length > 0) throw new AgentError('SSHD_CONFIG_INVALID', sshd.problems.join('; '))
  const changes: Change[] = [
    ...files.filter((file) => file !== null),
    ...(userCa?.changes ?? []),
    ...sshd.changes,
  ]
  const machine = await judgeMachine(wanted)
  const enrollment = await enrollmentChange(wanted, machine, tools, signal)
  if (enrollment !== null) changes.push(enrollment)
  const isNewSecret = files.some((file) => file?.isCredential === true)
  const ephemeral = await ephemeralChanges(wanted, machine, isNewSecret, signal)
  changes.push(...ephemeral)
  if (userCa !== null) changes.push(...(await timerChanges(signal)))
  const notes = [
    ...sshd.notes,
    ...(machine.why === null ? [] : [`${machine.why}; enroll accepts it as it is`]),
    ...otherPins(wanted),
    ...notesOfEphemeral(options, machine, ephemeral),
  ]
  return {
    notes,
    changes: [...changes, ...(await serviceChanges(changes.length > 0, wanted.hostId, signal))],
  }
}

/** `--ca-fingerprint` says which CA signs, and takes no other out of the file of an administrator. */
function otherPins({ pinned: { path, keys }, options: { caFingerprints } }: Wanted): readonly string[] {
  if (caFingerprints.length === 0) return []
  const others = keys.filter(({ fingerprint }) => !caFingerprints.includes(fingerprint))
  return others.map(
    ({ fingerprint }) =>
      `${path} also pins the CA ${fingerprint}, which --ca-fingerprint does not name: certificates of it are accepted too, until you remove its line`,
  )
}

export const NEEDS_REGISTER =
  '--ephemeral deletes the host at power-off: add --register and --project, so that it can come back'
const NEEDS_DELETE =
  'this host is deleted at the issuer when the machine is powered off, if its identity has the right to delete it: that shows only then, in `journalctl -u hostcertd-ephemeral`'

/** Who registers it now has no part in that. */
const NEEDS_CREATE =
  'when the machine comes back, it is registered by its own identity, which needs the right to create the host: --admin-token-file is for this call only'

const STAYS =
  'the host that this machine is now is not deleted at the issuer at power-off, as the one before was: to have that, add --ephemeral'

function notesOfEphemeral(
  { ephemeral, adminTokenFile }: EnrollOptions,
  { isEphemeral }: Machine,
  changes: readonly Change[],
): readonly string[] {
  if (!isEphemeral) return changes.some(({ kind }) => kind === 'file') ? [STAYS] : []
  if (ephemeral !== true || changes.length === 0) return []
  return adminTokenFile === null ? [NEEDS_DELETE] : [NEEDS_DELETE, NEEDS_CREATE]
}

/** What deletes the host when this machine is powered off, and what registers it again when it comes back. */
async function ephemeralChanges(
  { options, current }: Wanted,
  { isEphemeral }: Machine,
  isNewSecret: boolean,
  signal: AbortSignal,
): Promise<Change[]> {
  if (!isEphemeral && current.enrollment?.ephemeral === true) {
    const before = await stateOf(RETURN_FILE)
    const step = 'no longer delete the host when this machine is powered off'
    // Without it, and by what enrollment.json says, the unit does nothing.
    return before === null
      ? []
      : [{ kind: 'file', step, path: RETURN_FILE, before, after: null, isSecret: false }]
  }
  if (options.ephemeral !== true) return secretChanges(isNewSecret, signal)
  const back = await fileChange('remember how to come back', RETURN_FILE, returnText(options), SECRET)
  const before = await stateOfUnit(EPHEMERAL_UNIT, signal)
  const step = 'delete the host when this machine is powered off'
  return [
    ...(back === null ? [] : [back]),
    ...(before.isEnabled && before.isActive && !isNewSecret
      ? []
      : [{ kind: 'service' as const, step, unit: EPHEMERAL_UNIT, before }]),
  ]
}

/** An ephemeral machine stays one. Its unit read the credentials when it was started. */
async function secretChanges(isNewSecret: boolean, signal: AbortSignal): Promise<Change[]> {
  if (!isNewSecret) return []
  const before = await stateOfUnit(EPHEMERAL_UNIT, signal)
  const step = 'use the new secret when this machine is powered off'
  return before.isActive ? [{ kind: 'service', step, unit: EPHEMERAL_UNIT, before }] : []
}

/** A change to a file, or null when it is as it is to be. */
export async function fileChange(
  step: string,
  path: string,
  text: string,
  mode: number,
  isSecret = false,
): Promise<FileChange | null> {
  const before = await stateOf(path)
  const content = Buffer.from(text)
  // The owner stays, and the mode, but for a file with a secret.
  const { uid, gid } = before ?? { uid: 0, gid: 0 }
  const kept = before === null ? mode : before.mode & (isSecret ? mode : 0o7777)
  // Nothing, where there is nothing.
  if (content.equals(before?.content ?? Buffer.alloc(0)) && kept === (before?.mode ?? mode)) return null
  return { kind: 'file', step, path, before, after: { content, mode: kept, uid, gid }, isSecret }
}

/** @throws AgentError when something is there that is neither replaced nor known */
async function stateOf(path: string): Promise<FileState | null> {
  try {
    return await readFileState(path)
  } catch (error) {
    throw new AgentError('STORE_FAILED', `${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/** The modes of these files stay as they are, and the daemon reads them as a user of its own. */
async function refuseUnreadable({ current, pinned }: Wanted, signal: AbortSignal): Promise<void> {
  const daemon = await userNamed('hostcertd', signal)
  if (daemon === null) return
  const there = [current.text === null ? [] : [CONFIG_FILE], pinned.text === null ? [] : [pinned.path]].flat()
  for (const path of there) {
    const why = await whyDenied(path, daemon, 'read')
    if (why === null) continue
    const message = `hostcertd.service cannot read ${path}: ${why}; make it readable for everyone`
    throw new AgentError('CONFIG_INVALID', message)
  }
}

/** A line for each CA; those that are there stay as they are. */
function withCas({ text, keys }: Pinned, cas: readonly PublicKey[]): string {
  const added = cas.filter(({ blob }) => !keys.some((one) => one.blob.equals(blob)))
  const lines = added.map((ca) => `${publicKeyText(ca)}\n`)
  const before = text ?? ''
  return lines.length === 0 || before === '' || before.endsWith('\n')
    ? before + lines.join('')
    : `${before}\n${lines.join('')}`
}

const WITH_PASSWORD = /:\/\/[^\s/]*@/

/** The proxy by which enroll reaches the issuer is the service's too. */
export async function proxyChange(environment: EnrollTools['environment']): Promise<FileChange | null> {
  const wanted = new Map<string, string>()
  for (const name of PROXY_VARIABLES) {
    const given = environment[name.toLowerCase()] ?? environment[name] ?? ''
    if (/\p{Cc}/u.test(given))
      throw new AgentError('CONFIG_INVALID', `${name} in the environment contains control characters`)
    if (given !== '') wanted.set(name, given)
  }
  if (wanted.size === 0) return null
  const before = (await stateOf(DEFAULTS_FILE))?.content.toString() ?? ''
  let text: string
  try {
    if (before.includes('\uFFFD')) throw new Error('it is not UTF-8 text')
    text = withVariables(before, wanted)
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `${DEFAULTS_FILE}: ${messageOf(error)}`, { cause: error })
  }
  const isSecret = WITH_PASSWORD.test(before) || WITH_PASSWORD.test(text)
  return fileChange('use the proxy', DEFAULTS_FILE, text, isSecret ? SECRET : PUBLIC, isSecret)
}

/** What this machine is, by what was recorded of it. */
interface Machine {
  readonly identity: MachineIdentity
  readonly isEphemeral: boolean
  /** Why it is another one than the one that was enrolled; null: it is the same, as far as that is known. */
  readonly why: string | null
}

async function judgeMachine({ current, hostId, options }: Wanted): Promise<Machine> {
  const now = await readMachineIdentity()
  const { enrollment: before } = current
  const copied = before === null ? null : judgeCopied(before, now)
  const isCopy = copied !== null && copied !== false
  // Who enrolled the other host did not say that this one may be deleted.
  const isInherited = before?.ephemeral === true && before.host_id === hostId && !isCopy
  return {
    identity: before === null || isCopy ? now : withRecorded(now, before),
    isEphemeral: options.ephemeral === true || isInherited,
    why: isCopy ? copied.message : null,
  }
}

/** What cannot be read any more is still what was recorded. */
function withRecorded(now: MachineIdentity, before: MachineIdentity): MachineIdentity {
  const { cloud_init, board_asset_tag } = before.instance_id
  return {
    machine_id: now.machine_id ?? before.machine_id,
    instance_id: {
      cloud_init: now.instance_id.cloud_init ?? cloud_init,
      board_asset_tag: now.instance_id.board_asset_tag ?? board_asset_tag,
    },
  }
}

/** Written anew when the machine, the host or its name is another one, not for the date. */
async function enrollmentChange(
  { config, hostId, hostname, current, options }: Wanted,
  { identity, isEphemeral }: Machine,
  { version, environment, clock }: EnrollTools,
  signal: AbortSignal,
): Promise<FileChange | null> {
  const { enrollment: before } = current
  const isSame =
    before !== null &&
    before.ephemeral === isEphemeral &&
    before.host_id === hostId &&
    before.hostname === hostname &&
    before.machine_id === identity.machine_id &&
    isDeepStrictEqual(before.instance_id, identity.instance_id)
  if (isSame) return null
  const keys = await ownHostKeys(config, signal)
  const enrollment: Enrollment = {
    version: 1,
    ...identity,
    host_keys: keys.map(({ key }) => key.fingerprint),
    enrolled_at: formatTime(clock.now()) ?? '',
    enrolled_by:
      options.atBoot === undefined
        ? (environment['SUDO_USER'] ?? environment['USER'] ?? 'root')
        : 'first boot',
    hostcertd: version,
    host_id: hostId,
    hostname,
    ephemeral: isEphemeral,
  }
  return fileChange('record which machine this is', ENROLLMENT_FILE, enrollmentText(enrollment), PUBLIC)
}

async function timerChanges(signal: AbortSignal): Promise<Change[]> {
  const before = await stateOfUnit(CA_TIMER, signal)
  if (before.isEnabled && before.isActive) return []
  return [{ kind: 'service', step: 'refresh the user CA once a day', unit: CA_TIMER, before }]
}

/** @param isChanged whether anything else is */
async function serviceChanges(isChanged: boolean, hostId: string, signal: AbortSignal): Promise<Change[]> {
  const before = await stateOfUnit(UNIT, signal)
  const replaced = await readCertificatesOfOthers(STATE_FOLDER, hostId)
  const isReplacing = replaced.files.length > 0
  if (!isChanged && !isReplacing && before.isEnabled && before.isActive) return []
  const found = await Promise.all(COPIES.map(pathsMatching))
  const states = await Promise.all(found.flat().map(async (path) => ({ path, state: await stateOf(path) })))
  const verb = before.isActive ? 'reload the service' : 'start the service'
  const step = isReplacing ? `${verb}, and replace the certificates of another host` : verb
  return [
    {
      kind: 'copies',
      step: 'install certificates for sshd',
      paths: COPIES,
      before: states,
      state: { folder: STATE_FOLDER, before: await listServiceState(STATE_FOLDER) },
    },
    { kind: 'service', step, unit: UNIT, before, ...(isReplacing ? { replaced } : {}) },
  ]
}

/** All that `systemctl is-enabled` and `is-active` print when the answer is no: systemctl(1). */
const NOT_ENABLED = ['disabled', 'linked', 'linked-runtime', 'not-found']
const NOT_ACTIVE = ['inactive', 'failed', 'activating', 'deactivating', 'maintenance']

/**
 * @throws AgentError STORE_FAILED when it is masked: that counts as not enabled, and to disable it again would remove more
 *   than enroll added; also when it is not known, for an undoing would stop what was there before
 */
async function stateOfUnit(
  unit: string,
  signal: AbortSignal,
): Promise<{ readonly isEnabled: boolean; readonly isActive: boolean }> {
  const isIt = async (verb: string, no: readonly string[]): Promise<boolean> => {
    const limits = { timeoutMilliseconds: 10_000, signal }
    const { stdout, stderr, failure, status } = await runProgram(['systemctl', verb, unit], limits)
    const word = stdout.trim()
    if (word.startsWith('masked'))
      throw new AgentError('STORE_FAILED', `${unit} is masked: run \`systemctl unmask ${unit}\` first`)
    if (status === 0) return true
    // Older versions print only a message for a unit that is not there.
    const isAbsent = word === '' && /^Failed to get unit file state for .*: No such file/.test(stderr)
    if (status !== null && (no.includes(word) || isAbsent)) return false
    const why = oneLine(failure ?? (stderr.trim() || word || `exit status ${status}`))
    throw new AgentError('STORE_FAILED', `no answer from \`systemctl ${verb} ${unit}\`: ${why}`)
  }
  return { isEnabled: await isIt('is-enabled', NOT_ENABLED), isActive: await isIt('is-active', NOT_ACTIVE) }
}
