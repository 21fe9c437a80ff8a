import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { createExchangeClient } from '../../agent/issuer/exchange-client.ts'
import { serveExchange } from '../../agent/issuer/exchange-process.ts'
import { LONGEST_LINE, PROTOCOL, readReply } from '../../agent/issuer/exchange-protocol.ts'
import { refusingHosts } from '../../agent/issuer/host-questions.ts'
import type { HostCaAnswer, IssueAnswer } from '../../agent/renewal/ports.ts'
import { NEVER, requestFor } from '../issuer/harness.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { flawIn } from './flaw-in-answer.ts'
import { Dice, mutate, SEEDS } from './mutate.ts'
import { report } from './rows.ts'

const PART = 'Input: answers of the issuer and lines of the exchange'
/** For each seed. */
const LINES = 1000
const CA = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNz7I6MPrGDOFEbIuwHcKUX+ffHwUpIqOErk35XwDCw'

const HEALTH = { reachable: true, lastSuccess: 1_700_000_000, clockSkewSeconds: 3 }
const replyLine = (given: object, more: object = {}): string =>
  JSON.stringify({ id: 1, answer: given, health: HEALTH, requests: [], ...more })
const failure = {
  code: 'ISSUER_BUSY',
  message: 'm',
  next: 'issuer-backoff',
  retryAfterSeconds: 3,
  requestId: 'r',
}
const REPLIES = [
  replyLine({ kind: 'issued', signedKey: 'x', serialNumber: '7', requestId: null }),
  replyLine({ kind: 'failed', failure, noSuchRoute: false, mayBeRegistered: true }),
  replyLine({ kind: 'host-ca', keys: [CA] }),
  replyLine({
    kind: 'failed',
    failure: { ...failure, message: '\x1b[2J\u202e\0', requestId: '\n' },
    noSuchRoute: true,
  }),
  replyLine({ kind: 'issued', signedKey: 'x'.repeat(70_000), serialNumber: '7', requestId: null }),
  replyLine({ kind: 'issued', signedKey: 'x'.repeat(60_000), serialNumber: null, requestId: 'r' }),
]
const QUESTIONS = [
  { id: 1, ask: 'issue', ...requestFor('k') },
  { id: 2, ask: 'host-ca' },
  { id: 3, ask: 'issue', publicKey: '\0', hostKey: 'x'.repeat(60_000), principals: ['a', 'b'] },
].map((question) => JSON.stringify(question))
const WORDS = [
  '\n',
  '\n\n',
  '\0',
  '\uFEFF',
  '\u202e',
  ' '.repeat(70_000),
  ...'{ } [ ] " : , \\ 1e999 -0 null true "id":1 "id":2 "__proto__":{} "kind":"issued" "code":"X"'.split(' '),
  ...'"ask":"diagnose" \\u0000 \\ud800 "retryAfterSeconds":-1 "retryAfterSeconds":1e300 "seconds":null'.split(
    ' ',
  ),
]

test('lines of a hostile exchange to the daemon', async () => {
  await using folder = await makeTemporaryFolder()
  const path = join(folder.path, 'exchange')
  let line: Buffer = Buffer.of()
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    // Behind the settings comes the question.
    let seen = ''
    socket.setEncoding('utf8').on('data', (part) => {
      seen += String(part)
      if (seen.split('\n').length > 2) socket.end(line)
    })
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const wrong: string[] = []
  let [tried, passed, longest] = [0, 0, 0]
  for (const seed of SEEDS) {
    const dice = new Dice(seed)
    const replies = REPLIES.map((reply) => Buffer.from(`${reply}\n`))
    for (let count = 0; count < LINES; count++) {
      line =
        dice.below(8) === 0 ? dice.bytes(dice.below(300)) : mutate(dice.pick(replies), dice, replies, WORDS)
      const issuer = createExchangeClient({
        socket: path,
        mayBeChild: false,
        program: [],
        settings: {
          issuer: { kind: 'command', command: ['/bin/false'], timeoutMilliseconds: 1000 },
          log: { level: 'error', format: 'json' },
        },
        clock: { now: () => 1_800_000_000, uptime: () => 0, dice: () => 0, sleep: async () => {} },
        metrics: { issuerRequest: () => {}, loginFailed: () => {} },
      })
      tried += 1
      const began = performance.now()
      try {
        const result =
          dice.below(3) === 0 ? await issuer.hostCa(NEVER) : await issuer.issue(requestFor('k'), NEVER)
        passed += result.ok ? 1 : 0
        const flaw = flawOfReply(result)
        if (flaw !== null) wrong.push(`seed ${seed}, line ${count}: ${flaw}`)
      } catch (error) {
        wrong.push(`seed ${seed}, line ${count}: threw ${String(error)}`)
      }
      longest = Math.max(longest, performance.now() - began)
      issuer.end()
    }
  }
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => server.close(resolve))
  await report({
    part: PART,
    fault: 'hostile replies of the exchange to the daemon',
    tried,
    lost: 0,
    wrong: wrong.length,
    recoveredSeconds: null,
    remark: `${passed} passed on for verification; each within ${(longest / 1000).toFixed(1)} s`,
  })
  expect(wrong.slice(0, 10)).toEqual([])
})

/** As {@link flawIn}; what the exchange passes on as a certificate is for the verification, and it may wait 0 s. */
function flawOfReply(result: IssueAnswer | HostCaAnswer): string | null {
  if (result.ok && 'signedKey' in result)
    return typeof result.signedKey === 'string' && result.signedKey.length <= LONGEST_LINE
      ? null
      : 'a longer certificate'
  if (result.ok || result.failure.retryAfterSeconds !== 0) return flawIn(result)
  return flawIn({ ...result, failure: { ...result.failure, retryAfterSeconds: null } })
}

test('lines of a hostile daemon to the exchange', async () => {
  const wrong: string[] = []
  let [tried, answered] = [0, 0]
  for (const seed of SEEDS) {
    const dice = new Dice(seed)
    const questions = QUESTIONS.map((question) => Buffer.from(`${question}\n`))
    for (let count = 0; count < LINES; count++) {
      tried += 1
      const asked: unknown[] = []
      const input = new PassThrough()
      const written: string[] = []
      const failed = {
        ok: false,
        failure: { ...failure, code: 'ISSUER_BUSY', next: 'issuer-backoff' },
      } as const
      const ended = serveExchange({ input, write: (text) => void written.push(text) }, async () => ({
        issue: async (request) => (asked.push(request), failed),
        hostCa: async () => ({ ...failed, noSuchRoute: false }),
        health: () => HEALTH,
        end: () => {},
        diagnose: async () => failed,
        ...refusingHosts(failed.failure),
      }))
      if (dice.below(8) !== 0) input.write(`${JSON.stringify({ protocol: PROTOCOL })}\n`)
      input.end(mutate(dice.pick(questions), dice, questions, WORDS))
      const outcome = await ended.then(
        () => 'ended',
        (error: unknown) => error,
      )
      answered += written.length
      if (outcome !== 'ended' && !(outcome instanceof Error)) wrong.push(`${count}: ${String(outcome)}`)
      for (const text of written) {
        try {
          readReply(text)
        } catch (error) {
          wrong.push(`${count}: ${text}: ${String(error)}`)
        }
      }
      if (!asked.every(isRequest)) wrong.push(`${count}: ${JSON.stringify(asked)}`)
    }
  }
  await report({
    part: PART,
    fault: 'hostile questions of the daemon to the exchange',
    tried,
    lost: 0,
    wrong: wrong.length,
    recoveredSeconds: null,
    remark: `${answered} answered, with valid replies`,
  })
  expect(wrong.slice(0, 10)).toEqual([])
  expect(answered).toBeGreaterThan(0)
})

function isRequest(value: unknown): boolean {
  const { publicKey, hostKey, principals } = value as Record<string, unknown>
  const texts = [publicKey, hostKey, ...(Array.isArray(principals) ? (principals as unknown[]) : [null])]
  return texts.every((text) => typeof text === 'string')
}
