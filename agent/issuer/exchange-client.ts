import type { ErrorCode, Failure } from '../cert/errors.ts'
import { parseCaKeys, type PublicKey } from '../cert/public-key.ts'
import { inOneLine } from '../cert/text.ts'
import type { NextStep } from '../renewal/backoff.ts'
import type {
  Clock,
  HostCaAnswer,
  IssueAnswer,
  IssueRequest,
  IssuerSession,
  IssuerFailure,
  IssuerHealth,
  IssuerMetrics,
} from '../renewal/ports.ts'
import { type ExchangeWay, openChannel, type Channel } from './exchange-channel.ts'
import {
  type DiagnosisAnswer,
  type DiagnosisQuestion,
  type ExchangeSettings,
  LONGEST_PROOF_MILLISECONDS,
  PROTOCOL,
  type Question,
  readReply,
  type Reply,
} from './exchange-protocol.ts'
import { localFailure } from './failures.ts'
import { HOST_ANSWER_KINDS, type HostAnswerOf, type HostQuestion, type Hosts } from './host-questions.ts'
import { HealthRecord } from './issuer-health.ts'

/** A message that begins so is about the exchange itself, not about the issuer. */
const EXCHANGE = 'the exchange with the issuer'

/** Whether the exchange failed, and not the issuer. */
export function isOfExchange({ message }: Failure): boolean {
  return message.startsWith(`${EXCHANGE} `)
}

export interface ExchangeClientOptions extends ExchangeWay {
  readonly settings: Omit<ExchangeSettings, 'protocol'>
  readonly clock: Clock
  readonly metrics: IssuerMetrics
}

/** What `findHost` finds becomes the host of this exchange if its settings name none. */
export interface ExchangeClient extends IssuerSession, Omit<Hosts, 'userCa'> {
  /** Start the exchange now, not at the first question: as the user that this process still is. */
  start(): void
  /**
   * Have the exchange examine the way to the issuer, for `doctor`. Rejects only when `signal` fires.
   *
   * @returns a failure when the exchange could not be asked, or refuses its configuration
   */
  diagnose(question: DiagnosisQuestion, signal: AbortSignal): Promise<DiagnosisAnswer>
  /** The CA whose user certificates a host is to trust. Needs no login. */
  userCa(question: HostQuestion<'user-ca'>, signal: AbortSignal): Promise<UserCaAnswer>
}

export type UserCaAnswer =
  | { readonly kind: 'user-ca'; readonly key: PublicKey }
  | Extract<HostAnswerOf<'user-ca'>, { kind: 'failed' }>

/** A question without its number. */
type Asked =
  | ({ readonly ask: 'issue' } & IssueRequest)
  | { readonly ask: 'host-ca' }
  | ({ readonly ask: 'diagnose' } & DiagnosisQuestion)
  | HostsAsked<keyof typeof HOST_ANSWER_KINDS>
type HostsAsked<A extends keyof typeof HOST_ANSWER_KINDS> = A extends string
  ? { readonly ask: A } & HostQuestion<A>
  : never

/** What each question is answered with, if it does not fail. */
const ANSWER_KINDS: Readonly<Record<Asked['ask'], readonly Reply['answer']['kind'][]>> = {
  issue: ['issued'],
  'host-ca': ['host-ca'],
  diagnose: ['diagnosed'],
  ...HOST_ANSWER_KINDS,
}

/** Beyond what its own time limits allow: to start, and to read what the system trusts. */
const SPARE_MILLISECONDS = 10_000
/** systemd ends one of the unit after five minutes, whatever it does: an older one is asked nothing more. */
const LONGEST_AGE_SECONDS = 120
/** A login, an issue, and both once more: each has the whole `issuer.timeout`. */
const REQUESTS_PER_QUESTION = 4
const LOGINS_PER_QUESTION = 2
/** The steps of a diagnosis below HTTP, which have limits of their own; twice, for `auth.login_url` may be elsewhere. */
const CONNECTING_MILLISECONDS = 2 * 30_000
/** A login and a list, both by two routes, for the projects and for the hosts. */
const REQUESTS_PER_SEARCH = 8
/** However much is asked: systemd ends the exchange after five minutes. */
const LONGEST_DIAGNOSIS_MILLISECONDS = 280_000

/**
 * The issuer, asked by a process of its own: it alone loads HTTP, TLS and the logins, and reads the credential. It is
 * started at the first question and lives until {@link IssuerSession.end}; one that hangs, wherever, is killed.
 */
export function createExchangeClient(options: ExchangeClientOptions): ExchangeClient {
  const { clock, metrics } = options
  const { issuer, log, credentials, proxy } = options.settings
  const settings: ExchangeSettings = { protocol: PROTOCOL, issuer, log, credentials, proxy }
  const health = new HealthRecord(clock)
  let channel: Channel | null = null
  let openedAt = 0
  let questions = 0
  /** What was found or registered, for an exchange that is started after another. */
  let sshHostId = ''

  const end = (): void => {
    channel?.end()
    channel = null
  }

  const open = (): Channel => {
    if (channel?.isUnit === true) {
      // One that has answered may have ended by its age since. A child has none, and another one would be another user's
      // if this process has become one.
      const isOver = questions > 0 && channel.ended !== null
      if (isOver || clock.uptime() - openedAt > LONGEST_AGE_SECONDS) end()
    }
    if (channel === null) openedAt = clock.uptime()
    const current = sshHostId === '' ? settings : { ...settings, issuer: { ...issuer, sshHostId } }
    return (channel ??= openChannel(options, JSON.stringify(current)))
  }

  const kill = (): void => {
    channel?.kill()
    channel = null
  }

  /**
   * After this its state is unknown, so it is killed.
   *
   * @param mayHaveRead false: the question did not reach it
   */
  const giveUp = (
    asked: Asked,
    mayHaveRead: boolean,
    code: ErrorCode,
    message: string,
    since: number,
    next: NextStep = 'issuer-backoff',
  ): Reply['answer'] => {
    kill()
    health.unreached()
    if (asked.ask === 'issue' || asked.ask === 'host-ca')
      metrics.issuerRequest(asked.ask, code, clock.uptime() - since)
    const failure = localFailure(code, next, `${EXCHANGE} ${message}`)
    return { kind: 'failed', failure, noSuchRoute: false, mayBeRegistered: mayHaveRead }
  }

  const ask = async (asked: Asked, signal: AbortSignal): Promise<Reply['answer']> => {
    signal.throwIfAborted()
    const since = clock.uptime()
    const exchange = open()
    const hadEnded = exchange.ended !== null
    const mayHaveRead = (): boolean => !hadEnded && exchange.wasStarted
    const question: Question = { id: ++questions, ...asked }
    const limit = AbortSignal.timeout(limitOf(asked, issuer.timeoutMilliseconds))
    const line = await exchange.ask(JSON.stringify(question), AbortSignal.any([signal, limit]))
    if (line === null && signal.aborted) {
      kill()
      throw signal.reason
    }
    if (line === null && limit.aborted)
      return giveUp(asked, mayHaveRead(), 'ISSUER_TIMEOUT', 'did not answer in time and was killed', since)
    if (line === null) {
      const next = exchange.wasStarted ? 'issuer-backoff' : 'local'
      return giveUp(
        asked,
        mayHaveRead(),
        'ISSUER_UNREACHABLE',
        `ended: ${exchange.ended ?? 'no reply'}`,
        since,
        next,
      )
    }
    const reply = replyTo(question, line)
    if (reply === null || !isAnswerTo(asked, reply.answer))
      return giveUp(
        asked,
        mayHaveRead(),
        'ISSUER_INVALID_RESPONSE',
        'sent an invalid reply and was killed',
        since,
      )
    if (issuer.kind === 'http' && issuer.sshHostId === '' && sshHostId === '')
      sshHostId = hostIn(reply.answer)
    health.learn(reply.health)
    for (const { route, code, seconds } of reply.requests) metrics.issuerRequest(route, code, seconds)
    if (issuer.kind === 'http')
      for (const code of reply.loginFailures) metrics.loginFailed(issuer.auth.method, code)
    return reply.answer
  }

  return {
    start: () => void open(),
    issue: async (request, signal): Promise<IssueAnswer> => {
      const answer = await ask({ ask: 'issue', ...request }, signal)
      return answer.kind === 'issued' ? { ok: true, ...answer } : { ok: false, failure: failureIn(answer) }
    },
    hostCa: async (signal): Promise<HostCaAnswer> => {
      const answer = await ask({ ask: 'host-ca' }, signal)
      const keys = answer.kind === 'host-ca' ? caKeysIn(answer.keys) : []
      if (keys.length > 0) return { ok: true, keys }
      const noSuchRoute = answer.kind === 'failed' && answer.noSuchRoute
      return { ok: false, failure: failureIn(answer), noSuchRoute }
    },
    diagnose: async (question, signal) => {
      const answer = await ask({ ask: 'diagnose', ...question }, signal)
      return answer.kind === 'diagnosed'
        ? { ok: true, findings: answer.findings }
        : { ok: false, failure: failureIn(answer) }
    },
    findHost: async (question, signal) => {
      const answer = await ask({ ask: 'find-host', ...question }, signal)
      return answer.kind === 'found' ? answer : { kind: 'failed', failure: failureIn(answer) }
    },
    registerHost: async (question, signal) => {
      const answer = await ask({ ask: 'register-host', ...question }, signal)
      const isKnown = answer.kind === 'registered' || answer.kind === 'taken'
      if (isKnown) return answer
      const mayBeRegistered = answer.kind !== 'failed' || answer.mayBeRegistered
      return { kind: 'failed', failure: failureIn(answer), mayBeRegistered }
    },
    deleteHost: async (question, signal) => {
      const answer = await ask({ ask: 'delete-host', ...question }, signal)
      return answer.kind === 'deleted' ? answer : { kind: 'failed', failure: failureIn(answer) }
    },
    userCa: async (question, signal) => {
      const answer = await ask({ ask: 'user-ca', ...question }, signal)
      const [key, ...others] = answer.kind === 'user-ca' ? caKeysIn([answer.key]) : []
      return key === undefined || others.length > 0
        ? { kind: 'failed', failure: failureIn(answer) }
        : { kind: 'user-ca', key }
    },
    health: (): IssuerHealth => health.current,
    end,
  }
}

/**
 * How long the exchange may take for an answer. It is killed then.
 *
 * @param timeout of one request
 */
export function limitOf(asked: Asked, timeout: number): number {
  const issuing = REQUESTS_PER_QUESTION * timeout + LOGINS_PER_QUESTION * LONGEST_PROOF_MILLISECONDS
  switch (asked.ask) {
    case 'issue':
    case 'delete-host':
      return issuing + SPARE_MILLISECONDS
    case 'host-ca':
    case 'user-ca':
      return timeout + SPARE_MILLISECONDS
    case 'find-host':
    case 'register-host': {
      const searching = REQUESTS_PER_SEARCH * timeout + LOGINS_PER_QUESTION * LONGEST_PROOF_MILLISECONDS
      return Math.min(searching + SPARE_MILLISECONDS, LONGEST_DIAGNOSIS_MILLISECONDS)
    }
    case 'diagnose': {
      // The host CA, a login, what may be read of this host and of others; then the certificates.
      const first = 4 * timeout + LONGEST_PROOF_MILLISECONDS
      const wanted = first + asked.issueFor.length * issuing + CONNECTING_MILLISECONDS + SPARE_MILLISECONDS
      return Math.min(wanted, LONGEST_DIAGNOSIS_MILLISECONDS)
    }
  }
}

/** The id of the host that the exchange takes for its own; empty when it is none. */
function hostIn(answer: Reply['answer']): string {
  if (answer.kind === 'found') return answer.host?.id ?? ''
  const isOwn = answer.kind === 'registered' || (answer.kind === 'taken' && answer.what === 'hostname')
  return isOwn ? answer.host.id : ''
}

/** Whether it is about what was asked: the exchange may be anyone's by now. */
function isAnswerTo(asked: Asked, answer: Reply['answer']): boolean {
  if (answer.kind === 'failed') return true
  if (!ANSWER_KINDS[asked.ask].includes(answer.kind)) return false
  if (answer.kind === 'found' && asked.ask === 'find-host') {
    const { by } = asked
    const { host } = answer
    if (host === null) return by.kind === 'name'
    return by.kind === 'id' ? isSame(host.id, by.id) : isSame(host.hostname, by.hostname)
  }
  if (asked.ask !== 'register-host') return true
  if (answer.kind === 'registered') return isSame(answer.host.hostname, asked.hostname)
  const isAlias = answer.kind === 'taken' && answer.what === 'alias'
  return isAlias || (answer.kind === 'taken' && isSame(answer.host.hostname, asked.hostname))
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase()
}

/** @returns null when it is none, or one to another question */
function replyTo(question: Question, line: string): Reply | null {
  try {
    const reply = readReply(line)
    return reply.id === question.id ? reply : null
  } catch {
    return null
  }
}

function caKeysIn(lines: readonly string[]): readonly PublicKey[] {
  try {
    return parseCaKeys(lines.join('\n'))
  } catch {
    return []
  }
}

/** A message is one printable line, whatever the exchange wrote. */
function failureIn(answer: Reply['answer']): IssuerFailure {
  if (answer.kind !== 'failed')
    return localFailure('ISSUER_INVALID_RESPONSE', 'issuer-backoff', `${EXCHANGE} sent no CA key`)
  const { failure } = answer
  const requestId = failure.requestId === null ? null : inOneLine(failure.requestId)
  return { ...failure, message: inOneLine(failure.message), requestId }
}
