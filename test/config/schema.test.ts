import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { mergeTrees, pathText, type Tree } from '../../agent/config/problem.ts'
import { parseYaml } from '../../agent/config/read-files.ts'
import { checkTree } from '../../agent/config/schema.ts'
import { nearest } from '../../agent/config/unknown-keys.ts'
import { LEAST } from './config-folder.ts'

const AUTH = 'auth: {client_id: i, client_secret_file: /s}'
const ISSUER = 'issuer: {url: https://x, ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a}'

/** `path: message` of every problem. */
function problemsOf(text: string): string[] {
  const { tree, problems } = parseYaml(text, 'F')
  expect(problems).toEqual([])
  return linesOf(tree!)
}

function linesOf(tree: Tree): string[] {
  const checked = checkTree(tree)
  return checked.ok ? [] : checked.problems.map(({ keys, message }) => `${pathText(keys)}: ${message}`)
}

test.each([
  { name: 'the least', text: LEAST, want: [] },
  {
    name: 'nothing at all',
    text: '',
    want: [
      'issuer.url: is required',
      'issuer.ssh_host_id: is required',
      'auth.client_id: is required, or client_id_file',
    ],
  },
  {
    name: 'a number for a text',
    text: `${LEAST}renewal: {jitter: 5}`,
    want: ['renewal.jitter: must be a text, is a number: give its unit, or put it in quotes'],
  },
  { name: 'a list for a map', text: `${LEAST}log: [info]`, want: ['log: must be a map of keys'] },
  { name: 'a text for a map', text: `${LEAST}log: info`, want: ['log: must be a map of keys'] },
  {
    name: 'a map for a text',
    text: `${LEAST}log: {level: {x: y}}`,
    want: ['log.level: must be one of trace, debug, info, warn, error, fatal'],
  },
  {
    name: 'a word that is not known',
    text: `${LEAST}sshd: {reload: sometimes}`,
    want: ['sshd.reload: must be one of auto, always, never, is "sometimes"'],
  },
  {
    name: 'no principals',
    text: `${LEAST}verify: {principals: []}`,
    want: ['verify.principals: must not be empty'],
  },
  {
    name: 'a principal, no list',
    text: `${LEAST}verify: {principals: a}`,
    want: ['verify.principals: must be a list'],
  },
  {
    name: 'one principal of several',
    text: `${LEAST}verify: {principals: [a, "b,c", ""]}`,
    want: [
      'verify.principals[1]: must be one name; each is an item of its own, is "b,c"',
      'verify.principals[2]: must be one name; each is an item of its own, is ""',
    ],
  },
  {
    name: 'a reload command that a shell would look up',
    text: `${LEAST}sshd: {reload_command: [reload, -x]}`,
    want: ['sshd.reload_command: must begin with the absolute path of a program: no shell looks it up'],
  },
  {
    name: 'an empty reload command',
    text: `${LEAST}sshd: {reload_command: []}`,
    want: ['sshd.reload_command: must not be empty'],
  },
  { name: 'no host key', text: `${ISSUER}\n${AUTH}\nhost_keys: []`, want: ['host_keys: must not be empty'] },
  {
    name: 'bad host keys',
    text: `${ISSUER}\n${AUTH}\nhost_keys: [k.pub, /k.pub, /k-cert.pub]`,
    want: [
      'host_keys[0]: must be an absolute path or pattern, is "k.pub"',
      'host_keys[2]: must be the path of a host key, not of its certificate, is "/k-cert.pub"',
    ],
  },
  {
    name: 'ticks too far apart',
    text: `${LEAST}renewal: {tick: "*/6 * * * *"}`,
    want: ['renewal.tick: must be at least every 5 minutes, all day and every day, is "*/6 * * * *"'],
  },
  { name: 'ticks just near enough', text: `${LEAST}renewal: {tick: "*/5 * * * *"}`, want: [] },
  { name: 'ticks with seconds', text: `${LEAST}renewal: {tick: "*/20 * * * * *"}`, want: [] },
  { name: 'a rare maintenance window', text: `${LEAST}renewal: {maintenance: "0 3 * * 0"}`, want: [] },
])('$name', ({ text, want }) => {
  expect(problemsOf(text)).toEqual(want)
})

test.each(['tick', 'maintenance'])('renewal.%s that is no cron expression', (key) => {
  for (const bad of ['hourly', '* * * *', '99 * * * *', ''])
    expect(problemsOf(`${LEAST}renewal: {${key}: "${bad}"}`)).toEqual([
      expect.stringMatching(new RegExp(`^renewal\\.${key}: must be a cron expression \\(.+\\), is "`)),
    ])
})

describe('auth', () => {
  test.each([
    { name: 'by value', auth: 'client_id: i, client_secret_file: /s', want: [] },
    { name: 'by files', auth: 'client_id_file: credential:i, client_secret_file: credential:s', want: [] },
    { name: 'named', auth: 'method: universal-auth, client_id: i, client_secret_file: /s', want: [] },
    { name: 'token', auth: 'method: token, token_file: /t', want: [] },
    {
      name: 'both ids',
      auth: 'client_id: i, client_id_file: /i, client_secret_file: /s',
      want: ['auth.client_id_file: conflicts with client_id; set only one'],
    },
    { name: 'token without its file', auth: 'method: token', want: ['auth.token_file: is required'] },
    {
      name: 'keys of another method',
      auth: 'method: token, token_file: /t, client_id: i',
      want: ['auth.client_id: belongs to the methods universal-auth and azure, and the method is token'],
    },
    {
      name: 'keys of another method, the other way',
      auth: 'client_id: i, client_secret_file: /s, token_file: /t',
      want: [
        'auth.token_file: belongs to the methods token and kubernetes, and the method is universal-auth',
      ],
    },
    {
      name: 'no method at all',
      auth: 'method: password',
      want: [
        expect.stringMatching(
          /^auth\.method: must be one of universal-auth, token, kubernetes, .*is "password"$/,
        ),
      ],
    },
    {
      name: 'a method that an object has by nature',
      auth: 'method: constructor',
      want: [expect.stringMatching(/^auth\.method: must be one of/)],
    },
    {
      name: 'a relative path',
      auth: 'client_id: i, client_secret_file: secret',
      want: [
        'auth.client_secret_file: must be the absolute path of a file that holds it, or credential:NAME',
      ],
    },
  ])('$name', ({ auth, want }) => {
    expect(problemsOf(`${ISSUER}\nauth: {${auth}}`)).toEqual(want)
  })

  test.each([
    { auth: 'client_id: i, client_secret: hunter2', key: 'client_secret' },
    { auth: 'method: token, token: hunter2', key: 'token' },
    { auth: 'method: token, access_token: hunter2', key: 'access_token', file: 'token_file' },
    { auth: 'method: aws, client_secret: hunter2', key: 'client_secret' },
    { auth: 'method: aws, secret_access_key: hunter2', key: 'secret_access_key' },
    { auth: 'method: aws, session_token: hunter2', key: 'session_token' },
    { auth: 'method: oidc, jwt: hunter2', key: 'jwt' },
    { auth: 'method: jwt, key: hunter2', key: 'key' },
    { auth: 'method: tls-cert, private_key: hunter2', key: 'private_key', file: 'key_file' },
    { auth: 'method: ldap, password: hunter2', key: 'password' },
    { auth: 'method: alicloud, access_key_secret: hunter2', key: 'access_key_secret' },
  ])('a secret in the open: $auth', ({ auth, key, file = `${key}_file` }) => {
    const lines = problemsOf(`${ISSUER}\nauth: {${auth}}`)
    expect(lines).toContain(
      `auth.${key}: do not write a secret into the configuration: put it into a file, and set ${file}`,
    )
    expect(lines.join()).not.toContain('hunter2')
  })
})

describe('issuer.command', () => {
  test.each([
    { name: 'alone', text: 'issuer: {command: [/usr/local/bin/sign, --fast], timeout: 5s}', want: [] },
    {
      name: 'with the keys of an issuer, and a login',
      text: `issuer: {command: [/bin/sign], url: x, ssh_host_id: y, ca_file: /ca}\n${AUTH}`,
      want: ['issuer.url', 'issuer.ssh_host_id', 'issuer.ca_file', 'auth'].map(
        (path) => `${path}: conflicts with issuer.command; set only one`,
      ),
    },
    {
      name: 'by a name that a shell would look up, with a problem elsewhere',
      text: 'issuer: {command: [sign]}\nlog: {level: loud}',
      want: [
        'issuer.command: must begin with the absolute path of a program: no shell looks it up',
        expect.stringMatching(/^log\.level: must be one of/),
      ],
    },
    {
      name: 'with a user CA',
      text: 'issuer: {command: [/bin/sign]}\nuser_ca: {install: true, overlap: 3d}',
      want: ['user_ca.install: conflicts with issuer.command, which cannot provide a user CA'],
    },
    {
      name: 'with settings of one that is off',
      text: 'issuer: {command: [/bin/sign]}\nuser_ca: {overlap: 3d}',
      want: [],
    },
    { name: 'empty', text: 'issuer: {command: []}', want: ['issuer.command: must not be empty'] },
    { name: 'no list', text: 'issuer: {command: /bin/sign}', want: ['issuer.command: must be a list'] },
    {
      name: 'misspelled',
      text: `issuer: {comand: [/bin/sign]}\n${AUTH}`,
      want: [
        'issuer.comand: unknown key; did you mean issuer.command?',
        'issuer.url: is required',
        'issuer.ssh_host_id: is required',
      ],
    },
    {
      name: 'with a secret in the open',
      text: 'issuer: {command: [/bin/sign]}\nauth: {token: hunter2}',
      want: [
        'auth.token: do not write a secret into the configuration: put it into a file, and set token_file',
        'auth: conflicts with issuer.command; set only one',
      ],
    },
  ])('$name', ({ text, want }) => {
    expect(problemsOf(text)).toEqual(want)
  })
})

describe('unknown keys', () => {
  test.each([
    { text: 'isuer: {}', want: 'isuer: unknown key; did you mean issuer?' },
    { text: 'log: {lvl: info}', want: 'log.lvl: unknown key' },
    { text: 'log: {levle: info}', want: 'log.levle: unknown key; did you mean log.level?' },
    { text: 'renewal: {Window: 33%}', want: 'renewal.Window: unknown key; did you mean renewal.window?' },
    { text: 'stateDirectory: /x', want: 'stateDirectory: unknown key; did you mean state_directory?' },
    { text: 'listen: none', want: 'listen: unknown key; did you mean health.listen?' },
    { text: 'sshd: {host_keys: /x.pub}', want: 'sshd.host_keys: unknown key; did you mean host_keys?' },
    { text: 'constructor: 1', want: 'constructor: unknown key' },
    { text: 'log: {__proto__: {level: info}}', want: 'log.__proto__: unknown key' },
    { text: 'sshd: {toString: x}', want: 'sshd.toString: unknown key' },
    { text: '"a b\\n": 1', want: String.raw`"a b\n": unknown key` },
    { text: '<<: {x: y}', want: '"<<": unknown key' },
  ])('$text', ({ text, want }) => {
    expect(problemsOf(`${LEAST}${text}`)).toEqual([want])
  })

  const SECTIONS = ['issuer', 'auth', 'certificates', 'renewal', 'verify', 'sshd', 'health', 'log', null]

  test('each of them is told, wherever it is', () => {
    fc.assert(
      fc.property(
        fc.record({
          section: fc.constantFrom(...SECTIONS),
          keys: fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 4 }),
        }),
        ({ section, keys }) => {
          const unknown = keys.map((key) => `${key}#`)
          const below = Object.fromEntries(unknown.map((key) => [key, 'x']))
          const tree = mergeTrees(
            parseYaml(LEAST, 'F').tree!,
            section === null ? below : { [section]: below },
          )
          const above = section === null ? [] : [section]
          const paths = linesOf(tree).map((line) => line.replace(/: unknown key.*$/s, ''))
          expect(paths.sort()).toEqual(unknown.map((key) => pathText([...above, key])).sort())
        },
      ),
    )
  })
})

test('any map: never throws, every problem has a path', () => {
  fc.assert(
    fc.property(fc.record({ tree: fc.dictionary(fc.string(), fc.jsonValue()) }), ({ tree }) => {
      const lines = linesOf(tree as Tree)
      expect(lines).not.toEqual([])
      for (const line of lines) expect(line).toMatch(/^[^:]+.*: ./s)
    }),
  )
})

test.each([
  { typed: 'sshHostId', want: 'ssh_host_id' },
  { typed: 'ssh-host-id', want: 'ssh_host_id' },
  { typed: 'ssh_hots_id', want: 'ssh_host_id' },
  { typed: 'ur', want: null },
  { typed: 'urls', want: 'url' },
  { typed: 'xyz', want: null },
  { typed: '', want: null },
  { typed: 'u'.repeat(100_000), want: null },
])('nearest to $typed: $want', ({ typed, want }) => {
  expect(nearest(typed, ['url', 'ssh_host_id'])).toBe(want)
})
