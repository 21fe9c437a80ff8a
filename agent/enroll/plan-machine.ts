import { isDeepStrictEqual } from 'node:util'
import { formatTime, type UnixSeconds } from '../cert/time.ts'
import {
  type Enrollment,
  ENROLLMENT_FILE,
  enrollmentText,
  judgeCopied,
  type MachineIdentity,
} from '../host/enrollment.ts'
import type { Change, FileChange } from './change.ts'
import { EPHEMERAL_UNIT } from './ephemeral.ts'
import { type HostFacts, known } from './facts.ts'
import { fileChange, PUBLIC, SECRET } from './plan-files.ts'
import { RETURN_FILE, returnText } from './template.ts'
import type { EnrollOptions } from './wanted.ts'

/** What enroll records of this machine: which one it is, and what happens at its power-off. Pure. */

/** Who enrolls which host, and when. */
export interface Enrolling {
  readonly options: EnrollOptions
  readonly hostId: string
  readonly hostname: string
  /** What an earlier call recorded; null: nothing. */
  readonly enrollment: Enrollment | null
  readonly now: UnixSeconds
  /** The user's name. */
  readonly by: string
  /** Of hostcertd. */
  readonly version: string
}

/** What this machine is, by what was recorded of it. */
export interface Machine {
  readonly identity: MachineIdentity
  readonly isEphemeral: boolean
  /** Why it is another one than the one that was enrolled; null: it is the same, as far as that is known. */
  readonly copied: string | null
}

export function judgeMachine({ enrollment, hostId, options }: Enrolling, now: MachineIdentity): Machine {
  const copied = enrollment === null ? null : judgeCopied(enrollment, now)
  const isCopy = copied !== null && copied !== false
  // Who enrolled the other host did not say that this one may be deleted.
  const isInherited = enrollment?.ephemeral === true && enrollment.host_id === hostId && !isCopy
  return {
    identity: enrollment === null || isCopy ? now : withRecorded(now, enrollment),
    isEphemeral: options.ephemeral === true || isInherited,
    copied: isCopy ? copied.message : null,
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
export function enrollmentChange(
  { enrollment: before, hostId, hostname, options, now, by, version }: Enrolling,
  { identity, isEphemeral }: Machine,
  { files, hostKeys }: HostFacts,
): FileChange | null {
  const isSame =
    before !== null &&
    before.ephemeral === isEphemeral &&
    before.host_id === hostId &&
    before.hostname === hostname &&
    before.machine_id === identity.machine_id &&
    isDeepStrictEqual(before.instance_id, identity.instance_id)
  const there = files.get(ENROLLMENT_FILE) ?? null
  const enrollment: Enrollment = {
    version: 1,
    ...identity,
    host_keys: hostKeys.map(({ key }) => key.fingerprint),
    enrolled_at: formatTime(now) ?? '',
    enrolled_by: options.atBoot === undefined ? by : 'first boot',
    hostcertd: version,
    host_id: hostId,
    hostname,
    ephemeral: isEphemeral,
  }
  const content = isSame && there !== null ? there.content : enrollmentText(enrollment)
  const step = 'record which machine this is'
  return fileChange({ step, path: ENROLLMENT_FILE, content, mode: PUBLIC }, there)
}

/**
 * What deletes the host when this machine is powered off, and what registers it again when it comes back.
 *
 * @param isNewSecret whether a credential changes: the unit read them when it was started
 */
export function ephemeralChanges(
  { options, enrollment }: Enrolling,
  { isEphemeral }: Machine,
  isNewSecret: boolean,
  { files, ephemeralService }: HostFacts,
): readonly Change[] {
  const there = files.get(RETURN_FILE) ?? null
  if (!isEphemeral && enrollment?.ephemeral === true) {
    const step = 'no longer delete the host when this machine is powered off'
    // Without it, and by what enrollment.json says, the unit does nothing.
    return there === null
      ? []
      : [{ kind: 'file', step, path: RETURN_FILE, before: there, after: null, isSecret: false }]
  }
  const text = options.ephemeral === true ? returnText(options) : there?.content
  const step = 'remember how to come back'
  const back =
    !isEphemeral || text === undefined
      ? null
      : fileChange({ step, path: RETURN_FILE, content: text, mode: SECRET }, there)
  return [
    ...(back === null ? [] : [back]),
    ...ephemeralUnitChanges(options, isEphemeral && isNewSecret, ephemeralService),
  ]
}

/** An ephemeral machine stays one without `--ephemeral`. */
function ephemeralUnitChanges(
  { ephemeral }: EnrollOptions,
  isNewSecret: boolean,
  state: HostFacts['ephemeralService'],
): readonly Change[] {
  if (ephemeral !== true && !isNewSecret) return []
  const before = known(state)
  const isRunning = before.isEnabled && before.isActive
  const isWanted = ephemeral === true ? !isRunning || isNewSecret : before.isActive
  const step =
    ephemeral === true
      ? 'delete the host when this machine is powered off'
      : 'use the new secret when this machine is powered off'
  return isWanted ? [{ kind: 'service', step, unit: EPHEMERAL_UNIT, before }] : []
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

/** @param changes those of {@link ephemeralChanges} */
export function notesOfEphemeral(
  { ephemeral, adminTokenFile }: EnrollOptions,
  { isEphemeral }: Machine,
  changes: readonly Change[],
): readonly string[] {
  if (!isEphemeral) return changes.some(({ kind }) => kind === 'file') ? [STAYS] : []
  if (ephemeral !== true || changes.length === 0) return []
  return adminTokenFile === null ? [NEEDS_DELETE] : [NEEDS_DELETE, NEEDS_CREATE]
}
