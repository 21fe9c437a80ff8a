import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { verifyIssued, type CertificateRequirements } from '../../agent/cert/verify-issued.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { blobOf, lineOf } from './craft.ts'
import { CA_ALGORITHMS, KEY_KINDS, makeKeyRing, type KeyRing } from './key-ring.ts'

const NOW = 1_795_438_800

interface Sample {
  readonly name: string
  readonly type: string
  readonly blob: Buffer
  readonly wanted: CertificateRequirements
}

let ring: KeyRing
let samples: Sample[]
beforeAll(async () => {
  ring = await makeKeyRing()
  const combinations = KEY_KINDS.flatMap(({ kind }) =>
    CA_ALGORITHMS.filter(({ algorithm }) => algorithm !== 'ssh-rsa').map(({ ca, algorithm, option }) => ({
      kind,
      ca,
      algorithm,
      option,
    })),
  )
  samples = await Promise.all(
    combinations.map(async ({ kind, ca, algorithm, option }) => {
      const line = await signCertificate({
        ca: ring.ca[ca].path,
        publicKey: ring.host[kind].line,
        principals: ['web1.example.com', 'web1'],
        options: ['extension:note@example.com=x'],
        ...(option === undefined ? {} : { algorithm: option }),
      })
      return {
        name: `${kind} by ${algorithm}`,
        type: line.split(' ')[0] ?? '',
        blob: blobOf(line),
        // As lenient as can be, so that nothing but the reading and the signature stands in the way.
        wanted: { hostKey: ring.host[kind].key, trustedCas: null, wantedPrincipals: null },
      }
    }),
  )
})
afterAll(() => ring[Symbol.asyncDispose]())

function passes({ type, wanted }: Sample, blob: Buffer): boolean {
  return verifyIssued(`${type} ${blob.toString('base64')}`, wanted, null, '', NOW).ok
}

function sampleOf(name: string): Sample {
  const sample = samples.find((one) => one.name === name)
  if (sample === undefined) throw new Error(`no sample ${name}`)
  return sample
}

test('undamaged, all pass', () => {
  expect(samples).toHaveLength(30)
  expect(samples.filter((sample) => !passes(sample, sample.blob))).toEqual([])
})

test.each(['ed25519 by ssh-ed25519', 'ed25519 by ecdsa-sha2-nistp256', 'ecdsa by ecdsa-sha2-nistp384'])(
  'each byte changed, %s',
  (name) => {
    const sample = sampleOf(name)
    const passed: string[] = []
    for (const [at, byte] of sample.blob.entries()) {
      for (const change of [0x01, 0x80, 0xff]) {
        const damaged = Buffer.from(sample.blob)
        damaged[at] = byte ^ change
        if (passes(sample, damaged)) passed.push(`byte ${at} ^ ${change}`)
      }
    }
    expect(passed).toEqual([])
  },
)

/** One way of spoiling bytes; positions are shares of the length. */
const position = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const bytes = fc.uint8Array({ minLength: 1, maxLength: 12 })
const damage = fc.oneof(
  fc.record({ kind: fc.constant('bit'), at: position, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('overwrite'), at: position, bytes }),
  fc.record({ kind: fc.constant('insert'), at: position, bytes }),
  fc.record({ kind: fc.constant('delete'), at: position, count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('truncate'), at: position }),
  fc.record({ kind: fc.constant('append'), bytes }),
  fc.record({
    kind: fc.constant('swap'),
    at: position,
    with: position,
    count: fc.integer({ min: 1, max: 64 }),
  }),
  fc.record({ kind: fc.constant('reframe'), at: position, by: fc.integer({ min: -8, max: 8 }) }),
  fc.record({ kind: fc.constant('length'), at: position, value: fc.nat(0xffff_ffff) }),
)
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never

function spoil(blob: Buffer, how: Damage): Buffer {
  const offset = (share: number): number => Math.floor(share * blob.length)
  switch (how.kind) {
    case 'bit':
      return replaced(blob, offset(how.at), 1, [(blob[offset(how.at)] ?? 0) ^ (1 << how.bit)])
    case 'overwrite':
      return replaced(blob, offset(how.at), how.bytes.length, how.bytes)
    case 'insert':
      return replaced(blob, offset(how.at), 0, how.bytes)
    case 'delete':
      return replaced(blob, offset(how.at), how.count, [])
    case 'truncate':
      return blob.subarray(0, offset(how.at))
    case 'append':
      return Buffer.concat([blob, how.bytes])
    case 'swap':
      return swapped(blob, offset(how.at), offset(how.with), how.count)
    case 'reframe':
      return reframed(blob, how.at, how.by)
    case 'length':
      return blob.length < 4 ? blob : withLength(blob, lengthAt(blob, how.at), how.value)
  }
}

function replaced(blob: Buffer, at: number, count: number, by: Iterable<number>): Buffer {
  return Buffer.concat([blob.subarray(0, at), Buffer.from([...by]), blob.subarray(at + count)])
}

function swapped(blob: Buffer, one: number, other: number, count: number): Buffer {
  const [first, second] = one < other ? [one, other] : [other, one]
  const size = Math.min(count, second - first, blob.length - second)
  return Buffer.concat([
    blob.subarray(0, first),
    blob.subarray(second, second + size),
    blob.subarray(first + size, second),
    blob.subarray(first, first + size),
    blob.subarray(second + size),
  ])
}

/** Where something that looks like the length of a string stands: small, and within the bytes. */
function lengthAt(blob: Buffer, share: number): number {
  const places = [...blob.keys()].filter(
    (at) => at + 4 <= blob.length && blob.readUInt32BE(at) <= blob.length - at - 4,
  )
  return places[Math.floor(share * places.length)] ?? 0
}

/** Moves the border between a string and what follows it, all bytes else staying where they are. */
function reframed(blob: Buffer, share: number, by: number): Buffer {
  if (blob.length < 4) return blob
  const at = lengthAt(blob, share)
  return withLength(blob, at, Math.max(0, blob.readUInt32BE(at) + by) % 2 ** 32)
}

function withLength(blob: Buffer, at: number, value: number): Buffer {
  const changed = Buffer.from(blob)
  changed.writeUInt32BE(value, at)
  return changed
}

test('no damaged certificate passes, whatever was done to it', () => {
  const counts = { damaged: 0, same: 0 }
  fc.assert(
    fc.property(fc.nat(29), fc.array(damage, { minLength: 1, maxLength: 3 }), (index, damages) => {
      const sample = samples[index] ?? sampleOf('')
      let blob = sample.blob
      for (const how of damages) blob = spoil(blob, how)
      const same = blob.equals(sample.blob)
      counts[same ? 'same' : 'damaged'] += 1
      expect(passes(sample, blob)).toBe(same)
    }),
    { numRuns: 6000 },
  )
  expect(counts.damaged).toBeGreaterThan(5000)
})

test('the certificate of one, the signature of another', () => {
  const passed: string[] = []
  for (const one of samples) {
    for (const other of samples) {
      if (one === other) continue
      const end = other.blob.length - signatureLength(other.blob)
      const mixed = Buffer.concat([
        one.blob.subarray(0, one.blob.length - signatureLength(one.blob)),
        other.blob.subarray(end),
      ])
      if (passes(one, mixed)) passed.push(`${one.name}, ${other.name}`)
    }
  }
  expect(passed).toEqual([])
})

test.each([
  { name: 'ed25519 by ssh-ed25519', fields: 1 },
  { name: 'ed25519 by ecdsa-sha2-nistp256', fields: 1 },
  { name: 'ed25519 by ecdsa-sha2-nistp256', fields: 2 },
  { name: 'ed25519 by rsa-sha2-512', fields: 2 },
])(
  'bytes put at the end of the signature, $fields frames lengthened to hold them, $name',
  ({ name, fields }) => {
    const sample = sampleOf(name)
    const start = sample.blob.length - signatureLength(sample.blob)
    const blob = Buffer.concat([sample.blob, Buffer.alloc(4)])
    blob.writeUInt32BE(blob.readUInt32BE(start) + 4, start)
    const body = start + 8 + blob.readUInt32BE(start + 4)
    if (fields === 2) blob.writeUInt32BE(blob.readUInt32BE(body) + 4, body)
    expect(passes(sample, blob)).toBe(false)
  },
)

test('text put into the line: what passes is the certificate to the bit', () => {
  const changed: string[] = []
  fc.assert(
    fc.property(fc.nat(29), position, fc.string({ minLength: 1, maxLength: 4 }), (index, share, text) => {
      const sample = samples[index] ?? sampleOf('')
      const line = lineOf(sample.blob)
      const at = Math.floor(share * line.length)
      const spoilt = line.slice(0, at) + text + line.slice(at)
      const result = verifyIssued(spoilt, sample.wanted, null, '', NOW)
      // Blanks may stand around the fields.
      if (result.ok && !result.value.certificate.blob.equals(sample.blob)) changed.push(spoilt)
    }),
    { numRuns: 1000 },
  )
  expect(changed).toEqual([])
})

/** Of the last field, its length included: the place from which one string reaches exactly to the end. */
function signatureLength(blob: Buffer): number {
  // The signature names its algorithm first, so its framing cannot be mistaken for another.
  for (let length = 8; length < blob.length; length++) {
    const at = blob.length - length
    if (blob.readUInt32BE(at) === length - 4 && blob.readUInt32BE(at + 4) < 30) return length
  }
  throw new Error('no signature found')
}
