import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { claimsOf, expiryOf, looksLikeJwt } from '../../agent/issuer/logins/jwt-claims.ts'

const encode = (text: string | Buffer): string => Buffer.from(text).toString('base64url')
const jwtWith = (payload: string | Buffer): string => `e30.${encode(payload)}.c2ln`
const jwtOf = (payload: unknown): string => jwtWith(JSON.stringify(payload))

/** Issuer, subject, five audiences with a mark behind them, expiry; each text cut and escaped. */
const MOST_CHARACTERS = 7 * 700 + 100
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

describe('the claims of a JWT', () => {
  test.each([
    {
      name: 'all',
      payload: { iss: 'i', sub: 's', aud: ['a', 'b'], exp: 0 },
      want: ['issuer i', 'subject s', 'audience a, b', 'expires 1970-01-01T00:00:00Z'],
    },
    { name: 'none', payload: {}, want: [] },
    { name: 'of other types', payload: { iss: 1, sub: {}, aud: [null, 5], exp: 'x' }, want: [] },
    { name: 'nested', payload: { iss: { iss: 'i' }, sub: [['s']], aud: [{ aud: 'a' }] }, want: [] },
    { name: 'empty texts', payload: { iss: '', sub: '', aud: ['', ''] }, want: [] },
    {
      name: 'a control and a long text',
      payload: { sub: `\u001b${'x'.repeat(500)}` },
      want: [`subject \\u001b${'x'.repeat(99)}…`],
    },
    {
      name: 'a line end, and what turns the reading direction',
      payload: { iss: 'a\r\nb', sub: 'c\u202ed\u2028' },
      want: ['issuer a\\r\\nb', 'subject c\\u202ed\\u2028'],
    },
    { name: 'many audiences', payload: { aud: 'abcdefg'.split('') }, want: ['audience a, b, c, d, e, …'] },
    { name: 'a list', payload: ['sub'], want: [] },
    { name: 'a text', payload: 'sub', want: [] },
    { name: 'null', payload: null, want: [] },
  ])('$name', ({ payload, want }) => {
    expect(claimsOf(jwtOf(payload))).toEqual(want)
  })

  test.each([
    { name: 'a text', exp: '"1900000000"' },
    { name: 'a date', exp: '"2030-01-01T00:00:00Z"' },
    { name: 'a list', exp: '[1900000000]' },
    { name: 'true', exp: 'true' },
    { name: 'null', exp: 'null' },
    { name: 'endless', exp: '1e999' },
    { name: 'huge', exp: '1e300' },
    { name: 'an integer of 400 digits', exp: '9'.repeat(400) },
    { name: 'behind the year 9999', exp: '253402300800' },
    { name: 'negative', exp: '-1' },
  ])('an expiry that is $name is none', ({ exp }) => {
    const jwt = jwtWith(`{"sub":"web1","exp":${exp}}`)
    expect(expiryOf(jwt)).toBeNull()
    expect(claimsOf(jwt)).toEqual(['subject web1'])
  })

  test('a prototype is not a claim', () => {
    expect(claimsOf(jwtWith('{"__proto__":{"sub":"web1"},"constructor":{"iss":"i"}}'))).toEqual([])
  })

  test.each([
    '',
    'a.b',
    'a.b.c',
    '..',
    'a.b.c.d',
    'not a jwt',
    '\0.\0.\0',
    'e30.e30=.c2ln',
    'e30.e3+w/w.c2ln',
    'e30.e30.',
    ' e30.e30.c2ln',
    'e30.e30.c2ln\n',
    jwtWith('{"sub":"web1"'),
    jwtWith(Buffer.of(0xff, 0xfe, 0x00)),
    jwtWith('{"sub":"web1"}{"sub":"web2"}'),
  ])('no JWT, or none that can be read: %j', (text) => {
    expect(claimsOf(text)).toEqual([])
    expect(expiryOf(text)).toBeNull()
  })

  test('10 MiB take no time', () => {
    const large = [
      jwtOf({ sub: 'x'.repeat(10 * 1024 * 1024) }),
      jwtWith('['.repeat(10 * 1024 * 1024)),
      '.'.repeat(10 * 1024 * 1024),
      'a'.repeat(10 * 1024 * 1024),
    ]
    const began = performance.now()
    expect(large.flatMap(claimsOf)).toEqual([])
    expect(large.map(expiryOf)).toEqual([null, null, null, null])
    expect(large.some(looksLikeJwt)).toBe(false)
    expect(performance.now() - began).toBeLessThan(500)
  })

  test('as deep as 16 KiB go', () => {
    expect(claimsOf(jwtWith(`{"sub":"web1","aud":${'['.repeat(5000)}${']'.repeat(5000)}}`))).toEqual([
      'subject web1',
    ])
  })

  test('whatever the payload: printable, bounded, and no error', () => {
    const text = fc.string({ unit: 'binary', maxLength: 300 })
    const claim = fc.oneof(text, fc.array(text, { maxLength: 20 }), fc.jsonValue(), fc.double())
    const payload = fc.record({ iss: claim, sub: claim, aud: claim, exp: claim }, { requiredKeys: [] })
    fc.assert(
      fc.property(fc.oneof(payload, fc.jsonValue()), (value) => {
        const claims = claimsOf(jwtOf(value))
        expect(claims.join('')).not.toMatch(UNPRINTABLE)
        expect(claims.join(', ').length).toBeLessThan(MOST_CHARACTERS)
      }),
    )
  })

  test('whatever the text: no error', () => {
    const part = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.uint8Array().map((bytes) => encode(Buffer.from(bytes))),
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 5 }), (parts) => {
        const text = parts.join('.')
        expect(claimsOf(text).join('')).not.toMatch(UNPRINTABLE)
        const expiry = expiryOf(text)
        expect(expiry === null || Number.isFinite(expiry)).toBe(true)
      }),
    )
  })
})
