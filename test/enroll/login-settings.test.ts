import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import {
  administratorLogin,
  loginSettings,
  readSecret,
  readSecrets,
} from '../../agent/enroll/login-settings.ts'
import type { Person } from '../../agent/enroll/show.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const PERSON: Person = {
  isThere: false,
  print: () => {},
  show: () => {},
  agrees: async () => false,
  secret: async () => '',
  input: async () => 'typed\n',
}

test('a secret comes from a file or from standard input', async () => {
  await using folder = await makeTemporaryFolder()
  const path = join(folder.path, 'secret')
  await writeFile(path, 'in a file\n')
  expect(await readSecret(path, '--client-secret-file', PERSON)).toBe('in a file\n')
  expect(await readSecret('-', '--client-secret-file', PERSON)).toBe('typed\n')
})

test.each([
  { name: 'a client secret', secret: '5f2b9c1d7e8a4f60b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0' },
  { name: 'a password', secret: 'hunter2' },
  { name: 'a key with slashes', secret: '/etc/passwd/Jalr/XUtnFEMI' },
  { name: 'a token longer than any file name', secret: 'eyJ'.padEnd(1000, 'x') },
])('$name where the name of a file belongs is not repeated', async ({ secret }) => {
  const error: unknown = await readSecret(secret, '--password-file', PERSON).catch((why: unknown) => why)
  expect(error).toMatchObject({
    code: 'CREDENTIAL_UNREADABLE',
    message: expect.stringMatching(/^--password-file: there is no file of that name.*replace the secret/),
  })
  expect(String(error)).not.toContain(secret)
})

test('a file that is there and cannot be read is named', async () => {
  await using folder = await makeTemporaryFolder()
  await expect(readSecret(folder.path, '--token-file', PERSON)).rejects.toThrow(
    `--token-file: cannot read ${folder.path}: `,
  )
})

test('the token of an administrator is one word, without the blanks around it', async () => {
  const withInput = (text: string): Person => ({ ...PERSON, input: async () => text })
  expect(await administratorLogin('-', withInput(' a-token\r\n\n'))).toEqual({
    auth: { method: 'token', tokenFile: 'credential:admin-token' },
    secrets: { 'admin-token': 'a-token\n' },
  })
  for (const [text, why] of [
    ['\n', 'is empty'],
    ['two words', 'contains white space'],
  ] as const)
    await expect(administratorLogin('-', withInput(text))).rejects.toThrow(
      `the access token of --admin-token-file ${why}`,
    )
})

test('another method takes over nothing of the one before, not even a setting of the same name', () => {
  const options = { method: 'azure', login: { identity_id: 'i' } } as const
  const { settings } = loginSettings(options, 'universal-auth')
  const after = Object.fromEntries(settings.map(([[, name], value]) => [name, value]))
  expect(after).toMatchObject({ method: 'azure', identity_id: 'i' })
  expect(after).toMatchObject({ client_id: null, client_secret_file: null, organization: null })
})

test.each([
  ['client_id', 'client_id_file', 'universal-auth'],
  ['client_id_file', 'client_id', 'azure'],
  ['identity_id_file', 'identity_id', 'oidc'],
  ['username_file', 'username', 'ldap'],
  ['access_key_id', 'access_key_id_file', 'alicloud'],
] as const)('%s takes the place of %s', (given, other, method) => {
  const { settings } = loginSettings({ method: null, login: { [given]: '/run/it' } }, method)
  expect(settings).toEqual([
    [['auth', other], null],
    [['auth', given], '/run/it'],
  ])
})

test.each([
  [{ jwt_file: '/run/jwt' }, ['jwt_command', 'key_file', 'issuer', 'subject', 'audience']],
  [{ issuer: 'i', subject: 's' }, ['jwt_file', 'jwt_command']],
] as const)('%j takes the place of the other ways to a JWT', (login, others) => {
  const { settings } = loginSettings({ method: null, login }, 'jwt')
  const taken = settings.filter(([, value]) => value === null).map(([[, name]]) => name)
  expect(new Set(taken)).toEqual(new Set(others))
})

test('the client id in a file of its own: where the file is, not what is in it', () => {
  const options = {
    method: 'azure',
    login: { identity_id_file: 'credential:identity', client_id_file: 'client' },
  } as const
  const { settings, secrets } = loginSettings(options, null)
  expect(secrets).toEqual([])
  expect(settings).toContainEqual([['auth', 'identity_id_file'], 'credential:identity'])
  expect(settings).toContainEqual([['auth', 'client_id_file'], resolve('client')])
})

test('the same method keeps what is left out', () => {
  const options = { method: 'universal-auth', login: { organization: 'acme' } } as const
  const { settings } = loginSettings(options, 'universal-auth')
  expect(settings).toEqual([
    [['auth', 'method'], 'universal-auth'],
    [['auth', 'organization'], 'acme'],
  ])
})

test.each([
  { setting: 'password_file', method: 'ldap', typed: ' two words \r\n', want: ' two words \n' },
  { setting: 'password_file', method: 'ldap', typed: 'a\nb\n', want: 'the password is longer than one line' },
  { setting: 'password_file', method: 'ldap', typed: '\n', want: 'the password is empty' },
  { setting: 'token_file', method: 'token', typed: ' ey \n', want: 'ey\n' },
  { setting: 'token_file', method: 'token', typed: 'e y', want: 'the access token contains white space' },
] as const)('$setting, typed as $typed: $want', async ({ setting, method, typed, want }) => {
  const person = { ...PERSON, input: async () => typed }
  const options = { method, login: { [setting]: '-' } }
  const read = readSecrets(loginSettings(options, null), person, AbortSignal.timeout(1000))
  const found = await read.then(
    (secrets) => Object.values(secrets)[0],
    (error: unknown) => String(error),
  )
  expect(found?.replace(/^Error: |^AgentError: /, '')).toBe(want)
})
