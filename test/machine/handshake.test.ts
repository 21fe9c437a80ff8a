import { describe, expect, test } from 'vitest'
import type { PublicKey } from '../../agent/cert/public-key.ts'
import { certificateTypeOf } from '../../agent/cert/wire.ts'
import { hostKeyAlgorithmsFor, readHandshake } from '../../agent/host/handshake.ts'
import { blobOf, craftCertificate, craftKey, sshString } from '../cert/craft.ts'
import { KEY_KINDS, keyIn } from '../cert/key-ring.ts'

const NONCE = '5b1f0e4a9c3d7e2f8a6b4c1d0e9f7a3b'
const crafted = craftKey()
const key = keyIn(crafted.line)
const certificate = blobOf(craftCertificate(crafted, craftKey()))

/** Lines as ssh ends them. */
function said(...lines: string[]) {
  return { status: 255, failure: null, stderr: lines.map((line) => `${line}\r\n`).join('') }
}

function marked(text: string): string {
  return `${NONCE} ${text} ${NONCE}\n`
}

/** What OpenSSH 9.2, 10.0 and 10.6 all say after the marker. */
const REFUSED_KEY = said(
  'No ED25519 host key is known for [127.0.0.1]:2299 and you have requested strict checking.',
  'Host key verification failed.',
).stderr

function read(stderr: string) {
  return readHandshake({ status: 255, failure: null, stderr }, NONCE, key)
}

const NOT_OFFERED =
  'Unable to negotiate with 127.0.0.1 port 22: no matching host key type found. Their offer:'

describe('what was presented', () => {
  test('the plain key', () => {
    const stderr = marked(key.blob.toString('base64')) + REFUSED_KEY
    expect(read(stderr)).toEqual({ kind: 'plain', blob: key.blob })
  })

  test('a certificate, also an expired one, which ssh complains about', () => {
    const complaint = said('Certificate invalid: expired').stderr
    const stderr = marked(certificate.toString('base64')) + complaint + REFUSED_KEY
    expect(read(stderr)).toEqual({ kind: 'certificate', blob: certificate })
  })

  test('a certificate that only its type tells', () => {
    const blob = Buffer.concat([sshString('ssh-ed25519-cert-v01@openssh.com'), Buffer.of(0xff)])
    expect(read(marked(blob.toString('base64')))).toEqual({ kind: 'certificate', blob })
  })

  test('the same marker twice, as ssh may run the command again', () => {
    const one = marked(key.blob.toString('base64'))
    expect(read(one + one)).toEqual({ kind: 'plain', blob: key.blob })
  })

  test('what ssh was killed after does not matter', () => {
    const stderr = marked(key.blob.toString('base64'))
    const killed = { status: null, failure: 'ssh did not finish within 6 s', stderr }
    expect(readHandshake(killed, NONCE, key)).toEqual({ kind: 'plain', blob: key.blob })
  })

  const base64 = key.blob.toString('base64')
  test.each([
    { name: 'two different keys', stderr: marked(base64) + marked(certificate.toString('base64')) },
    { name: 'a marker cut short', stderr: `${NONCE} ${base64.slice(0, 20)}` },
    { name: 'a second marker cut short', stderr: `${marked(base64)}${NONCE} ${base64.slice(0, 20)}` },
    { name: 'no key in it', stderr: marked('') },
    { name: 'a token that this ssh does not expand', stderr: marked('%K') },
    { name: 'no nonce before it', stderr: `x ${base64} ${NONCE}\n` },
    { name: 'something before it', stderr: `debug1: ${marked(base64)}` },
    { name: 'something after it', stderr: `${NONCE} ${base64} ${NONCE} again\n` },
    { name: 'base64 in another form', stderr: marked(base64.replace(/=*$/, '====')) },
    {
      name: 'a key of a type that was not asked for',
      stderr: marked(sshString('ssh-rsa').toString('base64')),
    },
    { name: 'bytes that are no key', stderr: marked(Buffer.of(1, 2, 3).toString('base64')) },
  ])('not understood: $name', ({ stderr }) => {
    expect(read(stderr)).toEqual({ kind: 'unknown', reason: 'the output of ssh was not understood' })
  })

  test('a marker with another nonce is none', () => {
    const forged = `${'0'.repeat(32)} ${base64} ${'0'.repeat(32)}`
    expect(read(said(forged).stderr)).toEqual({ kind: 'unknown', reason: forged })
  })
})

describe('not offered', () => {
  test.each([
    { server: 'OpenSSH', offer: 'rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256' },
    { server: 'dropbear 2022.83', offer: 'rsa-sha2-256,ssh-rsa' },
    { server: 'one whose list is cut at 1 KB', offer: `ssh-dss,${'x'.repeat(920)}` },
    { server: 'one of names that ssh escaped', offer: String.raw`ssh-dss,x\033[31m` },
  ])('by $server', ({ offer }) => {
    expect(readHandshake(said(`${NOT_OFFERED} ${offer}`), NONCE, key)).toEqual({ kind: 'not-offered', offer })
  })

  test.each([
    { name: 'nothing offered', lines: [`${NOT_OFFERED} `] },
    { name: 'a list with the plain type in it', lines: [`${NOT_OFFERED} ssh-rsa,ssh-ed25519`] },
    {
      name: 'a list with the certificate type in it',
      lines: [`${NOT_OFFERED} ssh-ed25519-cert-v01@openssh.com`],
    },
    { name: 'a blank in the list', lines: [`${NOT_OFFERED} ssh-rsa, ssh-dss`] },
    { name: 'a list of several lines', lines: [`${NOT_OFFERED} ssh-rsa`, 'foo', 'bar'] },
    {
      name: 'a line before it',
      lines: ['Received disconnect from 127.0.0.1 port 22:11: a', `${NOT_OFFERED} ssh-rsa`],
    },
    { name: 'a line after it', lines: [`${NOT_OFFERED} ssh-rsa`, 'Disconnected from 127.0.0.1 port 22'] },
    { name: 'the line twice', lines: [`${NOT_OFFERED} ssh-rsa`, `${NOT_OFFERED} ssh-rsa`] },
    { name: 'something before it in the line', lines: [`kex: ${NOT_OFFERED} ssh-rsa`] },
    {
      name: 'other words',
      lines: ['Unable to negotiate with 127.0.0.1 port 22: no matching host key found'],
    },
  ])('unknown: $name', ({ lines }) => {
    expect(readHandshake(said(...lines), NONCE, key).kind).toBe('unknown')
  })

  test('unknown when ssh ended in another way', () => {
    const ended = said(`${NOT_OFFERED} ssh-rsa`)
    expect(readHandshake({ ...ended, status: 1 }, NONCE, key).kind).toBe('unknown')
    expect(readHandshake({ ...ended, status: null, failure: 'killed' }, NONCE, key).kind).toBe('unknown')
  })

  test('unknown when only an algorithm is offered that a newer ssh does not know', () => {
    const rsa = { ...key, type: 'ssh-rsa' } as const
    expect(readHandshake(said(`${NOT_OFFERED} ssh-rsa`), NONCE, rsa).kind).toBe('unknown')
    expect(readHandshake(said(`${NOT_OFFERED} ssh-ed25519`), NONCE, rsa).kind).toBe('not-offered')
  })
})

describe('nothing in common', () => {
  test.each([
    'no matching cipher found. Their offer: aes256-cbc',
    'no matching MAC found. Their offer: hmac-sha1-96',
    'no matching key exchange method found. Their offer: diffie-hellman-group1-sha1,kex-strict-s-v00@openssh.com',
  ])('%s', (what) => {
    const line = `Unable to negotiate with 127.0.0.1 port 22: ${what}`
    expect(readHandshake(said(line), NONCE, key)).toEqual({ kind: 'nothing-in-common', reason: line })
  })

  test('a compression that neither side has is not understood', () => {
    const line = 'Unable to negotiate with 127.0.0.1 port 22: no matching compression found. Their offer: lzw'
    expect(readHandshake(said(line), NONCE, key)).toEqual({ kind: 'unknown', reason: line })
  })
})

describe('no connection', () => {
  const line = (why: string) => `ssh: connect to host ::1 port 22: ${why}`
  test.each([
    { kind: 'refused', lines: [line('Connection refused')], reason: 'Connection refused' },
    {
      kind: 'no-address',
      lines: [line('Cannot assign requested address')],
      reason: 'Cannot assign requested address',
    },
    {
      kind: 'no-address',
      lines: [
        'socket: Address family not supported by protocol',
        line('Address family not supported by protocol'),
      ],
      reason: 'Address family not supported by protocol; Address family not supported by protocol',
    },
    { kind: 'unknown', lines: [line('Network is unreachable')], reason: 'Network is unreachable' },
    { kind: 'unknown', lines: [line('No route to host')], reason: 'No route to host' },
    { kind: 'unknown', lines: [line('Connection timed out')], reason: 'Connection timed out' },
    { kind: 'unknown', lines: [line('Permission denied')], reason: 'Permission denied' },
    // Of a disconnect message of two lines.
    {
      kind: 'unknown',
      lines: ['Received disconnect from ::1 port 22:11: x', line('Connection refused')],
      reason: 'Received disconnect from ::1 port 22:11: x; Connection refused',
    },
    {
      kind: 'unknown',
      lines: ['Received disconnect from ::1 port 22:11: x', line('Cannot assign requested address')],
      reason: 'Received disconnect from ::1 port 22:11: x; Cannot assign requested address',
    },
    // A server that repeats what ssh prints in a line of its own.
    ...[line('Connection refused'), 'socket: Cannot assign requested address'].map((text) => ({
      kind: 'unknown',
      lines: [`Received disconnect from ::1 port 22:11: ${text}`],
      reason: `Received disconnect from ::1 port 22:11: ${text}`,
    })),
    {
      kind: 'unknown',
      lines: [`${line('Connection refused')}\rx`],
      reason: `${line('Connection refused')}\rx`,
    },
    // A blank line counts for nothing.
    { kind: 'refused', lines: [line('Connection refused'), '  '], reason: 'Connection refused' },
  ])('$kind: $reason', ({ kind, lines, reason }) => {
    expect(readHandshake(said(...lines), NONCE, key)).toEqual({ kind, reason })
  })

  test('not as ssh ends it', () => {
    const ended = said(line('Connection refused'))
    expect(readHandshake({ ...ended, status: 0 }, NONCE, key).kind).toBe('unknown')
  })
})

describe('unknown, in the words of ssh', () => {
  test.each([
    // OpenSSH 9.2, then 10.0 and 10.6, of a server that hangs up before its banner (MaxStartups, penalties).
    [
      'kex_exchange_identification: Connection closed by remote host',
      'Connection closed by 127.0.0.1 port 22',
    ],
    ['Connection closed by 127.0.0.1 port 22'],
    ['kex_exchange_identification: read: Connection reset by peer', 'Connection reset by 127.0.0.1 port 22'],
    ['Connection timed out during banner exchange', 'Connection to 127.0.0.1 port 22 timed out'],
    ['Protocol major versions differ: 2 vs. 1'],
    ['ssh: Could not resolve hostname no.invalid: Name or service not known'],
    ['command-line line 0: Bad configuration option: knownhostscommand'],
    ["command-line line 0: Bad key types 'foo'."],
    // In a sandbox that does not allow it.
    ['setresuid 65534: Operation not permitted', 'KnownHostsCommand failed', 'Host key verification failed.'],
  ])('%s', (...lines) => {
    expect(readHandshake(said(...lines), NONCE, key)).toEqual({ kind: 'unknown', reason: lines.join('; ') })
  })

  test('nothing at all', () => {
    expect(readHandshake(said(), NONCE, key)).toEqual({
      kind: 'unknown',
      reason: 'ssh ended with status 255 and no message',
    })
  })

  test('a program that could not be run, or was killed', () => {
    const failure = 'ssh did not finish within 6 s'
    const ended = { status: null, failure, stderr: '' }
    expect(readHandshake(ended, NONCE, key)).toEqual({ kind: 'unknown', reason: failure })
    expect(readHandshake({ ...ended, stderr: 'more\r\n' }, NONCE, key)).toEqual({
      kind: 'unknown',
      reason: `${failure}; more`,
    })
  })
})

describe('algorithms', () => {
  /** Of OpenSSH 9.2, as `ssh -Q HostKeyAlgorithms` lists them. */
  const known = [
    'ssh-ed25519',
    'ssh-ed25519-cert-v01@openssh.com',
    ...['nistp256', 'nistp384', 'nistp521'].flatMap((curve) => [
      `ecdsa-sha2-${curve}`,
      `ecdsa-sha2-${curve}-cert-v01@openssh.com`,
    ]),
    ...['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512'].flatMap((name) => [name, `${name}-cert-v01@openssh.com`]),
  ]
  const ofType = (type: PublicKey['type']): PublicKey => ({ ...key, type })

  test.each(KEY_KINDS)('certificates come first, $type', ({ type }) => {
    const algorithms = hostKeyAlgorithmsFor(ofType(type), known)
    const firstPlain = algorithms.findIndex((name) => !name.includes('-cert-'))
    expect(algorithms.slice(firstPlain).some((name) => name.includes('-cert-'))).toBe(false)
    expect(algorithms).toContain(type)
    expect(algorithms).toContain(certificateTypeOf(type))
  })

  test('those of RSA, newest first', () => {
    expect(hostKeyAlgorithmsFor(ofType('ssh-rsa'), known)).toEqual([
      'rsa-sha2-512-cert-v01@openssh.com',
      'rsa-sha2-256-cert-v01@openssh.com',
      'ssh-rsa-cert-v01@openssh.com',
      'rsa-sha2-512',
      'rsa-sha2-256',
      'ssh-rsa',
    ])
  })

  test('only those that ssh knows, and none unless it knows key and certificate', () => {
    const without = (...names: string[]) => known.filter((name) => !names.includes(name))
    const rsa = hostKeyAlgorithmsFor(ofType('ssh-rsa'), without('ssh-rsa', 'ssh-rsa-cert-v01@openssh.com'))
    expect(rsa).toEqual([
      'rsa-sha2-512-cert-v01@openssh.com',
      'rsa-sha2-256-cert-v01@openssh.com',
      'rsa-sha2-512',
      'rsa-sha2-256',
    ])
    expect(hostKeyAlgorithmsFor(key, without('ssh-ed25519'))).toEqual([])
    expect(hostKeyAlgorithmsFor(key, without('ssh-ed25519-cert-v01@openssh.com'))).toEqual([])
    expect(hostKeyAlgorithmsFor(key, [])).toEqual([])
  })
})
