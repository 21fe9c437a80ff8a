import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../agent/cert/errors.ts'
import { parseCertificate, type Certificate } from '../../agent/cert/host-certificate.ts'
import {
  findFlaw,
  tryParse,
  verifyIssued,
  type CertificateRequirements,
  type VerifiedCertificate,
} from '../../agent/cert/verify-issued.ts'
import { makeIssuance, NAME, NOW, span, type Issuance } from './issuance.ts'
import { CA_ALGORITHMS, KEY_KINDS } from './key-ring.ts'

let issuance: Issuance
beforeAll(async () => {
  issuance = await makeIssuance()
})
afterAll(() => issuance.ring[Symbol.asyncDispose]())

function codeOf(
  line: string,
  wanted: CertificateRequirements = issuance.requirements(),
  inPlace: Certificate | null = null,
): ErrorCode | 'ok' {
  const result = verifyIssued(line, wanted, inPlace, 'root@web1', NOW)
  return result.ok ? 'ok' : result.failure.code
}

function accepted(
  line: string,
  inPlace: Certificate | null = null,
  wanted: CertificateRequirements = issuance.requirements(),
): VerifiedCertificate {
  const result = verifyIssued(line, wanted, inPlace, 'root@web1', NOW)
  if (!result.ok) throw new Error(`refused: ${result.failure.code} ${result.failure.message}`)
  return result.value
}

describe('a good certificate', () => {
  test('is accepted, with the comment of the host key in its line', async () => {
    const line = await issuance.issue()
    const value = accepted(`${line}\n`)
    expect(value.line).toBe(`${line.split(' ', 2).join(' ')} root@web1`)
    expect(value.warnings).toEqual([])
    expect(value.certificate).toEqual(parseCertificate(line))
  })

  for (const { kind } of KEY_KINDS) {
    test.each(CA_ALGORITHMS)(`${kind} key, $ca CA, $algorithm`, async ({ ca, algorithm, option }) => {
      const line = await issuance.issue({
        ca: issuance.ring.ca[ca].path,
        publicKey: issuance.ring.host[kind].line,
        ...(option === undefined ? {} : { algorithm: option }),
      })
      const wanted = issuance.requirements({
        hostKey: issuance.ring.host[kind].key,
        trustedCas: [issuance.ring.ca[ca].key],
      })
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
    expect(accepted(await issuance.issue(wish)).warnings).toEqual([])
  })

  test('no CA is known yet; any of several CAs; any principals', async () => {
    const line = await issuance.issue()
    expect(codeOf(line, issuance.requirements({ trustedCas: null }))).toBe('ok')
    expect(
      codeOf(
        line,
        issuance.requirements({ trustedCas: [issuance.ring.ca.rsa.key, issuance.ring.ca.ed25519.key] }),
      ),
    ).toBe('ok')
    expect(codeOf(line, issuance.requirements({ wantedPrincipals: null }))).toBe('ok')
    expect(codeOf(line, issuance.requirements({ wantedPrincipals: [] }))).toBe('ok')
  })
})

describe('clocks that differ', () => {
  test.each([
    { start: 1, warns: '1 s in the future' },
    { start: 299, warns: '299 s in the future' },
    { start: 300, warns: '300 s in the future' },
  ])('a start in $start s is accepted with a warning', async ({ start, warns }) => {
    const { warnings } = accepted(await issuance.issue({ validity: span(start, 3600) }))
    expect(warnings).toEqual([expect.stringContaining(warns)])
  })
})

describe('beside the certificate in place', () => {
  test('the same bytes are not newer', async () => {
    const line = await issuance.issue()
    expect(codeOf(line, issuance.requirements(), parseCertificate(line))).toBe('CERT_NOT_NEWER')
    expect(codeOf(`${line} and another comment`, issuance.requirements(), parseCertificate(line))).toBe(
      'CERT_NOT_NEWER',
    )
  })

  test('an earlier start is not newer, the same and a later start are', async () => {
    const inPlace = parseCertificate(await issuance.issue({ validity: span(-100, 3600) }))
    const starting = (after: number): Promise<string> =>
      issuance.issue({ validity: span(after, 7200), serial: 42n })
    expect(codeOf(await starting(-101), issuance.requirements(), inPlace)).toBe('CERT_NOT_NEWER')
    expect(codeOf(await starting(-100), issuance.requirements(), inPlace)).toBe('ok')
    expect(codeOf(await starting(-99), issuance.requirements(), inPlace)).toBe('ok')
  })

  test('a lower serial and the same times are newer: serials need not count upwards', async () => {
    expect(
      codeOf(
        await issuance.issue({ serial: 40n }),
        issuance.requirements(),
        parseCertificate(await issuance.issue()),
      ),
    ).toBe('ok')
  })

  test.each([
    { name: 'an hour', old: span(-59, 7200) },
    { name: 'forever', old: span(-59, 'forever') },
  ])('an earlier end than $name is accepted with a warning', async ({ old }) => {
    const inPlace = parseCertificate(await issuance.issue({ validity: old }))
    const { warnings } = accepted(await issuance.issue({ validity: span(-59, 3600) }), inPlace)
    expect(warnings).toEqual([expect.stringContaining('ends before the one in place')])
  })

  test('both warnings at once', async () => {
    const inPlace = parseCertificate(await issuance.issue({ validity: span(-59, 7200) }))
    expect(accepted(await issuance.issue({ validity: span(30, 3600) }), inPlace).warnings).toHaveLength(2)
  })

  test('one of another key or of another CA does not count', async () => {
    const late = { validity: span(200, 'forever') }
    const otherKey = parseCertificate(
      await issuance.issue({ ...late, publicKey: issuance.ring.host.ecdsa.line }),
    )
    const otherCa = parseCertificate(await issuance.issue({ ...late, ca: issuance.ring.ca.ecdsa.path }))
    const line = await issuance.issue()
    expect(accepted(line, otherKey).warnings).toEqual([])
    expect(accepted(line, otherCa).warnings).toEqual([])
  })

  test('another flaw is told before it', async () => {
    const line = await issuance.issue({ validity: span(-60, -1) })
    expect(codeOf(line, issuance.requirements(), parseCertificate(line))).toBe('CERT_EXPIRED')
  })
})

test('what lies on disk is judged by the same checks', async () => {
  expect(findFlaw(parseCertificate(await issuance.issue()), issuance.requirements(), NOW)).toBeNull()
  expect(
    findFlaw(parseCertificate(await issuance.issue()), issuance.requirements(), NOW + 3600),
  ).toMatchObject({
    code: 'CERT_EXPIRED',
  })
  expect(tryParse('nonsense')).toMatchObject({ ok: false, failure: { code: 'CERT_UNPARSABLE' } })
})
