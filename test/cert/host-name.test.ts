import { describe, expect, test } from 'vitest'
import { readCertificateTtl, readHostName } from '../../agent/cert/host-name.ts'

describe('a host name', () => {
  test.each([
    ['web1.example.com', 'web1.example.com'],
    ['WEB1.Example.COM', 'web1.example.com'],
    ['1.example.com', '1.example.com'],
    ['xn--mller-kva.xn--p1ai', 'xn--mller-kva.xn--p1ai'],
    [`${'a'.repeat(63)}.example.com`, `${'a'.repeat(63)}.example.com`],
    [`${'a1.'.repeat(83)}comm`, `${'a1.'.repeat(83)}comm`],
  ])('%s', (text, value) => {
    expect(readHostName(text)).toEqual({ ok: true, value })
  })

  test.each([
    ['', /is empty$/],
    ['localhost', /the name that every host has for itself/],
    ['localhost.localdomain', /the name that every host has for itself/],
    ['LOCALHOST', /the name that every host has for itself/],
    ['web1', /is a short name: give the name with its domain/],
    ['192.0.2.1', /is an IP address/],
    ['2001:db8::1', /is an IP address/],
    ['*.example.com', /is a wildcard/],
    ['web_1.example.com', /"web_1" that has an underscore/],
    ['web1.example.com.', /ends in a dot/],
    ['web1..example.com', /label "" that is empty/],
    ['-web1.example.com', /begins or ends with a hyphen/],
    ['web1.example.com\u001b[31m', /^[\x20-\x7e]* that has a character other than/],
    ['wéb.example.com', /a character other than a letter, a digit or a hyphen/],
    ['a.b', /does not end in a top-level domain/],
    ['web1.example.123', /does not end in a top-level domain/],
    [`${'a'.repeat(64)}.example.com`, /is longer than 63 characters/],
    [`${'a1.'.repeat(83)}commm`, /is longer than 253 characters/],
  ])('%j is refused', (text, why) => {
    expect(readHostName(text)).toEqual({ ok: false, why: expect.stringMatching(why) })
  })
})

describe('the lifetime of certificates', () => {
  test.each(['30d', '1y', '8h', '60s', '1m', '4w', '68y', '2147483647s'])('%s', (text) => {
    expect(readCertificateTtl(text)).toEqual({ ok: true, value: text })
  })

  test.each([
    ['59s', /shorter than a minute/],
    ['0d', /shorter than a minute/],
    ['69y', /longer than 68 years/],
    ['2147483648s', /longer than 68 years/],
    ['9999999999y', /longer than 68 years/],
    ['', /is not a lifetime/],
    ['30', /is not a lifetime/],
    ['30 d', /is not a lifetime/],
    ['1.5y', /is not a lifetime/],
    ['-1d', /is not a lifetime/],
    ['1d\n', /is not a lifetime/],
  ])('%j is refused', (text, why) => {
    expect(readCertificateTtl(text)).toEqual({ ok: false, why: expect.stringMatching(why) })
  })
})
