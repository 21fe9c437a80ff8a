import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { inspectFiles } from '../../agent/cli/inspect.ts'
import { CA_ALGORITHMS, KEY_KINDS, makeKeyRing, type KeyRing } from '../cert/key-ring.ts'
import { comparable, readListing } from '../support/inspect-listing.ts'
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
