import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { verifyIssued, type CertificateRequirements } from '../../agent/cert/verify-issued.ts'
import { craftCertificate, craftKey, optionList, stringList, uint64 } from './craft.ts'
import { flipped, makeIssuance, NAME, NOW, span, withCa, type Issuance } from './issuance.ts'
import { keyIn } from './key-ring.ts'

let issuance: Issuance
beforeAll(async () => {
  issuance = await makeIssuance()
})
afterAll(() => issuance.ring[Symbol.asyncDispose]())

function codeOf(line: string, wanted: CertificateRequirements = issuance.requirements()): ErrorCode | 'ok' {
  const result = verifyIssued(line, wanted, null, '', NOW)
  return result.ok ? 'ok' : result.failure.code
}

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
    { name: 'the bare public key', code: 'CERT_UNPARSABLE', line: () => issuance.ring.host.ed25519.line },
    {
      name: 'two certificates',
      code: 'CERT_UNPARSABLE',
      line: async () => `${await issuance.issue()}\n${await issuance.issue()}`,
    },
    {
      name: 'cut in the middle',
      code: 'CERT_UNPARSABLE',
      line: async () => (await issuance.issue()).slice(0, 300),
    },
    { name: 'a user certificate', code: 'CERT_NOT_HOST', line: () => issuance.issue({ kind: 'user' }) },
    {
      name: 'for another key of the type',
      code: 'CERT_KEY_MISMATCH',
      line: () => issuance.issue({ publicKey: issuance.ring.ca.ed25519.line }),
    },
    {
      name: 'for a key of another type',
      code: 'CERT_KEY_MISMATCH',
      line: () => issuance.issue({ publicKey: issuance.ring.host.rsa.line }),
    },
    {
      name: 'a bit of the signature flipped',
      code: 'CERT_SIGNATURE_INVALID',
      line: async () => flipped(await issuance.issue(), -1),
      says: 'its signature is not valid ("ssh-ed25519")',
    },
    {
      name: 'a bit of the nonce flipped',
      code: 'CERT_SIGNATURE_INVALID',
      line: async () => flipped(await issuance.issue(), 4 + 32 + 4),
    },
    {
      name: 'claims to be of the pinned CA, signed by another',
      code: 'CERT_SIGNATURE_INVALID',
      line: async () =>
        withCa(
          await issuance.issue({ ca: issuance.ring.host.ed25519.path }),
          issuance.ring.ca.ed25519.key.blob,
        ),
    },
    {
      name: 'another CA of the type',
      code: 'CERT_CA_MISMATCH',
      line: () => issuance.issue({ ca: issuance.ring.host.ed25519.path }),
      says: 'expected SHA256:',
    },
    {
      name: 'a CA of another type',
      code: 'CERT_CA_MISMATCH',
      line: () => issuance.issue({ ca: issuance.ring.ca.ecdsa.path }),
    },
    {
      name: 'no CA is trusted',
      code: 'CERT_CA_MISMATCH',
      line: () => issuance.issue(),
      wanted: () => ({ trustedCas: [] }),
      says: 'expected none',
    },
    { name: 'no principals', code: 'CERT_NO_PRINCIPALS', line: () => issuance.issue({ principals: [] }) },
    {
      name: 'no principals, none wanted',
      code: 'CERT_NO_PRINCIPALS',
      line: () => issuance.issue({ principals: [] }),
      wanted: () => ({ wantedPrincipals: null }),
    },
    {
      name: 'another principal',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issuance.issue({ principals: ['web2.example.com'] }),
      says: `lacks the principals "${NAME}"; it has "web2.example.com"`,
    },
    {
      name: 'one of two principals',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issuance.issue(),
      wanted: () => ({ wantedPrincipals: [NAME, 'alias'] }),
      says: 'lacks the principals "alias"',
    },
    {
      name: 'principals in another case',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issuance.issue({ principals: [NAME.toUpperCase()] }),
    },
    {
      name: 'a star is no name',
      code: 'CERT_PRINCIPALS_MISMATCH',
      line: () => issuance.issue({ principals: ['*'] }),
    },
    {
      name: 'an unknown critical option',
      code: 'CERT_CRITICAL_OPTION',
      line: () => issuance.issue({ options: ['critical:odd@example.com=1'] }),
      says: '"odd@example.com"',
    },
    {
      name: 'a critical option of user certificates',
      code: 'CERT_CRITICAL_OPTION',
      line: () => issuance.issue({ options: ['critical:force-command=id'] }),
    },
    {
      name: 'RSA with SHA-1',
      code: 'CERT_SIGNATURE_ALGORITHM',
      line: () => issuance.issue({ ca: issuance.ring.ca.rsa.path, algorithm: 'ssh-rsa' }),
      wanted: () => ({ trustedCas: [issuance.ring.ca.rsa.key] }),
      says: 'SHA-1',
    },
    {
      name: 'starts in 301 s',
      code: 'CERT_NOT_YET_VALID',
      line: () => issuance.issue({ validity: span(301, 3600) }),
      says: '2026-11-23T13:05:01Z',
    },
    {
      name: 'ended a second ago',
      code: 'CERT_EXPIRED',
      line: () => issuance.issue({ validity: span(-60, -1) }),
    },
    {
      name: 'ends now',
      code: 'CERT_EXPIRED',
      line: () => issuance.issue({ validity: span(-60, 0) }),
      says: 'at 2026-11-23T13:00:00Z',
    },
    { name: 'ended in 1970', code: 'CERT_EXPIRED', line: () => issuance.issue({ validity: 'always:0x1' }) },
  ]
  test.each(rows)('$code: $name', async ({ code, line, wanted, says }) => {
    const signedKey = await line()
    const result = verifyIssued(signedKey, issuance.requirements(wanted?.()), null, '', NOW)
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
  const rsa = { ca: issuance.ring.ca.rsa.path, algorithm: 'ssh-rsa', validity: span(-60, -1) }
  const wanted = issuance.requirements({ trustedCas: [issuance.ring.ca.rsa.key] })
  expect(codeOf(await issuance.issue({ ...rsa, options: ['critical:a=b'] }), wanted)).toBe(
    'CERT_CRITICAL_OPTION',
  )
  expect(codeOf(await issuance.issue(rsa), wanted)).toBe('CERT_SIGNATURE_ALGORITHM')
})
