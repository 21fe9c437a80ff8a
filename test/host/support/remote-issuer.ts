import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { IssuerAnswer, IssuerFacts, IssuerRequest } from './issuer-messages.ts'
import { outside, type Network } from './network.ts'

/** The local issuer outside the container, at the other end of the veth pair. `await using` ends it. */
export class RemoteIssuer implements AsyncDisposable {
  readonly facts: IssuerFacts
  readonly #process: ChildProcessByStdio<Writable, Readable, null>
  readonly #answers: AsyncIterator<string>

  /** @param facts see {@link startRemoteIssuer} */
  constructor(
    process: ChildProcessByStdio<Writable, Readable, null>,
    answers: AsyncIterator<string>,
    facts: IssuerFacts,
  ) {
    this.#process = process
    this.#answers = answers
    this.facts = facts
  }

  /** One request at a time. @throws what the issuer threw */
  async ask(request: IssuerRequest): Promise<unknown> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`)
    return await nextAnswer(this.#answers)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null) return
    const ended = once(this.#process, 'exit')
    this.#process.stdin.end()
    await ended
  }
}

/**
 * Start an issuer with TLS on the outside address of a network. It ends by itself when this process does, for then its
 * stdin closes.
 *
 * @param folder an existing folder for its keys
 */
export async function startRemoteIssuer(network: Network, folder: string): Promise<RemoteIssuer> {
  const program = fileURLToPath(new URL('issuer-process.ts', import.meta.url))
  const [enter = '', ...words] = outside(network)
  const argv = [...words, process.execPath, program, folder, network.outsideAddress]
  const child = spawn(enter, argv, { stdio: ['pipe', 'pipe', 'inherit'] })
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return new RemoteIssuer(child, answers, (await nextAnswer(answers)) as IssuerFacts)
}

async function nextAnswer(answers: AsyncIterator<string>): Promise<unknown> {
  const { done, value } = await answers.next()
  if (done === true) throw new Error('the process of the local issuer has ended')
  const answer = JSON.parse(value) as IssuerAnswer
  if (!answer.ok) throw new Error(answer.message)
  return answer.value
}
