import { join } from 'node:path'
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { addEnrollOptions } from '../../agent/cli/enroll-options.ts'
import manifest from '../../package.json' with { type: 'json' }
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { hostcertd } from './hostcertd.ts'
import { parseOnly } from './in-process.ts'

const VERBS = [
  'run',
  'enroll',
  'unenroll',
  'renew',
  'needs-renewal',
  'status',
  'inspect',
  'wait',
  'ca show',
  'config validate',
  'version',
]
const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const WITHOUT_JSON = ['run', 'wait']

test.each([
  { args: [], says: 'Usage: hostcertd' },
  { args: ['nonsense'], says: "unknown command 'nonsense'" },
  { args: ['--nonsense'], says: "unknown option '--nonsense'" },
  { args: ['status', '--nonsense'], says: "unknown option '--nonsense'" },
  { args: ['run', '--json'], says: "unknown option '--json'" },
  { args: ['renew', 'ssh_host_ed25519_key'], says: 'too many arguments' },
  { args: ['version', 'more'], says: 'too many arguments' },
  { args: ['config', 'validate', 'more'], says: 'too many arguments' },
  { args: ['inspect'], says: "missing required argument 'file'" },
  { args: ['status', '--config'], says: 'argument missing' },
  { args: ['renew', '--host-key'], says: 'argument missing' },
  { args: ['wait', '--timeout'], says: 'argument missing' },
  { args: ['wait', '--timeout', '5'], says: 'a whole number and s, m, h or d' },
  { args: ['wait', '--timeout', '1.5m'], says: 'a whole number and s, m, h or d' },
  { args: ['wait', '--timeout', '-5s'], says: 'a whole number and s, m, h or d' },
  { args: ['config'], says: 'Usage: hostcertd config' },
  { args: ['config', 'nonsense'], says: "unknown command 'nonsense'" },
  { args: ['ca'], says: 'Usage: hostcertd ca' },
  { args: ['ca', 'show', '--format', 'pem'], says: 'Allowed choices are known-hosts, ssh-config' },
  { args: ['ca', 'show', '--format', 'ansible', '--json'], says: "cannot be used with option '--json'" },
  { args: ['ca', 'show', '--hosts', '*'], says: 'It must be patterns of host names such as *.example.com' },
  { args: ['ca', 'show', '--hosts', '*.a.example,?*'], says: 'It must be patterns of host names' },
  { args: ['ca', 'show', '--hosts', "a'.example"], says: 'It must be patterns of host names' },
  { args: ['krl'], says: "missing required argument 'file'" },
  { args: ['krl', '-', '--host-id', 'web1'], says: 'It must be a UUID such as' },
  { args: ['enroll', '--client-secret=hunter2'], says: "unknown option '--client-secret'\n" },
  { args: ['unenroll', '--json'], says: '--json asks nothing: add --yes, --check or --dry-run' },
  {
    args: ['unenroll', '--url', 'https://a:hunter2@b'],
    says: '--url must be a URL without a user name or password\n',
  },
  { args: ['enroll', '--auth', 'password'], says: 'Allowed choices are universal-auth, token' },
  {
    args: ['enroll', '--auth', 'aws', '--client-secret-file', 'x'],
    says: '--client-secret-file is not an option of --auth aws',
  },
  {
    args: ['enroll', '--admin-token-file', '-', '--client-secret-file', '-'],
    says: 'only one option can read standard input, but --admin-token-file and --client-secret-file are both `-`',
  },
  {
    args: ['enroll', '--admin-token-file', '-'],
    says: '--admin-token-file - reads standard input, so no question can be answered there: add --yes',
  },
  { args: ['unenroll', '--host-id', ID], says: '--host-id needs --delete-host' },
  { args: ['unenroll', '--url', 'https://b'], says: '--url needs --delete-host' },
  { args: ['unenroll', '--client-secret-file', 'x'], says: '--client-secret-file needs --delete-host' },
  { args: ['unenroll', '--jwt-command=x', '--jwt-command=-y'], says: '--jwt-command needs --delete-host' },
  { args: ['enroll', '--config', '/etc/other.yaml'], says: 'leave out --config, and unset HOSTCERTD_CONFIG' },
  { args: ['help', 'nonsense'], says: "unknown command 'nonsense'" },
  { args: ['help', 'config', 'nonsense'], says: "unknown command 'config nonsense'" },
])('64, told on stderr: hostcertd $args', async ({ args, says }) => {
  const result = await parseOnly(args)
  expect(result).toMatchObject({ status: 64, stdout: '' })
  expect(result.stderr).toContain(says)
})

test('arguments of --jwt-command may begin with a hyphen', () => {
  const verb = addEnrollOptions(new Command('enroll'))
  const args = ['--jwt-command=/usr/bin/jwt', '--jwt-command=-audience', '--jwt-command', 'a', 'b']
  expect(verb.parse(args, { from: 'user' }).opts()).toMatchObject({
    jwtCommand: ['/usr/bin/jwt', '-audience', 'a', 'b'],
  })
})

test.each(VERBS.map((verb) => ({ verb })))('$verb --help and help $verb', async ({ verb }) => {
  const words = verb.split(' ')
  const [asOption, asVerb] = await Promise.all([
    parseOnly([...words, '--help']),
    parseOnly(['help', ...words]),
  ])
  expect(asOption).toMatchObject({ status: 0, stderr: '' })
  expect(asVerb).toEqual(asOption)
  expect(asOption.stdout).toContain(`Usage: hostcertd ${verb} `)
  expect(asOption.stdout).toContain('--config <file>')
  expect(asOption.stdout.includes('--json')).toBe(!WITHOUT_JSON.includes(verb))
})

test.each([['--help'], ['-h'], ['help']])('hostcertd %s names every verb', async (arg) => {
  const { status, stdout, stderr } = await parseOnly([arg])
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  for (const verb of VERBS) expect(stdout).toMatch(new RegExp(`^  ${verb.split(' ')[0]} `, 'm'))
})

test.concurrent.each([
  { args: [], status: 64, stream: 'stderr' },
  { args: ['status', '--nonsense'], status: 64, stream: 'stderr' },
  { args: ['help', 'renew'], status: 0, stream: 'stdout' },
  { args: ['config', 'validate', '--help'], status: 0, stream: 'stdout' },
] as const)('as a program: hostcertd $args', async ({ args, status, stream }) => {
  const result = await hostcertd(args)
  expect(result).toEqual(await parseOnly(args))
  expect(result.status).toBe(status)
  expect(result[stream === 'stdout' ? 'stderr' : 'stdout']).toBe('')
})

test.concurrent('version, for people and as JSON', async () => {
  const [forPeople, asOption, json] = await Promise.all([
    hostcertd(['version']),
    hostcertd(['--version']),
    hostcertd(['version', '--json', '--config', '/nowhere']),
  ])
  const { node } = process.versions
  expect(forPeople.stdout).toMatch(
    new RegExp(`^hostcertd ${manifest.version} \\(Node ${node}, commit \\w+\\)\n$`),
  )
  expect(asOption).toEqual(forPeople)
  expect(json).toMatchObject({ status: 0, stderr: '' })
  expect(JSON.parse(json.stdout)).toEqual({
    version: manifest.version,
    node,
    commit: expect.toSatisfy((commit: string | null) => commit === null || /^[0-9a-f]{12}$/.test(commit)),
  })
})

test.concurrent.each([
  { name: 'renew', status: 1, stream: 'stderr' },
  { name: 'needs-renewal', status: 255, stream: 'stderr' },
  { name: 'wait', status: 1, stream: 'stderr' },
  { name: 'config validate', status: 0, stream: 'stdout' },
] as const)(
  '$name on a host that is not enrolled: $status, and says so',
  async ({ name, status, stream }) => {
    await using folder = await makeTemporaryFolder()
    const config = join(folder.path, 'hostcertd.yaml')
    const result = await hostcertd([...name.split(' '), '--config', config])
    const none = { status, stdout: '', stderr: '' }
    expect(result).toEqual({ ...none, [stream]: `not enrolled: ${config} does not exist\n` })
  },
)

test.concurrent('status on a host that is not enrolled', async () => {
  await using folder = await makeTemporaryFolder()
  // The configuration is found by the environment as well.
  const environment = { HOSTCERTD_CONFIG: join(folder.path, 'hostcertd.yaml') }
  const [forPeople, json] = await Promise.all([
    hostcertd(['status'], { environment }),
    hostcertd(['status', '--json'], { environment }),
  ])
  const stdout = 'not enrolled: no configuration file\n    -> as root: `hostcertd enroll`\n'
  expect(forPeople).toEqual({ status: 0, stdout, stderr: '' })
  expect(JSON.parse(json.stdout)).toEqual({
    version: manifest.version,
    enrolled: false,
    issuer: { url: null, reachable: null, last_success: null, clock_skew_seconds: null },
    certificates: [],
    waits: [],
    notes: [],
    sshd: { state: null, since: null },
    machine: { copied: null },
    login: { method: null },
  })
})
