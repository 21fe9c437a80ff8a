import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isLoopback } from '../../agent/config/config.ts'
import {
  readAbsolutePath,
  readArgument,
  readHostKeyPattern,
  readJitter,
  readPrincipal,
  readTimeout,
  readUuid,
  readWindow,
  readWord,
  readHealthHost,
  readHealthListen,
  readIssuerUrl,
  readSshdAddress,
} from '../../agent/config/values.ts'
import { outcome } from './outcome.ts'

test.each([
  ['1s', 1],
  ['30s', 30],
  ['1m', 60],
  ['121s', 121],
  ['1h', 3600],
  ['1d', 86_400],
  ['0s', 'PROBLEM'],
  ['1.5m', 'PROBLEM'],
  ['30', 'PROBLEM'],
  ['30 s', 'PROBLEM'],
  ['-1s', 'PROBLEM'],
  ['', 'PROBLEM'],
])('issuer.timeout %j: %j', (text, want) => {
  expect(outcome(readTimeout(text))).toBe(want)
})

test.each([
  ['33%', { kind: 'share', ratio: 0.33 }],
  ['1%', { kind: 'share', ratio: 0.01 }],
  ['99%', { kind: 'share', ratio: 0.99 }],
  ['3d', { kind: 'duration', seconds: 259_200 }],
  ['1s', { kind: 'duration', seconds: 1 }],
  ['0%', 'PROBLEM'],
  ['100%', 'PROBLEM'],
  ['33.3%', 'PROBLEM'],
  ['0.33', 'PROBLEM'],
  ['0d', 'PROBLEM'],
  ['1w', 'PROBLEM'],
])('renewal.window %j: %j', (text, want) => {
  expect(outcome(readWindow(text))).toEqual(want)
})

test.each([
  ['0%', 0],
  ['50%', 0.5],
  ['100%', 1],
  ['101%', 'PROBLEM'],
  ['50', 'PROBLEM'],
  ['1h', 'PROBLEM'],
])('renewal.jitter %j: %j', (text, want) => {
  expect(outcome(readJitter(text))).toBe(want)
})

describe('single values', () => {
  test.each([
    {
      read: readUuid,
      good: ['8c1efcfc-434c-4c43-80e3-53c9eae6672a', '8c1efcfc-434c-0000-0000-53c9eae6672a'],
    },
    { read: readAbsolutePath, good: ['/', '/etc/x y', '/ä'] },
    { read: readArgument, good: ['', '-x', 'a\nb'] },
    { read: readPrincipal, good: ['web1.example.com', '*'] },
    { read: readWord, good: ['id', 'two words'] },
    {
      read: readHostKeyPattern,
      good: ['/etc/ssh/ssh_host_*_key.pub', '/k.pub', '/etc/ssh/*/ssh_host_*.pub'],
    },
  ])('$read.name takes $good', ({ read, good }) => {
    for (const text of good) expect(outcome(read(text))).toBe(text)
  })

  test('an id in upper case is the same as in lower case', () => {
    expect(outcome(readUuid('8C1EFCFC-434C-4C43-80E3-53C9EAE6672A'))).toBe(
      '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
    )
  })

  test.each([
    {
      read: readUuid,
      bad: ['', 'host-1', '8c1efcfc434c4c4380e353c9eae6672a', '8c1efcfc-434c-4c43-80e3-53c9eae6672a\n'],
    },
    { read: readAbsolutePath, bad: ['', 'etc/x', './x', '~/x', '/a\0b', '/a\nb'] },
    { read: readArgument, bad: ['a\0b'] },
    { read: readPrincipal, bad: ['', ' ', 'a b', 'a,b', 'a\n', 'a\u0007'] },
    { read: readWord, bad: ['', ' ', 'a\nb', '\u0000'] },
    {
      read: readHostKeyPattern,
      bad: [
        '',
        'x.pub',
        '/etc/ssh/ssh_host_rsa_key',
        '/etc/ssh/ssh_host_rsa_key-cert.pub',
        '/a*-cert.pub',
        '/**/*.pub',
        '/etc/*/*/k.pub',
        '/etc/ssh/**.pub',
      ],
    },
  ])('$read.name refuses $bad', ({ read, bad }) => {
    for (const text of bad) expect([text, outcome(read(text))]).toEqual([text, 'PROBLEM'])
  })
})

test.each([
  ['https://us.infisical.com', 'https://us.infisical.com'],
  ['https://us.infisical.com/', 'https://us.infisical.com'],
  ['https://ca.example.com:8443/a/b///', 'https://ca.example.com:8443/a/b'],
  ['HTTPS://CA.Example.com', 'https://ca.example.com'],
  ['http://127.0.0.1:8080', 'http://127.0.0.1:8080'],
  ['http://127.9.9.9', 'http://127.9.9.9'],
  ['http://[::1]:8080/x', 'http://[::1]:8080/x'],
  ['http://localhost:8080', 'http://localhost:8080'],
  ['http://us.infisical.com', 'PROBLEM'],
  ['http://10.0.0.1', 'PROBLEM'],
  ['http://127.0.0.1.example.com', 'PROBLEM'],
  ['http://localhost.example.com', 'PROBLEM'],
  ['http://[::2]', 'PROBLEM'],
  ['http://0.0.0.0', 'PROBLEM'],
  ['https://user:pw@example.com', 'PROBLEM'],
  ['https://@example.com', 'PROBLEM'],
  ['http://localhost@example.com', 'PROBLEM'],
  ['https://example.com?', 'PROBLEM'],
  ['https://example.com/#a', 'PROBLEM'],
  ['https:example.com', 'PROBLEM'],
  ['https:///example.com', 'PROBLEM'],
  ['https:\\\\example.com', 'PROBLEM'],
  [' https://example.com', 'PROBLEM'],
  ['https://exa mple.com', 'PROBLEM'],
  ['https://', 'PROBLEM'],
  ['ftp://example.com', 'PROBLEM'],
  ['us.infisical.com', 'PROBLEM'],
  ['', 'PROBLEM'],
])('issuer.url %j: %j', (text, want) => {
  expect(outcome(readIssuerUrl(text))).toBe(want)
})

test('a password in the URL is not repeated', () => {
  expect(readIssuerUrl('https://user:hunter2@example.com')).toEqual({
    ok: false,
    problem: 'must be a URL without a user name or password',
  })
})

test('any https URL is read, loses the slashes at its end, and is then read as itself', () => {
  fc.assert(
    fc.property(fc.webUrl({ validSchemes: ['https'] }), fc.nat(3), (text, slashes) => {
      const url = outcome(readIssuerUrl(text + '/'.repeat(slashes)))
      expect(url).toMatch(/^https:\/\/[^?#]*[^/?#]$/)
      expect(outcome(readIssuerUrl(url))).toBe(url)
    }),
  )
})

test('no http URL of another host, nor any with a query, is read', () => {
  fc.assert(
    fc.property(fc.domain(), fc.webPath(), fc.string(), (host, path, query) => {
      expect(outcome(readIssuerUrl(`http://${host}${path}`))).toBe('PROBLEM')
      expect(outcome(readIssuerUrl(`https://${host}${path}?${query}`))).toBe('PROBLEM')
    }),
  )
})

test.each([
  ['auto', 'auto'],
  ['none', 'none'],
  ['127.0.0.1:22', { host: '127.0.0.1', port: 22 }],
  ['[::1]:2222', { host: '::1', port: 2222 }],
  ['web1.example.com:65535', { host: 'web1.example.com', port: 65_535 }],
  ['127.0.0.1', 'PROBLEM'],
  ['127.0.0.1:0', 'PROBLEM'],
  ['127.0.0.1:65536', 'PROBLEM'],
  ['127.0.0.1:022', 'PROBLEM'],
  ['127.0.0.256:22', 'PROBLEM'],
  ['::1:22', 'PROBLEM'],
  ['[::1]', 'PROBLEM'],
  ['[web1]:22', 'PROBLEM'],
  [':22', 'PROBLEM'],
  ['-oProxyCommand=x:22', 'PROBLEM'],
  ['-p:22', 'PROBLEM'],
  ['a b:22', 'PROBLEM'],
  ['any', 'PROBLEM'],
])('sshd.address %j: %j', (text, want) => {
  expect(outcome(readSshdAddress(text))).toEqual(want)
})

test.each([
  ['none', { kind: 'none' }],
  ['127.0.0.1:9847', { kind: 'tcp', host: '127.0.0.1', port: 9847 }],
  ['0.0.0.0:9847', { kind: 'tcp', host: '0.0.0.0', port: 9847 }],
  ['[::1]:9847', { kind: 'tcp', host: '::1', port: 9847 }],
  ['localhost:1', { kind: 'tcp', host: 'localhost', port: 1 }],
  ['unix:/run/hostcertd/health.sock', { kind: 'unix', path: '/run/hostcertd/health.sock' }],
  [`unix:/${'a'.repeat(106)}`, { kind: 'unix', path: `/${'a'.repeat(106)}` }],
  [`unix:/${'a'.repeat(107)}`, 'PROBLEM'],
  ['unix:health.sock', 'PROBLEM'],
  ['unix:', 'PROBLEM'],
  ['web1.example.com:9847', 'PROBLEM'],
  ['*:9847', 'PROBLEM'],
  [':9847', 'PROBLEM'],
  ['9847', 'PROBLEM'],
  ['127.0.0.1:99999', 'PROBLEM'],
])('health.listen %j: %j', (text, want) => {
  expect(outcome(readHealthListen(text))).toEqual(want)
})

test.each([
  ['status.example.com', 'status.example.com'],
  ['Web1', 'web1'],
  ['web1.example.com.', 'web1.example.com.'],
  ['', 'PROBLEM'],
  ['web1.example.com:9847', 'PROBLEM'],
  ['https://web1.example.com', 'PROBLEM'],
  ['web1.example.com/status', 'PROBLEM'],
  ['*.example.com', 'PROBLEM'],
  ['web 1', 'PROBLEM'],
  ['192.0.2.7', 'PROBLEM'],
  ['[::1]', 'PROBLEM'],
])('health.hosts %j: %j', (text, want) => {
  expect(outcome(readHealthHost(text))).toEqual(want)
})

test.each([
  ['127.0.0.1', true],
  ['127.255.0.9', true],
  ['::1', true],
  ['LOCALHOST', true],
  ['128.0.0.1', false],
  ['::', false],
  ['127.example.com', false],
])('loopback %s: %s', (host, want) => {
  expect(isLoopback(host)).toBe(want)
})
