import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { tryParse } from '../../agent/cert/verify-issued.ts'
import { cpuMillisecondsSince } from '../support/cpu-time.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import {
  blobOf,
  craftCertificate,
  craftKey,
  lineOf,
  optionList,
  sshString,
  stringList,
  uint32,
  type CertificateFields,
} from './craft.ts'
import { KEY_KINDS, makeKeyRing, type KeyRing } from './key-ring.ts'

let ring: KeyRing
let line: string
beforeAll(async () => {
  ring = await makeKeyRing()
  line = await sign('ed25519')
})
afterAll(() => ring[Symbol.asyncDispose]())

function sign(kind: keyof KeyRing['host']): Promise<string> {
  const publicKey = ring.host[kind].line
  return signCertificate({ ca: ring.ca[kind].path, publicKey, principals: ['host.example.com'] })
}

/** What the refusal says; another kind of error than CERT_UNPARSABLE gets through. */
function refusal(text: string): string {
  const parsed = tryParse(text)
  return parsed.ok ? 'accepted' : `${parsed.failure.code} ${parsed.failure.message}`
}

/** Those of some texts that are taken for a certificate. */
function accepted(texts: readonly string[]): string[] {
  return texts.filter((text) => !refusal(text).startsWith('CERT_UNPARSABLE not an OpenSSH certificate: '))
}

describe('what is no certificate', () => {
  test.each([
    { name: 'nothing', text: '', says: 'empty' },
    { name: 'blank lines', text: ' \n\n\t\n', says: 'empty' },
    { name: 'garbage', text: 'hello world', says: '"hello"' },
    { name: 'a web page', text: '<html>\n<body>\n', says: '2 lines' },
    { name: 'a type alone', text: 'ssh-ed25519-cert-v01@openssh.com', says: 'base64' },
    { name: 'no base64', text: 'ssh-ed25519-cert-v01@openssh.com !!!!', says: 'base64' },
    { name: 'empty bytes', text: 'ssh-ed25519-cert-v01@openssh.com ====', says: 'base64' },
    { name: 'four bytes', text: 'ssh-ed25519-cert-v01@openssh.com AAAAAA==', says: 'certificate' },
    { name: 'a length of 4 GB', text: 'ssh-ed25519-cert-v01@openssh.com /////w==', says: 'early' },
    {
      name: 'a name that JavaScript knows',
      text: 'constructor-cert-v01@openssh.com AAAA',
      says: 'supported',
    },
    { name: 'controls, quoted', text: '\u001B[31mred AAAA', says: String.raw`"\u001b[31mred"` },
    { name: 'a very long word, cut', text: 'x'.repeat(100_000), says: 'xxx…' },
  ])('$name', ({ text, says }) => {
    const message = refusal(text)
    expect(message).toContain(says)
    expect(message.length).toBeLessThan(200)
  })

  test.each([
    'ssh-dss-cert-v01@openssh.com',
    'ssh-mldsa65-ed25519-cert',
    'ssh-mldsa44-ed25519-cert-v01@example.com',
    'ssh-ed25519-cert',
  ])('a type that is not known: %s', (full) => {
    const blob = Buffer.concat([sshString(full), blobOf(line).subarray(36)])
    expect(refusal(`${full} ${blob.toString('base64')}`)).toContain(`"${full}"`)
  })

  test.each(KEY_KINDS)('a plain $kind key', ({ kind, type }) => {
    expect(refusal(ring.host[kind].line)).toContain(`"${type}" is not a certificate type`)
  })

  test('a file of 64 KiB of blanks is refused at once', () => {
    const began = process.cpuUsage()
    const blanks = ' '.repeat(64 * 1024)
    expect(accepted([`a${blanks}\u2028x`, `a b${blanks}\u2028x`, 'a '.repeat(32 * 1024)])).toEqual([])
    expect(cpuMillisecondsSince(began)).toBeLessThan(1000)
  })
})

describe('the line', () => {
  test('two certificates are one too many', () => {
    expect(refusal(`${line}\n${line}\n`)).toContain('2 lines')
  })

  test('the type before it must be the type in it', async () => {
    const other = await sign('ecdsa')
    const base64 = blobOf(other).toString('base64')
    expect(refusal(`ssh-ed25519-cert-v01@openssh.com ${base64}`)).toContain('the line names the type')
  })

  test('base64 has one form only', () => {
    const [type = '', base64 = ''] = line.split(' ')
    const spoilt = [
      base64.replaceAll('=', ''),
      `${base64}=`,
      `${base64}====`,
      `${base64.slice(0, 80)}-${base64.slice(81)}`,
      `${base64.slice(0, 80)}\u00E9${base64.slice(80)}`,
      `${base64.slice(0, 80)} ${base64.slice(80)}`,
    ].filter((changed) => changed !== base64)
    expect(accepted(spoilt.map((changed) => `${type} ${changed}`))).toEqual([])
  })

  test('unused bits at the end of base64 must be 0', () => {
    const [key, ca] = [craftKey(), craftKey()]
    // Of three key ids whose lengths follow each other, two make base64 end in padding.
    const lines = ['a', 'ab', 'abc'].map((keyId) => craftCertificate(key, ca, { keyId: sshString(keyId) }))
    const padded = lines.filter((crafted) => crafted.endsWith('='))
    expect(padded).toHaveLength(2)
    for (const crafted of padded) {
      const at = crafted.indexOf('=') - 1
      const next = String.fromCodePoint((crafted.codePointAt(at) ?? 0) + 1)
      const spoilt = crafted.slice(0, at) + next + crafted.slice(at + 1)
      expect(blobOf(spoilt)).toEqual(blobOf(crafted))
      expect(accepted([spoilt])).toEqual([])
    }
  })
})

describe('the bytes', () => {
  test.each(KEY_KINDS)('cut anywhere, $kind', async ({ kind }) => {
    const blob = blobOf(await sign(kind))
    const [type] = lineOf(blob).split(' ')
    const cut = [...blob.keys()].map((length) => `${type} ${blob.subarray(0, length).toString('base64')}`)
    expect(accepted(cut)).toEqual([])
  })

  test('the line cut anywhere', () => {
    const [type = '', base64 = ''] = line.split(' ')
    const whole = `${type} ${base64}`
    const cut = Array.from({ length: whole.length }, (_, length) => whole.slice(0, length))
    expect(accepted(cut)).toEqual([])
  })

  test.each(['00', '01', '00000000', '0000000141'])('bytes after the end: %s', (more) => {
    expect(refusal(lineOf(Buffer.concat([blobOf(line), Buffer.from(more, 'hex')])))).toMatch(
      /after the end|Trailing|leftover/i,
    )
  })
})

describe('a field that is not well-formed, though signed', () => {
  const [key, ca] = [craftKey(), craftKey()]
  const point = key.blob.subarray(-32)
  const cases: { name: string; fields: Partial<CertificateFields> }[] = [
    { name: 'kind 0', fields: { kind: uint32(0) } },
    { name: 'kind 3', fields: { kind: uint32(3) } },
    { name: 'a NUL in the key id', fields: { keyId: sshString('a\0b') } },
    { name: 'a key id that is not UTF-8', fields: { keyId: sshString(Buffer.from('fffe', 'hex')) } },
    { name: 'a NUL in a principal', fields: { principals: stringList(['good.example.com\0.evil.example']) } },
    { name: 'principals cut short', fields: { principals: sshString(Buffer.from('00000005616263', 'hex')) } },
    { name: 'an option without data', fields: { criticalOptions: stringList(['force-command']) } },
    { name: 'an option twice', fields: { extensions: stringList(['permit-pty', '', 'permit-pty', '']) } },
    { name: 'a NUL in the name of an option', fields: { extensions: optionList({ 'a\0': 'b' }) } },
    { name: 'a key of 31 bytes', fields: { key: sshString(point.subarray(1)) } },
    {
      name: 'a key of 33 bytes',
      fields: { key: sshString(Buffer.concat([point, point.subarray(31)])) },
    },
    { name: 'no CA', fields: { ca: sshString('') } },
    { name: 'a CA of another type', fields: { ca: sshString(sshString('ssh-dss')) } },
    { name: 'bytes after the CA key', fields: { ca: sshString(Buffer.concat([ca.blob, Buffer.alloc(1)])) } },
    { name: 'a certificate for a CA', fields: { ca: sshString(blobOf(craftCertificate(ca, ca))) } },
  ]
  test.each(cases)('$name', ({ fields }) => {
    expect(accepted([craftCertificate(key, ca, fields)])).toEqual([])
  })

  test('a control: the same, not spoilt', () => {
    expect(parseCertificate(craftCertificate(key, ca)).keyId).toBe('crafted')
  })
})

test.each(['\u{FEFF}', '\u{A0}', '\f'])('%j in front is no white space, as in OpenSSH', (odd) => {
  expect(accepted([` \t${line}`, `${odd}${line}`, ` ${odd}${line}`])).toEqual([` \t${line}`])
})
