import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { inspectFiles, type InspectedCertificate } from '../../agent/cli/inspect.ts'
import { CA_ALGORITHMS, KEY_KINDS, makeKeyRing, type KeyRing } from '../cert/key-ring.ts'
import { listCertificate, signCertificate, type SignOptions } from '../support/ssh-keygen.ts'

/** For each of the 35 combinations of key, CA and algorithm. */
const SAMPLES = 6
/** ssh-keygen takes 5 ms or so: more at once than there are processors gains nothing. */
const AT_ONCE = 4

let ring: KeyRing
beforeAll(async () => {
  ring = await makeKeyRing()
})
afterAll(() => ring[Symbol.asyncDispose]())

/** No comma, which ssh-keygen splits at; no control, no blank at the ends. */
const word = fc
  .string({
    unit: fc.constantFrom(...Array.from('abcXYZ019.-_*:@/"\'$()[]{}#% äß鍵🔑')),
    minLength: 1,
    maxLength: 30,
  })
  .filter((text) => text.trim() === text)
const moment = fc.oneof(fc.integer({ min: 1, max: 253_402_300_799 }), fc.integer({ min: 1, max: 2 ** 32 }))
const hex = (seconds: number): string => `0x${seconds.toString(16)}`
const validity = fc.oneof(
  fc.constant('always:forever'),
  moment.map((after) => `${hex(after)}:forever`),
  moment.map((before) => `always:${hex(before)}`),
  fc
    .tuple(moment, moment)
    .filter(([one, other]) => one !== other)
    .map(([one, other]) => `${hex(Math.min(one, other))}:${hex(Math.max(one, other))}`),
)
const hostOptions = fc.subarray([
  'extension:note@example.com=some words',
  'extension:flag@example.com',
  'critical:odd@example.com=ü',
])
const userOptions = fc
  .subarray([
    'force-command=/bin/echo "hi there" | cat',
    'source-address=10.0.0.0/8,192.0.2.1/32',
    'verify-required',
    'no-pty',
    'no-x11-forwarding',
    'no-agent-forwarding',
    'extension:login@example.com=someone',
  ])
  .chain((some) => fc.boolean().map((clear) => (clear ? ['clear'].concat(some) : some)))

const common = {
  keyId: word,
  principals: fc.array(word, { maxLength: 5 }),
  validity,
  serial: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
}
const wish: fc.Arbitrary<Omit<SignOptions, 'ca' | 'publicKey'>> = fc.oneof(
  fc.record({ ...common, kind: fc.constant('host'), options: hostOptions }),
  fc.record({ ...common, kind: fc.constant('user'), options: userOptions }),
)

test(`agrees with ssh-keygen -L on ${35 * SAMPLES} certificates`, { timeout: 180_000 }, async () => {
  const combinations = KEY_KINDS.flatMap(({ kind }) => CA_ALGORITHMS.map((ca) => ({ kind, ca })))
  // The seed is fixed: it stands for breadth, and a failure must be there again the next time.
  const wishes = fc.sample(wish, { numRuns: combinations.length * SAMPLES, seed: 20_261_123 })
  const worker = async (first: number): Promise<void> => {
    for (let index = first; index < wishes.length; index += AT_ONCE) {
      const [one, { kind, ca }] = [wishes[index]!, combinations[index % combinations.length]!]
      const file = join(ring.folder, `${index}-cert.pub`)
      const algorithm = ca.option === undefined ? {} : { algorithm: ca.option }
      const keys = { ca: ring.ca[ca.ca].path, publicKey: ring.host[kind].line }
      await writeFile(file, `${await signCertificate({ ...keys, ...algorithm, ...one })}\n`)
      const [entry] = await inspectFiles([file])
      if (entry === undefined || 'error' in entry) throw new Error(JSON.stringify(entry))
      expect(comparable(entry)).toEqual(readListing(await listCertificate(file)))
      expect(entry).toMatchObject({ signature_valid: true, key_id: one.keyId, serial: String(one.serial) })
      expect(entry.principals).toEqual(one.principals)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, (_, first) => worker(first)))
})

/** All that `ssh-keygen -L` prints. */
interface Listing {
  readonly type: string
  readonly key: string
  readonly ca: string
  readonly keyId: string
  readonly serial: string
  readonly valid: string
  readonly principals: readonly string[]
  readonly critical: readonly string[]
  readonly extensions: readonly string[]
}

function readListing(text: string): Listing {
  const one = (label: string): string => new RegExp(`^        ${label}: (.*)$`, 'm').exec(text)?.[1] ?? '?'
  const many = (label: string): string[] => {
    const block =
      new RegExp(`^        ${label}: (?:\\(none\\))?\n((?: {16}.*\n)*)`, 'm').exec(text)?.[1] ?? '?'
    return block
      .split('\n')
      .slice(0, -1)
      .map((line) => line.slice(16))
  }
  return {
    type: one('Type'),
    key: one('Public key'),
    ca: one('Signing CA'),
    keyId: one('Key ID'),
    serial: one('Serial'),
    valid: one('Valid'),
    principals: many('Principals'),
    critical: many('Critical Options').map(plainOption),
    extensions: many('Extensions').map(plainOption),
  }
}

/** OpenSSH prints the raw data of options that it does not know: a length and a text. */
function plainOption(line: string): string {
  const unknown = /^(\S+) UNKNOWN OPTION: ([0-9a-f]+) \(len \d+\)$/.exec(line)
  if (unknown !== null)
    return `${unknown[1]} ${Buffer.from(unknown[2] ?? '', 'hex')
      .subarray(4)
      .toString()}`
  return line.replace(/ UNKNOWN FLAG OPTION$/, '')
}

/** An entry in the words of `ssh-keygen -L`. */
function comparable(entry: InspectedCertificate): Listing {
  const family = (type: string): string =>
    type.startsWith('ecdsa') ? 'ECDSA' : type.slice('ssh-'.length).toUpperCase()
  const options = (all: Readonly<Record<string, string>>): string[] =>
    Object.entries(all).map(([name, value]) => (value === '' ? name : `${name} ${value}`))
  return {
    type: `${entry.key_type}-cert-v01@openssh.com ${entry.type} certificate`,
    key: `${family(entry.key_type)}-CERT ${entry.public_key_fingerprint}`,
    ca: `${family(entry.ca_key_type)} ${entry.ca_fingerprint} (using ${entry.signature_algorithm})`,
    keyId: `"${entry.key_id}"`,
    serial: entry.serial,
    valid: validText(entry),
    principals: entry.principals,
    critical: options(entry.critical_options),
    extensions: options(entry.extensions),
  }
}

function validText({ valid_after, valid_before }: InspectedCertificate): string {
  const from = valid_after === '1970-01-01T00:00:00Z' ? null : (valid_after?.replace('Z', '') ?? 'never')
  const to = valid_before?.replace('Z', '') ?? null
  if (from === null) return to === null ? 'forever' : `before ${to}`
  return to === null ? `after ${from}` : `from ${from} to ${to}`
}
