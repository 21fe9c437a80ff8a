import { join } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import type { AttemptRecords, Log } from '../renewal/ports.ts'
import { type AttemptRecord, EMPTY_RECORD, readRecord, recordDocument } from '../renewal/record.ts'
import { type FileOperations, readBoundedFile, replaceFile } from './files.ts'

interface AttemptRecordsOptions {
  readonly stateDirectory: string
  readonly log: Pick<Log, 'warn'>
  /** For tests of what a disk can do; node:fs/promises without. */
  readonly operations?: FileOperations
}

/** Some hundred bytes for each host key. */
const LARGEST_FILE_BYTES = 1024 * 1024
/** Messages of the issuer's stand in it. */
const FILE_MODE = 0o600

/** The attempt record as `attempts.json` in the state directory. */
export function createAttemptRecords(options: AttemptRecordsOptions): AttemptRecords {
  const path = join(options.stateDirectory, 'attempts.json')

  const load: AttemptRecords['load'] = async () => {
    try {
      return readRecord(JSON.parse(await readBoundedFile(path, LARGEST_FILE_BYTES)))
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') return EMPTY_RECORD
      options.log.warn(
        { file: path },
        `the attempt record ${path} cannot be used and is written anew: ${reasonOf(error)}`,
      )
      return null
    }
  }

  const save = async (record: AttemptRecord): Promise<void> => {
    try {
      await replaceFile(path, `${JSON.stringify(recordDocument(record))}\n`, FILE_MODE, options.operations)
    } catch (error) {
      throw new AgentError('STORE_FAILED', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
    }
  }

  return { load, save }
}
