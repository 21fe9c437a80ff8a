import { writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { serveExchange } from '../../agent/issuer/exchange-process.ts'
import { LONGEST_LINE, PROTOCOL, readReply } from '../../agent/issuer/exchange-protocol.ts'
import { localFailure } from '../../agent/issuer/failures.ts'
import { refusingHosts } from '../../agent/issuer/host-questions.ts'
import type { HostCaAnswer, IssueAnswer, Issuer } from '../../agent/renewal/ports.ts'
import { makeSubject, requestFor, startRawServer } from '../issuer/harness.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'
import { flawIn, TOKEN } from './flaw-in-answer.ts'
import { SEEDS } from './mutate.ts'
import { report } from './rows.ts'

const PART = 'Input: answers of the issuer and lines of the exchange'
const CA = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNz7I6MPrGDOFEbIuwHcKUX+ffHwUpIqOErk35XwDCw'
/** For each seed. */
const ANSWERS = 250

let folder: TemporaryFolder
beforeEach(async () => {
  folder = await makeTemporaryFolder()
})
afterEach(() => folder.remove())

/** Text that is awkward somewhere: in a log, on a terminal, in JSON, in a message. */
const odd = fc.oneof(
  { arbitrary: fc.string({ unit: 'binary', maxLength: 20 }), weight: 12 },
  {
    arbitrary: fc.constantFrom(
      '',
      '\0',
      '\x1b[2J',
      '\u202e',
      '\ud800',
      '\r\n',
      '__proto__',
      TOKEN,
      CA,
      'req-abc',
    ),
    weight: 12,
  },
  {
    arbitrary: fc
      .tuple(fc.constantFrom('\x01', '"', '\\', 'ü', '𝕏', 'x'), fc.constantFrom(300, 4096, 20_000, 40_000))
      .map(([unit, size]) => unit.repeat(size)),
    weight: 1,
  },
)
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    odd,
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(odd, tie('value'), { maxKeys: 4 }),
  ),
})).value
/** Mostly of the right type, as only then the next check is reached. */
const orAnything = (good: fc.Arbitrary<unknown>) =>
  fc.oneof({ arbitrary: good, weight: 5 }, { arbitrary: json, weight: 1 })
const object = fc.record(
  {
    signedKey: orAnything(odd),
    serialNumber: orAnything(fc.bigInt({ min: 0n, max: 2n ** 64n }).map(String)),
    reqId: orAnything(odd),
    error: orAnything(fc.oneof(fc.constantFrom('TokenError', 'Not Found', 'ForbiddenError'), odd)),
    message: orAnything(
      fc.oneof(
        odd,
        fc.array(fc.record({ path: fc.array(json, { maxLength: 3 }), message: odd }), { maxLength: 3 }),
      ),
    ),
    details: orAnything(
      fc.array(fc.record({ action: json, subject: json, inverted: fc.boolean(), conditions: json }), {
        maxLength: 3,
      }),
    ),
    accessToken: orAnything(odd),
  },
  { requiredKeys: [] },
)
const body = fc.oneof(
  { arbitrary: object.map((value) => Buffer.from(JSON.stringify(value))), weight: 6 },
  { arbitrary: json.map((value) => Buffer.from(JSON.stringify(value) ?? '')), weight: 2 },
  { arbitrary: object.map((value) => Buffer.from(`\uFEFF${JSON.stringify(value)}`, 'utf16le')), weight: 1 },
  { arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)), weight: 1 },
  {
    arbitrary: fc.constantFrom(
      Buffer.from('['.repeat(100_000)),
      Buffer.from(`${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`),
      Buffer.from(`${CA}\n`.repeat(805)),
      Buffer.from(`${CA}\n`),
      Buffer.alloc(70_000, ' '),
      Buffer.from('{"signedKey":"a","signedKey":"b","serialNumber":"1"}'),
    ),
    weight: 2,
  },
)
const answer = fc.record({
  status: fc.oneof(
    fc.constant(200),
    fc.constantFrom(200, 201, 204, 301, 304, 307, 400, 401, 403, 404, 408, 422, 429, 500, 503, 599, 999),
  ),
  type: fc.constantFrom(
    'application/json',
    'text/html',
    'text/plain; charset=utf-16',
    '',
    'application/json; charset=x',
  ),
  retryAfter: fc.constantFrom(
    '',
    '0',
    '-1',
    '1e9',
    '9'.repeat(40),
    'Fri, 31 Dec 9999 23:59:59 GMT',
    'soon',
    '3',
  ),
  date: fc.constantFrom('', 'nonsense', 'Thu, 01 Jan 1970 00:00:00 GMT', 'Fri, 31 Dec 9999 23:59:59 GMT'),
  location: fc.constantFrom('', '/', 'javascript:alert(1)', `https://x/${TOKEN}`, 'x'.repeat(4000)),
  body,
})
type HostileAnswer = typeof answer extends fc.Arbitrary<infer T> ? T : never

function send(
  response: ServerResponse,
  { status, type, retryAfter, date, location, body: bytes }: HostileAnswer,
) {
  const headers = { 'content-type': type, 'retry-after': retryAfter, date, location }
  const given = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== ''))
  response.writeHead(status, given)
  response.end(bytes)
}

/** The exchange in this process, asked line by line; with what the issuer was last understood to answer. */
function exchangeFor(issuer: Issuer) {
  const input = new PassThrough()
  let onLine: (line: string) => void = () => {}
  let last: IssueAnswer | HostCaAnswer | null = null
  const ended = serveExchange({ input, write: (text) => onLine(text) }, async () => ({
    issue: async (request, signal) => (last = await issuer.issue(request, signal)),
    hostCa: async (signal) => (last = await issuer.hostCa(signal)),
    health: () => issuer.health(),
    end: () => {},
    diagnose: () => Promise.reject(new Error('not asked')),
    ...refusingHosts(localFailure('CONFIG_INVALID', 'local', 'not asked')),
  }))
  input.write(`${JSON.stringify({ protocol: PROTOCOL })}\n`)
  return {
    ended,
    end: () => void input.end(),
    ask: async (question: object) => {
      const line = await new Promise<string>((resolve, reject) => {
        onLine = resolve
        ended.then(() => reject(new Error('it has ended')), reject)
        input.write(`${JSON.stringify(question)}\n`)
      })
      return { line, result: last }
    },
  }
}

test('answers of the issuer, and what the exchange makes of them', async () => {
  const tokenFile = join(folder.path, 'token')
  await writeFile(tokenFile, `${TOKEN}\n`)
  let next: HostileAnswer | null = null
  await using server = await startRawServer((_, response) => next !== null && send(response, next))
  const wrong: string[] = []
  let [tried, issued, longest] = [0, 0, 0]
  for (const seed of SEEDS) {
    const { issuer } = makeSubject({ url: server.url, auth: { method: 'token', tokenFile } })
    const exchange = exchangeFor(issuer)
    for (const [index, hostile] of fc.sample(answer, { numRuns: ANSWERS, seed }).entries()) {
      next = hostile
      tried += 1
      const began = performance.now()
      const asksCa = index % 4 === 0
      try {
        const question = asksCa ? { ask: 'host-ca' } : { ask: 'issue', ...requestFor('k') }
        const { line, result } = await exchange.ask({ id: index, ...question })
        readReply(line)
        if (result === null) throw new Error('the issuer was not asked')
        issued += result.ok ? 1 : 0
        const flaw = line.length > LONGEST_LINE + 1 ? `a reply of ${line.length} characters` : flawIn(result)
        if (flaw !== null) wrong.push(`seed ${seed}, answer ${index}, status ${hostile.status}: ${flaw}`)
      } catch (error) {
        wrong.push(`seed ${seed}, answer ${index}, status ${hostile.status}: threw ${String(error)}`)
        if (wrong.length > 50) break
      }
      longest = Math.max(longest, performance.now() - began)
    }
    exchange.end()
    await exchange.ended
  }
  await report({
    part: PART,
    fault: 'hostile status, headers, JSON, sizes and encodings from the issuer',
    tried,
    lost: 0,
    wrong: wrong.length,
    recoveredSeconds: null,
    remark: `${issued} passed on for verification; each answered within ${(longest / 1000).toFixed(1)} s`,
  })
  expect(wrong.slice(0, 10)).toEqual([])
  expect(longest).toBeLessThan(5000)
})
