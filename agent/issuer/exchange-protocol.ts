import * as v from 'valibot'
import { ERROR_CODES } from '../cert/errors.ts'
import { inOneLine } from '../cert/text.ts'
import type { Config } from '../config/config.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { HOST_ANSWERS, HOST_QUESTIONS } from './host-questions.ts'

/**
 * The protocol between the daemon and `hostcertd exchange`: a line of JSON each way, one question after the other.
 * The first line to the exchange is its settings; then each question has one reply. It ends when its input does.
 * Secrets are read there and never leave it; those that `enroll` was given go there with the settings.
 */

/** Changes with the protocol: after an upgrade under a running daemon the two sides differ, and refuse each other. */
export const PROTOCOL = 5

/** Of a line, in characters; a longer one is refused. */
export const LONGEST_LINE = 64 * 1024

/** How the issuer is reached: from a parent that has read the configuration, so it is not checked again. */
export interface ExchangeSettings {
  readonly protocol: number
  readonly issuer: Config['issuer']
  readonly log: Config['log']
  /**
   * `enroll` has them before they are in a file, so they stay in memory: the text of each `credential:NAME`, which stands
   * unresolved in `issuer.auth` then. Others come from `$CREDENTIALS_DIRECTORY`. The exchange of the unit takes other
   * settings than those of the configuration from root alone, and with credentials only, be there none.
   */
  readonly credentials?: Readonly<Record<string, string>> | undefined
  /** HTTPS_PROXY, HTTP_PROXY, NO_PROXY, ALL_PROXY, instead of those in the environment of the exchange. */
  readonly proxy?: Readonly<Record<string, string>> | undefined
}

/** The steps of `doctor` that the exchange takes, in their order. */
export const ISSUER_STEPS = ['name', 'tcp', 'tls', 'issuer', 'clock', 'login', 'permission', 'issue'] as const
export const FINDING_STATUSES = ['ok', 'warning', 'failure', 'skipped', 'unknown'] as const
/** Of a text in a finding, in characters: all findings of one reply have to fit into a line. */
export const LONGEST_FINDING = 1000
const MOST_FINDINGS = 64

/** The end of the year 9999: what lies beyond cannot be printed. */
export const LAST_SECOND = 253_402_300_799
/** A login and an issue, both once more; for a diagnosis so many for each host key. */
const MOST_REQUESTS = 64

/**
 * For the proof of identity of one login, whatever the method. Covers the slowest ones: a `jwt_command` (10 s), and the
 * requests to a metadata service (2 s each).
 */
export const LONGEST_PROOF_MILLISECONDS = 15_000

const text = v.string()
const id = v.pipe(v.number(), v.safeInteger())
/** Seconds from `from` on. */
const seconds = (from: number) => v.pipe(v.number(), v.minValue(from), v.maxValue(LAST_SECOND))

const question = v.variant('ask', [
  v.object({
    id,
    ask: v.literal('issue'),
    publicKey: text,
    hostKey: text,
    principals: v.pipe(v.array(text), v.readonly()),
  }),
  v.object({ id, ask: v.literal('host-ca') }),
  v.object({
    id,
    ask: v.literal('diagnose'),
    /** False: the credentials cannot be used, and each failed login counts against the identity. */
    login: v.boolean(),
    /** `verify.host_ca_file` and the keys in it, `TYPE BASE64` each, null if they cannot be read; null: none is pinned. */
    pinned: v.nullable(v.object({ file: text, keys: v.nullable(v.array(text)) })),
    /** `verify.principals`. */
    principals: v.nullable(v.array(text)),
    /** Host keys to have a certificate issued for, which is not installed. */
    issueFor: v.array(
      v.object({
        name: text,
        /** `TYPE BASE64 COMMENT`. */
        publicKey: text,
        /** The certificate that it would replace. */
        inPlace: v.nullable(text),
      }),
    ),
  }),
  v.object({ id, ...HOST_QUESTIONS['find-host'].entries }),
  v.object({ id, ...HOST_QUESTIONS['register-host'].entries }),
  v.object({ id, ...HOST_QUESTIONS['delete-host'].entries }),
  v.object({ id, ...HOST_QUESTIONS['user-ca'].entries }),
])

const failure = v.object({
  code: v.picklist(ERROR_CODES),
  message: text,
  next: v.picklist(['login-backoff', 'issuer-backoff', 'key-backoff', 'administrator', 'local']),
  retryAfterSeconds: v.nullable(seconds(0)),
  requestId: v.nullable(text),
})

/** The exchange sees what the issuer sent, so nothing in its texts is taken for granted. */
const findingText = v.pipe(text, v.maxLength(LONGEST_FINDING + 1), v.transform(inOneLine))

const answer = v.variant('kind', [
  v.object({
    kind: v.literal('issued'),
    signedKey: text,
    serialNumber: v.nullable(v.pipe(text, v.regex(/^\d{1,20}$/))),
    requestId: v.nullable(text),
  }),
  /** `TYPE BASE64`, each. */
  v.object({ kind: v.literal('host-ca'), keys: v.pipe(v.array(text), v.minLength(1)) }),
  v.object({
    kind: v.literal('diagnosed'),
    findings: v.pipe(
      v.array(
        v.object({
          step: v.picklist(ISSUER_STEPS),
          status: v.picklist(FINDING_STATUSES),
          message: findingText,
          remedy: v.nullable(findingText),
        }),
      ),
      v.maxLength(MOST_FINDINGS),
    ),
  }),
  ...HOST_ANSWERS,
  v.object({
    kind: v.literal('failed'),
    failure,
    noSuchRoute: v.boolean(),
    /** To `register-host`: whether the issuer may have registered it all the same. */
    mayBeRegistered: v.boolean(),
  }),
])

const reply = v.object({
  /** Of the question. */
  id,
  answer,
  /** What the requests of this process so far show about the issuer. */
  health: v.object({
    reachable: v.nullable(v.boolean()),
    lastSuccess: v.nullable(seconds(0)),
    clockSkewSeconds: v.nullable(seconds(-LAST_SECOND)),
  }),
  /** HTTP requests since the reply before, for the metrics: the status or an error code, and how long each took. */
  requests: v.pipe(
    v.array(
      v.object({
        route: v.picklist(['login', 'issue', 'host-ca']),
        code: v.union([v.picklist(ERROR_CODES), v.pipe(text, v.regex(/^\d{3}$/))]),
        seconds: seconds(0),
      }),
    ),
    v.maxLength(MOST_REQUESTS),
  ),
  /** The codes of logins that failed since the reply before, for the metrics. */
  loginFailures: v.pipe(v.array(v.picklist(ERROR_CODES)), v.maxLength(MOST_REQUESTS)),
})

export type Question = v.InferOutput<typeof question>
export type Reply = v.InferOutput<typeof reply>
/** What `doctor` asks of the exchange. */
export type DiagnosisQuestion = Omit<Extract<Question, { ask: 'diagnose' }>, 'id' | 'ask'>
export type IssuerFinding = Extract<Reply['answer'], { kind: 'diagnosed' }>['findings'][number]
export type DiagnosisAnswer =
  | { readonly ok: true; readonly findings: readonly IssuerFinding[] }
  | { readonly ok: false; readonly failure: IssuerFailure }

/** @throws Error when it is no question */
export function readQuestion(line: string): Question {
  return v.parse(question, JSON.parse(line))
}

/** @throws Error when it is no reply */
export function readReply(line: string): Reply {
  return v.parse(reply, JSON.parse(line))
}

/**
 * Cut a stream of text into lines.
 *
 * @param onLine is given each, without its end
 * @param onTooLong is called once, for a line longer than {@link LONGEST_LINE}; nothing comes after it
 * @returns what takes the next part of the stream
 */
export function lineSplitter(onLine: (line: string) => void, onTooLong: () => void): (part: string) => void {
  let rest = ''
  let isOver = false
  return (part) => {
    if (isOver) return
    const lines = (rest + part).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line.length <= LONGEST_LINE) onLine(line)
    if (rest.length > LONGEST_LINE || lines.some(({ length }) => length > LONGEST_LINE)) {
      isOver = true
      onTooLong()
    }
  }
}
