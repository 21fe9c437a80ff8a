import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { outlineOf, certificateTypeOf, plainTypeOf } from '../../agent/cert/certificate-types.ts'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { FOREVER } from '../../agent/cert/time.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { blobOf, sshString, uint32, uint64 } from './craft.ts'
import { KEY_KINDS, makeKeyRing, type KeyRing } from './key-ring.ts'

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
