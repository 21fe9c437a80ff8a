import * as v from 'valibot'
import { messageOf } from '../cert/errors.ts'
import { parseCaKeys, publicKeyText } from '../cert/public-key.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { type Answer, parseObject } from './answer.ts'
import { notJson } from './client.ts'
import { answerFailure, invalidAnswer, localFailure, refusal } from './failures.ts'
import {
  type HostAnswerOf,
  MOST_SIMILAR,
  PROJECT_ID,
  registeredHost,
  type RegisteredHost,
} from './host-questions.ts'
import type { Outcome } from './http-exchange.ts'

/** What the issuer's answers about hosts say; those of other servers and of proxies too. */

/**
 * Of a list, which comes in one piece whatever is asked: 10,000 hosts are 4 MiB, and more with the users that may log in
 * to each.
 */
export const LIST_LIMIT_BYTES = 16 * 1024 * 1024
/** 10,000 hosts with eight such users each have 330,000. */
const MOST_OPENING = 500_000
const LONGEST_KEY_BYTES = 16 * 1024

const projectShape = v.object({
  id: v.pipe(v.string(), v.regex(PROJECT_ID), v.toLowerCase()),
  slug: v.fallback(v.nullable(v.pipe(v.string(), v.regex(PROJECT_ID))), null),
})
export type Project = v.InferOutput<typeof projectShape>

export type Listed =
  | { readonly ok: true; readonly items: readonly unknown[]; readonly answer: Answer | null }
  /** `isAnswered`: by the issuer, which refuses it. */
  | { readonly ok: false; readonly failure: IssuerFailure; readonly isAnswered: boolean }

export function readList(outcome: Outcome, member: string): Listed {
  if (!outcome.ok) return { ok: false, failure: outcome.failure, isAnswered: false }
  const { answer } = outcome
  const wrong = (failure: IssuerFailure): Listed => ({
    ok: false,
    failure,
    isAnswered: answer.status !== 200,
  })
  if (answer.status !== 200)
    return wrong(failureOf(answer, `does not permit listing ${member}`, 'has no such project'))
  if (!answer.complete) {
    const flaw = `200 with a list of ${member} longer than ${LIST_LIMIT_BYTES / 1024 / 1024} MiB; name the host by its id instead`
    return wrong(invalidAnswer(answer, flaw))
  }
  if (countOpening(answer.text) > MOST_OPENING)
    return wrong(invalidAnswer(answer, `200 with more than a list of ${member} can hold`))
  const object = parseObject(answer.text)
  const items = object?.[member]
  if (Array.isArray(items)) return { ok: true, items, answer }
  return wrong(invalidAnswer(answer, object === null ? notJson(answer) : `200 without the list ${member}`))
}

/** Of braces and brackets: each may take a hundred times its length in memory. */
function countOpening(text: string): number {
  let count = 0
  for (let at = 0; at < text.length; at++) if (text[at] === '{' || text[at] === '[') count += 1
  return count
}

/** @returns a flaw when it is none */
export function readHost(answer: Answer): RegisteredHost | string {
  const object = answer.complete ? parseObject(answer.text) : null
  if (object === null) return notJson(answer)
  const read = v.safeParse(registeredHost, object)
  return read.success ? read.output : `200 without a valid host: ${flawsOf(read.issues)}`
}

/** Without the values, which the server chose. */
function flawsOf(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues.map((issue) => `${v.getDotPath(issue) ?? 'it'} is missing or damaged`).join(', ')
}

interface Match {
  readonly host: RegisteredHost | null
  readonly similar: string[]
}

/**
 * Look for a name in a list of hosts. Only what matches is looked at closely: another host that is damaged does not
 * matter.
 *
 * @param hostname in lower case
 */
export function readMatch(
  { items, answer }: Extract<Listed, { ok: true }>,
  hostname: string,
  projectId: string,
): Match | IssuerFailure {
  const flawed = (flaw: string): IssuerFailure =>
    answer === null
      ? localFailure('ISSUER_INVALID_RESPONSE', 'issuer-backoff', flaw)
      : invalidAnswer(answer, flaw)
  const named = items.filter((item) => textOf(item, 'hostname')?.toLowerCase() === hostname)
  const exact = named.filter((item) => textOf(item, 'hostname') === hostname)
  if (exact.length > 1) return flawed(`200 with two hosts ${hostname} in one project`)
  const similar = items
    .filter((item) => !exact.includes(item))
    .filter((item) => named.includes(item) || textOf(item, 'alias')?.toLowerCase() === hostname)
    .flatMap((item) => {
      const read = v.safeParse(registeredHost, item)
      return read.success ? [read.output.hostname] : []
    })
    .slice(0, MOST_SIMILAR)
  if (exact.length === 0) return { host: null, similar }
  const read = v.safeParse(registeredHost, exact[0])
  if (!read.success) return flawed(`200 with a damaged host ${hostname}: ${flawsOf(read.issues)}`)
  if (read.output.projectId.toLowerCase() !== projectId.toLowerCase())
    return flawed(`200 with the host ${hostname} of another project`)
  return { host: read.output, similar }
}

export function readAlias(listed: Listed, alias: string): RegisteredHost | undefined {
  const item = listed.ok ? listed.items.find((one) => textOf(one, 'alias') === alias) : undefined
  const read = v.safeParse(registeredHost, item)
  return read.success ? read.output : undefined
}

function textOf(item: unknown, member: 'hostname' | 'alias'): string | null {
  if (typeof item !== 'object' || item === null || !(member in item)) return null
  const value = (item as Readonly<Record<string, unknown>>)[member]
  return typeof value === 'string' ? value : null
}

/** One key of OpenSSH's, alone in one line: anything else would be trusted by mistake, or shut everybody out. */
export function readUserCa(answer: Answer): HostAnswerOf<'user-ca'> {
  const invalid = (flaw: string): HostAnswerOf<'user-ca'> =>
    failed({ ...invalidAnswer(answer, `200 ${flaw}`), code: 'USER_CA_INVALID' })
  if (!answer.complete || Buffer.byteLength(answer.text) > LONGEST_KEY_BYTES)
    return invalid(`with a user CA of more than ${LONGEST_KEY_BYTES / 1024} KiB`)
  if (answer.isHtml) return invalid('with a web page instead of a user CA; is a proxy in the way?')
  const line = answer.text.trim()
  if (line === '') return invalid('with an empty user CA')
  if (/[\r\n]/.test(line) && !line.startsWith('-----BEGIN'))
    return invalid('with several lines instead of one user CA')
  try {
    const [key] = parseCaKeys(line)
    if (key !== undefined) return { kind: 'user-ca', key: publicKeyText(key) }
    return invalid('with a comment instead of a user CA')
  } catch (error) {
    return invalid(`with something else than a user CA: ${messageOf(error)}`)
  }
}

/**
 * A refusal. What an administrator may have granted a moment ago has `next` `administrator`: a grant takes effect after
 * up to ten seconds, so `enroll` asks again for that long.
 *
 * @param forbids of a 403, goes on after "HOST"
 * @param absent of a 404 by the issuer itself, goes on after "HOST"
 */
export function failureOf(answer: Answer, forbids: string, absent: string): IssuerFailure {
  const failure = answerFailure(answer)
  const { code } = failure
  if (code === 'ISSUER_FORBIDDEN' && answer.status === 403)
    return refusal(answer, code, 'administrator', forbids)
  // Without an id it is not the issuer's own.
  if (code === 'ISSUER_NOT_FOUND' && answer.body.requestId !== null)
    return refusal(answer, code, 'administrator', absent)
  return code === 'ISSUER_REJECTED' ? refusal(answer, code, 'local', 'rejected the request') : failure
}

/** Those of a list that are projects. */
export function projectsIn(items: readonly unknown[]): Project[] {
  return items.flatMap((item) => {
    const read = v.safeParse(projectShape, item)
    return read.success ? [read.output] : []
  })
}

export function failed(failure: IssuerFailure): { readonly kind: 'failed'; readonly failure: IssuerFailure } {
  return { kind: 'failed', failure }
}
