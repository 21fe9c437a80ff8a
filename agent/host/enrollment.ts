import { join } from 'node:path'
import * as v from 'valibot'
import { reasonOf } from '../cert/text.ts'
import type { Copied, EnrolledMachine, Log } from '../renewal/ports.ts'
import { isGone, readBoundedFile, SMALL_FILE_BYTES } from './files.ts'

/** What `enroll` recorded of the machine; root's, readable by everyone. */
export const ENROLLMENT_FILE = '/var/lib/hostcertd-enroll/enrollment.json'

const LONGEST_ID = 256

/** One line without controls. */
const line = v.pipe(v.string(), v.regex(/^[^\p{C}\p{Zl}\p{Zp}]*$/u), v.maxLength(1024))
const id = v.nullable(v.pipe(line, v.minLength(1), v.maxLength(LONGEST_ID)))

const identitySchema = {
  /** machine-id(5); null where there was none. */
  machine_id: id,
  /** By where it is read: one source is never compared with another. Null where there was none. */
  instance_id: v.object({ cloud_init: id, board_asset_tag: id }),
}

const enrollmentSchema = v.object({
  version: v.literal(1),
  ...identitySchema,
  /** Fingerprints; for people, as host keys may be rotated. */
  host_keys: v.array(line),
  /** RFC 3339 UTC. */
  enrolled_at: line,
  /** The user name, or `first boot`. */
  enrolled_by: line,
  /** The version of hostcertd. */
  hostcertd: line,
  host_id: line,
  hostname: line,
  ephemeral: v.boolean(),
})

/** `enrollment.json`. Fields that another version adds are ignored. */
export type Enrollment = v.InferOutput<typeof enrollmentSchema>

/** What distinguishes this machine from a copy of it, as far as files say that the daemon's user can read in its sandbox. */
export type MachineIdentity = Pick<Enrollment, 'machine_id' | 'instance_id'>

/**
 * Read the identity of this machine. Never throws: what cannot be read, or is a placeholder, is null.
 *
 * No product_uuid or product_serial of DMI: only root can read them. No other asset tag either: on most platforms it is
 * the same for every machine, or a label that an administrator writes.
 *
 * @param root for tests: the folder that stands for `/`
 */
export async function readMachineIdentity(root = '/'): Promise<MachineIdentity> {
  const [machineId, cloudInit, board] = await Promise.all(
    ['etc/machine-id', 'var/lib/cloud/data/instance-id', 'sys/class/dmi/id/board_asset_tag'].map(
      async (path) => idIn(join(root, path)),
    ),
  )
  return {
    machine_id: onlyIf(machineId, (text) => /^[0-9a-f]{32}$/.test(text) && !/^0+$/.test(text)),
    instance_id: {
      cloud_init: onlyIf(cloudInit, (text) => !PLACEHOLDER.test(text)),
      // What EC2 has there.
      board_asset_tag: onlyIf(board, (text) => /^i-[0-9a-f]{8,17}$/.test(text)),
    },
  }
}

/** cloud-init's when it found no metadata at that boot or the platform has none, and those of firmware. */
const PLACEHOLDER =
  /^(?:iid-(?:datasource|ds|vmware).*|nocloud|none|null|unknown|uninitialized|default string|not (?:specified|applicable|available|present)|to be filled by o\.?e\.?m\.?|[0.\- ]+)$/

/** Lower case, as versions of cloud-init and firmware differ in it. */
async function idIn(path: string): Promise<string | null> {
  try {
    const text = (await readBoundedFile(path, SMALL_FILE_BYTES)).trim().toLowerCase()
    return /^[\x20-\x7e]+$/.test(text) && text.length <= LONGEST_ID ? text : null
  } catch {
    return null
  }
}

function onlyIf(text: string | null | undefined, isEvidence: (text: string) => boolean): string | null {
  return text !== null && text !== undefined && isEvidence(text) ? text : null
}

/** The content of `enrollment.json`. */
export function enrollmentText(enrollment: Enrollment): string {
  return `${JSON.stringify(enrollment, null, 2)}\n`
}

/**
 * @returns null when it does not exist
 * @throws Error that says why it cannot be read or used
 */
export async function readEnrollment(path = ENROLLMENT_FILE): Promise<Enrollment | null> {
  let text: string
  try {
    text = await readBoundedFile(path, SMALL_FILE_BYTES)
  } catch (error) {
    if (isGone(error)) return null
    throw new Error(`cannot read ${path}: ${reasonOf(error)}`, { cause: error })
  }
  try {
    return v.parse(enrollmentSchema, JSON.parse(text))
  } catch (error) {
    const where = v.isValiError(error) ? (v.getDotPath(error.issues[0]) ?? 'the document') : 'the JSON'
    throw new Error(`${path} is damaged: ${where} is not valid`, { cause: error })
  }
}

/** Whether this machine is a copy: an id that was recorded, and can be read now, is another one. */
export function judgeCopied(recorded: MachineIdentity, now: MachineIdentity): Copied {
  const ids = [
    { name: 'its machine-id', was: recorded.machine_id, is: now.machine_id },
    ...(['cloud_init', 'board_asset_tag'] as const).map((source) => ({
      name: "the platform's instance id",
      was: recorded.instance_id[source],
      is: now.instance_id[source],
    })),
  ].filter(({ was, is }) => was !== null && is !== null)
  if (ids.length === 0) return null
  const different = new Set(ids.filter(({ was, is }) => was !== is).map(({ name }) => name))
  if (different.size === 0) return false
  const names = [...different].join(' and ')
  const message = `this machine was copied after it was enrolled: ${names} ${different.size > 1 ? 'differ' : 'differs'}`
  return { code: 'MACHINE_COPIED', message }
}

interface EnrolledMachineOptions {
  readonly log: Pick<Log, 'warn'>
  /** For tests: the folder that stands for `/`. */
  readonly root?: string
}

/** The machine that was enrolled, compared with this one at each call: a few small files. */
export function createEnrolledMachine({ log, root = '/' }: EnrolledMachineOptions): EnrolledMachine {
  const path = join(root, ENROLLMENT_FILE)
  let complaint = ''

  const copied = async (): Promise<Copied> => {
    let recorded: Enrollment | null
    try {
      recorded = await readEnrollment(path)
      complaint = ''
    } catch (error) {
      const { message } = error as Error
      if (complaint !== message)
        log.warn({ file: path }, `${message}; whether this machine was copied is unknown`)
      complaint = message
      return null
    }
    return recorded === null ? null : judgeCopied(recorded, await readMachineIdentity(root))
  }
  return { copied }
}
