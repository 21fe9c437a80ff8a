import { readCertificateTtl, readHostName } from '../cert/host-name.ts'
import { quote } from '../cert/text.ts'
import type { IssuerFailure } from '../renewal/ports.ts'
import type { Answer } from './answer.ts'
import { askWithToken, hostPath, type HttpWay } from './client.ts'
import { invalidAnswer, localFailure, refusal, saysNoSuchRoute } from './failures.ts'
import {
  failed,
  failureOf,
  LIST_LIMIT_BYTES,
  type Listed,
  type Project,
  projectsIn,
  readAlias,
  readHost,
  readList,
  readMatch,
  readUserCa,
} from './host-answers.ts'
import {
  type HostAnswerOf,
  type HostQuestion,
  type Hosts,
  isUuid,
  MOST_SIMILAR,
  type RegisteredHost,
} from './host-questions.ts'
import type { HostsQuestion, Outcome } from './http-exchange.ts'

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
    const projects = projectsIn(listed.items)
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
    if (!name.ok) return failed(ownRefusal(`the host name ${name.why}`))
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

  /**
   * Why the server failed to register a host: that name and alias are taken is all that its answer can mean but a fault.
   * Either way it made none.
   */
  const explainCreate = async (
    answer: Answer,
    { hostname, alias }: HostQuestion<'register-host'>,
    projectId: string,
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
    return notRegistered(refusal(answer, 'ISSUER_BUSY', 'issuer-backoff', what))
  }

  const register = async (
    question: HostQuestion<'register-host'>,
    signal: AbortSignal,
  ): Promise<HostAnswerOf<'register-host'>> => {
    const name = readHostName(question.hostname)
    if (!name.ok) return notRegistered(ownRefusal(`the host name ${name.why}`))
    const ttl = question.ttl === null ? null : readCertificateTtl(question.ttl)
    if (ttl !== null && !ttl.ok) return notRegistered(ownRefusal(`the lifetime ${ttl.why}`))
    const wish = { ...question, hostname: name.value }
    const { project, hostname, alias } = wish
    // The route takes no slug.
    const inProject = isUuid(project) ? { id: project } : await projectOf(project, signal)
    if ('code' in inProject) return notRegistered(inProject)
    const projectId = inProject.id
    const body = {
      projectId,
      hostname,
      ...(alias === null ? {} : { alias }),
      ...(ttl === null ? {} : { hostCertTtl: ttl.value }),
    }
    const outcome = await ask({ method: 'POST', path: '/api/v1/ssh/hosts', body }, signal)
    if (!outcome.ok)
      return outcome.mayBeDone ? perhapsRegistered(outcome.failure) : notRegistered(outcome.failure)
    const { answer } = outcome
    if (answer.status === 500 && answer.body.error === 'Create')
      return explainCreate(answer, wish, projectId, signal)
    if (answer.status !== 200) {
      const forbids = `does not permit registering ${hostname}`
      const failure = failureOf(answer, forbids, `has no project ${quote(project)}`)
      return isRefusal(answer.status) ? notRegistered(failure) : perhapsRegistered(failure)
    }
    const host = readHost(answer)
    if (typeof host === 'string') return perhapsRegistered(invalidAnswer(answer, host))
    if (host.hostname !== hostname) {
      const flaw = `200 with the host ${host.hostname} instead of ${hostname}`
      return perhapsRegistered(invalidAnswer(answer, flaw))
    }
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

function namesOf(projects: readonly Project[]): string {
  const names = projects.slice(0, MOST_SIMILAR).map(({ id, slug }) => slug ?? id)
  return names.length === 0
    ? 'none'
    : `${names.join(', ')}${projects.length > names.length ? ' and others' : ''}`
}

/** Before the issuer is asked. */
function ownRefusal(message: string): IssuerFailure {
  return localFailure('CONFIG_INVALID', 'local', message)
}

function notRegistered(failure: IssuerFailure): HostAnswerOf<'register-host'> {
  return { kind: 'failed', failure, mayBeRegistered: false }
}

function perhapsRegistered(failure: IssuerFailure): HostAnswerOf<'register-host'> {
  return { kind: 'failed', failure, mayBeRegistered: true }
}

/** Whether a request with that status surely was not carried out. After 408 it may have been, as after any 5xx. */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408
}
