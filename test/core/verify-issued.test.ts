import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/core/errors.ts'
import { parseCertificate, type Certificate } from '../../agent/core/host-certificate.ts'
import {
  findFlaw,
  tryParse,
  verifyIssued,
  type CertificateRequirements,
  type VerifiedCertificate,
} from '../../agent/core/verify-issued.ts'
import { signCertificate, type SignOptions } from '../support/ssh-keygen.ts'
import { blobOf, craftCertificate, craftKey, lineOf, optionList, stringList, uint64 } from './craft.ts'
import { CA_ALGORITHMS, KEY_KINDS, keyIn, makeKeyRing, type KeyRing } from './key-ring.ts'

/** 2026-11-23T13:00:00Z; certificates are signed with absolute times, so nothing here depends on the clock. */
const NOW = 1_795_438_800
const NAME = 'web1.example.com'

let ring: KeyRing
beforeAll(async () => {
  ring = await makeKeyRing()
})
afterAll(() => ring[Symbol.asyncDispose]())

function span(after: number, before: number | 'forever'): string {
  const hex = (offset: number): string => `0x${(NOW + offset).toString(16)}`
  return `${hex(after)}:${before === 'forever' ? before : hex(before)}`
}

/** A good certificate for the ed25519 host key, but for what is wished otherwise. */
function issue(wish: Partial<SignOptions> = {}): Promise<string> {
  return signCertificate({
    ca: ring.ca.ed25519.path,
    publicKey: ring.host.ed25519.line,
    principals: [NAME],
    validity: span(-59, 3600),
    serial: 41n,
    ...wish,
  })
}

function requirements(changed: Partial<CertificateRequirements> = {}): CertificateRequirements {
  return {
    hostKey: ring.host.ed25519.key,
    trustedCas: [ring.ca.ed25519.key],
    wantedPrincipals: [NAME],
    ...changed,
  }
}

function codeOf(
  line: string,
  wanted: CertificateRequirements = requirements(),
  inPlace: Certificate | null = null,
): ErrorCode | 'ok' {
  const result = verifyIssued(line, wanted, inPlace, 'root@web1', NOW)
  return result.ok ? 'ok' : result.failure.code
}

function accepted(
  line: string,
  inPlace: Certificate | null = null,
  wanted: CertificateRequirements = requirements(),
): VerifiedCertificate {
  const result = verifyIssued(line, wanted, inPlace, 'root@web1', NOW)
  if (!result.ok) throw new Error(`refused: ${result.failure.code} ${result.failure.message}`)
  return result.value
}

describe('a good certificate', () => {
  test('is accepted, with the comment of the host key in its line', async () => {
    const line = await issue()
    const value = accepted(`${line}\n`)
    expect(value.line).toBe(`${line.split(' ', 2).join(' ')} root@web1`)
    expect(value.warnings).toEqual([])
    expect(value.certificate).toEqual(parseCertificate(line))
  })

  for (const { kind } of KEY_KINDS) {
    test.each(CA_ALGORITHMS)(`${kind} key, $ca CA, $algorithm`, async ({ ca, algorithm, option }) => {
      const line = await issue({
        ca: ring.ca[ca].path,
        publicKey: ring.host[kind].line,
        ...(option === undefined ? {} : { algorithm: option }),
      })
      const wanted = requirements({ hostKey: ring.host[kind].key, trustedCas: [ring.ca[ca].key] })
      expect(codeOf(line, wanted)).toBe(algorithm === 'ssh-rsa' ? 'CERT_SIGNATURE_ALGORITHM' : 'ok')
    })
  }

  test.each([
    { name: 'forever', wish: { validity: 'always:forever' } },
    { name: 'starts now', wish: { validity: span(0, 60) } },
    { name: 'ends in a second', wish: { validity: span(-3600, 1) } },
    { name: 'more principals than wanted', wish: { principals: ['a', NAME, '*'] } },
    { name: 'extensions', wish: { options: ['extension:note@example.com=x'] } },
    { name: 'the largest serial', wish: { serial: 2n ** 64n - 1n } },
  ])('$name', async ({ wish }) => {
    expect(accepted(await issue(wish)).warnings).toEqual([])
  })

  test('no CA is known yet; any of several CAs; any principals', async () => {
    const line = await issue()
    expect(codeOf(line, requirements({ trustedCas: null }))).toBe('ok')
    expect(codeOf(line, requirements({ trustedCas: [ring.ca.rsa.key, ring.ca.ed25519.key] }))).toBe('ok')
    expect(codeOf(line, requirements({ wantedPrincipals: null }))).toBe('ok')
    expect(codeOf(line, requirements({ wantedPrincipals: [] }))).toBe('ok')
  })
})

describe('every refusal', () => {
  interface Row {
    readonly name: string
    readonly code: ErrorCode
    readonly line: () => Promise<string> | string
    readonly wanted?: () => Partial<CertificateRequirements>
    readonly says?: string
  }
  const rows: readonly Row[] = [
    { name: 'nothing', code: 'CERT_UNPARSABLE', line: () => '' },
    { name: 'the bare public key', code: 'CERT_UNPARSABLE', line: () => ring.host.ed25519.line },
    {
      name: 'two certificates',
      code: 'CERT_UNPARSABLE',
      line: async () => `${await issue()}\n${await issue()}`,
    },
    { name: 'cut in the middle', code: 'CERT_UNPARSABLE', line: async () => (await issue()).slice(0, 300) },
    { name: 'a user certificate', code: 'CERT_NOT_HOST', line: () => issue({ kind: 'user' }) },
    {
      name: 'for another key of the type',
      code: 'CERT_KEY_MISMATCH',
      line: () => issue({ publicKey: ring.ca.ed25519.line }),
    },
    {
      name: 'for a key of another type',
      code: 'CERT_KEY_MISMATCH',
      line: () => issue({ publicKey: ring.host.rsa.line }),
    },
    {
      name: 'a bit of the signature flipped',
      code: 'CERT_SIGNATURE_INVALID',
      line: async () => flipped(await issue(), -1),
    },
    {
      name: 'a bit of the nonce flipped',
      code: 'CERT_SIGNATURE_INVALID',
      line: async () => flipped(await issue(), 4 + 32 + 4),
    },
    {
      name: 'claims to be of the pinned CA, signed by another',
      code: 'CERT_SIGNATURE_INVALID',
      line: async () => withCa(await issue({ ca: ring.host.ed25519.path }), ring.ca.ed25519.key.blob),
    },
    {
      name: 'another CA of the type',
      code: 'CERT_CA_MISMATCH',
      line: () => issue({ ca: ring.host.ed25519.path }),
      says: 'expected SHA256:',
    },
    { name: 'a CA of another type', code: 'CERT_CA_MISMATCH', line: () => issue({ ca: ring.ca.ecdsa.path }) },
    {
      name: 'no CA is trusted',
      code: 'CERT_CA_MISMATCH',
      line: () => issue(),
      wanted: () => ({ trustedCas: [] }),
      says: 'expected none',
    },
    { name: 'no principals', code: 'CERT_NO_PRINCIPALS', line: () => issue({ principals: [] }) },
    {
      name: 'no principals, none wanted',
      code: 'CERT_NO_PRINCIPALS',
      line: () => issue({ principals: [] }),
      wanted: () => ({ wantedPrincipals: null }),
    },
    {
      name: 'another principal',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issue({ principals: ['web2.example.com'] }),
      says: `lacks the principals "${NAME}"; it has "web2.example.com"`,
    },
    {
      name: 'one of two principals',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issue(),
      wanted: () => ({ wantedPrincipals: [NAME, 'alias'] }),
      says: 'lacks the principals "alias"',
    },
    {
      name: 'principals in another case',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issue({ principals: [NAME.toUpperCase()] }),
    },
    { name: 'a star is no name', code: 'CERT_PRINCIPALS_MISMATCH', line: () => issue({ principals: ['*'] }) },
    {
      name: 'an unknown critical option',
      code: 'CERT_CRITICAL_OPTION',
      line: () => issue({ options: ['critical:odd@example.com=1'] }),
      says: '"odd@example.com"',
    },
    {
      name: 'a critical option of user certificates',
      code: 'CERT_CRITICAL_OPTION',
      line: () => issue({ options: ['critical:force-command=id'] }),
    },
    {
      name: 'RSA with SHA-1',
      code: 'CERT_SIGNATURE_ALGORITHM',
      line: () => issue({ ca: ring.ca.rsa.path, algorithm: 'ssh-rsa' }),
      wanted: () => ({ trustedCas: [ring.ca.rsa.key] }),
      says: 'SHA-1',
    },
    {
      name: 'starts in 301 s',
      code: 'CERT_NOT_YET_VALID',
      line: () => issue({ validity: span(301, 3600) }),
      says: '2026-11-23T13:05:01Z',
    },
    { name: 'ended a second ago', code: 'CERT_EXPIRED', line: () => issue({ validity: span(-60, -1) }) },
    {
      name: 'ends now',
      code: 'CERT_EXPIRED',
      line: () => issue({ validity: span(-60, 0) }),
      says: 'at 2026-11-23T13:00:00Z',
    },
    { name: 'ended in 1970', code: 'CERT_EXPIRED', line: () => issue({ validity: 'always:0x1' }) },
  ]
  test.each(rows)('$code: $name', async ({ code, line, wanted, says }) => {
    const signedKey = await line()
    const result = verifyIssued(signedKey, requirements(wanted?.()), null, '', NOW)
    expect(result).toMatchObject({ ok: false, failure: { code } })
    if (result.ok) return
    expect(result.failure.message).toContain(says ?? '')
    expect(result.failure.message).toMatch(/^[a-z].*[^.]$/)
    expect(result.certificate === null).toBe(code === 'CERT_UNPARSABLE')
  })

  test.each([
    { name: 'a lifetime of nothing, in the tolerated future', after: NOW + 10, before: NOW + 10 },
    { name: 'a lifetime that ends before it starts', after: NOW + 20, before: NOW + 10 },
  ])('CERT_EXPIRED: $name', ({ after, before }) => {
    const [key, ca] = [craftKey(), craftKey()]
    const fields = { validAfter: uint64(BigInt(after)), validBefore: uint64(BigInt(before)) }
    const wanted = { hostKey: keyIn(key.line), trustedCas: null, wantedPrincipals: null }
    expect(codeOf(craftCertificate(key, ca, fields), wanted)).toBe('CERT_EXPIRED')
  })

  test('a start at the end of time is CERT_NOT_YET_VALID in plain words', () => {
    const [key, ca] = [craftKey(), craftKey()]
    const line = craftCertificate(key, ca, { validAfter: uint64(2n ** 64n - 1n) })
    const wanted = { hostKey: keyIn(key.line), trustedCas: null, wantedPrincipals: null }
    const result = verifyIssued(line, wanted, null, '', NOW)
    expect(result).toMatchObject({ ok: false, failure: { code: 'CERT_NOT_YET_VALID' } })
    expect(result.ok ? '' : result.failure.message).toContain('only from the end of time')
  })
})

test('the first flaw in the order of the interface decides', async () => {
  // Everything is wrong at once; mending one after the other lets the next one show.
  const [key, ca, other] = [craftKey(), craftKey(), craftKey()]
  const wanted = { hostKey: keyIn(key.line), trustedCas: [keyIn(ca.line)], wantedPrincipals: [NAME] }
  const flaws = {
    kind: Buffer.from([0, 0, 0, 1]),
    principals: stringList([]),
    criticalOptions: optionList({ 'force-command': 'id' }),
    validAfter: uint64(BigInt(NOW + 1000)),
    validBefore: uint64(BigInt(NOW - 1)),
  }
  const { kind: _kind, ...asHost } = flaws
  const named = { ...asHost, principals: stringList(['other']) }
  const { principals: _principals, ...wished } = { ...named }
  const rightName = { ...wished, principals: stringList([NAME]) }
  const { criticalOptions: _critical, ...plain } = rightName
  const { validAfter: _after, ...started } = plain
  const { validBefore: _before, ...good } = started
  const steps: [string, string][] = [
    ['CERT_NOT_HOST', flipped(craftCertificate(other, other, flaws), -1)],
    ['CERT_KEY_MISMATCH', flipped(craftCertificate(other, other, asHost), -1)],
    ['CERT_SIGNATURE_INVALID', flipped(craftCertificate(key, other, asHost), -1)],
    ['CERT_CA_MISMATCH', craftCertificate(key, other, asHost)],
    ['CERT_NO_PRINCIPALS', craftCertificate(key, ca, asHost)],
    ['CERT_PRINCIPALS_MISMATCH', craftCertificate(key, ca, named)],
    ['CERT_CRITICAL_OPTION', craftCertificate(key, ca, rightName)],
    ['CERT_NOT_YET_VALID', craftCertificate(key, ca, plain)],
    ['CERT_EXPIRED', craftCertificate(key, ca, started)],
    ['ok', craftCertificate(key, ca, good)],
  ]
  expect(steps.map(([, line]) => codeOf(line, wanted))).toEqual(steps.map(([code]) => code))
})

test('an algorithm that clients refuse comes after a critical option and before the times', async () => {
  const rsa = { ca: ring.ca.rsa.path, algorithm: 'ssh-rsa', validity: span(-60, -1) }
  const wanted = requirements({ trustedCas: [ring.ca.rsa.key] })
  expect(codeOf(await issue({ ...rsa, options: ['critical:a=b'] }), wanted)).toBe('CERT_CRITICAL_OPTION')
  expect(codeOf(await issue(rsa), wanted)).toBe('CERT_SIGNATURE_ALGORITHM')
})

describe('clocks that differ', () => {
  test.each([
    { start: 1, warns: '1 s in the future' },
    { start: 299, warns: '299 s in the future' },
    { start: 300, warns: '300 s in the future' },
  ])('a start in $start s is accepted with a warning', async ({ start, warns }) => {
    const { warnings } = accepted(await issue({ validity: span(start, 3600) }))
    expect(warnings).toEqual([expect.stringContaining(warns)])
  })
})

describe('beside the certificate in place', () => {
  test('the same bytes are not newer', async () => {
    const line = await issue()
    expect(codeOf(line, requirements(), parseCertificate(line))).toBe('CERT_NOT_NEWER')
    expect(codeOf(`${line} and another comment`, requirements(), parseCertificate(line))).toBe(
      'CERT_NOT_NEWER',
    )
  })

  test('an earlier start is not newer, the same and a later start are', async () => {
    const inPlace = parseCertificate(await issue({ validity: span(-100, 3600) }))
    const starting = (after: number): Promise<string> => issue({ validity: span(after, 7200), serial: 42n })
    expect(codeOf(await starting(-101), requirements(), inPlace)).toBe('CERT_NOT_NEWER')
    expect(codeOf(await starting(-100), requirements(), inPlace)).toBe('ok')
    expect(codeOf(await starting(-99), requirements(), inPlace)).toBe('ok')
  })

  test('a lower serial and the same times are newer: serials need not count upwards', async () => {
    expect(codeOf(await issue({ serial: 40n }), requirements(), parseCertificate(await issue()))).toBe('ok')
  })

  test.each([
    { name: 'an hour', old: span(-59, 7200) },
    { name: 'forever', old: span(-59, 'forever') },
  ])('an earlier end than $name is accepted with a warning', async ({ old }) => {
    const inPlace = parseCertificate(await issue({ validity: old }))
    const { warnings } = accepted(await issue({ validity: span(-59, 3600) }), inPlace)
    expect(warnings).toEqual([expect.stringContaining('ends before the one in place')])
  })

  test('both warnings at once', async () => {
    const inPlace = parseCertificate(await issue({ validity: span(-59, 7200) }))
    expect(accepted(await issue({ validity: span(30, 3600) }), inPlace).warnings).toHaveLength(2)
  })

  test('one of another key or of another CA does not count', async () => {
    const late = { validity: span(200, 'forever') }
    const otherKey = parseCertificate(await issue({ ...late, publicKey: ring.host.ecdsa.line }))
    const otherCa = parseCertificate(await issue({ ...late, ca: ring.ca.ecdsa.path }))
    const line = await issue()
    expect(accepted(line, otherKey).warnings).toEqual([])
    expect(accepted(line, otherCa).warnings).toEqual([])
  })

  test('another flaw is told before it', async () => {
    const line = await issue({ validity: span(-60, -1) })
    expect(codeOf(line, requirements(), parseCertificate(line))).toBe('CERT_EXPIRED')
  })
})

test('what lies on disk is judged by the same checks', async () => {
  expect(findFlaw(parseCertificate(await issue()), requirements(), NOW)).toBeNull()
  expect(findFlaw(parseCertificate(await issue()), requirements(), NOW + 3600)).toMatchObject({
    code: 'CERT_EXPIRED',
  })
  expect(tryParse('nonsense')).toMatchObject({ ok: false, failure: { code: 'CERT_UNPARSABLE' } })
})

/** One bit changed, at an offset from the start or, negative, from the end of the bytes. */
function flipped(line: string, offset: number): string {
  const blob = blobOf(line)
  const at = offset < 0 ? blob.length + offset : offset
  blob[at] = (blob[at] ?? 0) ^ 1
  return lineOf(blob)
}

/** The certificate with the key of another CA of the same size put where its own was. */
function withCa(line: string, ca: Buffer): string {
  const blob = blobOf(line)
  const own = parseCertificate(line).ca.blob
  ca.copy(blob, blob.lastIndexOf(own))
  return lineOf(blob)
}
