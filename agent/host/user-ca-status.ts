import * as v from 'valibot'
import { ERROR_CODES } from '../cert/errors.ts'
import { reasonOf } from '../cert/text.ts'
import { parseTime, type UnixSeconds } from '../cert/time.ts'
import { isGone, readBoundedFile, SMALL_FILE_BYTES } from './files.ts'

/** What the last runs of `ca refresh` came to; root's, readable by everyone. */
export const USER_CA_STATUS_FILE = '/var/lib/hostcertd-enroll/ca-status.json'

/** RFC 3339 UTC. */
const time = v.pipe(
  v.string(),
  v.check((text) => !Number.isNaN(parseTime(text)), 'not a time'),
)

const statusSchema = v.object({
  version: v.literal(1),
  last_attempt: time,
  /** When the issuer last named a CA, and sshd was set up to trust it; null: never. */
  last_success: v.nullable(time),
  /** Of the last attempt. */
  error: v.nullable(v.object({ code: v.picklist(ERROR_CODES), message: v.string() })),
  /** The CAs in place. */
  cas: v.array(
    v.object({
      fingerprint: v.string(),
      /** Since when the issuer has named another one; null: it named this one last, or the overlap has not begun. */
      unnamed_since: v.nullable(time),
    }),
  ),
  /** Whether sshd has to read its configuration again, to learn of the drop-in. */
  reload_pending: v.boolean(),
})

/** `ca-status.json`. Fields that another version adds are ignored. */
export type UserCaStatus = v.InferOutput<typeof statusSchema>

export function userCaStatusText(status: UserCaStatus): string {
  return `${JSON.stringify(status, null, 2)}\n`
}

function parse(text: string): UserCaStatus {
  return v.parse(statusSchema, JSON.parse(text))
}

/** Of a file that was read already; null when there is none, or it cannot be used. */
export function userCaStatusIn(content: Buffer | undefined): UserCaStatus | null {
  try {
    return content === undefined ? null : parse(content.toString('utf8'))
  } catch {
    return null
  }
}

/**
 * @returns null when it does not exist
 * @throws Error that says why it cannot be read or used
 */
export async function readUserCaStatus(path = USER_CA_STATUS_FILE): Promise<UserCaStatus | null> {
  try {
    return parse(await readBoundedFile(path, SMALL_FILE_BYTES))
  } catch (error) {
    if (isGone(error)) return null
    throw new Error(`cannot use ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/** For the metrics. Never throws: null when there was no success, or that is not known. */
export async function lastUserCaSuccess(path = USER_CA_STATUS_FILE): Promise<UnixSeconds | null> {
  const status = await readUserCaStatus(path).catch(() => null)
  const at = status?.last_success ?? null
  return at === null ? null : parseTime(at)
}
