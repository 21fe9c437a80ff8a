import type { ErrorCode } from '../cert/errors.ts'
import { publicKeyText } from '../cert/public-key.ts'
import { cutTo } from '../cert/text.ts'
import type { HostCaAnswer, IssueAnswer, Issuer, IssuerFailure, IssuerMetrics } from '../renewal/ports.ts'
import {
  type DiagnosisAnswer,
  type DiagnosisQuestion,
  type ExchangeSettings,
  LAST_SECOND,
  lineSplitter,
  LONGEST_FINDING,
  PROTOCOL,
  type Question,
  readQuestion,
  type Reply,
} from './exchange-protocol.ts'
import { localFailure } from './failures.ts'
import type { HostAnswerOf, Hosts } from './host-questions.ts'

export interface ExchangeStreams {
  readonly input: NodeJS.ReadableStream
  readonly write: (text: string) => void
}

/** What answers the questions. */
export interface Answering extends Issuer, Hosts {
  /** Rejects only when `signal` fires. */
  diagnose(question: DiagnosisQuestion, signal: AbortSignal): Promise<DiagnosisAnswer>
}

/** Of texts of the issuer, in characters: a reply has to fit into a line. All CA keys together are one text. */
const LONGEST_CERTIFICATE = 32 * 1024
const LONGEST_MESSAGE = 4096

/** What the HTTP requests of one question took. */
interface Request {
  readonly route: string
  readonly code: string
  readonly seconds: number
}

/**
 * `hostcertd exchange`: take the settings, answer one question after the other, end with the input.
 *
 * @param issuerFor the way to the issuer; it reports its HTTP requests to `metrics`
 * @returns when the input has ended; a question may still be under way then, for example at a name server that never answers
 */
export function serveExchange(
  { input, write }: ExchangeStreams,
  issuerFor: (settings: Omit<ExchangeSettings, 'protocol'>, metrics: IssuerMetrics) => Promise<Answering>,
): Promise<void> {
  const requests: Request[] = []
  const loginFailures: ErrorCode[] = []
  const metrics: IssuerMetrics = {
    issuerRequest: (route, code, seconds) => void requests.push({ route, code, seconds }),
    // The other side knows the method.
    loginFailed: (_method, code) => void loginFailures.push(code),
  }
  return new Promise((resolve, reject) => {
    const end = new AbortController()
    let issuer: Answering | null = null
    let turn = Promise.resolve()
    const answer = async (line: string): Promise<void> => {
      if (issuer === null) {
        const settings = JSON.parse(line) as ExchangeSettings
        if (settings.protocol !== PROTOCOL)
          throw new Error('hostcertd was upgraded under the running daemon: restart it')
        issuer = await issuerFor(settings, metrics)
        return
      }
      const question = readQuestion(line)
      const reply: Reply = {
        id: question.id,
        answer: await answerTo(question, issuer, end.signal),
        health: issuer.health(),
        requests: requests.splice(0) as Reply['requests'],
        loginFailures: loginFailures.splice(0),
      }
      write(`${JSON.stringify(reply)}\n`)
    }
    const fail = (error: unknown): void => {
      end.abort(error)
      reject(error)
    }
    const split = lineSplitter(
      (line) => {
        turn = turn.then(async () => answer(line))
        turn.catch(fail)
      },
      () => fail(new Error('a line that is too long')),
    )
    input.setEncoding('utf8')
    input.on('data', (part) => split(String(part)))
    input.once('error', fail)
    for (const event of ['end', 'close'])
      input.once(event, () => {
        end.abort(new Error('the input has ended'))
        resolve()
      })
  })
}

async function answerTo(
  question: Question,
  issuer: Answering,
  signal: AbortSignal,
): Promise<Reply['answer']> {
  switch (question.ask) {
    case 'issue':
      return issued(withinLimits(await issuer.issue(question, signal)))
    case 'host-ca':
      return hostCa(await issuer.hostCa(signal))
    case 'diagnose':
      return diagnosed(await issuer.diagnose(question, signal))
    case 'find-host':
      return orFailed(await issuer.findHost(question, signal))
    case 'register-host':
      return registered(await issuer.registerHost(question, signal))
    case 'delete-host':
      return orFailed(await issuer.deleteHost(question, signal))
    case 'user-ca':
      return orFailed(await issuer.userCa(question, signal))
  }
}

/** A certificate that would not fit into a reply is none, for a diagnosis either. */
export function withinLimits(answer: IssueAnswer): IssueAnswer {
  if (!answer.ok || answer.signedKey.length <= LONGEST_CERTIFICATE) return answer
  const flaw = `the issuer sent a certificate of ${answer.signedKey.length} characters`
  const { requestId } = answer
  return {
    ok: false,
    failure: { ...localFailure('ISSUER_INVALID_RESPONSE', 'key-backoff', flaw), requestId },
  }
}

function issued(answer: IssueAnswer): Reply['answer'] {
  if (!answer.ok) return failed(answer.failure)
  const { signedKey, serialNumber, requestId } = answer
  return { kind: 'issued', signedKey, serialNumber, requestId }
}

function diagnosed(answer: DiagnosisAnswer): Reply['answer'] {
  if (!answer.ok) return failed(answer.failure)
  const findings = answer.findings.map(({ message, remedy, ...rest }) => ({
    ...rest,
    message: cutTo(LONGEST_FINDING, message),
    remedy: remedy === null ? null : cutTo(LONGEST_FINDING, remedy),
  }))
  return { kind: 'diagnosed', findings }
}

function hostCa(answer: HostCaAnswer): Reply['answer'] {
  if (!answer.ok) return failed(answer.failure, { noSuchRoute: answer.noSuchRoute })
  const keys = answer.keys.map(publicKeyText)
  if (keys.join('').length <= LONGEST_CERTIFICATE) return { kind: 'host-ca', keys }
  const flaw = `the issuer sent ${keys.length} CA keys, which is too many`
  return failed(localFailure('ISSUER_INVALID_RESPONSE', 'issuer-backoff', flaw))
}

function registered(answer: HostAnswerOf<'register-host'>): Reply['answer'] {
  if (answer.kind !== 'failed') return answer
  const { failure, mayBeRegistered } = answer
  return failed(failure, { mayBeRegistered })
}

function orFailed(answer: HostAnswerOf<'find-host' | 'delete-host' | 'user-ca'>): Reply['answer'] {
  return answer.kind === 'failed' ? failed(answer.failure) : answer
}

type FailedAnswer = Extract<Reply['answer'], { kind: 'failed' }>

function failed(
  failure: IssuerFailure,
  { noSuchRoute = false, mayBeRegistered = false }: Partial<Omit<FailedAnswer, 'kind' | 'failure'>> = {},
): Reply['answer'] {
  const { retryAfterSeconds } = failure
  return {
    kind: 'failed',
    failure: {
      ...failure,
      message: cutTo(LONGEST_MESSAGE, failure.message),
      retryAfterSeconds: retryAfterSeconds && Math.min(retryAfterSeconds, LAST_SECOND),
    },
    noSuchRoute,
    mayBeRegistered,
  }
}
