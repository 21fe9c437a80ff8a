import type { HostCaAnswer, IssueAnswer, Issuer, Metrics } from '../renewal/ports.ts'
import {
  type ExchangeSettings,
  lineSplitter,
  type Question,
  readQuestion,
  type Reply,
} from './exchange-protocol.ts'

export interface ExchangeStreams {
  readonly input: NodeJS.ReadableStream
  readonly write: (text: string) => void
}

/** What the HTTP requests of one question took. */
type Requests = Reply['requests'][number][]

/**
 * `hostcertd exchange`: take the settings, answer one question after the other, end with the input.
 *
 * @param issuerFor the way to the issuer; what it asks over HTTP it tells `metrics`
 * @returns when the input has ended; a question may then still be under way, in a name server that never answers, say
 */
export function serveExchange(
  { input, write }: ExchangeStreams,
  issuerFor: (settings: ExchangeSettings, metrics: Pick<Metrics, 'issuerRequest'>) => Issuer,
): Promise<void> {
  const requests: Requests = []
  const metrics: Pick<Metrics, 'issuerRequest'> = {
    issuerRequest: (route, code, seconds) => void requests.push({ route, code, seconds }),
  }
  return new Promise((resolve, reject) => {
    const end = new AbortController()
    let issuer: Issuer | null = null
    let turn = Promise.resolve()
    const answer = async (line: string): Promise<void> => {
      if (issuer === null) {
        issuer = issuerFor(JSON.parse(line) as ExchangeSettings, metrics)
        return
      }
      const reply = await answerTo(readQuestion(line), issuer, end.signal)
      write(`${JSON.stringify({ answer: reply, health: issuer.health(), requests: requests.splice(0) })}\n`)
    }
    const split = lineSplitter(
      (line) => {
        turn = turn.then(async () => answer(line))
        turn.catch(reject)
      },
      () => reject(new Error('a line that is too long')),
    )
    input.setEncoding('utf8')
    input.on('data', (part) => split(String(part)))
    input.once('error', reject)
    input.once('end', () => {
      end.abort(new Error('the input has ended'))
      resolve()
    })
  })
}

async function answerTo(question: Question, issuer: Issuer, signal: AbortSignal): Promise<Reply['answer']> {
  return question.ask === 'issue'
    ? issued(await issuer.issue(question.publicKey, signal))
    : hostCa(await issuer.hostCa(signal))
}

function issued(answer: IssueAnswer): Reply['answer'] {
  if (!answer.ok) return { kind: 'failed', failure: answer.failure, noSuchRoute: false }
  const { signedKey, serialNumber, requestId } = answer
  return { kind: 'issued', signedKey, serialNumber, requestId }
}

function hostCa(answer: HostCaAnswer): Reply['answer'] {
  if (!answer.ok) return { kind: 'failed', failure: answer.failure, noSuchRoute: answer.noSuchRoute }
  return { kind: 'host-ca', keys: answer.keys.map(({ type, blob }) => `${type} ${blob.toString('base64')}`) }
}
