import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isKeyType, KEY_TYPES, toKeyObject } from '../../agent/cert/key-types.ts'
import {
  fingerprintOf,
  isIssuedKeyType,
  parseCaKeys,
  parsePublicKeyLine,
  publicKeyOf,
  readPublicKey,
  splitKeyLine,
} from '../../agent/cert/public-key.ts'
import { quote } from '../../agent/cert/text.ts'
import { craftKey, sshString } from './craft.ts'
import { KEY_KINDS, makeKeyRing, type KeyRing } from './key-ring.ts'

let ring: KeyRing
beforeAll(async () => {
  ring = await makeKeyRing()
})
afterAll(() => ring[Symbol.asyncDispose]())

describe('keys made by ssh-keygen', () => {
  test.each(KEY_KINDS)('$kind', async ({ kind, type }) => {
    const { line, path } = ring.host[kind]
    const parsed = parsePublicKeyLine(`${line}\n`)
    const listed = (await promisify(execFile)('ssh-keygen', ['-l', '-f', `${path}.pub`])).stdout.split(' ')
    expect(parsed).toMatchObject({ type, comment: `host key, ${kind}`, fingerprint: listed[1] })
    const key = readPublicKey(parsed)
    expect(key).toEqual({ type, blob: parsed.blob, fingerprint: listed[1] })
    expect(toKeyObject({ type, blob: key.blob }).asymmetricKeyType).toBe(
      kind === 'ed25519' || kind === 'rsa' ? kind : 'ec',
    )
  })
})

describe('a public key file', () => {
  const { line } = craftKey()
  test.each([
    { name: 'as it is', text: line, comment: '' },
    { name: 'a comment with spaces', text: `${line} root@host 1  x\n`, comment: 'root@host 1  x' },
    { name: 'CRLF', text: `${line} c\r\n`, comment: 'c' },
    { name: 'tabs', text: `\t${line.replace(' ', '\t')}\tc\t\n`, comment: 'c' },
    { name: 'blank lines and comments around', text: `# a\n\n${line} c\n  \n#b`, comment: 'c' },
    { name: 'a comment beyond ASCII', text: `${line} é \u2028 x`, comment: 'é \u2028 x' },
  ])('$name', ({ text, comment }) => {
    expect(parsePublicKeyLine(text)).toMatchObject({ type: 'ssh-ed25519', comment })
  })

  const unreadable = [
    { name: 'nothing', text: '', says: 'holds no public key' },
    { name: 'only comments', text: '# x\n', says: 'holds no public key' },
    { name: 'two keys', text: `${line}\n${line}`, says: 'more than one' },
    { name: 'a byte order mark', text: `\u{FEFF}${line}\n`, says: 'begins with a byte order mark' },
    {
      name: 'RFC 4716',
      text: `---- BEGIN SSH2 PUBLIC KEY ----\nComment: "x"\n${line.split(' ')[1]}\n---- END SSH2 PUBLIC KEY ----\n`,
      says: 'in RFC 4716 format',
    },
    { name: 'half a line', text: line.slice(0, 20), says: 'cut short' },
    { name: 'base64 cut', text: line.slice(0, -3), says: 'incomplete or damaged' },
    { name: 'no base64', text: 'ssh-ed25519', says: 'incomplete or damaged' },
    { name: 'options in front', text: `no-pty ${line}`, says: 'incomplete or damaged' },
    {
      name: 'another type in front',
      text: line.replace('ed25519', 'rsa'),
      says: 'the key in it is "ssh-ed25519"',
    },
    { name: 'a private key', text: '-----BEGIN OPENSSH PRIVATE KEY-----\nx\n', says: 'more than one' },
  ]
  test.each(unreadable)('$name is HOST_KEY_UNREADABLE', ({ text, says }) => {
    expect(() => parsePublicKeyLine(text)).toThrow(
      expect.objectContaining({
        code: 'HOST_KEY_UNREADABLE',
        message: expect.stringContaining(says) as string,
      }),
    )
  })

  test.each([
    'ssh-dss',
    'ssh-ed25519-cert-v01@openssh.com',
    'ssh-mldsa44-ed25519-cert',
    'ssh-mldsa65-ed25519',
  ])('%s is HOST_KEY_UNSUPPORTED, though a well-formed line', (type) => {
    const blob = Buffer.concat([sshString(type), sshString('x')])
    const parsed = parsePublicKeyLine(`${type} ${blob.toString('base64')} c`)
    expect(parsed).toMatchObject({ type, comment: 'c' })
    expect(() => readPublicKey(parsed)).toThrow(expect.objectContaining({ code: 'HOST_KEY_UNSUPPORTED' }))
  })
})

describe('bytes that are no key', () => {
  const rsa = (modulus: Buffer, exponent = Buffer.from([1, 0, 1])): Buffer =>
    Buffer.concat([sshString('ssh-rsa'), sshString(exponent), sshString(modulus)])
  const number = (bytes: number): Buffer => Buffer.concat([Buffer.from([0]), Buffer.alloc(bytes, 0xff)])
  const point = (type: string, curve: string, bytes: Buffer): Buffer =>
    Buffer.concat([sshString(`ecdsa-sha2-${type}`), sshString(curve), sshString(bytes)])
  const off = Buffer.alloc(65, 7).fill(4, 0, 1)
  test.each([
    { name: 'nothing', blob: Buffer.alloc(0), says: 'ends early' },
    {
      name: 'an ed25519 key of 31 bytes',
      blob: Buffer.concat([sshString('ssh-ed25519'), sshString('x'.repeat(31))]),
      says: '32 bytes',
    },
    {
      name: 'bytes after it',
      blob: Buffer.concat([craftKey().blob, Buffer.alloc(1)]),
      says: 'after the end',
    },
    { name: 'RSA with a modulus of 0', blob: rsa(Buffer.alloc(0)), says: '0 bits' },
    { name: 'RSA of 1023 bits', blob: rsa(Buffer.alloc(128, 0x7f)), says: '1023 bits' },
    { name: 'RSA of 16392 bits', blob: rsa(number(2049)), says: '16392 bits' },
    { name: 'RSA with an exponent of 0', blob: rsa(number(256), Buffer.alloc(0)), says: 'exponent' },
    {
      name: 'RSA with leading zeros',
      blob: rsa(Buffer.concat([Buffer.alloc(1), number(256)])),
      says: 'leading zeros',
    },
    { name: 'a negative modulus', blob: rsa(Buffer.alloc(256, 0xff)), says: 'negative' },
    { name: 'a curve of another size', blob: point('nistp256', 'nistp384', off), says: 'curve "nistp384"' },
    { name: 'a point that is not on its curve', blob: point('nistp256', 'nistp256', off), says: 'no key' },
    {
      name: 'a compressed point',
      blob: point('nistp256', 'nistp256', Buffer.alloc(33, 2)),
      says: 'uncompressed',
    },
    {
      name: 'the point at infinity',
      blob: point('nistp256', 'nistp256', Buffer.alloc(1)),
      says: 'uncompressed',
    },
  ])('$name', ({ blob, says }) => {
    expect(() => publicKeyOf(blob)).toThrow(says)
  })

  test('a point in the hybrid form, which OpenSSL would take', () => {
    const blob = Buffer.from(ring.host.ecdsa.key.blob)
    blob[blob.length - 65] = 6 + ((blob.at(-1) ?? 0) & 1)
    expect(() => publicKeyOf(blob)).toThrow('uncompressed')
  })

  test('every byte of a P-256 key changed: never the same key, never another error than of damage', () => {
    const { blob } = ring.host.ecdsa.key
    const outcomes = [...blob.keys()].map((at) => {
      const damaged = Buffer.from(blob)
      damaged[at] = (damaged[at] ?? 0) ^ 0x10
      try {
        return readPublicKey({ type: 'ecdsa-sha2-nistp256', blob: damaged }).fingerprint
      } catch (error) {
        return (error as { code?: string }).code
      }
    })
    expect(outcomes.filter((outcome) => outcome !== 'HOST_KEY_UNREADABLE')).toEqual([])
  })
})

describe('parseCaKeys', () => {
  test('one a line, with comments, blank lines and CRLF', () => {
    const [one, two] = [ring.ca.ed25519, ring.ca.rsa]
    expect(parseCaKeys(`# CAs\r\n\r\n  ${one.line}\r\n${two.line}\n\n  # end`)).toEqual([one.key, two.key])
    expect(parseCaKeys('\n# none\n')).toEqual([])
  })

  test.each([
    { name: 'damaged', bad: 'ssh-ed25519 AAAA' },
    { name: 'a type that is not supported', bad: `ssh-dss ${sshString('ssh-dss').toString('base64')}` },
    { name: 'no key at all', bad: 'hello' },
  ])('$name is CONFIG_INVALID with its line', ({ bad }) => {
    expect(() => parseCaKeys(`${ring.ca.ed25519.line}\n\n${bad}\n`)).toThrow(
      expect.objectContaining({
        code: 'CONFIG_INVALID',
        message: expect.stringMatching(/^line 3: /) as string,
      }),
    )
  })
})

describe('a file of CA keys in another form is named as what it is', () => {
  const line = craftKey().line
  const base64 = line.split(' ')[1] ?? ''
  test.each([
    [
      'known_hosts, with a marker',
      `@cert-authority *.example.com ${line} host-ca`,
      /^line 1: it is a line of known_hosts, with `@cert-authority`; write the key alone/,
    ],
    ['known_hosts, revoked', `@revoked * ${line}`, /line of known_hosts, with `@revoked`/],
    [
      'known_hosts, without a marker',
      `web1.example.com,192.0.2.1 ${line}`,
      /line of known_hosts, with host names/,
    ],
    ['authorized_keys', `cert-authority,principals="root" ${line}`, /line of authorized_keys, with options/],
    [
      'authorized_keys, with blanks',
      `command="echo a b",no-pty ${line}`,
      /line of authorized_keys, with options/,
    ],
    [
      'RFC 4716',
      `---- BEGIN SSH2 PUBLIC KEY ----\nComment: "ca"\n${base64}\n---- END SSH2 PUBLIC KEY ----\n`,
      /^it is a key in RFC 4716 form \(`ssh-keygen -i -f` converts it\)/,
    ],
    ['PEM', '-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n', /^it is a key in PEM form/],
    [
      'a TLS certificate',
      '-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n',
      /^it is a TLS certificate/,
    ],
    [
      'a private key',
      '-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n',
      /^it is a private key/,
    ],
    ['a byte order mark', `\u{FEFF}${line}`, /^it is a file that begins with a byte order mark/],
  ])('%s', (_, text, says) => {
    expect(() => parseCaKeys(text)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringMatching(says) as string }),
    )
  })

  test('what is really damaged is not taken for another form', () => {
    for (const text of ['ssh-ed25519 AAAA', line.slice(0, 40), 'hello world', 'a b c'])
      expect(() => parseCaKeys(text)).toThrow(/^line 1: (?!it is a line)/)
  })
})

test('which of the types that can be read every issuer signs', () => {
  expect(KEY_TYPES.filter((type) => !isIssuedKeyType(type))).toEqual([
    'ecdsa-sha2-nistp521',
    'sk-ssh-ed25519@openssh.com',
    'sk-ecdsa-sha2-nistp256@openssh.com',
    'ssh-mldsa44-ed25519',
    'ssh-mldsa44-ed25519@openssh.com',
  ])
  const unknown = ['ssh-dss', 'ssh-ed25519-cert-v01@openssh.com', 'ssh-mldsa44-ed25519-cert', 'toString', '']
  expect(unknown.filter((type) => isKeyType(type) || isIssuedKeyType(type))).toEqual([])
})

test('splitKeyLine keeps what it cannot judge', () => {
  expect(splitKeyLine('')).toEqual({ type: '', blob: null, comment: '' })
  expect(splitKeyLine('a')).toEqual({ type: 'a', blob: null, comment: '' })
  expect(splitKeyLine(' a  AAAA  b  c ')).toEqual({ type: 'a', blob: Buffer.alloc(3), comment: 'b  c' })
  expect(splitKeyLine('a AAAB= c')).toEqual({ type: 'a', blob: null, comment: 'c' })
})

test('a fingerprint has no padding', () => {
  expect(fingerprintOf(Buffer.alloc(0))).toBe('SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU')
})

test('quote escapes and cuts', () => {
  expect(quote('a"b\n\u001B')).toBe(String.raw`"a\"b\n\u001b"`)
  expect(quote('x'.repeat(61))).toBe(`"${'x'.repeat(60)}…"`)
})
