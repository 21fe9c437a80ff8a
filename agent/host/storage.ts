import { dirname, join } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { certificateFileOf } from '../cert/host-certificate.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import type { VerifiedCertificate } from '../cert/verify-issued.ts'
import type { CertificateStore, StoredCertificate, AttemptRecords, Log } from '../renewal/ports.ts'
import { type AttemptRecord, EMPTY_RECORD, readRecord, recordDocument } from '../renewal/record.ts'
import { type FileOperations, makeFolder, readBoundedFile, replaceFile, SMALL_FILE_BYTES } from './files.ts'

interface CertificateStoreOptions {
  /** Made when the first certificate is put in place. */
  readonly directory: string
  /** For tests of what a disk can do; node:fs/promises without. */
  readonly operations?: FileOperations
}

/** Readable for everyone, sshd and the root helper among them: a certificate is public. */
const CERTIFICATE_MODE = 0o644
const FOLDER_MODE = 0o755

/**
 * Certificates as files `NAME-cert.pub` in one folder. Not locked: one process writes at a time (see PassLock), any
 * number may read.
 */
export function createCertificateStore(options: CertificateStoreOptions): CertificateStore {
  const pathOf = (hostKeyName: string): string => join(options.directory, certificateFileOf(hostKeyName))

  const read = async (hostKeyName: string): Promise<StoredCertificate> => {
    const path = pathOf(hostKeyName)
    try {
      return { kind: 'text', text: await readBoundedFile(path, SMALL_FILE_BYTES) }
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') return { kind: 'absent' }
      const message = `cannot read ${path}: ${reasonOf(error)}`
      return { kind: 'unreadable', failure: { code: 'STORE_FAILED', message } }
    }
  }

  const swap = async (hostKeyName: string, certificate: VerifiedCertificate): Promise<void> => {
    const path = pathOf(hostKeyName)
    try {
      await makeFolder(dirname(path), FOLDER_MODE)
      await replaceFile(path, `${certificate.line}\n`, CERTIFICATE_MODE, options.operations)
    } catch (error) {
      throw new AgentError('STORE_FAILED', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
    }
  }

  return { pathOf, read, swap }
}

interface AttemptRecordsOptions {
  readonly stateDirectory: string
  readonly log: Pick<Log, 'warn'>
  /** For tests of what a disk can do; node:fs/promises without. */
  readonly operations?: FileOperations
}

/** Some hundred bytes for each host key. */
const LARGEST_RECORD_BYTES = 1024 * 1024
/** It contains messages of the issuer. */
const RECORD_MODE = 0o600

/** The attempt record as `attempts.json` in the state directory. */
export function createAttemptRecords(options: AttemptRecordsOptions): AttemptRecords {
  const path = join(options.stateDirectory, 'attempts.json')

  const load: AttemptRecords['load'] = async () => {
    try {
      return readRecord(JSON.parse(await readBoundedFile(path, LARGEST_RECORD_BYTES)))
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
      await replaceFile(path, `${JSON.stringify(recordDocument(record))}\n`, RECORD_MODE, options.operations)
    } catch (error) {
      throw new AgentError('STORE_FAILED', `cannot write ${path}: ${reasonOf(error)}`, { cause: error })
    }
  }

  return { load, save }
}
