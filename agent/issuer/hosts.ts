import * as v from 'valibot'
import { messageOf } from '../cert/errors.ts'
import { readCertificateTtl, readHostName } from '../cert/host-name.ts'
import { parseCaKeys } from '../cert/public-key.ts'
import { quote } from '../cert/text.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import { type Answer, parseObject } from './answer.ts'
import { askWithToken, hostPath, notJson, type HttpWay } from './client.ts'
import { answerFailure, invalidAnswer, localFailure, refusal, saysNoSuchRoute } from './failures.ts'
import {
  type HostAnswerOf,
  type HostQuestion,
  type Hosts,
  isUuid,
  MOST_SIMILAR,
  PROJECT_ID,
  registeredHost,
  type RegisteredHost,
} from './host-questions.ts'
import type { HostsQuestion, Outcome } from './http-exchange.ts'

/**
 * Of a list, which comes in one piece whatever is asked: 10,000 hosts are 4 MiB, and more with the users that may log in
 * to each.
 */
const LIST_LIMIT_BYTES = 16 * 1024 * 1024
/** 10,000 hosts with eight such users each have 330,000. */
const MOST_OPENING = 500_000
const LONGEST_KEY_BYTES = 16 * 1024

/** @param way the host that was found or registered becomes its host, if it has none */
export function createHosts(way: HttpWay): Hosts {
  const { exchange, authenticator, secrets } = way

  const ask = async (question: Omit<HostsQuestion, 'route' | 'token'>, signal: AbortSignal) =>
    askWithToken(
      authenticator,
      async (token) => exchange.ask({ route: 'hosts', token, ...question }, signal),
      signal,
    )

  /** The first route that there is: newer servers have others than older ones. */
  const list = async (paths: readonly string[], member: string, signal: AbortSignal): Promise<Listed> => {
    let outcome: Outcome | null = null
    let found = member
    for (const path of paths) {
      found = path === WORKSPACES ? 'workspaces' : member
      outcome = await ask({ method: 'GET', path, limitBytes: LIST_LIMIT_BYTES }, signal)
      if (!outcome.ok || !saysNoSuchRoute(outcome.answer)) break
    }
    return outcome === null ? { ok: true, items: [], answer: null } : readList(outcome, found)
  }

  const hostsOf = async (projectId: string, signal: AbortSignal): Promise<Listed> => {
    const id = encodeURIComponent(projectId)
    return list([`/api/v1/projects/${id}/ssh-hosts`, `/api/v2/workspace/${id}/ssh-hosts`], 'hosts', signal)
  }

  const take = (host: RegisteredHost): RegisteredHost => {
    if (way.sshHostId === '') way.sshHostId = host.id
    return host
  }

  /** The issuer may repeat what it was sent, wherever it can put a text. */
  const clean = <A extends object>(answer: A): A => JSON.parse(secrets.redact(JSON.stringify(answer))) as A

  const findById = async (id: string, signal: AbortSignal): Promise<HostAnswerOf<'find-host'>> => {
    const outcome = await ask({ method: 'GET', path: hostPath(id) }, signal)
    if (!outcome.ok) return failed(outcome.failure)
    const { answer } = outcome
    if (answer.status !== 200)
      return failed(failureOf(answer, 'does not permit reading this host', `has no host ${id}`))
    const host = readHost(answer)
    if (typeof host === 'string') return failed(invalidAnswer(answer, host))
    if (host.id.toLowerCase() !== id.toLowerCase())
      return failed(invalidAnswer(answer, `200 with the host ${host.id} instead of ${id}`))
    return {
      kind: 'found',
      project: { id: host.projectId, slug: null },
      host: take(host),
      similar: [],
      visible: 1,
    }
  }

  const projectOf = async (wanted: string, signal: AbortSignal): Promise<Project | IssuerFailure> => {
    const listed = await list([WORKSPACES, '/api/v1/projects'], 'projects', signal)
    if (!listed.ok) return isUuid(wanted) && listed.isAnswered ? { id: wanted, slug: null } : listed.failure
    const projects = listed.items.flatMap((item) => {
      const read = v.safeParse(projectShape, item)
      return read.success ? [read.output] : []
    })
    const isWanted = ({ id, slug }: Project): boolean => id === wanted.toLowerCase() || slug === wanted
    const project = projects.find(isWanted)
    if (project !== undefined) return project
    if (isUuid(wanted)) return { id: wanted, slug: null }
    const message = `${listed.answer?.host ?? 'the issuer'} shows this identity no project ${quote(wanted)}: it may not be a member of it (it is of ${namesOf(projects)}); a new membership takes effect after about 10 s`
    return localFailure('ISSUER_NOT_FOUND', 'administrator', message)
  }

  const findByName = async (
    project: string,
    hostname: string,
    signal: AbortSignal,
  ): Promise<HostAnswerOf<'find-host'>> => {
    const name = readHostName(hostname)
    if (!name.ok) return refused(`the host name ${name.why}`)
    const inProject = await projectOf(project, signal)
    if ('code' in inProject) return failed(inProject)
    const listed = await hostsOf(inProject.id, signal)
    if (!listed.ok) return failed(listed.failure)
    const match = readMatch(listed, name.value, inProject.id)
    if ('code' in match) return failed(match)
    const host = match.host === null ? null : take(match.host)
    const { similar } = match
    return { kind: 'found', project: inProject, host, similar, visible: listed.items.length }
  }

  /** Why the server failed to register a host: that name and alias are taken is all that its answer can mean but a fault. */
  const explainCreate = async (
    answer: Answer,
    { projectId, hostname, alias }: HostQuestion<'register-host'>,
    signal: AbortSignal,
  ): Promise<HostAnswerOf<'register-host'>> => {
    const listed = await hostsOf(projectId, signal)
    const match = listed.ok ? readMatch(listed, hostname, projectId) : listed.failure
    if (!('code' in match)) {
      if (match.host !== null) return { kind: 'taken', what: 'hostname', host: take(match.host) }
      const other = alias === null ? undefined : readAlias(listed, alias)
      if (other !== undefined) return { kind: 'taken', what: 'alias', host: other }
    }
    const names = alias === null ? hostname : `${hostname}, or the alias ${alias},`
    const unseen = 'code' in match ? `, and then: ${match.message}` : ''
    const what = `failed to register ${hostname}: either ${names} is taken by a host that this identity cannot read, or the server has an internal error${unseen}`
    return failed(refusal(answer, 'ISSUER_BUSY', 'issuer-backoff', what))
  }

  const register = async (
    question: HostQuestion<'register-host'>,
    signal: AbortSignal,
  ): Promise<HostAnswerOf<'register-host'>> => {
    const name = readHostName(question.hostname)
    if (!name.ok) return refused(`the host name ${name.why}`)
    const ttl = question.ttl === null ? null : readCertificateTtl(question.ttl)
    if (ttl !== null && !ttl.ok) return refused(`the lifetime ${ttl.why}`)
    const wish = { ...question, hostname: name.value }
    const { projectId, hostname, alias } = wish
    const body = {
      projectId,
      hostname,
      ...(alias === null ? {} : { alias }),
      ...(ttl === null ? {} : { hostCertTtl: ttl.value }),
    }
    const outcome = await ask({ method: 'POST', path: '/api/v1/ssh/hosts', body }, signal)
    if (!outcome.ok) return failed(outcome.failure)
    const { answer } = outcome
    if (answer.status === 500 && answer.body.error === 'Create') return explainCreate(answer, wish, signal)
    if (answer.status !== 200) {
      const forbids = `does not permit registering ${hostname}`
      return failed(failureOf(answer, forbids, `has no project ${quote(projectId)}`))
    }
    const host = readHost(answer)
    if (typeof host === 'string') return failed(invalidAnswer(answer, host))
    if (host.hostname !== hostname)
      return failed(invalidAnswer(answer, `200 with the host ${host.hostname} instead of ${hostname}`))
    return { kind: 'registered', host: take(host) }
  }

  const remove = async (hostId: string, signal: AbortSignal): Promise<HostAnswerOf<'delete-host'>> => {
    const outcome = await ask({ method: 'DELETE', path: hostPath(hostId) }, signal)
    if (!outcome.ok) return failed(outcome.failure)
    const { answer } = outcome
    if (answer.status === 200) return { kind: 'deleted', wasThere: true }
    // What stands in front of the issuer gives its answers no id.
    if (answer.status === 404 && answer.body.requestId !== null) return { kind: 'deleted', wasThere: false }
    return failed(failureOf(answer, 'does not permit deleting this host', `has no host ${hostId}`))
  }

  const userCa = async (hostId: string, signal: AbortSignal): Promise<HostAnswerOf<'user-ca'>> => {
    const path = `${hostPath(hostId)}/user-ca-public-key`
    const outcome = await exchange.ask({ route: 'hosts', method: 'GET', path, token: null }, signal)
    if (!outcome.ok) return failed(outcome.failure)
    const { answer } = outcome
    if (answer.status === 200) return readUserCa(answer)
    if (answer.status !== 401)
      return failed(failureOf(answer, 'does not permit reading its user CA', `has no host ${hostId}`))
    const what = 'requires a login for its user CA'
    return failed(refusal(answer, 'ISSUER_UNAUTHORIZED', 'administrator', what))
  }

  return {
    findHost: async ({ by }, signal) =>
      clean(
        by.kind === 'id' ? await findById(by.id, signal) : await findByName(by.project, by.hostname, signal),
      ),
    registerHost: async (question, signal) => clean(await register(question, signal)),
    deleteHost: async ({ hostId }, signal) => clean(await remove(hostId, signal)),
    userCa: async ({ hostId }, signal) => clean(await userCa(hostId, signal)),
  }
}

const WORKSPACES = '/api/v1/workspace'

const projectShape = v.object({
  id: v.pipe(v.string(), v.regex(PROJECT_ID), v.toLowerCase()),
  slug: v.fallback(v.nullable(v.pipe(v.string(), v.regex(PROJECT_ID))), null),
})
type Project = v.InferOutput<typeof projectShape>

type Listed =
  | { readonly ok: true; readonly items: readonly unknown[]; readonly answer: Answer | null }
  /** `isAnswered`: by the issuer, which refuses it. */
  | { readonly ok: false; readonly failure: IssuerFailure; readonly isAnswered: boolean }

function readList(outcome: Outcome, member: string): Listed {
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
function readHost(answer: Answer): RegisteredHost | string {
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
function readMatch(
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

function readAlias(listed: Listed, alias: string): RegisteredHost | undefined {
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
function readUserCa(answer: Answer): HostAnswerOf<'user-ca'> {
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
    if (key !== undefined) return { kind: 'user-ca', key: `${key.type} ${key.blob.toString('base64')}` }
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
function failureOf(answer: Answer, forbids: string, absent: string): IssuerFailure {
  const failure = answerFailure(answer)
  const { code } = failure
  if (code === 'ISSUER_FORBIDDEN' && answer.status === 403)
    return refusal(answer, code, 'administrator', forbids)
  // Without an id it is not the issuer's own.
  if (code === 'ISSUER_NOT_FOUND' && answer.body.requestId !== null)
    return refusal(answer, code, 'administrator', absent)
  return code === 'ISSUER_REJECTED' ? refusal(answer, code, 'local', 'rejected the request') : failure
}

function namesOf(projects: readonly Project[]): string {
  const names = projects.slice(0, MOST_SIMILAR).map(({ id, slug }) => slug ?? id)
  return names.length === 0
    ? 'none'
    : `${names.join(', ')}${projects.length > names.length ? ' and others' : ''}`
}

function failed(failure: IssuerFailure): { readonly kind: 'failed'; readonly failure: IssuerFailure } {
  return { kind: 'failed', failure }
}

/** Before the issuer is asked. */
function refused(message: string): { readonly kind: 'failed'; readonly failure: IssuerFailure } {
  return failed(localFailure('CONFIG_INVALID', 'local', message))
}
