import type { PublicKey } from '../cert/public-key.ts'
import { formatTime } from '../cert/time.ts'
import type { Config } from '../config/config.ts'
import { type Enrollment, ENROLLMENT_FILE, enrollmentText, readMachineIdentity } from '../host/enrollment.ts'
import { pathsMatching } from '../host/files.ts'
import { createHostKeys } from '../host/host-keys.ts'
import { runProgram } from '../host/programs.ts'
import type { Change, FileChange } from './change.ts'
import { EPHEMERAL_UNIT } from './ephemeral.ts'
import { readFileState } from './files.ts'
import { readSshdSetup } from './sshd-facts.ts'
import { planSshd } from './sshd.ts'
import { RETURN_FILE, returnText } from './template.ts'
import { CONFIG_FILE, type Current, type EnrollOptions, type EnrollTools, HOST_CA_FILE } from './wanted.ts'

const CREDENTIALS = '/etc/hostcertd/credentials'
const DEFAULTS = '/etc/default/hostcertd'
const SSHD_CONFIG = '/etc/ssh/sshd_config'
/** What the root helper writes. */
const COPIES = ['/etc/ssh/hostcertd/*-cert.pub', '/etc/ssh/sshd_config.d/40-hostcertd.conf']
const UNIT = 'hostcertd.service'
const PUBLIC = 0o644
const SECRET = 0o600

/** What this host is to become. */
export interface Wanted {
  /** Of the main configuration file. */
  readonly text: string
  readonly config: Config
  readonly secrets: Readonly<Record<string, string>>
  readonly pins: readonly PublicKey[]
  readonly hostId: string
  readonly hostname: string
  readonly options: EnrollOptions
  readonly current: Current
}

export interface Planned {
  readonly changes: readonly Change[]
  readonly notes: readonly string[]
  readonly problems: readonly string[]
}

/** What has to change, in this order; nothing when this host is as it is wanted. */
export async function planChanges(wanted: Wanted, tools: EnrollTools, signal: AbortSignal): Promise<Planned> {
  const { text, pins, secrets, options } = wanted
  const files: (FileChange | null)[] = []
  for (const [name, secret] of Object.entries(secrets))
    files.push(
      await fileChange(`store the credential ${name}`, `${CREDENTIALS}/${name}`, secret, SECRET, true),
    )
  files.push(await proxyChange(tools.environment))
  if (pins.length > 0)
    files.push(await fileChange('pin the host CA', HOST_CA_FILE, pinned(pins, wanted.current), PUBLIC))
  files.push(await fileChange('write the configuration', CONFIG_FILE, text, PUBLIC))
  const setup = await readSshdSetup(SSHD_CONFIG, signal)
  const consents = options.mode !== 'yes' || options.takeOver
  const sshd = planSshd(setup, {
    takesOver: { leftovers: true, rivals: consents, publicHalves: true },
    userCa: null,
  })
  const changes: Change[] = [...files.filter((file) => file !== null), ...sshd.changes]
  const enrollment = await enrollmentChange(wanted, tools)
  if (enrollment !== null) changes.push(enrollment)
  const ephemeral = options.ephemeral === true ? await ephemeralChanges(options, signal) : []
  changes.push(...ephemeral)
  const notes = ephemeral.length > 0 ? [...sshd.notes, NEEDS_DELETE] : sshd.notes
  return { ...sshd, notes, changes: [...changes, ...(await serviceChanges(changes.length > 0, signal))] }
}

export const NEEDS_REGISTER =
  '--ephemeral deletes the host at power-off: add --register and --project, so that it can come back'
const NEEDS_DELETE =
  'this host is deleted at the issuer when the machine is powered off, if its identity has the right to delete it: that shows only then, in `journalctl -u hostcertd-ephemeral`'

/** What deletes the host when this machine is powered off, and what registers it again when it comes back. */
async function ephemeralChanges(options: EnrollOptions, signal: AbortSignal): Promise<Change[]> {
  const back = await fileChange('remember how to come back', RETURN_FILE, returnText(options), SECRET)
  const before = await stateOfUnit(EPHEMERAL_UNIT, signal)
  const step = 'delete the host when this machine is powered off'
  return [
    ...(back === null ? [] : [back]),
    ...(before.isEnabled && before.isActive
      ? []
      : [{ kind: 'service' as const, step, unit: EPHEMERAL_UNIT, before }]),
  ]
}

/** A change to a file, or null when it is as it is to be. */
export async function fileChange(
  step: string,
  path: string,
  text: string,
  mode: number,
  isSecret = false,
): Promise<FileChange | null> {
  const before = await readFileState(path)
  const content = Buffer.from(text)
  // What an administrator made stricter, or another's, stays so.
  if (before !== null && before.content.equals(content)) return null
  const owner = before ?? { mode, uid: 0, gid: 0 }
  return { kind: 'file', step, path, before, after: { ...owner, content }, isSecret }
}

/** A line for each CA; those that are there stay as they are. */
function pinned(pins: readonly PublicKey[], { pinsText, pins: there }: Current): string {
  const added = pins.filter(({ blob }) => !there.some((one) => one.blob.equals(blob)))
  const lines = added.map(({ type, blob }) => `${type} ${blob.toString('base64')}\n`)
  const before =
    pinsText === null || pinsText === '' || pinsText.endsWith('\n') ? (pinsText ?? '') : `${pinsText}\n`
  return before + lines.join('')
}

const PROXIES = ['HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY', 'ALL_PROXY']

/** The proxy by which enroll reaches the issuer is the service's too. */
export async function proxyChange(environment: EnrollTools['environment']): Promise<FileChange | null> {
  const wanted = PROXIES.flatMap((name) => {
    const given = environment[name] ?? environment[name.toLowerCase()] ?? ''
    return given === '' ? [] : [`${name}=${quoted(given)}`]
  })
  if (wanted.length === 0) return null
  const before = await readFileState(DEFAULTS)
  const lines = before?.content.toString().split('\n') ?? []
  const kept = lines.filter(
    (line) => !wanted.some((one) => line.startsWith(one.slice(0, one.indexOf('=') + 1))),
  )
  if (wanted.every((line) => lines.includes(line))) return null
  const text = `${[...kept.filter((line, index) => line !== '' || index < kept.length - 1), ...wanted].join('\n')}\n`
  // A proxy's address may have a password in it.
  const hasPassword = wanted.some((line) => line.includes('@'))
  return fileChange('use the proxy', DEFAULTS, text, hasPassword ? SECRET : PUBLIC, hasPassword)
}

/** As an environment file of systemd's has it: systemd.exec(5). */
function quoted(text: string): string {
  return /^[\w:/.,@%+*-]*$/.test(text) ? text : `"${text.replace(/["\\$`]/g, '\\$&')}"`
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
  return fileChange('remember this machine', ENROLLMENT_FILE, enrollmentText(enrollment), PUBLIC)
}

/** @param isChanged whether anything else is */
async function serviceChanges(isChanged: boolean, signal: AbortSignal): Promise<Change[]> {
  const before = await stateOfUnit(UNIT, signal)
  if (!isChanged && before.isEnabled && before.isActive) return []
  const found = await Promise.all(COPIES.map(async (pattern) => pathsMatching(pattern).catch(() => [])))
  const states = await Promise.all(
    found.flat().map(async (path) => ({ path, state: await readFileState(path) })),
  )
  const step = before.isActive ? 'have the service read its configuration' : 'start the service'
  return [
    { kind: 'copies', step: 'have certificates installed for sshd', paths: COPIES, before: states },
    { kind: 'service', step, unit: UNIT, before },
  ]
}

async function stateOfUnit(
  unit: string,
  signal: AbortSignal,
): Promise<{ readonly isEnabled: boolean; readonly isActive: boolean }> {
  const asks = async (question: string): Promise<boolean> => {
    const { status } = await runProgram(['systemctl', '--quiet', question, unit], {
      timeoutMilliseconds: 10_000,
      signal,
    })
    return status === 0
  }
  return { isEnabled: await asks('is-enabled'), isActive: await asks('is-active') }
}
