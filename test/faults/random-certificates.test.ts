import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isSignatureValid } from '../../agent/cert/host-certificate.ts'
import { FOREVER } from '../../agent/cert/time.ts'
import { tryParse, verifyIssued, type CertificateRequirements } from '../../agent/cert/verify-issued.ts'
import {
  blobOf,
  craftCertificate,
  craftEcdsaKey,
  craftKey,
  sshString,
  uint32,
  uint64,
  type CertificateFields,
} from '../cert/craft.ts'
import { CA_ALGORITHMS, KEY_KINDS, makeKeyRing, type KeyRing } from '../cert/key-ring.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { difference, LAST_YEAR, listings } from './keygen-listing.ts'
import { Dice, mutate, SEEDS } from './mutate.ts'
import { isWhole, report } from './rows.ts'

const CORPUS = 'test/fixtures/certificates'
const PART = 'Input: certificates'
/** Of each kind, for each seed. */
const CASES = 1500
const NOW = 1_795_438_800

interface Sample {
  readonly line: string
  readonly wanted: CertificateRequirements
}

let ring: KeyRing
/** Certificates by every CA algorithm for every type of key, all of them acceptable but for the CA. */
let samples: readonly Sample[]
let corpus: readonly string[]
beforeAll(async () => {
  ring = await makeKeyRing()
  samples = await Promise.all(
    KEY_KINDS.flatMap(({ kind }) =>
      CA_ALGORITHMS.map(async ({ ca, option }) => ({
        line: await signCertificate({
          ca: ring.ca[ca].path,
          publicKey: ring.host[kind].line,
          principals: ['web1.example.com', 'web1'],
          options: ['extension:note@example.com=x'],
          ...(option === undefined ? {} : { algorithm: option }),
        }),
        wanted: { hostKey: ring.host[kind].key, trustedCas: null, wantedPrincipals: null },
      })),
    ),
  )
  const files = (await readdir(CORPUS)).sort()
  const texts = await Promise.all(files.map((file) => readFile(join(CORPUS, file), 'utf8')))
  corpus = [...texts.map((text) => text.trimEnd()), ...samples.map(({ line }) => line)]
})
afterAll(() => ring[Symbol.asyncDispose]())

/** Compare our reading of these lines with ssh-keygen's. */
async function compare(lines: readonly string[]): Promise<{ accepted: number; wrong: string[] }> {
  const listed = await listings(lines)
  const wrong: string[] = []
  let accepted = 0
  for (const [index, line] of lines.entries()) {
    const parsed = tryParse(line)
    if (!parsed.ok && parsed.failure.code !== 'CERT_UNPARSABLE') wrong.push(parsed.failure.code)
    if (!parsed.ok || !isSignatureValid(parsed.certificate)) continue
    accepted += 1
    const differs = difference(parsed.certificate, listed[index] ?? null)
    if (differs !== null) wrong.push(`${line}: ${differs}`)
  }
  return { accepted, wrong }
}

/** What may mean something in a line. */
const WORDS = [
  ' ',
  '\t',
  '=',
  '==',
  '\r',
  '\f',
  '#',
  '"',
  '\0',
  '\u{FEFF}',
  '\u{A0}',
  'AA',
  'ssh-rsa',
  '-cert-v01@openssh.com',
]

/** Fields of a certificate, odd in any way that the wire format allows, and some that it does not. */
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 4 }),
  fc.constantFrom('', 'a\0b', '\u{FEFF}', 'WEB1', '*'),
)
const bytes = fc.uint8Array({ maxLength: 12 }).map((data) => Buffer.from(data))
const time = fc
  .oneof(
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: 0n, max: LAST_YEAR }),
    fc.constantFrom(0n, 1n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 63n - 1n, 2n ** 63n, FOREVER - 1n, FOREVER),
  )
  .map(uint64)
const word = fc.oneof(
  { arbitrary: text.map(sshString), weight: 12 },
  { arbitrary: bytes.map(sshString), weight: 1 },
)
const list = fc.array(word, { maxLength: 4 }).map((items) => sshString(Buffer.concat(items)))
/** Those that OpenSSH defines, with data as it defines it: at other data `ssh-keygen -L` ends while it prints. */
const KNOWN_OPTIONS: readonly [Buffer, Buffer][] = [
  [sshString('force-command'), sshString(sshString('/bin/true'))],
  [sshString('source-address'), sshString(sshString('192.0.2.0/24'))],
  [sshString('permit-pty'), sshString('')],
]
const options = fc
  .array(
    fc.oneof(
      fc.constantFrom(...KNOWN_OPTIONS),
      fc.tuple(word, fc.oneof(fc.constant(sshString('')), word.map(sshString), bytes.map(sshString))),
    ),
    { maxLength: 3 },
  )
  .map((items) => sshString(Buffer.concat(items.flat())))
/** One in 16 is arbitrary bytes instead. */
const spoilt = <T extends Buffer>(good: fc.Arbitrary<T>): fc.Arbitrary<Buffer> =>
  fc.oneof({ arbitrary: good, weight: 15 }, { arbitrary: bytes.map(sshString), weight: 1 })
const fields: fc.Arbitrary<Partial<CertificateFields>> = fc.record(
  {
    nonce: bytes.map(sshString),
    serial: time,
    kind: fc.oneof(fc.constantFrom(1, 2).map(uint32), fc.nat(4).map(uint32)),
    keyId: spoilt(word),
    principals: spoilt(list),
    validAfter: time,
    validBefore: time,
    criticalOptions: spoilt(options),
    extensions: spoilt(options),
    reserved: spoilt(bytes.map(sshString)),
  },
  { requiredKeys: [] },
)

/** Compare the cases of every seed with `ssh-keygen -L`, and report the row. */
async function compareAll(
  what: string,
  casesOf: (seed: number) => readonly string[],
): Promise<{ readonly tried: number; readonly accepted: number }> {
  const wrong: string[] = []
  let [tried, accepted] = [0, 0]
  for (const seed of SEEDS) {
    const cases = casesOf(seed)
    const got = await compare(cases)
    wrong.push(...got.wrong)
    tried += cases.length
    accepted += got.accepted
  }
  await report({
    part: PART,
    fault: `${what}, compared with \`ssh-keygen -L\``,
    tried,
    lost: 0,
    wrong: wrong.length,
    recoveredSeconds: null,
    remark: `${accepted} accepted by both, with the same content`,
  })
  expect(wrong.slice(0, 5)).toEqual([])
  return { tried, accepted }
}

test('certificates with odd fields and a good signature', async () => {
  const ca = craftKey()
  const keys = [craftKey(), craftEcdsaKey(256), craftEcdsaKey(384)]
  const { tried, accepted } = await compareAll('odd fields under a good signature', (seed) =>
    fc
      .sample(fields, { numRuns: CASES, seed })
      .map((changed, index) => craftCertificate(keys[index % keys.length] ?? ca, ca, changed)),
  )
  expect(accepted).toBeGreaterThan(tried / 10)
})

test('mutated certificates, bytes and lines', async () => {
  const { accepted } = await compareAll('mutated bytes and lines', (seed) => {
    const dice = new Dice(seed)
    const blobs = corpus.map(blobOf)
    const lines = corpus.map((line) => Buffer.from(line))
    return Array.from({ length: CASES }, () => {
      const index = dice.below(corpus.length)
      const [type = '', base64 = ''] = (corpus[index] ?? '').split(' ')
      const odd = (): string => (dice.below(3) === 0 ? dice.pick(WORDS) : '')
      switch (dice.below(3)) {
        case 0:
          return `${type} ${mutate(blobs[index] ?? Buffer.of(), dice, blobs).toString('base64')}`
        case 1:
          return mutate(lines[index] ?? Buffer.of(), dice, lines, WORDS).toString()
        default:
          return `${odd()}${type}${odd()} ${odd()}${base64}${odd()} ${odd()}comment${odd()}`
      }
    }).filter((line) => !line.includes('\n'))
  })
  expect(accepted).toBeGreaterThan(0)
})

test('verification of what the issuer sends: no exception, no changed byte accepted', async () => {
  const wrong: string[] = []
  let tried = 0
  const verify = (line: string, { wanted }: Sample): boolean | string => {
    tried += 1
    try {
      const result = verifyIssued(line, wanted, null, '', NOW)
      return result.ok || result.failure.code
    } catch (error) {
      return `threw ${String(error)}`
    }
  }
  // RSA with SHA-1 is refused whatever else it is.
  const acceptable = samples.filter((sample) => verify(sample.line, sample) === true)
  expect(acceptable).toHaveLength(30)
  for (const sample of acceptable) {
    const blob = blobOf(sample.line)
    for (let at = 0; at < blob.length; at += isWhole ? 1 : 3) {
      const changes = isWhole ? [1, 2, 4, 8, 16, 32, 64, 128, 255] : [1 << (at % 8)]
      for (const change of changes) {
        const changed = Buffer.from(blob)
        changed[at] = (changed[at] ?? 0) ^ change
        const got = verify(`${sample.line.split(' ')[0]} ${changed.toString('base64')}`, sample)
        if (!String(got).startsWith('CERT_')) wrong.push(`byte ${at} ^ ${change}: ${got}`)
      }
    }
  }
  for (const seed of SEEDS) {
    const dice = new Dice(seed + 1000)
    const lines = corpus.map((line) => Buffer.from(line))
    for (let count = 0; count < CASES; count++) {
      const sample = dice.pick(acceptable)
      const line = mutate(
        dice.below(4) === 0 ? dice.bytes(dice.below(200)) : Buffer.from(sample.line),
        dice,
        lines,
      )
      const got = verify(line.toString(), sample)
      const isSame = got === true && isTheSame(line.toString(), sample)
      if (!isSame && !String(got).startsWith('CERT_'))
        wrong.push(`${JSON.stringify(line.toString())}: ${got}`)
    }
  }
  await report({
    part: PART,
    fault: 'a byte of 30 signed certificates changed, or mutated lines',
    tried,
    lost: 0,
    wrong: wrong.length,
    recoveredSeconds: null,
  })
  expect(wrong.slice(0, 5)).toEqual([])
})

/** Whether a mutation left the certificate itself as it was: its comment may be anything. */
function isTheSame(line: string, { line: original }: Sample): boolean {
  const parsed = tryParse(line)
  return parsed.ok && parsed.certificate.blob.equals(blobOf(original))
}
