import * as fc from 'fast-check'
import { describe, expect, test, afterAll, beforeAll } from 'vitest'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { FOREVER } from '../../agent/cert/time.ts'
import { WireError, WireReader, outlineOf, certificateTypeOf, plainTypeOf } from '../../agent/cert/wire.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { sshString, uint32, uint64, blobOf } from './craft.ts'
import { KEY_KINDS, makeKeyRing, type KeyRing } from './key-ring.ts'

const reader = (hex: string): WireReader => new WireReader(Buffer.from(hex, 'hex'))

test('reads back whatever was written', () => {
  const part = fc.oneof(
    fc.nat(0xffff_ffff).map((value) => ({ kind: 'uint32' as const, value })),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => ({ kind: 'uint64' as const, value })),
    fc.uint8Array().map((value) => ({ kind: 'string' as const, value: Buffer.from(value) })),
    fc.string({ unit: 'grapheme' }).map((value) => ({ kind: 'text' as const, value })),
  )
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      const bytes = parts.map((one) => {
        switch (one.kind) {
          case 'uint32':
            return uint32(one.value)
          case 'uint64':
            return uint64(one.value)
          case 'string':
          case 'text':
            return sshString(one.value)
        }
      })
      const back = new WireReader(Buffer.concat(bytes))
      expect(parts.map((one) => back[one.kind]())).toEqual(parts.map((one) => one.value))
      expect(back.atEnd()).toBe(true)
      back.end('it')
    }),
  )
})

test('a part of a larger buffer is read as that part', () => {
  const bytes = Uint8Array.from([9, 9, 0, 0, 0, 1, 65, 9])
  const inner = new WireReader(bytes.subarray(2, 7))
  expect(inner.text()).toBe('A')
  expect(inner.atEnd()).toBe(true)
})

describe('what ends early', () => {
  test.each([
    { name: 'nothing', read: () => reader('').uint32() },
    { name: 'three bytes of four', read: () => reader('000000').uint32() },
    { name: 'seven of eight', read: () => reader('00000000000000').uint64() },
    { name: 'a string without its end', read: () => reader('0000000241').string() },
    { name: 'a length of 4 GB', read: () => reader('ffffffff41').string() },
    { name: 'a length of 2 GB', read: () => reader('8000000041').string() },
  ])('$name', ({ read }) => {
    expect(read).toThrow(new WireError('the data ends early'))
  })
})

test('what goes on too long is told in bytes', () => {
  expect(() => reader('000102').end('the key')).toThrow(new WireError('3 bytes after the end of the key'))
})

test.each([
  { name: 'overlong', hex: '00000002c080' },
  { name: 'cut short', hex: '00000001c3' },
  { name: 'a surrogate', hex: '00000003eda080' },
  { name: 'no start', hex: '0000000180' },
])('a text that is not UTF-8: $name', ({ hex }) => {
  expect(() => reader(hex).text()).toThrow('not UTF-8')
})

test.each([
  { hex: '00000000', want: '' },
  { hex: '0000000101', want: '01' },
  { hex: '000000017f', want: '7f' },
  { hex: '000000020080', want: '0080' },
])('mpint $hex', ({ hex, want }) => {
  expect(reader(hex).positiveMpint().toString('hex')).toBe(want)
})

test.each([
  { hex: '0000000180', says: 'negative' },
  { hex: '00000002ff01', says: 'negative' },
  { hex: '0000000100', says: 'leading zeros' },
  { hex: '000000020001', says: 'leading zeros' },
  { hex: '00000003000080', says: 'leading zeros' },
])('mpint $hex is refused', ({ hex, says }) => {
  expect(() => reader(hex).positiveMpint()).toThrow(says)
})

/** PROTOCOL.certkeys and PROTOCOL.u2f, written out a second time: what makes up a key of each type. */
const TYPES: readonly { type: string; certificateType: string; key: readonly string[] }[] = [
  { type: 'ssh-ed25519', certificateType: 'ssh-ed25519-cert-v01@openssh.com', key: ['pk'] },
  { type: 'ssh-rsa', certificateType: 'ssh-rsa-cert-v01@openssh.com', key: ['e', 'n'] },
  { type: 'ssh-dss', certificateType: 'ssh-dss-cert-v01@openssh.com', key: ['p', 'q', 'g', 'y'] },
  ...[256, 384, 521].map((bits) => ({
    type: `ecdsa-sha2-nistp${bits}`,
    certificateType: `ecdsa-sha2-nistp${bits}-cert-v01@openssh.com`,
    key: ['curve', 'Q'],
  })),
  {
    type: 'sk-ssh-ed25519@openssh.com',
    certificateType: 'sk-ssh-ed25519-cert-v01@openssh.com',
    key: ['pk', 'application'],
  },
  {
    type: 'sk-ecdsa-sha2-nistp256@openssh.com',
    certificateType: 'sk-ecdsa-sha2-nistp256-cert-v01@openssh.com',
    key: ['curve', 'Q', 'application'],
  },
  { type: 'ssh-mldsa44-ed25519', certificateType: 'ssh-mldsa44-ed25519-cert', key: ['pk'] },
  {
    type: 'ssh-mldsa44-ed25519@openssh.com',
    certificateType: 'ssh-mldsa44-ed25519-cert-v01@openssh.com',
    key: ['pk'],
  },
]

describe('types', () => {
  test.each(TYPES)('$type is certified by $certificateType', ({ type, certificateType }) => {
    expect([certificateTypeOf(type), plainTypeOf(certificateType)]).toEqual([certificateType, type])
  })

  test.each([
    'ssh-new',
    'ssh-new-cert-v01@openssh.com',
    'rsa-sha2-512',
    'rsa-sha2-512-cert-v01@openssh.com',
    'constructor',
    '',
  ])('%j neither certifies nor is certified', (type) => {
    expect([certificateTypeOf(type), plainTypeOf(type)]).toEqual([null, null])
  })

  test('a key is no certificate, and a certificate is not certified', () => {
    for (const { type, certificateType } of TYPES)
      expect([plainTypeOf(type), certificateTypeOf(certificateType)]).toEqual([null, null])
  })
})

const anyString = fc.uint8Array({ maxLength: 40 }).map((bytes) => sshString(Buffer.from(bytes)))
const anyUint64 = fc.bigInt({ min: 0n, max: FOREVER })

/** A certificate of any of the types, with anything in it. */
const anyCertificate = fc
  .record({
    type: fc.constantFrom(...TYPES),
    strings: fc.array(anyString, { minLength: 8, maxLength: 8 }),
    serial: anyUint64,
    validBefore: anyUint64,
    rest: fc.uint8Array({ maxLength: 40 }),
  })
  .map(({ type, strings: [nonce, keyId, principals, ...key], serial, validBefore, rest }) => {
    const parts = key.slice(0, type.key.length)
    const outline = Buffer.concat([
      sshString(type.certificateType),
      nonce!,
      ...parts,
      uint64(serial),
      uint32(2),
      keyId!,
      principals!,
      uint64(0n),
      uint64(validBefore),
    ])
    const keyBlob = Buffer.concat([sshString(type.type), ...parts])
    return { outline, rest: Buffer.from(rest), want: { keyBlob, serial, validBefore } }
  })

describe('the outline', () => {
  test('of a certificate of any type tells key, serial and end, whatever is in it and follows', () => {
    fc.assert(
      fc.property(anyCertificate, ({ outline, rest, want }) => {
        expect(outlineOf(Buffer.concat([outline, rest]))).toEqual(want)
      }),
    )
  })

  test('of one that is cut off before its end is none', () => {
    fc.assert(
      fc.property(
        anyCertificate,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (one, share) => {
          expect(outlineOf(one.outline.subarray(0, Math.floor(one.outline.length * share)))).toBeNull()
        },
      ),
    )
  })

  test('of a type that we do not know is none, however it is laid out', () => {
    const rest = [sshString('nonce'), sshString('key'), uint64(1n), uint32(2), sshString('id'), sshString('')]
    for (const type of ['ssh-new-cert-v01@openssh.com', 'ssh-ed25519', '']) {
      for (const skipped of [0, 1])
        expect(
          outlineOf(Buffer.concat([sshString(type), ...rest.toSpliced(1, skipped), uint64(0n), uint64(5n)])),
        ).toBeNull()
    }
  })

  test('of a plain key, or of what is no certificate, is none', () => {
    for (const { type, key } of TYPES)
      expect(outlineOf(Buffer.concat([sshString(type), ...key.map(sshString)]))).toBeNull()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(outlineOf(Buffer.from(bytes))).toBeNull()
      }),
    )
  })
})

describe('what ssh-keygen signs', () => {
  let ring: KeyRing
  beforeAll(async () => {
    ring = await makeKeyRing()
  })
  afterAll(() => ring[Symbol.asyncDispose]())

  test.each(KEY_KINDS)('$kind: the outline says what the parser says', async ({ kind }) => {
    const line = await signCertificate({
      ca: ring.ca.ed25519.path,
      publicKey: ring.host[kind].line,
      principals: ['web1.example.com'],
      serial: 2n ** 64n - 2n,
      validity: '0x5:0x99',
    })
    const { publicKey, serial, validBefore } = parseCertificate(line)
    expect(outlineOf(blobOf(line))).toEqual({ keyBlob: publicKey.blob, serial, validBefore })
    expect([publicKey.blob, serial, validBefore]).toEqual([ring.host[kind].key.blob, 2n ** 64n - 2n, 0x99n])
  })
})
