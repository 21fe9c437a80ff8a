import { join } from 'node:path'
import * as v from 'valibot'
import { AgentError, ERROR_CODES, type ErrorCode, messageOf } from '../cert/errors.ts'
import { reasonOf, systemCodeOf } from '../cert/text.ts'
import type { UnixSeconds } from '../cert/time.ts'
import type { AttemptRecords, Log } from '../renewal/ports.ts'
import {
  type AttemptRecord,
  EMPTY_RECORD,
  type ErrorScope,
  type Evidence,
  SSHD_NOT_ASKED,
} from '../renewal/record.ts'
import { type FileOperations, readBoundedFile, replaceFile } from './files.ts'

interface AttemptRecordsOptions {
  readonly stateDirectory: string
  readonly log: Pick<Log, 'warn'>
  /** For tests of what a disk can do; node:fs/promises without. */
  readonly operations?: FileOperations
}

/** Some hundred bytes for each host key. */
const LARGEST_FILE_BYTES = 1024 * 1024
/** It contains messages of the issuer. */
const FILE_MODE = 0o600

/** Up to the end of the year 9999: times outside cannot be printed, and were not written by hostcertd. */
const time = v.pipe(v.number(), v.minValue(0), v.maxValue(253_402_300_799))
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const errorCode = v.picklist(ERROR_CODES)
/** Of a later version, before a downgrade. */
const unknownCode = v.pipe(
  v.string(),
  v.check((code) => ERROR_CODES.every((known) => known !== code)),
)

const wait = v.nullable(
  v.object({
    failures: count,
    until: time,
    kind: v.picklist(['backoff', 'retry-after', 'login', 'administrator']),
    // The wait holds, whatever it was for.
    code: v.union([
      errorCode,
      v.pipe(
        unknownCode,
        v.transform((): ErrorCode => 'ISSUER_UNREACHABLE'),
      ),
    ]),
  }),
)

/** Version 0.1 wrote no scope: what it noted goes by its code. */
const lastError = v.pipe(
  v.object({
    code: errorCode,
    message: v.string(),
    at: time,
    scope: v.optional(v.picklist(['issuer', 'key', 'sshd'])),
  }),
  v.transform((error) => ({ ...error, scope: error.scope ?? scopeOf(error.code) })),
)

const decimal = v.pipe(v.string(), v.regex(/^\d{1,20}$/))

const evidence = v.variant('kind', [
  v.object({
    kind: v.literal('certificate'),
    at: time,
    digest: v.nullable(v.string()),
    serial: v.nullable(decimal),
    validBefore: v.nullable(decimal),
  }),
  v.object({ kind: v.literal('none'), at: time }),
  v.object({
    kind: v.picklist(['not-offered', 'other-key']),
    at: time,
    why: v.string(),
    pairVersion: v.string(),
    isSettled: v.boolean(),
  }),
])

const hostKeyRecord = v.pipe(
  v.object({
    fingerprint: v.string(),
    wait,
    lastAttempt: v.nullable(time),
    lastSuccess: v.nullable(time),
    failures: count,
    lastError: v.nullable(
      v.union([
        lastError,
        v.pipe(
          v.object({ code: unknownCode }),
          v.transform(() => null),
        ),
      ]),
    ),
    issued: v.nullable(v.object({ serial: v.string(), at: time })),
    repairs: v.array(time),
    evidence: v.optional(v.nullable(evidence)),
    unknown: v.optional(v.nullable(v.object({ reason: v.string(), since: time })), null),
    // Version 0.1 had these in place of evidence.
    confirmedSerial: v.optional(v.nullable(v.string()), null),
    notOffered: v.optional(v.nullable(v.object({ why: v.string(), pairVersion: v.string() })), null),
  }),
  v.transform(({ confirmedSerial, notOffered, ...record }) => ({
    ...record,
    evidence: record.evidence ?? oldEvidence(confirmedSerial, notOffered, record.lastSuccess ?? 0),
  })),
)

const sshd = v.object({
  state: v.nullable(v.picklist(['up', 'down', 'unknown'])),
  since: v.nullable(time),
  askedAt: v.nullable(time),
  listen: v.array(v.string()),
  notes: v.array(v.string()),
  helperAt: v.nullable(time),
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
  sshd: v.optional(sshd, SSHD_NOT_ASKED),
  hostKeys: v.record(v.string(), hostKeyRecord),
})

function scopeOf(code: ErrorCode): ErrorScope {
  if (code.startsWith('SSHD_')) return 'sshd'
  return code.startsWith('CERT_') || code === 'STORE_FAILED' || code === 'ISSUER_REJECTED' ? 'key' : 'issuer'
}

function oldEvidence(
  confirmedSerial: string | null,
  notOffered: { readonly why: string; readonly pairVersion: string } | null,
  at: UnixSeconds,
): Evidence | null {
  if (notOffered !== null) return { kind: 'not-offered', at, ...notOffered, isSettled: true }
  if (confirmedSerial === null) return null
  return { kind: 'certificate', at, digest: null, serial: confirmedSerial, validBefore: null }
}

/** As it is on disk: with the two entries that version 0.1 reads, after a downgrade, to learn what sshd serves. */
function onDisk(record: AttemptRecord): object {
  const hostKeys = Object.entries(record.hostKeys).map(([name, key]) => {
    const { evidence: seen } = key
    const confirmedSerial = seen?.kind === 'certificate' ? seen.serial : null
    const isNotOffered = (seen?.kind === 'not-offered' || seen?.kind === 'other-key') && seen.isSettled
    const notOffered = isNotOffered ? { why: seen.why, pairVersion: seen.pairVersion } : null
    return [name, { ...key, confirmedSerial, notOffered }]
  })
  return { ...record, hostKeys: Object.fromEntries(hostKeys) }
}

/** The attempt record as `attempts.json` in the state directory. */
export function createAttemptRecords(options: AttemptRecordsOptions): AttemptRecords {
  const path = join(options.stateDirectory, 'attempts.json')

  const load: AttemptRecords['load'] = async () => {
    try {
      return v.parse(attemptRecord, JSON.parse(await readBoundedFile(path, LARGEST_FILE_BYTES)))
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') return EMPTY_RECORD
      const why = error instanceof v.ValiError ? describe(error) : reasonOf(error)
      options.log.warn(
        { file: path },
        `the attempt record ${path} cannot be used and is written anew: ${why}`,
      )
      return null
    }
  }

  const save = async (record: AttemptRecord): Promise<void> => {
    try {
      await replaceFile(path, `${JSON.stringify(onDisk(record))}\n`, FILE_MODE, options.operations)
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
