import * as v from 'valibot'
import { ERROR_CODES } from '../cert/errors.ts'
import type { Config } from '../config/config.ts'

/**
 * What the daemon and `hostcertd exchange` say to each other: a line of JSON each way, one question after the other.
 * The first line to the exchange is its settings; then each question has one reply. It ends when its input does.
 * Secrets are read there and never leave it.
 */

/** Of a line, in characters; whoever sends a longer one is not understood. */
export const LONGEST_LINE = 64 * 1024

/** How the issuer is reached: from a parent that has read the configuration, so it is not checked again. */
export interface ExchangeSettings {
  readonly issuer: Config['issuer']
  readonly auth: Config['auth']
  readonly log: Config['log']
}

const text = v.string()
const time = v.nullable(v.pipe(v.number(), v.finite()))

const question = v.variant('ask', [
  v.object({ ask: v.literal('issue'), publicKey: text }),
  v.object({ ask: v.literal('host-ca') }),
])

const failure = v.object({
  code: v.picklist(ERROR_CODES),
  message: v.pipe(text, v.maxLength(4096)),
  next: v.picklist(['login-backoff', 'issuer-backoff', 'key-backoff', 'administrator']),
  retryAfterSeconds: v.nullable(v.pipe(v.number(), v.finite(), v.minValue(0))),
  requestId: v.nullable(text),
})

const answer = v.variant('kind', [
  v.object({
    kind: v.literal('issued'),
    signedKey: text,
    serialNumber: v.pipe(text, v.regex(/^\d{1,20}$/)),
    requestId: v.nullable(text),
  }),
  /** `TYPE BASE64`, each. */
  v.object({ kind: v.literal('host-ca'), keys: v.array(text) }),
  v.object({ kind: v.literal('failed'), failure, noSuchRoute: v.boolean() }),
])

const reply = v.object({
  answer,
  /** What the exchanges of this process so far say about the issuer. */
  health: v.object({ reachable: v.nullable(v.boolean()), lastSuccess: time, clockSkewSeconds: time }),
  /** HTTP requests since the reply before, for the metrics: the status or an error code, and how long each took. */
  requests: v.array(
    v.object({
      route: v.picklist(['login', 'issue', 'host-ca']),
      code: v.pipe(text, v.regex(/^[\w-]{1,40}$/)),
      seconds: v.pipe(v.number(), v.finite(), v.minValue(0)),
    }),
  ),
})

export type Question = v.InferOutput<typeof question>
export type Reply = v.InferOutput<typeof reply>

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
 * @param onTooLong is told once of a line that is longer than {@link LONGEST_LINE}; nothing comes after it
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
