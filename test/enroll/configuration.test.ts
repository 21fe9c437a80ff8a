import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { comparedWith, type Settings, withSettings } from '../../agent/enroll/configuration.ts'

const LONG = `command: a line of ${'very '.repeat(40)}many words`

/** As administrators write it: with odd spaces, quotes and comments. */
const WRITTEN = `# Of the fleet team.

issuer:
    url:   'https://old.example.com'   # the old one
    # Do not touch.
    ssh_host_id: "8c1efcfc-434c-4c43-80e3-53c9eae6672a"


auth:
    method: token
    token_file:    /run/token # renewed by cron
host_keys:
- /etc/ssh/ssh_host_ed25519_key.pub
- '/etc/ssh/ssh_host_rsa_key.pub'
verify: {principals: [web1.example.com],   host_ca_file: /etc/hostcertd/host-ca.pub}
log: # ${LONG}
    level:  debug
`

test('settings that are there already change no byte', () => {
  const settings: Settings = [
    [['issuer', 'url'], 'https://old.example.com'],
    [['auth', 'method'], 'token'],
    [['auth', 'client_id'], null],
    [['verify', 'principals'], ['web1.example.com']],
  ]
  expect(withSettings(WRITTEN, settings)).toBe(WRITTEN)
})

test.each<{ name: string; settings: Settings; replaced: readonly (readonly [string, string])[] }>([
  {
    name: 'a value',
    settings: [[['issuer', 'url'], 'https://new.example.com']],
    replaced: [[`url:   'https://old.example.com'   #`, 'url: https://new.example.com   #']],
  },
  {
    name: 'a key that is new, below the others of its section',
    settings: [[['issuer', 'ca_file'], '/etc/tls.pem']],
    replaced: [['6672a"\n', '6672a"\n    ca_file: /etc/tls.pem\n']],
  },
  {
    name: 'a section that is new, at the end',
    settings: [[['enrollment', 'on_copy'], 'stop']],
    replaced: [['level:  debug\n', 'level:  debug\nenrollment:\n  on_copy: stop\n']],
  },
  {
    name: 'another way to log in',
    settings: [
      [['auth', 'method'], 'universal-auth'],
      [['auth', 'token_file'], null],
      [['auth', 'client_id'], 'a # b: c'],
    ],
    replaced: [
      [
        'method: token\n    token_file:    /run/token # renewed by cron\n',
        'method: universal-auth\n    client_id: "a # b: c"\n',
      ],
    ],
  },
  {
    name: 'a section whose last key goes',
    settings: [[['log', 'level'], null]],
    replaced: [[`log: # ${LONG}\n    level:  debug\n`, '']],
  },
])('$name: every other line stays, byte for byte', ({ settings, replaced }) => {
  const wanted = replaced.reduce((text, [from, to]) => text.replace(from, () => to), WRITTEN)
  expect(withSettings(WRITTEN, settings)).toBe(wanted)
  const windows = (text: string): string => text.replaceAll('\n', '\r\n')
  expect(withSettings(windows(WRITTEN), settings)).toBe(windows(wanted))
})

test('a file without a line feed at its end, and a value of many lines', () => {
  expect(withSettings('issuer:\n  url: a', [[['auth', 'method'], 'token']])).toBe(
    'issuer:\n  url: a\nauth:\n  method: token\n',
  )
  const text = 'verify:\n  principals:\n    - one\n    - two\n\n# End.\n'
  expect(withSettings(text, [[['verify', 'principals'], ['three']]])).toBe(
    'verify:\n  principals: [three]\n\n# End.\n',
  )
})

test('a section with nothing in it, and one that is no map', () => {
  const settings: Settings = [
    [['auth', 'method'], 'token'],
    [['auth', 'client_id'], null],
  ]
  expect(withSettings('auth:   # soon\nx:  1\n', settings)).toBe('auth:   # soon\n  method: token\nx:  1\n')
  expect(() => withSettings('auth: token\n', settings)).toThrow('auth is not a map of settings')
})

test('where a setting has no line of its own the comments stay nevertheless', () => {
  const text = '# Ours.\nissuer: {url: a} # Keep.\n'
  const changed = withSettings(text, [[['issuer', 'url'], 'b']])
  expect(changed).toMatch(/^# Ours\.\n[^]*# Keep\.\n$/)
  expect(parse(changed)).toEqual({ issuer: { url: 'b' } })
})

const KEYS = ['issuer', 'auth', 'verify', 'x']
const value = fc.oneof(
  fc.constantFrom(
    'a',
    'yes',
    '1',
    '',
    ' b ',
    '# c',
    'd: e',
    '- f',
    '*g',
    '&h',
    '!i',
    '"',
    "'",
    '\n',
    'j\nk\n',
  ),
  fc.boolean(),
  fc.array(fc.constantFrom('one', 'true', 'a, b', '[', '{'), { maxLength: 3 }),
)
const PIECES = [
  ['issuer:\n', 'auth:\n', '  url: a\n', '  url: "b" # c\n', '  x:\n    - one\n', '  x: [a, b]\n', '\n'],
  [
    '# comment\n',
    '  # indented\n',
    'verify: {x: 1}\n',
    '  method: |\n    text\n',
    '  method: >-\n    folded\n',
  ],
  ['x: &anchor 1\n', '  ref: *anchor\n', '  "url": q\n', '  ? url\n  : w\n', '---\n', '...\n', 'verify:\n'],
].flat()

test('whatever the file looks like, the settings are set and nothing else is', () => {
  const setting = fc.oneof(value, fc.constant(null))
  const path = fc.tuple(fc.constantFrom(...KEYS), fc.constantFrom('url', 'x', 'method'))
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...PIECES), { maxLength: 9 }),
      path,
      setting,
      (pieces, at, wanted) => {
        const text = pieces.join('')
        let before: unknown
        try {
          before = parse(text)
        } catch {
          return
        }
        if (typeof before !== 'object') return
        const [section, key] = at
        const there: Record<string, unknown> = { ...(before as Record<string, unknown> | null) }
        if (section in there && (typeof there[section] !== 'object' || Array.isArray(there[section]))) return
        const changed = parse(withSettings(text, [[at, wanted]])) as Record<string, unknown> | null
        const found = (changed?.[section] as Record<string, unknown> | undefined)?.[key]
        expect(found).toEqual(wanted ?? undefined)
        for (const other of Object.keys(there)) {
          if (other === section) continue
          // A section without settings may go.
          const isEmpty = JSON.stringify(there[other]) === '{}'
          expect(isEmpty ? there[other] : changed?.[other]).toEqual(there[other])
        }
      },
    ),
    { numRuns: 2000 },
  )
})

test('what conf.d sets otherwise is named with its file, and what it sets alike is not', () => {
  const files = [
    { file: '/etc/hostcertd/conf.d/10.yaml', tree: { issuer: { url: 'x' }, auth: { method: 'token' } } },
    { file: '/etc/hostcertd/conf.d/20.yaml', tree: { issuer: { url: 'b' }, verify: { principals: ['w'] } } },
  ]
  const settings: Settings = [
    [['issuer', 'url'], 'a'],
    [['auth', 'method'], 'token'],
    [['auth', 'client_id'], null],
    [['verify', 'principals'], ['v']],
  ]
  const { lines, missing } = comparedWith(files, settings)
  expect(lines).toEqual([
    'issuer.url is set to something else in /etc/hostcertd/conf.d/20.yaml, which counts: change or remove it there',
    'verify.principals is set to something else in /etc/hostcertd/conf.d/20.yaml, which counts: change or remove it there',
  ])
  expect(missing).toEqual([[['auth', 'client_id'], null]])
})
