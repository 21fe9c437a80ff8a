import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readSecret } from '../../agent/enroll/login-settings.ts'
import type { Person } from '../../agent/enroll/show.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const PERSON: Person = {
  isThere: false,
  tell: () => {},
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
