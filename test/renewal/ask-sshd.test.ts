import { describe, expect, test } from 'vitest'
import { fingerprintOf, type PublicKey } from '../../agent/cert/public-key.ts'
import { evidenceOf, showsOneOf } from '../../agent/renewal/ask-sshd.ts'
import type { Presented } from '../../agent/renewal/ports.ts'
import { blobOf, craftCertificate, craftKey, sshString } from '../cert/craft.ts'
import { keyIn } from '../cert/key-ring.ts'

const ca = craftKey()
const [hostKey, otherKey] = [craftKey(), craftKey()]
const [ed25519, other] = [keyIn(hostKey.line), keyIn(otherKey.line)]
/** Exponent and modulus. */
const rsaParts = Buffer.concat([sshString(Buffer.of(1, 0, 1)), sshString(Buffer.alloc(257, 1))])
const rsaBlob = Buffer.concat([sshString('ssh-rsa'), rsaParts])
const rsa: PublicKey = { type: 'ssh-rsa', blob: rsaBlob, fingerprint: fingerprintOf(rsaBlob) }
/** By what it certifies. */
const certificates = {
  ed25519: blobOf(craftCertificate(hostKey, ca)),
  other: blobOf(craftCertificate(otherKey, ca)),
  rsa: blobOf(
    craftCertificate(hostKey, ca, { type: sshString('ssh-rsa-cert-v01@openssh.com'), key: rsaParts }),
  ),
}

const offer = 'ssh-dss'
const UNREADABLE = Buffer.concat([sshString('ssh-ed25519-cert-v01@openssh.com'), Buffer.of(1, 2, 3)])

/** What the other key of the host got, by how it proves or does not prove which server it was. */
const proofs: Record<'plain' | 'certificate', () => Presented> = {
  plain: () => ({ kind: 'plain', blob: rsa.blob }),
  certificate: () => ({ kind: 'certificate', blob: certificates.rsa }),
}
const noProofs: Record<string, () => Presented | null> = {
  'no other key': () => null,
  'not offered either': () => ({ kind: 'not-offered', offer }),
  'unknown as well': () => ({ kind: 'unknown', reason: 'dropped' }),
  'another RSA key': () => ({ kind: 'plain', blob: Buffer.concat([sshString('ssh-rsa'), sshString('x')]) }),
  'an unreadable certificate': () => ({ kind: 'certificate', blob: Buffer.of(0) }),
}

function judge(presented: Presented, beside: Presented | null) {
  const entries: [string, Presented][] = [[ed25519.fingerprint, presented]]
  if (beside !== null) entries.push([rsa.fingerprint, beside])
  const keys = beside === null ? [ed25519] : [ed25519, rsa]
  return evidenceOf(keys, new Map(entries)).get(ed25519.fingerprint)
}

describe('what speaks for itself', () => {
  const all = Object.entries({ ...proofs, ...noProofs })
  test.each(all)('its certificate, whatever came for the other key: %s', (_name, beside) => {
    const blob = certificates.ed25519
    expect(judge({ kind: 'certificate', blob }, beside())).toEqual({ kind: 'certificate', blob })
  })

  test.each(all)('the very key without a certificate: %s', (_name, beside) => {
    expect(judge({ kind: 'plain', blob: ed25519.blob }, beside())).toEqual({ kind: 'none' })
  })

  test.each(all)('a certificate that cannot be read is at least another one: %s', (_name, beside) => {
    const presented = { kind: 'certificate', blob: UNREADABLE } as const
    expect(judge(presented, beside())).toEqual(presented)
  })

  test.each(all)('unknown stays unknown, with its reason: %s', (_name, beside) => {
    const presented = { kind: 'unknown', reason: '127.0.0.1:22: Connection reset' } as const
    expect(judge(presented, beside())).toEqual(presented)
  })

  test('a certificate of it that our parser refuses', () => {
    const keyId = sshString(Buffer.from('h\u00F4te', 'latin1'))
    const blob = blobOf(craftCertificate(hostKey, ca, { keyId }))
    expect(judge({ kind: 'certificate', blob }, null)).toEqual({ kind: 'certificate', blob })
  })
})

describe('what needs another key of this host from the same server', () => {
  test.each(Object.entries(proofs))('not offered, with it: %s', (_name, beside) => {
    expect(judge({ kind: 'not-offered', offer }, beside())).toEqual({
      kind: 'not-offered',
      why: 'sshd does not offer a host key of type ssh-ed25519',
    })
  })

  test.each(Object.entries(proofs))('another key, plain or certified, with it: %s', (_name, beside) => {
    const why = `sshd offers another host key of type ssh-ed25519, ${other.fingerprint}`
    expect(judge({ kind: 'plain', blob: other.blob }, beside())).toEqual({ kind: 'other-key', why })
    expect(judge({ kind: 'certificate', blob: certificates.other }, beside())).toEqual({
      kind: 'other-key',
      why,
    })
  })

  test.each(Object.entries(noProofs))('not offered, without it: %s', (_name, beside) => {
    const shown = judge({ kind: 'not-offered', offer }, beside())
    expect(shown).toEqual({ kind: 'unknown', reason: expect.stringContaining('ssh-ed25519') as string })
    expect(shown).toMatchObject({ reason: expect.stringContaining(ed25519.fingerprint) as string })
  })

  test.each(Object.entries(noProofs))('another key, plain or certified, without it: %s', (_name, beside) => {
    for (const presented of [
      { kind: 'plain', blob: other.blob },
      { kind: 'certificate', blob: certificates.other },
    ] as const) {
      const shown = judge(presented, beside())
      expect(shown).toEqual({ kind: 'unknown', reason: expect.stringContaining(other.fingerprint) as string })
      expect(shown).toMatchObject({ reason: expect.stringContaining(ed25519.fingerprint) as string })
    }
  })
})

test('each key gets an entry, also one that was not asked about', () => {
  const presented = new Map<string, Presented>([[ed25519.fingerprint, { kind: 'plain', blob: ed25519.blob }]])
  expect(evidenceOf([ed25519, rsa], presented)).toEqual(
    new Map([
      [ed25519.fingerprint, { kind: 'none' }],
      [rsa.fingerprint, { kind: 'unknown', reason: 'sshd was not asked about this key' }],
    ]),
  )
  expect(evidenceOf([], presented)).toEqual(new Map())
})

test('a key that is not of this host proves nothing', () => {
  const presented = new Map<string, Presented>([[rsa.fingerprint, { kind: 'plain', blob: rsa.blob }]])
  expect(showsOneOf([rsa], presented)).toBe(true)
  expect(showsOneOf([ed25519], presented)).toBe(false)
  expect(showsOneOf([], presented)).toBe(false)
})
