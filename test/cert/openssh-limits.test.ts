import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { readPublicKey, parsePublicKeyLine } from '../../agent/cert/public-key.ts'
import { tryParse, verifyIssued } from '../../agent/cert/verify-issued.ts'
import { blobOf, craftCertificate, craftKey, sshString, stringList, uint64 } from './craft.ts'

const NOW = 1_795_438_800
const [key, ca] = [craftKey(), craftKey()]
const keyOf = (line: string) => readPublicKey(parsePublicKeyLine(line))

function fixture(name: string): Promise<string> {
  return readFile(new URL(`../fixtures/certificates/${name}`, import.meta.url), 'utf8')
}

function verify(principals: readonly string[], wantedPrincipals: readonly string[] | null = null) {
  const fields = { principals: stringList(principals), validBefore: uint64(BigInt(NOW + 3600)) }
  const requirements = { hostKey: keyOf(key.line), trustedCas: [keyOf(ca.line)], wantedPrincipals }
  return verifyIssued(craftCertificate(key, ca, fields), requirements, null, '', NOW)
}

/** Certificates that other programs make, and that OpenSSH does not read. */
describe('more principals than OpenSSH reads', () => {
  test('256 are read, 257 are not: as ssh-keygen -L has it', async () => {
    expect(parseCertificate(await fixture('256-principals-cert.pub')).principals).toHaveLength(256)
    const refused = tryParse(await fixture('257-principals-cert.pub'))
    expect(refused).toMatchObject({ ok: false, failure: { code: 'CERT_UNPARSABLE' } })
    expect(refused.ok ? '' : refused.failure.message).toMatch(
      /257 principals, and OpenSSH refuses more than 256/,
    )
  })

  test('an answer with 257 is refused', () => {
    const names = Array.from({ length: 257 }, (_, index) => `alias${index}.example.com`)
    expect(verify(names)).toMatchObject({ ok: false, failure: { code: 'CERT_UNPARSABLE' } })
    expect(verify(names.slice(1))).toMatchObject({ ok: true })
  })
})

/** ssh lower-cases the name that it looks for, and compares exactly. */
describe('principals with upper-case letters', () => {
  test('the certificate of a host that was registered as WEB1.Example.com is refused: no client accepts it', async () => {
    const certificate = parseCertificate(await fixture('capitals-cert.pub'))
    expect(certificate.principals).toEqual(['WEB1.Example.com'])
    expect(verify(certificate.principals)).toMatchObject({
      ok: false,
      failure: { code: 'CERT_PRINCIPALS_MISMATCH', message: expect.stringContaining('"WEB1.Example.com"') },
    })
    // Also where exactly that name is wanted.
    expect(verify(['WEB1.Example.com'], ['WEB1.Example.com']).ok).toBe(false)
  })

  test('beside one that clients can use: accepted, with a warning that names them', () => {
    const verified = verify(['WEB1.example.com', 'web1.example.com', 'ALIAS'])
    expect(verified.ok && verified.value.warnings).toEqual([
      'ssh looks for host names in lower case, so no client accepts the certificate for "WEB1.example.com", "ALIAS"',
    ])
  })

  test('in lower case: no warning, whatever else is in the name', () => {
    for (const name of ['web1.example.com', '192.0.2.1', 'xn--bcher-kva.example', 'bücher.example']) {
      const verified = verify([name])
      expect(verified.ok && verified.value.warnings, name).toEqual([])
    }
  })
})

test('a DSA key or CA, which OpenSSH no longer reads', () => {
  const dsa = sshString(Buffer.concat([sshString('ssh-dss'), sshString('p'), sshString('q')]))
  expect(tryParse(craftCertificate(key, ca, { ca: dsa }))).toMatchObject({
    ok: false,
    failure: { code: 'CERT_UNPARSABLE' },
  })
  const line = craftCertificate(key, ca, { type: sshString('ssh-dss-cert-v01@openssh.com') })
  expect(tryParse(line)).toMatchObject({ ok: false, failure: { code: 'CERT_UNPARSABLE' } })
  expect(blobOf(line).length).toBeGreaterThan(0)
})
