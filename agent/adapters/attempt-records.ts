import { join } from 'node:path'
import * as v from 'valibot'
import { AgentError, ERROR_CODES, messageOf } from '../core/errors.ts'
import { EMPTY_RECORD, type AttemptRecord } from '../renewal/attempt-record.ts'
import type { AttemptRecords, Log } from '../renewal/ports.ts'
import { readBoundedFile } from '../system/bounded-file.ts'
import { replaceFile, type FileOperations } from '../system/durable-file.ts'
import { reasonOf, systemCodeOf } from '../system/one-line.ts'

export interface AttemptRecordsOptions {
  readonly stateDirectory: string
  readonly log: Pick<Log, 'warn'>
  /** For tests of what a disk can do; node:fs/promises without. */
  readonly operations?: FileOperations
}

/** Some hundred bytes for each host key. */
const LARGEST_FILE_BYTES = 1024 * 1024
/** Messages of the issuer's stand in it. */
const FILE_MODE = 0o600

/** Up to the end of the year 9999: what lies outside cannot be printed, and was not written by us. */
const time = v.pipe(v.number(), v.minValue(0), v.maxValue(253_402_300_799))
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const errorCode = v.picklist(ERROR_CODES)

const wait = v.nullable(
  v.object({
    failures: count,
    until: time,
    kind: v.picklist(['backoff', 'retry-after', 'login', 'administrator']),
    code: errorCode,
  }),
)

const hostKeyRecord = v.object({
  fingerprint: v.string(),
  wait,
  lastAttempt: v.nullable(time),
  lastSuccess: v.nullable(time),
  failures: count,
  lastError: v.nullable(v.object({ code: errorCode, message: v.string(), at: time })),
  issued: v.nullable(v.object({ serial: v.string(), at: time })),
  repairs: v.array(time),
  confirmedSerial: v.nullable(v.string()),
  notOffered: v.nullable(v.object({ why: v.string(), pairVersion: v.string() })),
})

const attemptRecord = v.object({
  version: v.literal(1),
  issuer: wait,
  login: wait,
  install: v.optional(wait, null),
  reload: wait,
  reloadOwed: v.boolean(),
  issuerCas: v.nullable(v.array(v.string())),
  formerCas: v.array(v.string()),
  hostKeys: v.record(v.string(), hostKeyRecord),
})

/** The attempt record as `attempts.json` in the state directory. */
export function createAttemptRecords(options: AttemptRecordsOptions): AttemptRecords {
  const path = join(options.stateDirectory, 'attempts.json')

  const load = async (): Promise<AttemptRecord> => {
    try {
      return v.parse(attemptRecord, JSON.parse(await readBoundedFile(path, LARGEST_FILE_BYTES)))
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT') {
        const why = error instanceof v.ValiError ? describe(error) : reasonOf(error)
        options.log.warn(
          { file: path },
          `the attempt record ${path} cannot be used, starting without it: ${why}`,
        )
      }
      return EMPTY_RECORD
    }
  }

  const save = async (record: AttemptRecord): Promise<void> => {
    try {
      await replaceFile(path, `${JSON.stringify(record)}\n`, FILE_MODE, options.operations)
    } catch (error) {
      throw new AgentError('STORE_FAILED', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
    }
  }

  return { load, save }
}

function describe(error: v.ValiError<typeof attemptRecord>): string {
  const [issue] = error.issues
  return `${v.getDotPath(issue) ?? 'the document'}: ${messageOf(error)}`
}
