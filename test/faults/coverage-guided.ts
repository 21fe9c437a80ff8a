import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { Session } from 'node:inspector/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { AgentError, ERROR_CODES } from '../../agent/cert/errors.ts'
import { isSignatureValid } from '../../agent/cert/host-certificate.ts'
import { parseCaKeys, parsePublicKeyLine } from '../../agent/cert/public-key.ts'
import { tryParse } from '../../agent/cert/verify-issued.ts'
import { parseYaml } from '../../agent/config/read-files.ts'
import { checkTree } from '../../agent/config/schema.ts'
import { parseErrorBody, parseHttpDate, parseRetryAfter } from '../../agent/issuer/answer.ts'
import { lineSplitter, readQuestion, readReply } from '../../agent/issuer/exchange-protocol.ts'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { INTERFACE_EXAMPLE } from '../config/interface-example.ts'
import { Dice, mutate } from './mutate.ts'

/**
 * `npm run fuzz -- [--minutes 5] [--seed 1]`: mutate inputs of certificate parsing, protocol lines and configuration, and
 * keep those that reach a block of code that none reached before. V8 itself counts the blocks. An input that violates a
 * rule is written to reports/fuzz; one that shows a defect belongs into test/fixtures with a test of its own.
 */

interface Target {
  readonly name: string
  readonly seeds: readonly Buffer[]
  readonly words: readonly string[]
  /** Throws on anything that is not as it must be. */
  readonly run: (input: Buffer) => void
}

/** Run what may refuse an input, but by no other error. */
function mayThrow(work: () => unknown, isExpected: (error: unknown) => boolean): void {
  try {
    work()
  } catch (error) {
    if (!isExpected(error)) throw error
  }
}

const CERTIFICATES = 'test/fixtures/certificates'
const files = (await readdir(CERTIFICATES)).sort()
const lines = await Promise.all(files.map((file) => readFile(join(CERTIFICATES, file), 'utf8')))
const blobs = lines.map((line) => Buffer.from(line.split(' ')[1] ?? '', 'base64'))
const isAgentError = (error: unknown): boolean =>
  error instanceof AgentError && (ERROR_CODES as readonly string[]).includes(error.code)

const TARGETS: readonly Target[] = [
  {
    name: 'certificate',
    seeds: blobs,
    words: ['ssh-ed25519', 'ssh-rsa', 'ecdsa-sha2-nistp256', 'nistp256', '\0\0\0\x0bssh-ed25519', '\0\0\0\0'],
    run: (input) => {
      const type = input.toString('utf8', 4, 4 + Math.min(60, input.length > 4 ? input.readUInt32BE(0) : 0))
      const parsed = tryParse(`${type} ${input.toString('base64')}`)
      if (!parsed.ok) return
      if (!parsed.certificate.blob.equals(input)) throw new Error('other bytes than were given')
      isSignatureValid(parsed.certificate)
    },
  },
  {
    name: 'key line',
    seeds: lines.map((line) => Buffer.from(line)),
    words: [
      ' ',
      '\t',
      '\n',
      '#',
      '=',
      'ssh-ed25519',
      '@cert-authority * ',
      '---- BEGIN SSH2 PUBLIC KEY ----',
    ],
    run: (input) => {
      const text = input.toString()
      tryParse(text)
      mayThrow(() => parsePublicKeyLine(text), isAgentError)
      mayThrow(() => parseCaKeys(text), isAgentError)
    },
  },
  {
    name: 'protocol line',
    seeds: [
      '{"id":1,"ask":"issue","publicKey":"k","hostKey":"h","principals":["a"]}',
      '{"id":1,"ask":"diagnose","login":true,"pinned":null,"principals":null,"issueFor":[]}',
      '{"id":1,"answer":{"kind":"issued","signedKey":"x","serialNumber":"7","requestId":null},"health":{"reachable":true,"lastSuccess":1,"clockSkewSeconds":3},"requests":[{"route":"login","code":"200","seconds":1}],"loginFailures":["LOGIN_PLATFORM"]}',
      '{"reqId":"r","error":"E","message":[{"path":["a"],"message":"m"}],"details":[{"action":"a","subject":["s"],"inverted":true,"conditions":{"a":1}}]}',
      'Fri, 31 Dec 9999 23:59:59 GMT',
    ].map((text) => Buffer.from(text)),
    words: [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"kind":"host-ca"',
      '"keys":["k"]',
      '"kind":"failed"',
      'null',
      '\n',
      '1e999',
    ],
    run: (input) => {
      const text = input.toString()
      lineSplitter(
        (line) => {
          mayThrow(
            () => readQuestion(line),
            (error) => error instanceof Error,
          )
          mayThrow(
            () => readReply(line),
            (error) => error instanceof Error,
          )
        },
        () => {},
      )(`${text}\n`)
      parseErrorBody(text, new Secrets())
      parseHttpDate(text)
      parseRetryAfter(text, text, 0)
    },
  },
  {
    name: 'configuration',
    seeds: [INTERFACE_EXAMPLE, await readFile('config.example.yaml', 'utf8')].map((text) =>
      Buffer.from(text),
    ),
    words: [
      ': ',
      '\n  ',
      '- ',
      '&a ',
      '*a',
      '!!str ',
      '"',
      '[',
      '{',
      '__proto__',
      'credential:x',
      '"*/5 * * * *"',
      '7d',
    ],
    run: (input) => {
      const { tree, problems } = parseYaml(input.toString(), 'F')
      const checked = tree === null ? null : checkTree(tree)
      const all = [...problems, ...(checked === null || checked.ok ? [] : checked.problems)]
      if (tree === null && all.length === 0) throw new Error('no tree, and no problem')
      if (all.some(({ message }) => message === '')) throw new Error('a problem without a message')
    },
  },
]

const session = new Session()
session.connect()
await session.post('Profiler.enable')
await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })

/** The blocks of the program that were run since the last call. */
async function blocksRun(): Promise<string[]> {
  const { result } = await session.post('Profiler.takePreciseCoverage')
  return result
    .filter(({ url }) => url.includes('/agent/'))
    .flatMap(({ url, functions }) =>
      functions
        .flatMap(({ ranges }) => ranges)
        .filter(({ count }) => count > 0)
        .map(({ startOffset, endOffset }) => `${url}:${startOffset}:${endOffset}`),
    )
}

const { values } = parseArgs({ options: { minutes: { type: 'string' }, seed: { type: 'string' } } })
const end = performance.now() + Number(values.minutes ?? 5) * 60_000
const dice = new Dice(Number(values.seed ?? 1))
/** Inputs between two looks at the coverage, which takes milliseconds. */
const AT_ONCE = 64
const LONGEST_INPUT = 20_000
/** As many are enough to look at. */
const MOST_DEFECTS = 20
/** A single input for longer than this is a defect, even on a busy machine. */
const MOST_CPU_SECONDS = 3
const states = TARGETS.map((target) => ({ target, corpus: [...target.seeds], tried: 0, defects: 0 }))

async function attempt(state: (typeof states)[number], input: Buffer): Promise<void> {
  const before = process.cpuUsage()
  try {
    state.target.run(input)
    const { user, system } = process.cpuUsage(before)
    if (user + system > MOST_CPU_SECONDS * 1e6) throw new Error(`${(user + system) / 1e6} s of computing`)
  } catch (error) {
    state.defects += 1
    await mkdir('reports/fuzz', { recursive: true })
    const file = `reports/fuzz/${state.target.name.replaceAll(' ', '-')}-${state.defects}`
    await writeFile(file, input)
    console.log(`${file}: ${String(error)}`)
  }
}

for (const state of states) for (const seed of state.target.seeds) await attempt(state, seed)
const reached = new Set(await blocksRun())
const bySeeds = reached.size
const isNew = (block: string): boolean => !reached.has(block)
while (performance.now() < end && states.every(({ defects }) => defects < MOST_DEFECTS)) {
  for (const state of states) {
    const inputs = Array.from({ length: AT_ONCE }, () =>
      mutate(dice.pick(state.corpus), dice, state.corpus, state.target.words).subarray(0, LONGEST_INPUT),
    )
    for (const input of inputs) await attempt(state, input)
    state.tried += inputs.length
    const blocks = await blocksRun()
    if (!blocks.some(isNew)) continue
    // Which of them was it?
    for (const input of inputs) {
      await attempt(state, input)
      const own = await blocksRun()
      if (own.some(isNew)) state.corpus.push(input)
      for (const block of own) reached.add(block)
    }
    for (const block of blocks) reached.add(block)
  }
}
for (const { target, tried, corpus, defects } of states)
  console.log(
    `${target.name}: ${tried} inputs, ${corpus.length - target.seeds.length} kept, ${defects} defects`,
  )
console.log(`${reached.size} blocks reached, ${bySeeds} of them by the seeds`)
process.exitCode = states.some(({ defects }) => defects > 0) ? 1 : 0
