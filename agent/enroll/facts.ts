import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AgentError, messageOf } from '../cert/errors.ts'
import { oneLine, reasonOf } from '../cert/text.ts'
import type { Config } from '../config/config.ts'
import { ENROLLMENT_FILE, type MachineIdentity, readMachineIdentity } from '../host/enrollment.ts'
import { userNamed, whyDenied } from '../host/file-access.ts'
import { isGone } from '../host/files.ts'
import { type ProgramResult, runProgram } from '../host/programs.ts'
import { USER_CA_STATUS_FILE } from '../host/user-ca-status.ts'
import type { Access, CopiesChange, FileState, ServiceFiles, ServiceState } from './change.ts'
import { EPHEMERAL_UNIT } from './ephemeral.ts'
import { readFileState } from './files.ts'
import { type OwnHostKey, ownHostKeys } from './own-host-keys.ts'
import { pathsOf } from './perform.ts'
import { listServiceState, readCertificates } from './service-state.ts'
import { readSshdSetup, type SshdSetup } from './sshd-facts.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from './sshd-logins.ts'
import { RETURN_FILE } from './template.ts'
import { CONFIG_FILE, CREDENTIALS_FOLDER, DEFAULTS_FILE, HOST_CA_FILE, SSHD_CONFIG } from './wanted.ts'

/** Everything on this host that the plan depends on, read once. What cannot be read stops enroll. */
export interface HostFacts {
  /** By path; null: there is no such file. */
  readonly files: ReadonlyMap<string, FileState | null>
  /** Those of {@link FOLDERS} that there are. */
  readonly folders: ReadonlyMap<string, Access>
  readonly sshd: SshdSetup
  readonly machine: MachineIdentity
  readonly hostKeys: readonly OwnHostKey[]
  readonly service: UnitState
  readonly ephemeralService: UnitState
  readonly caTimer: UnitState
  readonly copies: CopiesChange['before']
  readonly serviceState: ServiceState
  /** Certificates of any host that the service keeps. */
  readonly certificates: ServiceFiles
  /** Why the daemon cannot read the pinned CAs in a file of an administrator; null when it can. */
  readonly pinsDenied: string | null
}

/** Folders of hostcertd's own, with their modes: root's. A folder comes before those in it. */
export const FOLDERS: ReadonlyMap<string, number> = new Map([
  [dirname(CONFIG_FILE), 0o755],
  [CREDENTIALS_FOLDER, 0o700],
  [dirname(ENROLLMENT_FILE), 0o755],
])

/** What the root helper writes. */
export const COPIES = ['/etc/ssh/hostcertd/*-cert.pub', '/etc/ssh/sshd_config.d/40-hostcertd.conf']
export const UNIT = 'hostcertd.service'
/** Runs `ca refresh`. */
export const CA_TIMER = 'hostcertd-ca.timer'
/** Of that unit. Root neither reads nor writes in it. */
const STATE_FOLDER = '/var/lib/hostcertd'

/**
 * Read them, as root.
 *
 * @param credentials names of the files in the credential folder that may be written
 * @param pins the file of the pinned CAs
 * @throws AgentError STORE_FAILED; the signal's reason
 */
export async function gatherFacts(
  config: Pick<Config, 'hostKeys' | 'userCa'>,
  credentials: readonly string[],
  pins: string,
  signal: AbortSignal,
): Promise<HostFacts> {
  const own = [CONFIG_FILE, pins, DEFAULTS_FILE, ENROLLMENT_FILE, RETURN_FILE]
  const ofUserCa = config.userCa.install ? [USER_CA_FILE, USER_CA_DROP_IN, USER_CA_STATUS_FILE] : []
  const paths = [...own, ...ofUserCa, ...credentials.map((name) => `${CREDENTIALS_FOLDER}/${name}`)]
  const files = new Map<string, FileState | null>()
  for (const path of paths) files.set(path, await stateOf(path))
  const folders = new Map<string, Access>()
  for (const path of FOLDERS.keys()) {
    const access = await accessOf(path)
    if (access !== null) folders.set(path, access)
  }
  const copies = (await Promise.all(COPIES.map(copiesAt))).flat()
  return {
    files,
    folders,
    sshd: await readSshdSetup(SSHD_CONFIG, signal),
    machine: await readMachineIdentity(),
    hostKeys: await ownHostKeys(config, signal),
    service: await stateOfUnit(UNIT, signal),
    ephemeralService: await stateOfUnit(EPHEMERAL_UNIT, signal),
    caTimer: await stateOfTimer(CA_TIMER, signal),
    copies: await Promise.all(copies.map(async (path) => ({ path, state: await stateOf(path) }))),
    serviceState: { folder: STATE_FOLDER, before: await listServiceState(STATE_FOLDER) },
    certificates: await readCertificates(STATE_FOLDER),
    pinsDenied:
      pins === HOST_CA_FILE || (files.get(pins) ?? null) === null
        ? null
        : await whyNotForDaemon(pins, signal),
  }
}

async function copiesAt(pattern: string): Promise<readonly string[]> {
  try {
    return await pathsOf(pattern)
  } catch (error) {
    throw new AgentError('STORE_FAILED', `${pattern}: ${reasonOf(error)}`, { cause: error })
  }
}

async function whyNotForDaemon(path: string, signal: AbortSignal): Promise<string | null> {
  const daemon = await userNamed('hostcertd', signal)
  return daemon === null ? null : whyDenied(path, daemon, 'read')
}

/**
 * A file as it is now; null when there is none.
 *
 * @throws AgentError STORE_FAILED when something is there that is neither replaced nor known
 */
export async function stateOf(path: string): Promise<FileState | null> {
  try {
    // A folder of hostcertd's own that others may write to is corrected first.
    return await readFileState(path, undefined, FOLDERS.has(dirname(path)))
  } catch (error) {
    throw new AgentError('STORE_FAILED', `${path}: ${reasonOf(error)}`, { cause: error })
  }
}

async function accessOf(folder: string): Promise<Access | null> {
  try {
    const stats = await stat(folder)
    if (!stats.isDirectory()) throw new Error('it is not a folder')
    return { mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid }
  } catch (error) {
    if (isGone(error)) return null
    throw new AgentError('STORE_FAILED', `${folder}: ${messageOf(error)}`, { cause: error })
  }
}

/** `unknown` says why the state of a unit is not known: nothing is done to the unit then. */
type UnitState = { readonly isEnabled: boolean; readonly isActive: boolean } | { readonly unknown: string }

/** @throws AgentError STORE_FAILED when it is not known: undoing might stop what was there before */
export function known(state: UnitState): { readonly isEnabled: boolean; readonly isActive: boolean } {
  if ('unknown' in state) throw new AgentError('STORE_FAILED', state.unknown)
  return state
}

/** All that `systemctl is-enabled` and `is-active` print when the answer is no: systemctl(1). */
const NOT_ENABLED = ['disabled', 'linked', 'linked-runtime', 'not-found']
const NOT_ACTIVE = ['inactive', 'failed', 'deactivating', 'maintenance']

/** One that was started and waits, for time-sync.target, counts as active: to start it again would change nothing. */
async function stateOfTimer(unit: string, signal: AbortSignal): Promise<UnitState> {
  const state = await stateOfUnit(unit, signal)
  if ('unknown' in state || !state.isEnabled || state.isActive) return state
  const { stdout, stderr, failure, status } = await askSystemctl(['show', '--property=Job', unit], signal)
  const [, job] = /^Job=(\d*)$/.exec(stdout.trim() || 'Job=') ?? []
  if (status === 0 && job !== undefined) return { ...state, isActive: Number(job) > 0 }
  const why = oneLine(failure ?? (stderr.trim() || stdout.trim() || `exit status ${status}`))
  return { unknown: `no answer from \`systemctl show ${unit}\`: ${why}` }
}

async function askSystemctl(args: readonly string[], signal: AbortSignal): Promise<ProgramResult> {
  const environment = { LC_ALL: 'C', PATH: process.env['PATH'] ?? '' }
  return runProgram(['systemctl', ...args], { timeoutMilliseconds: 10_000, environment, signal })
}

/** A unit that is masked counts as unknown: to disable it again would remove more than enroll added. */
async function stateOfUnit(unit: string, signal: AbortSignal): Promise<UnitState> {
  const isIt = async (
    verb: string,
    no: readonly string[],
  ): Promise<boolean | { readonly unknown: string }> => {
    const { stdout, stderr, failure, status } = await askSystemctl([verb, unit], signal)
    const word = stdout.trim()
    if (word.startsWith('masked'))
      return { unknown: `${unit} is masked: run \`systemctl unmask ${unit}\` first` }
    // Between two attempts, too: who put it back as it was would start it.
    if (status === 0 || word === 'activating') return true
    // Older versions print only a message for a unit that is not there.
    const isAbsent = word === '' && /^Failed to get unit file state for .*: No such file/.test(stderr)
    if (status !== null && (no.includes(word) || isAbsent)) return false
    const why = oneLine(failure ?? (stderr.trim() || word || `exit status ${status}`))
    return { unknown: `no answer from \`systemctl ${verb} ${unit}\`: ${why}` }
  }
  const isEnabled = await isIt('is-enabled', NOT_ENABLED)
  if (typeof isEnabled !== 'boolean') return isEnabled
  const isActive = await isIt('is-active', NOT_ACTIVE)
  return typeof isActive === 'boolean' ? { isEnabled, isActive } : isActive
}
