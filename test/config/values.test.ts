import { describe, expect, test } from 'vitest'
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
      good: ['8c1efcfc-434c-4c43-80e3-53c9eae6672a', '8C1EFCFC-434C-0000-0000-53C9EAE6672A'],
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
