import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { hostcertd } from './hostcertd.ts'
import { parseOnly } from './in-process.ts'

/** Usage errors of `enroll`, found before anything is read or asked: 64, and a message that names the option. */

const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const REGISTER = ['--register', '--project', 'ssh']
const IMAGE = ['--template', '--url', 'https://a.example', '--project', 'ssh', '--auth', 'aws']

async function expectUsageError(args: readonly string[], says: string): Promise<void> {
  const { status, stdout, stderr } = await hostcertd(['enroll', ...args])
  expect({ status, stdout }).toEqual({ status: 64, stdout: '' })
  expect(stderr).toContain(says)
}

describe.concurrent('options that contradict each other', () => {
  test.each([
    { args: ['--host-id', ID, '--project', 'p'], says: '--host-id cannot be used with --project' },
    { args: ['--host-id', ID, '--register'], says: '--host-id cannot be used with --register' },
    {
      args: ['--host-id', ID, '--from-certificate'],
      says: '--host-id cannot be used with --from-certificate',
    },
    {
      args: ['--from-certificate', '--project', 'p'],
      says: '--from-certificate cannot be used with --project',
    },
    { args: ['--from-certificate', '--register'], says: '--from-certificate cannot be used with --register' },
    { args: ['--dry-run', '--check'], says: '--dry-run cannot be used with --check' },
    { args: ['--register'], says: '--register needs --project' },
    { args: ['--project', 'p', '--ttl', '30d'], says: '--ttl needs --register' },
    { args: ['--project', 'p', '--alias', 'web'], says: '--alias needs --register' },
    { args: ['--ephemeral'], says: '--ephemeral needs --register and --project' },
    { args: ['--ephemeral', '--project', 'p'], says: '--ephemeral needs --register\n' },
    { args: ['--shared-secret'], says: '--shared-secret needs --template' },
    { args: ['--template'], says: '--template needs --url and --project and --auth' },
    { args: [...IMAGE, '--hostname', 'a.example.com'], says: '--template cannot be used with --hostname' },
    { args: ['--template', '--host-id', ID], says: '--template cannot be used with --host-id' },
    { args: ['--template', '--from-certificate'], says: '--template cannot be used with --from-certificate' },
    { args: [...IMAGE, '--register', '--alias', 'web'], says: '--template cannot be used with --alias' },
    {
      args: [...IMAGE, '--admin-token-file', 'x'],
      says: '--template cannot be used with --admin-token-file',
    },
    { args: [...IMAGE, '--ephemeral'], says: '--ephemeral needs --register' },
    {
      args: ['--from-template', '--check'],
      says: '--from-template can only be combined with --yes, not with --check',
    },
    {
      args: ['--from-template', '--json', '--yes'],
      says: 'can only be combined with --yes, not with --json',
    },
    { args: ['--json'], says: '--json asks nothing: add --yes, --check or --dry-run' },
  ])('$args', async ({ args, says }) => expectUsageError(args, says))
})

describe.concurrent('a value that is not one', () => {
  test.each([
    { args: ['--url', 'us.infisical.com'], says: '--url must be a URL such as https://us.infisical.com' },
    { args: ['--host-id', 'web1'], says: "'--host-id <id>' argument 'web1' is invalid. It must be a UUID" },
    {
      args: ['--project', 'my project'],
      says: "'--project <project>' argument 'my project' is invalid. It must be the project's id or slug: at most 64",
    },
    { args: ['--project', 'x'.repeat(65)], says: 'at most 64 letters' },
    { args: ['--project', ''], says: 'at most 64 letters' },
    {
      args: [...REGISTER, '--alias', 'web 1'],
      says: "'--alias <name>' argument 'web 1' is invalid. It must be",
    },
    { args: [...REGISTER, '--ttl', 'soon'], says: '"soon" is not a lifetime' },
    { args: [...REGISTER, '--ttl', '5s'], says: '"5s" is shorter than a minute' },
    { args: ['--hostname', 'web1'], says: '"web1" is a short name' },
    { args: ['--ca-fingerprint', 'MD5:00'], says: 'It must be SHA256: and 43 characters' },
    { args: ['--wait', '2'], says: 'It must be a whole number and s, m, h or d' },
  ])('$args', async ({ args, says }) => expectUsageError(args, says))
})

test('what does not contradict itself goes on', async () => {
  const args = ['enroll', ...REGISTER, '--ttl', '30d', '--alias', 'web.1', '--ephemeral', '--check', '--yes']
  const { status, stderr } = await parseOnly(args)
  expect(status).toBe(1)
  expect(stderr).toMatch(/must be run as root|was to end before that/)
})

test('what the service of the first boot runs goes on', async () => {
  const unit = await readFile(new URL('../../systemd/hostcertd-enroll.service', import.meta.url), 'utf8')
  const [, words = ''] = /^ExecStart=.*\/hostcertd\.js (.+)$/m.exec(unit) ?? []
  expect(words).toContain('enroll --from-template')
  expect(await parseOnly(words.split(' '))).toMatchObject({
    status: 0,
    stderr: 'nothing to do: there is no /etc/hostcertd/enroll.json\n',
  })
})
