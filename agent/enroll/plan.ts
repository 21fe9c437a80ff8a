import { AgentError, messageOf } from '../cert/errors.ts'
import type { PublicKey } from '../cert/public-key.ts'
import { reasonOf } from '../cert/text.ts'
import { formatTime } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { type Enrollment, ENROLLMENT_FILE, enrollmentText, readMachineIdentity } from '../host/enrollment.ts'
import { userNamed, whyDenied } from '../host/file-access.ts'
import { pathsMatching } from '../host/files.ts'
import { createHostKeys } from '../host/host-keys.ts'
import { runProgram } from '../host/programs.ts'
import type { Change, FileChange, FileState } from './change.ts'
import type { Current, Pinned } from './current.ts'
import { withVariables } from './environment-file.ts'
import { EPHEMERAL_UNIT } from './ephemeral.ts'
import { readFileState } from './files.ts'
import { listServiceState } from './service-state.ts'
import { readSshdSetup } from './sshd-facts.ts'
import { planSshd } from './sshd.ts'
import { RETURN_FILE, returnText } from './template.ts'
import { CONFIG_FILE, CREDENTIALS_FOLDER, type EnrollOptions, type EnrollTools } from './wanted.ts'

const DEFAULTS = '/etc/default/hostcertd'
const SSHD_CONFIG = '/etc/ssh/sshd_config'
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
  /** Those to pin, the ones that are pinned already first. */
  readonly cas: readonly PublicKey[]
  readonly hostId: string
  readonly hostname: string
  readonly options: EnrollOptions
  readonly current: Current
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
  const { text, pinned, cas, secrets, options } = wanted
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
  const sshd = planSshd(await readSshdSetup(SSHD_CONFIG, signal), { takesOverRivals, userCa: null })
  if (sshd.problems.length > 0) throw new AgentError('SSHD_CONFIG_INVALID', sshd.problems.join('; '))
  const changes: Change[] = [...files.filter((file) => file !== null), ...sshd.changes]
  const enrollment = await enrollmentChange(wanted, tools)
  if (enrollment !== null) changes.push(enrollment)
  const isNewSecret = files.some((file) => file?.isCredential === true)
  const ephemeral =
    options.ephemeral === true
      ? await ephemeralChanges(options, isNewSecret, signal)
      : await secretChanges(isNewSecret, signal)
  changes.push(...ephemeral)
  const notes =
    options.ephemeral === true && ephemeral.length > 0 ? [...sshd.notes, NEEDS_DELETE] : sshd.notes
  return { notes, changes: [...changes, ...(await serviceChanges(changes.length > 0, signal))] }
}

export const NEEDS_REGISTER =
  '--ephemeral deletes the host at power-off: add --register and --project, so that it can come back'
const NEEDS_DELETE =
  'this host is deleted at the issuer when the machine is powered off, if its identity has the right to delete it: that shows only then, in `journalctl -u hostcertd-ephemeral`'

/** What deletes the host when this machine is powered off, and what registers it again when it comes back. */
async function ephemeralChanges(
  options: EnrollOptions,
  isNewSecret: boolean,
  signal: AbortSignal,
): Promise<Change[]> {
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
  // Nothing, where there is nothing.
  if (content.equals(before?.content ?? Buffer.alloc(0))) return null
  // The owner stays, and the mode, but for a file that gets a secret.
  const { uid, gid } = before ?? { uid: 0, gid: 0 }
  const kept = before === null ? mode : before.mode & (isSecret ? mode : 0o7777)
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
  const lines = added.map(({ type, blob }) => `${type} ${blob.toString('base64')}\n`)
  const before = text ?? ''
  return lines.length === 0 || before === '' || before.endsWith('\n')
    ? before + lines.join('')
    : `${before}\n${lines.join('')}`
}

const PROXIES = ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'ALL_PROXY']
const WITH_PASSWORD = /:\/\/[^\s/]*@/

/** The proxy by which enroll reaches the issuer is the service's too. */
export async function proxyChange(environment: EnrollTools['environment']): Promise<FileChange | null> {
  const wanted = new Map<string, string>()
  for (const name of PROXIES) {
    const given = environment[name.toLowerCase()] ?? environment[name] ?? ''
    if (/\p{Cc}/u.test(given))
      throw new AgentError('CONFIG_INVALID', `${name} in the environment contains control characters`)
    if (given !== '') wanted.set(name, given)
  }
  if (wanted.size === 0) return null
  const before = (await stateOf(DEFAULTS))?.content.toString() ?? ''
  let text: string
  try {
    if (before.includes('\uFFFD')) throw new Error('it is not UTF-8 text')
    text = withVariables(before, wanted)
  } catch (error) {
    throw new AgentError('CONFIG_INVALID', `${DEFAULTS}: ${messageOf(error)}`, { cause: error })
  }
  const isSecret = WITH_PASSWORD.test(before) || WITH_PASSWORD.test(text)
  return fileChange('use the proxy', DEFAULTS, text, isSecret ? SECRET : PUBLIC, isSecret)
}

/** Written anew when the machine, the host or its name is another one, not for the date. */
async function enrollmentChange(
  { config, hostId, hostname, current, options }: Wanted,
  { version, environment, clock }: EnrollTools,
): Promise<FileChange | null> {
  const identity = await readMachineIdentity()
  const keys = await createHostKeys({ patterns: config.hostKeys }).list()
  const hostKeys = keys.flatMap(({ content }) => (content.kind === 'key' ? [content.key.fingerprint] : []))
  const { enrollment: before } = current
  const ephemeral = options.ephemeral === true || before?.ephemeral === true
  const isSame =
    before !== null &&
    before.ephemeral === ephemeral &&
    before.host_id === hostId &&
    before.hostname === hostname &&
    JSON.stringify([before.machine_id, before.instance_id]) ===
      JSON.stringify([identity.machine_id, identity.instance_id])
  if (isSame) return null
  const enrollment: Enrollment = {
    version: 1,
    ...identity,
    host_keys: hostKeys,
    enrolled_at: formatTime(clock.now()) ?? '',
    enrolled_by:
      options.atBoot === undefined
        ? (environment['SUDO_USER'] ?? environment['USER'] ?? 'root')
        : 'first boot',
    hostcertd: version,
    host_id: hostId,
    hostname,
    ephemeral,
  }
  return fileChange('record which machine this is', ENROLLMENT_FILE, enrollmentText(enrollment), PUBLIC)
}

/** @param isChanged whether anything else is */
async function serviceChanges(isChanged: boolean, signal: AbortSignal): Promise<Change[]> {
  const before = await stateOfUnit(UNIT, signal)
  if (!isChanged && before.isEnabled && before.isActive) return []
  const found = await Promise.all(COPIES.map(pathsMatching))
  const states = await Promise.all(found.flat().map(async (path) => ({ path, state: await stateOf(path) })))
  const step = before.isActive ? 'reload the service' : 'start the service'
  return [
    {
      kind: 'copies',
      step: 'install certificates for sshd',
      paths: COPIES,
      before: states,
      state: { folder: STATE_FOLDER, before: await listServiceState(STATE_FOLDER) },
    },
    { kind: 'service', step, unit: UNIT, before },
  ]
}

/** @throws AgentError when it is masked: that counts as not enabled, and to disable it again would remove more than enroll added */
async function stateOfUnit(
  unit: string,
  signal: AbortSignal,
): Promise<{ readonly isEnabled: boolean; readonly isActive: boolean }> {
  const limits = { timeoutMilliseconds: 10_000, signal }
  const enabled = await runProgram(['systemctl', 'is-enabled', unit], limits)
  if (enabled.stdout.startsWith('masked'))
    throw new AgentError('STORE_FAILED', `${unit} is masked: run \`systemctl unmask ${unit}\` first`)
  const active = await runProgram(['systemctl', 'is-active', unit], limits)
  return { isEnabled: enabled.status === 0, isActive: active.status === 0 }
}
