import { generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Secrets } from '../../agent/issuer/secrets.ts'
import { cpuMillisecondsSince } from '../support/cpu-time.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { makeSubject, NEVER, requestFor, startRawServer } from './harness.ts'

const json = (text: string): string => JSON.stringify(text).slice(1, -1)
const hex = (text: string): string =>
  [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
const unicode = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`,
  ).join('')

const ENCODINGS: Readonly<Record<string, (text: string) => string>> = {
  'as it is': (text) => text,
  'in JSON': json,
  'in JSON within JSON': (text) => json(json(text)),
  'in JSON, slashes escaped': (text) => json(text).replaceAll('/', String.raw`\/`),
  'in JSON, all escaped': unicode,
  'in a URL': encodeURIComponent,
  'in a form': (text) => new URLSearchParams({ '': text }).toString().slice(1),
  'in a URL, all escaped, lower case': hex,
  'in a URL, twice': (text) => encodeURIComponent(hex(text).toUpperCase()),
  'in JSON within a URL': (text) => encodeURIComponent(json(text)),
  'in base64': (text) => Buffer.from(text).toString('base64'),
  'in base64 behind a name': (text) => Buffer.from(`id:${text}`).toString('base64'),
  'in base64 behind another name': (text) => Buffer.from(`i:${text}\n`).toString('base64'),
  'in base64 for URLs': (text) => Buffer.from(text).toString('base64url'),
  'in base64 in a URL': (text) => encodeURIComponent(Buffer.from(text).toString('base64')),
}

/** With all that has to be escaped somewhere. */
const SECRET = 'cAnary/"7\\+ f5=é%41~0123456789'

describe('redact', () => {
  const secrets = new Secrets()
  secrets.add(SECRET)

  test.each(Object.entries(ENCODINGS))('%s', (_, encode) => {
    const encoded = encode(SECRET)
    const clean = secrets.redact(`before ${encoded} and ${encoded}, after`)
    expect(clean).toMatch(/^before .{0,6}\[secret\].{0,7} and .{0,6}\[secret\].{0,7}, after$/)
  })

  test('nothing else is touched', () => {
    const text = 'cAnary/"7 {"a":"\\u0041%41"} İstanbul 😀 cAnar'
    expect(secrets.redact(text)).toBe(text)
    expect(new Secrets().redact(text)).toBe(text)
  })

  test('one secret within another, and one that is too short to be one', () => {
    const several = new Secrets()
    for (const secret of ['inner', 'with inner part', '', 'e']) several.add(secret)
    expect(several.redact('inner, with inner part, e')).toBe('[secret], [secret], e')
  })

  test('any secret, in any encoding, wherever it is', () => {
    const encodings = fc.constantFrom(...Object.values(ENCODINGS).slice(0, 9))
    const secret = fc
      .string({ unit: 'binary', minLength: 4, maxLength: 40 })
      .filter((text) => text.isWellFormed())
    fc.assert(
      fc.property(secret, encodings, fc.string(), (text, encode, around) => {
        const known = new Secrets()
        known.add(text)
        expect(known.redact(`${around}${encode(text)}${around}`)).toContain('[secret]')
      }),
    )
  })
})

describe('a hostile text takes well under a second', () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
  const lines = pem.split('\n')
  const token = 'a'.repeat(16 * 1024)
  const SIZE = 64 * 1024

  test.each([
    { what: 'backslashes', text: '\\'.repeat(SIZE) },
    { what: 'percent signs', text: '%'.repeat(SIZE) },
    { what: 'escaped percent signs', text: '%25'.repeat(SIZE / 3) },
    { what: 'plus signs', text: '+'.repeat(SIZE) },
    { what: 'what the token repeats', text: 'a'.repeat(SIZE) },
    { what: 'its base64', text: 'YWFh'.repeat(SIZE / 4) },
    { what: 'beginnings of a line of the key', text: lines[3]?.slice(0, -1).repeat(1000) ?? '' },
    { what: 'letters', text: 'aB'.repeat(SIZE / 2) },
  ])('$what', ({ text }) => {
    const known = new Secrets()
    for (const secret of [pem, ...lines, token]) known.add(secret)
    const began = process.cpuUsage()
    const clean = known.redact(text)
    expect(cpuMillisecondsSince(began)).toBeLessThan(900)
    expect(clean.includes(lines[3] ?? '') || clean.includes(token)).toBe(false)
  })

  test('a long text without a secret stays as it is, and one in it is found', () => {
    const known = new Secrets()
    for (const secret of [pem, ...lines]) known.add(secret)
    const page = '<p class="x">100% of it, "quoted" \\n and a+b</p>\n'.repeat(1200)
    expect(known.redact(page)).toBe(page)
    expect(known.redact(page + lines[3])).toBe(`${page}[secret]`)
  })
})

/** A header holds bytes; what is none is left out there. */
const inHeader = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '')

type Answer = readonly [status: number, body: string, headers?: Readonly<Record<string, string>>]
const CLIENT_SECRET = 'cAnary/"7\\+f5=%41~0123456789'
const TOKEN = 'cAnary-token/+.0123456789abcdef'
const good: Answer = [200, JSON.stringify({ accessToken: TOKEN })]
const refusal = (said: string, status = 403): Answer => [
  status,
  JSON.stringify({
    reqId: `req-${inHeader(said).replaceAll(' ', '')}`,
    message: said,
    error: said,
    details: { said },
  }),
]

const PLACES: readonly {
  readonly name: string
  readonly login?: (said: string) => Answer
  readonly issue?: (said: string) => Answer
  readonly hostCa?: (said: string) => Answer
  readonly bringsToken?: boolean
}[] = [
  { name: 'a refused login', login: (said) => refusal(said) },
  {
    name: 'a list of messages',
    login: (said) => [422, JSON.stringify({ message: [{ path: [said], message: said }] })],
  },
  { name: 'behind what is cut off', login: (said) => refusal(`${'x'.repeat(285)}${said}`) },
  { name: 'behind more than is kept', login: (said) => refusal(`${'x '.repeat(2040)}${said}`) },
  { name: 'a redirect', login: (said) => [302, '', { location: `https://x/?${inHeader(said)}` }] },
  {
    name: 'a login without a token',
    login: (said) => [200, JSON.stringify({ reqId: inHeader(said).replaceAll(' ', ''), message: said })],
  },
  {
    name: 'the id of a good login',
    bringsToken: true,
    login: (said) => [200, JSON.stringify({ accessToken: TOKEN, reqId: inHeader(said).replaceAll(' ', '') })],
  },
  { name: 'a web page', login: (said) => [502, `<h1>${said}</h1>`, { 'content-type': 'text/html' }] },
  { name: 'a refused issue', issue: (said) => refusal(said) },
  {
    name: 'a busy issuer',
    issue: (said) => [503, refusal(said)[1], { 'retry-after': inHeader(said), date: inHeader(said) }],
  },
  {
    name: 'a certificate that is none',
    issue: (said) => [200, JSON.stringify({ signedKey: said, serialNumber: '7' })],
  },
  {
    name: 'the id of a certificate',
    issue: (said) => [
      200,
      JSON.stringify({ signedKey: 'x', serialNumber: '7', reqId: inHeader(said).replaceAll(' ', '') }),
    ],
  },
  { name: 'a CA that is none', hostCa: (said) => [200, said] },
  { name: 'the type of a CA key', hostCa: (said) => [200, `${said} AAAA`] },
  { name: 'the comment of a CA key', hostCa: (said) => [200, `ssh-ed25519 AAAA ${said}`] },
  { name: 'a CA route that is refused', hostCa: (said) => refusal(said, 401) },
  {
    name: 'no CA route',
    hostCa: (said) => [404, JSON.stringify({ error: 'Not Found', message: `Route GET:${said} not found` })],
  },
]

/** With every other encoding: the table above has them all. */
describe.each(PLACES)('a canary in $name', (place) => {
  test.each(
    Object.entries(ENCODINGS)
      .filter((_, index) => index % 2 === 0)
      .flatMap(([encoding, encode]) =>
        [
          { what: 'the client secret', secret: CLIENT_SECRET },
          // A token is known once it was received.
          ...(place.login === undefined || place.bringsToken === true
            ? [{ what: 'the token', secret: TOKEN }]
            : []),
        ].map(({ what, secret }) => ({ what, encoding, said: encode(secret) })),
      ),
  )('$what $encoding: neither in an answer nor in the log', async ({ said }) => {
    const answers: Readonly<Record<string, Answer>> = {
      login: place.login?.(said) ?? good,
      'issue-host-cert': place.issue?.(said) ?? refusal('no'),
      'host-ca-public-key': place.hostCa?.(said) ?? [500, ''],
    }
    await using server = await startRawServer((request, response) => {
      const [status, body, headers = {}] = answers[request.url?.split('/').at(-1) ?? ''] ?? [500, '']
      response.writeHead(status, { 'content-type': 'application/json', ...headers })
      response.end(body)
    })
    await using folder = await makeTemporaryFolder()
    const clientSecretFile = join(folder.path, 'client-secret')
    await writeFile(clientSecretFile, `${CLIENT_SECRET}\n`)
    const auth = {
      method: 'universal-auth',
      organization: null,
      clientId: { value: 'id' },
      clientSecretFile,
    } as const
    const { issuer, logged } = makeSubject({ url: server.url, auth })
    const issued = await issuer.issue(requestFor('ssh-ed25519 AAAA c'), NEVER)
    const named = await issuer.hostCa(NEVER)
    const left = JSON.stringify([issued, named, logged])
    expect(left).not.toMatch(/cAnary|canary/i)
    // Nor a part of it in any of the encodings.
    for (const part of [
      said.slice(0, 12),
      said.slice(-12),
      json(said).slice(0, 12),
      inHeader(said).slice(4, 16),
    ])
      expect(left).not.toContain(part)
  })
})
