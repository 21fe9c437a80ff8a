import * as v from 'valibot'
import { ERROR_CODES, type ErrorCode } from '../cert/errors.ts'
import type { UnixSeconds } from '../cert/time.ts'

/*
 * What must survive a restart: attempts and waits, so that neither a restart nor a crash loop becomes an issuance storm,
 * and the last evidence of what sshd presents. Here is its shape, in memory and as `attempts.json` in the state
 * directory; times are seconds since the epoch.
 */

/** Up to the end of the year 9999: a later time cannot be printed, and was not written by us. */
const time = v.pipe(v.number(), v.minValue(0), v.maxValue(253_402_300_799))
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const decimal = v.pipe(v.string(), v.regex(/^\d{1,20}$/))
const texts = v.pipe(v.array(v.string()), v.readonly())
const errorCode = v.picklist(ERROR_CODES)
/** Of a later version, before a downgrade. */
const unknownCode = v.pipe(
  v.string(),
  v.check((code) => ERROR_CODES.every((known) => known !== code)),
)

const waitFields = {
  /** Failures of this kind in a row. */
  failures: count,
  /** Nothing is tried before. */
  until: time,
  // The wait holds, whatever it was for.
  code: v.union([
    errorCode,
    v.pipe(
      unknownCode,
      v.transform((): ErrorCode => 'ISSUER_UNREACHABLE'),
    ),
  ]),
}
const wait = v.nullable(v.object(waitFields))

/** Whose failure it was, so that it can be seen when its cause has ended. */
const errorScope = v.picklist(['issuer', 'key', 'sshd'])

/** Version 0.1 wrote no scope: what it noted goes by its code. */
const lastError = v.pipe(
  v.object({ code: errorCode, message: v.string(), at: time, scope: v.optional(errorScope) }),
  v.transform((error) => ({ ...error, scope: error.scope ?? scopeOf(error.code) })),
)

/** What sshd was seen to present for a host key. Only what was seen is evidence; what could not be found out is none. */
const evidence = v.variant('kind', [
  v.object({
    kind: v.literal('certificate'),
    at: time,
    /** SHA-256 of its bytes, hexadecimal; null in what version 0.1 noted, which knew the serial only. */
    digest: v.nullable(v.string()),
    /** Null when it cannot be read. */
    serial: v.nullable(decimal),
    /** Its 64 bits; null when it cannot be read. */
    validBefore: v.nullable(decimal),
  }),
  /** The plain key without a certificate. */
  v.object({ kind: v.literal('none'), at: time }),
  v.object({
    kind: v.picklist(['not-offered', 'other-key']),
    at: time,
    why: v.string(),
    /** Of the key files: when they change, this is no evidence any more. */
    pairVersion: v.string(),
    /** A reload did not change it, or there is no way to reload. */
    isSettled: v.boolean(),
  }),
])

const hostKeyRecord = v.pipe(
  v.object({
    /** Of the host key that all this is about; another key starts anew. */
    fingerprint: v.string(),
    wait,
    /** Failures of this key's own in a row, for its wait. */
    refusals: v.optional(count, 0),
    lastAttempt: v.nullable(time),
    lastSuccess: v.nullable(time),
    /** Of any kind, in a row. */
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
    /** The certificate that we put in place last. */
    issued: v.nullable(v.object({ serial: v.string(), at: time })),
    /** Recent issuances that were repairs (absent, damaged …), not renewals: what deletes certificates must not become a storm. */
    repairs: v.pipe(v.array(time), v.readonly()),
    /** The issuer refused a key of this type: why, and when to ask again. Null once it signed, or was never asked. */
    refused: v.optional(v.nullable(v.object({ why: v.string(), askAgainAt: time })), null),
    /** The last since a certificate was put in place; null when there is none. */
    evidence: v.optional(v.nullable(evidence)),
    /** Why the last question brought no answer for this key, and since when; null when it did. */
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

/** The last that is known of sshd as a whole. */
const sshd = v.object({
  /** What the last question showed, and since when it is so; null before the first. */
  state: v.nullable(v.picklist(['up', 'down', 'unknown'])),
  since: v.nullable(time),
  askedAt: v.nullable(time),
  /** What the root helper reported last, and when: where sshd listens, `host:port`, and what it left out. */
  listen: texts,
  notes: texts,
  helperAt: v.nullable(time),
})

export const SSHD_NOT_ASKED: SshdRecord = {
  state: null,
  since: null,
  askedAt: null,
  listen: [],
  notes: [],
  helperAt: null,
}

/** A kind of failure has its wait and its count; whatever came later than version 0.1 is optional. */
const attemptRecord = v.pipe(
  v.object({
    version: v.literal(1),
    /** All keys wait: the issuer as a whole is in trouble, the login failed, an administrator of the issuer must act. */
    issuer: v.nullable(v.object({ ...waitFields, kind: v.optional(v.string()) })),
    login: wait,
    administrator: v.optional(wait, null),
    /** Before the root helper is asked again for what it could not copy. */
    install: v.optional(wait, null),
    /** Before a reload that failed, did not help or was refused for its frequency is tried again. */
    reload: wait,
    /** sshd is to be reloaded, and what it presents will not show whether it was. */
    reloadOwed: v.boolean(),
    /** When the daemon was stopped on purpose; null once it has started again. */
    stoppedAt: v.optional(v.nullable(time), null),
    /** When a clean restart last ended all waits. */
    restartedAt: v.optional(v.nullable(time), null),
    /** CA keys as the issuer gave them, `TYPE BASE64`; null before it was asked, empty when it has no such route. */
    issuerCas: v.nullable(texts),
    /** CA keys that it gave before, newest first: certificates in place may still be theirs. */
    formerCas: texts,
    sshd: v.optional(sshd, SSHD_NOT_ASKED),
    hostKeys: v.record(v.string(), hostKeyRecord),
  }),
  v.transform(({ issuer, ...record }) => {
    if (issuer === null) return { ...record, issuer }
    const { kind, ...known } = issuer
    // Version 0.1 kept what an administrator must act on there too.
    return kind === 'administrator' && record.administrator === null
      ? { ...record, issuer: null, administrator: known }
      : { ...record, issuer: known }
  }),
)

export type ErrorScope = v.InferOutput<typeof errorScope>
export type Evidence = Readonly<v.InferOutput<typeof evidence>>
export type HostKeyRecord = Readonly<v.InferOutput<typeof hostKeyRecord>>
export type SshdRecord = Readonly<v.InferOutput<typeof sshd>>
export type AttemptRecord = Readonly<v.InferOutput<typeof attemptRecord>>

/** A host key as it is named in the record. */
export interface KeyIdentity {
  readonly name: string
  readonly fingerprint: string
}

/**
 * Read what {@link recordDocument} made, by this version or by 0.1.
 *
 * @throws Error with the path of what is wrong
 */
export function readRecord(document: unknown): AttemptRecord {
  const result = v.safeParse(attemptRecord, document)
  if (result.success) return result.output
  const [issue] = result.issues
  throw new Error(`${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`)
}

/** As it is on disk: with the entries that version 0.1, after a downgrade, needs. */
export function recordDocument(record: AttemptRecord): object {
  const kindOf = <Kind extends string>(kind: Kind, known: AttemptRecord['issuer']) =>
    known && { ...known, kind }
  const hostKeys = Object.entries(record.hostKeys).map(([name, key]) => {
    const { evidence: seen } = key
    const confirmedSerial = seen?.kind === 'certificate' ? seen.serial : null
    const isNotOffered = (seen?.kind === 'not-offered' || seen?.kind === 'other-key') && seen.isSettled
    const notOffered = isNotOffered ? { why: seen.why, pairVersion: seen.pairVersion } : null
    return [name, { ...key, wait: kindOf('backoff', key.wait), confirmedSerial, notOffered }]
  })
  return {
    ...record,
    issuer: kindOf('backoff', record.issuer),
    login: kindOf('login', record.login),
    install: kindOf('backoff', record.install),
    reload: kindOf('backoff', record.reload),
    hostKeys: Object.fromEntries(hostKeys),
  }
}

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

export const EMPTY_RECORD: AttemptRecord = {
  version: 1,
  issuer: null,
  login: null,
  administrator: null,
  install: null,
  reload: null,
  reloadOwed: false,
  stoppedAt: null,
  restartedAt: null,
  issuerCas: null,
  formerCas: [],
  sshd: SSHD_NOT_ASKED,
  hostKeys: {},
}

/** What is on record for this key. */
export function recordOf({ hostKeys }: AttemptRecord, { name, fingerprint }: KeyIdentity): HostKeyRecord {
  // A host key may have the name of what every object has.
  const known = Object.hasOwn(hostKeys, name) ? hostKeys[name] : undefined
  if (known === undefined) return newHostKeyRecord(fingerprint)
  // A new key owes nothing to the old one's failures, but a host whose keys change all the time is a storm too.
  return known.fingerprint === fingerprint
    ? known
    : { ...newHostKeyRecord(fingerprint), repairs: known.repairs }
}

function newHostKeyRecord(fingerprint: string): HostKeyRecord {
  return {
    fingerprint,
    wait: null,
    refusals: 0,
    lastAttempt: null,
    lastSuccess: null,
    failures: 0,
    lastError: null,
    issued: null,
    repairs: [],
    refused: null,
    evidence: null,
    unknown: null,
  }
}
