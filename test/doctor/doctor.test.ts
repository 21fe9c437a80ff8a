import { execFile } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { PROGRAM } from '../cli/hostcertd.ts'
import { findingsIn, of, troubles } from './findings.ts'
import { makeWard } from './ward.ts'

test('all is well: no failure, nothing is changed, one login, nothing is issued', async () => {
  await using ward = await makeWard({ https: true })
  await rm(ward.host.statePath, { recursive: true })
  await mkdir(ward.host.statePath)
  const before = await ward.files()
  const { status, findings } = await ward.diagnose()
  expect(troubles(findings)).toEqual([])
  expect(status).toBe(0)
  expect(await ward.files()).toEqual(before)
  expect(ward.issuer.requests.map(({ method, path }) => `${method} ${path.split('/').at(-1)}`)).toEqual([
    'GET host-ca-public-key',
    'POST login',
    `GET ${ward.hostId}`,
    'GET ssh-hosts',
  ])
  expect(ward.issuer.issued).toEqual([])
  expect(of('tls', findings)[0]?.message).toMatch(/signed by "hostcertd local issuer", valid until \d{4}-/)
  expect(of('permission', findings)[0]?.message).toContain('is web1.example.com')
  expect(Object.keys(findings[0] ?? {})).toEqual(['step', 'status', 'message', 'remedy'])
  const secret = (await readFile(ward.secretFile, 'utf8')).trim()
  expect(JSON.stringify(findings)).not.toContain(secret)
})

test('for people: a line for each step, the remedy below, no colour in a pipe', async () => {
  await using ward = await makeWard()
  await rm(ward.secretFile)
  const { status, stdout, stderr } = await ward.host.verb(['doctor', '--sshd-config', ward.sshdConfig])
  expect({ status, stderr }).toEqual({ status: 1, stderr: '' })
  expect(stdout).toMatch(/^ok {7}configuration {2}.*: valid\n/)
  const failure =
    /\nfailure {2}credentials {4}cannot read the client secret from .*\n {9}-> write the client secret/
  expect(stdout).toMatch(failure)
  expect(stdout).toMatch(/\n\d+ failures?.*\n$/)
  expect(stdout).not.toContain('\u001B')
})

test('leave to read is not needed: skipped, and no failure', async () => {
  await using ward = await makeWard({ mayRead: false })
  const { status, findings } = await ward.diagnose()
  expect(status).toBe(0)
  expect(of('permission', findings)).toEqual([
    expect.objectContaining({
      status: 'skipped',
      message: expect.stringContaining('--issue') as string,
    }),
  ])
})

test('--issue: a real certificate, verified and thrown away, by the one login', async () => {
  await using ward = await makeWard({ mayRead: false })
  const before = await ward.files()
  const { status, findings } = await ward.diagnose('--issue')
  expect(status).toBe(0)
  expect(of('issue', findings)[0]).toMatchObject({ status: 'ok' })
  const serial = ward.issuer.issued[0]?.serial
  expect(of('issue', findings)[0]?.message).toContain(`serial ${serial}, for web1.example.com`)
  expect(ward.issuer.issued).toHaveLength(1)
  expect(ward.issuer.requests.filter(({ path }) => path.endsWith('/login'))).toHaveLength(1)
  expect(await ward.files()).toEqual(before)
})

test('--issue when the answer is no good', async () => {
  await using ward = await makeWard()
  const edit = (line: string): string => line.replace(/AAAA(.{40})./, 'AAAA$1x')
  ward.issuer.failAlways({ kind: 'tamper', edit }, 'issue')
  const { findings } = await ward.diagnose('--issue')
  expect(troubles(findings)).toEqual(['issue failure'])
  expect(of('issue', findings)[0]?.remedy).toBe(
    'if it is on disk, it is replaced automatically. If the issuer sent it, nothing was installed: check the issuer',
  )
})

test('--issue when the answer is too long for a certificate', async () => {
  await using ward = await makeWard()
  ward.issuer.failAlways({ kind: 'tamper', edit: () => 'x'.repeat(32 * 1024 + 1) }, 'issue')
  const { findings } = await ward.diagnose('--issue')
  expect(of('issue', findings)).toMatchObject([
    {
      status: 'failure',
      message:
        'ssh_host_ed25519_key: ISSUER_INVALID_RESPONSE: the issuer sent a certificate of 32769 characters',
    },
  ])
})

test('an exchange that does not start: that is the finding, and the steps that it takes are skipped', async () => {
  await using ward = await makeWard()
  const program = join(ward.host.folder, 'program')
  await cp(dirname(PROGRAM), program, { recursive: true })
  for (const file of await readdir(program)) if (file.startsWith('exchange-')) await rm(join(program, file))
  const argv = [
    join(program, basename(PROGRAM)),
    'doctor',
    '--json',
    '--issue',
    '--config',
    ward.host.configPath,
  ]
  const ended = promisify(execFile)(process.execPath, argv)
  const { stdout } = await ended.catch((error: { readonly stdout: string }) => error)
  const findings = findingsIn(stdout)
  expect(of('issuer', findings)).toMatchObject([
    { status: 'failure', message: expect.stringMatching(/^the exchange with the issuer ended: /) as string },
  ])
  for (const step of ['name', 'tcp', 'tls', 'clock', 'login', 'permission', 'issue'] as const)
    expect(of(step, findings)).toMatchObject([{ status: 'skipped', remedy: null }])
  expect(of('host-keys', findings)).toMatchObject([{ status: 'ok' }])
})

test('programs that are missing', async () => {
  await using ward = await makeWard()
  const environment = { PATH: '/nonexistent' }
  await ward.configure({ sshd: { address: '127.0.0.1:1', reload: 'never' } })
  const { status, stdout } = await ward.host.verb(['doctor', '--json'], { environment })
  expect(status).toBe(1)
  const missing = of('programs', findingsIn(stdout)).filter((finding) => finding.status === 'failure')
  expect(missing).toMatchObject(
    [
      { message: /^flock is missing/, remedy: 'install the package util-linux' },
      { message: /^ssh is missing/, remedy: /^install the package openssh-client/ },
    ].map(({ message, remedy }) => ({
      message: expect.stringMatching(message) as string,
      remedy: expect.stringMatching(remedy) as string,
    })),
  )
})
