import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { isSignatureValid, parseCertificate } from '../../agent/cert/host-certificate.ts'
import { parsePublicKeyLine, readPublicKey, type PublicKey } from '../../agent/cert/public-key.ts'
import { verifySignature } from '../../agent/cert/signature.ts'
import { tryParse, verifyIssued } from '../../agent/cert/verify-issued.ts'
import {
  blobOf,
  craftCertificate,
  craftCompositeKey,
  craftEcdsaKey,
  craftKey,
  craftSecurityKey,
  lineOf,
  sshString,
  type CraftedKey,
} from './craft.ts'
import { readSshsig } from './sshsig.ts'

const NOW = 1_795_438_800
const fixture = (path: string) => readFile(new URL(`../fixtures/openssh/${path}`, import.meta.url), 'utf8')
const keyIn = (line: string): PublicKey => readPublicKey(parsePublicKeyLine(line))

async function sshsig(name: string): Promise<{ key: PublicKey; signature: Buffer; signed: Buffer }> {
  const key = keyIn(await fixture(`regress/${name}.pub`))
  return { key, ...readSshsig(await fixture(`regress/${name}.sig`)) }
}

describe("signatures of OpenSSH's own tests, by security keys", () => {
  test.each(['ed25519_sk', 'ecdsa_sk'])('%s, and no byte of it changed', async (name) => {
    const { key, signature, signed } = await sshsig(name)
    expect(verifySignature(key, signature, signed)).toBe(true)
    const passed = [...signature.keys()].filter((at) => {
      const damaged = Buffer.from(signature)
      damaged[at] = (damaged[at] ?? 0) ^ 1
      return verifySignature(key, damaged, signed) !== false
    })
    expect(passed).toEqual([])
    expect(verifySignature(key, signature, Buffer.concat([signed, Buffer.of(0)]))).toBe(false)
    expect(verifySignature(key, Buffer.concat([signature, Buffer.of(0)]), signed)).toBe(false)
  })

  test('that of a browser has another form: neither valid nor bad', async () => {
    const { key, signature, signed } = await sshsig('ecdsa_sk_webauthn')
    expect(verifySignature(key, signature, signed)).toBeNull()
    const other = keyIn(await fixture('regress/ed25519_sk.pub'))
    expect(verifySignature(other, signature, signed)).toBe(false)
  })

  test.each(['ed25519_sk1', 'ecdsa_sk1'])('the certificate of %s', async (name) => {
    const certificate = parseCertificate(await fixture(`regress/${name}-cert.pub`))
    expect(certificate.publicKey.fingerprint).toBe((await fixture(`regress/${name}-cert.fp`)).trim())
    expect(isSignatureValid(certificate)).toBe(true)
  })
})

const RECORDED = [
  'mldsa44-ed25519-by-ed25519',
  'mldsa44-ed25519-by-ecdsa',
  'mldsa44-ed25519-by-rsa',
  'mldsa44-ed25519-by-mldsa44-ed25519',
  'ed25519-by-mldsa44-ed25519',
  'ecdsa-by-mldsa44-ed25519',
]

describe('certificates by the ssh-keygen of 10.6p1', () => {
  const recorded = (name: string) => fixture(`10.6p1/key-types/${name}-cert.pub`)

  test.each(RECORDED)('%s: as it lists them, with a valid signature', async (name) => {
    const certificate = parseCertificate(await recorded(name))
    const listing = await fixture(`10.6p1/key-types/${name}.listing`)
    expect(listing).toContain(`-CERT ${certificate.publicKey.fingerprint}\n`)
    expect(listing).toContain(`${certificate.ca.fingerprint} (using ${certificate.signatureAlgorithm})\n`)
    expect(listing).toContain(`Key ID: "${certificate.keyId}"\n`)
    expect(isSignatureValid(certificate)).toBe(true)
  })

  test.each(['mldsa44-ed25519-by-ed25519', 'mldsa44-ed25519-by-mldsa44-ed25519', 'ecdsa-by-mldsa44-ed25519'])(
    'each byte changed: %s',
    async (name) => {
      const line = await recorded(name)
      const [type] = line.split(' ')
      const { publicKey } = parseCertificate(line)
      const wanted = { hostKey: publicKey, trustedCas: null, wantedPrincipals: null }
      expect(verifyIssued(line, wanted, null, '', NOW).ok).toBe(true)
      const blob = blobOf(line)
      const passed: number[] = []
      for (const [at, byte] of blob.entries()) {
        const damaged = Buffer.from(blob)
        damaged[at] = byte ^ 0x01
        const text = `${type} ${damaged.toString('base64')}`
        const parsed = tryParse(text)
        // Neither for an issued certificate, nor for `inspect`, which has no host key to compare with.
        if (verifyIssued(text, wanted, null, '', NOW).ok) passed.push(at)
        if (parsed.ok && isSignatureValid(parsed.certificate) !== false) passed.push(at)
      }
      expect(passed).toEqual([])
    },
  )
})

test('a post-quantum CA is a warning: clients do not accept it by default', async () => {
  const warnings = async (name: string): Promise<readonly string[] | null> => {
    const line = await fixture(`10.6p1/key-types/${name}-cert.pub`)
    const wanted = { hostKey: parseCertificate(line).publicKey, trustedCas: null, wantedPrincipals: null }
    const verified = verifyIssued(line, wanted, null, '', NOW)
    return verified.ok ? verified.value.warnings : null
  }
  expect(await warnings('mldsa44-ed25519-by-ed25519')).toEqual([])
  const { ca } = parseCertificate(await fixture('10.6p1/key-types/ed25519-by-mldsa44-ed25519-cert.pub'))
  expect(await warnings('ed25519-by-mldsa44-ed25519')).toEqual([
    `the CA ${ca.fingerprint} is a post-quantum key: only clients with CASignatureAlgorithms=+ssh-mldsa44-ed25519 accept its certificates`,
  ])
})

const CAS: Readonly<Record<string, () => CraftedKey>> = {
  'sk-ssh-ed25519@openssh.com': () => craftSecurityKey('ed25519'),
  'sk-ecdsa-sha2-nistp256@openssh.com': () => craftSecurityKey('ecdsa'),
  'sk-ssh-ed25519@openssh.com of an application': () => craftSecurityKey('ed25519', 'ssh:host-ca'),
  'ssh-mldsa44-ed25519': () => craftCompositeKey(),
  'ssh-mldsa44-ed25519@openssh.com': () => craftCompositeKey('ssh-mldsa44-ed25519@openssh.com'),
}
const KEYS: Readonly<Record<string, () => CraftedKey>> = {
  ...CAS,
  'ssh-ed25519': craftKey,
  'ecdsa-sha2-nistp521': () => craftEcdsaKey(521),
}

describe('of our own making', () => {
  const pairs = Object.keys(CAS).flatMap((ca) => Object.keys(KEYS).map((key) => ({ key, ca })))
  test.each(pairs)('$key by $ca', ({ key, ca }) => {
    const [subject, signer] = [KEYS[key]!(), CAS[ca]!()]
    const certificate = parseCertificate(craftCertificate(subject, signer))
    expect(isSignatureValid(certificate)).toBe(true)
    expect(certificate.publicKey).toEqual(keyIn(subject.line))
    expect(certificate.ca).toEqual(keyIn(signer.line))
    const forged = craftCertificate(subject, { ...signer, signs: CAS[ca]!().signs })
    expect(isSignatureValid(parseCertificate(forged))).toBe(false)
  })
})

describe('a composite signature', () => {
  const [one, other] = [craftCompositeKey(), craftCompositeKey()]
  const data = Buffer.from('data')
  const start = sshString('ssh-mldsa44-ed25519').length + 4
  const halves = (signature: Buffer) => ({
    mldsa: signature.subarray(start, start + 2420),
    ed25519: signature.subarray(start + 2420),
  })
  const joined = (...parts: Buffer[]) =>
    Buffer.concat([sshString('ssh-mldsa44-ed25519'), sshString(Buffer.concat(parts))])

  test('needs both halves, of one key', () => {
    const [ours, theirs] = [halves(one.signs(data)), halves(other.signs(data))]
    const verify = (...parts: Buffer[]) => verifySignature(keyIn(one.line), joined(...parts), data)
    expect(verify(ours.mldsa, ours.ed25519)).toBe(true)
    expect(verify(ours.mldsa, theirs.ed25519)).toBe(false)
    expect(verify(theirs.mldsa, ours.ed25519)).toBe(false)
    expect(verify(ours.mldsa)).toBe(false)
    expect(verify(ours.ed25519)).toBe(false)
    expect(verify(ours.mldsa, ours.ed25519, Buffer.alloc(1))).toBe(false)
    expect(verify()).toBe(false)
  })

  test('that was made for another scheme is none', () => {
    const foreign = craftCompositeKey('ssh-mldsa44-ed25519', 'COMPSIG-MLDSA65-Ed25519-SHA512')
    expect(verifySignature(keyIn(foreign.line), foreign.signs(data), data)).toBe(false)
  })

  test('has the name of its key', () => {
    const named = Buffer.concat([sshString('ssh-ed25519'), one.signs(data).subarray(start - 4)])
    expect(verifySignature(keyIn(one.line), named, data)).toBe(false)
  })
})

describe('a CA of a type that came after this program', () => {
  const type = 'ssh-mldsa65-ed25519'
  const unknown = (algorithm = type): CraftedKey => {
    const blob = Buffer.concat([sshString(type), sshString('a key')])
    return {
      blob,
      line: lineOf(blob),
      signs: () => Buffer.concat([sshString(algorithm), sshString('signed')]),
    }
  }

  test('is read, and what it signed is neither valid nor bad; nobody installs it', () => {
    const key = craftKey()
    const line = craftCertificate(key, unknown())
    const certificate = parseCertificate(line)
    expect(certificate.ca).toMatchObject({ type })
    expect(isSignatureValid(certificate)).toBeNull()
    const wanted = { hostKey: keyIn(key.line), trustedCas: null, wantedPrincipals: null }
    expect(verifyIssued(line, wanted, null, '', NOW)).toMatchObject({
      ok: false,
      failure: {
        code: 'CERT_SIGNATURE_INVALID',
        message: expect.stringContaining('cannot verify') as string,
      },
    })
  })

  test.each(['ssh-ed25519', 'ssh-mldsa65-ed25518', ''])(
    'is damage when the signature names %j',
    (algorithm) => {
      expect(tryParse(craftCertificate(craftKey(), unknown(algorithm)))).toMatchObject({
        ok: false,
        failure: { code: 'CERT_UNPARSABLE' },
      })
    },
  )
})

describe('damaged keys of the new types', () => {
  const security = craftSecurityKey('ed25519')
  const point = security.blob.subarray(30 + 4, 30 + 4 + 32)
  const named = (...fields: (string | Buffer)[]) => Buffer.concat(fields.map(sshString))
  test.each([
    { name: 'a composite key a byte short', blob: one('ssh-mldsa44-ed25519', 1343), says: 'bytes long' },
    { name: 'a composite key a byte long', blob: one('ssh-mldsa44-ed25519', 1345), says: 'bytes long' },
    { name: 'no application', blob: named('sk-ssh-ed25519@openssh.com', point), says: 'ends early' },
    {
      name: 'a NUL in the application',
      blob: named('sk-ssh-ed25519@openssh.com', point, 'ssh:\0'),
      says: 'NUL',
    },
    {
      name: 'a security key on another curve',
      blob: named('sk-ecdsa-sha2-nistp256@openssh.com', 'nistp384', Buffer.alloc(97, 4), 'ssh:'),
      says: 'curve',
    },
    {
      name: 'a security key off its curve',
      blob: named('sk-ecdsa-sha2-nistp256@openssh.com', 'nistp256', Buffer.alloc(65, 4), 'ssh:'),
      says: 'no key',
    },
  ])('$name', ({ blob, says }) => {
    const type = blob.toString('utf8', 4, 4 + blob.readUInt32BE(0))
    expect(() => readPublicKey({ type, blob })).toThrow(says)
  })

  function one(type: string, length: number): Buffer {
    return named(type, Buffer.alloc(length, 9))
  }
})
