import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { textOfRuns } from '../../agent/enroll/journal-format.ts'
import type { JournalRun } from '../../agent/enroll/journal.ts'
import type { Fault } from '../support/local-issuer.ts'
import { runsIf } from '../support/skip.ts'
import { canRun, endOf, ENTER, hasMachine, HOSTNAME, makeMachine } from './enroll-machine.ts'
import { environmentWith, exitOf, PROGRAM } from './hostcertd.ts'
import { isInstalled } from './typed.ts'

const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const canType = runsIf(
  hasMachine && (await isInstalled('script')),
  'only root can run it, where there are systemctl and script(1)',
)

const registrations = (runs: readonly JournalRun[]) =>
  runs.flatMap(({ changes }) => changes).filter(({ kind }) => kind === 'registration')

test(
  'killed before the answer to its registration: the next enroll says so, and --take-over ends it',
  canRun,
  async () => {
    await using machine = await makeMachine()
    const { issuer } = machine
    issuer.failNext({ kind: 'hang', done: true }, 1, 'register')
    const killed = machine.enroll()
    await expect.poll(() => Object.keys(issuer.hosts), { timeout: 60_000 }).toEqual([HOSTNAME])
    const hostId = issuer.hosts[HOSTNAME] ?? ''
    killed.kill('SIGKILL')
    if (killed.signalCode === null) await once(killed, 'exit')
    expect(registrations(await machine.journal())).toMatchObject([{ hostname: HOSTNAME, hostId: null }])

    // It is nothing to undo, and not undone.
    const again = await endOf(machine.enroll())
    expect(again.status).toBe(1)
    expect(again.stderr).toContain(
      `ISSUER_REJECTED: ${HOSTNAME} is registered already, as ${hostId}; this machine began to register that name and got no answer, so it may be its own`,
    )
    expect(again.stderr).not.toContain('undone')
    expect(registrations(await machine.journal())).toMatchObject([{ hostname: HOSTNAME, hostId: null }])

    const taken = await endOf(machine.enroll('--take-over'))
    const says = expect.stringContaining(`${HOSTNAME} is enrolled: sshd presents its certificates`)
    expect(taken).toEqual({ status: 0, stderr: says })
    expect(issuer.hosts).toEqual({ [HOSTNAME]: hostId })
    expect(registrations(await machine.journal())).toEqual([])
  },
)

test.each<{ name: string; fault: Fault; says: RegExp }>([
  {
    name: 'a refusal',
    fault: { status: 422, body: { reqId: 'req-1', error: 'ValidationFailure', message: 'no' } },
    says: /^ISSUER_REJECTED: /m,
  },
  {
    name: 'a time that is too far away',
    fault: { status: 429, headers: { 'retry-after': '90000' } },
    says: /^ISSUER_BUSY: /m,
  },
])('after $name there is no registration without an answer', canRun, async ({ fault, says }) => {
  await using machine = await makeMachine()
  machine.issuer.failAlways(fault, 'register')
  const { status, stderr } = await endOf(machine.enroll())
  expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(says) })
  expect(await machine.journal()).toEqual([])
})

const REFUSED: Fault = {
  status: 422,
  body: { reqId: 'req-1', error: 'ValidationFailure', message: 'not now' },
}

test(
  'what was registered before a later step failed is used by the next enroll, without the right to read it',
  canRun,
  async () => {
    await using machine = await makeMachine({ mayCreate: true })
    const { issuer } = machine
    issuer.failNext(REFUSED, 1, 'issue')
    const failed = await endOf(machine.enroll())
    expect(failed).toEqual({ status: 1, stderr: expect.stringContaining(`registered ${HOSTNAME}`) })
    const hostId = issuer.hosts[HOSTNAME] ?? ''
    expect(registrations(await machine.journal())).toMatchObject([{ hostname: HOSTNAME, hostId }])

    const again = await endOf(machine.enroll())
    const says = expect.stringContaining(`${HOSTNAME} is enrolled: sshd presents its certificates`)
    expect(again).toEqual({ status: 0, stderr: says })
    expect(again.stderr).not.toContain('registered')
    expect(issuer.hosts).toEqual({ [HOSTNAME]: hostId })
    expect(
      issuer.requests.filter(({ method, path }) => method === 'POST' && path === '/api/v1/ssh/hosts'),
    ).toHaveLength(1)
  },
)

test('what was registered before, and deleted at the issuer since, is registered again', canRun, async () => {
  await using machine = await makeMachine({ mayCreate: true })
  const { issuer } = machine
  issuer.failNext(REFUSED, 1, 'issue')
  expect(await endOf(machine.enroll())).toMatchObject({ status: 1 })
  const hostId = issuer.hosts[HOSTNAME] ?? ''
  issuer.removeHost(hostId)
  const again = await endOf(machine.enroll())
  expect(again).toEqual({ status: 0, stderr: expect.stringContaining(`registered ${HOSTNAME}`) })
  expect(issuer.hosts[HOSTNAME]).not.toBe(hostId)
})

test(
  'unenroll deletes the host by the proxy of the service, which it takes back before; interrupted, it says how to delete it',
  canRun,
  async () => {
    await using machine = await makeMachine()
    const tunnels: string[] = []
    const proxy = createServer().on('connect', ({ url = '' }) => tunnels.push(url))
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const { port } = proxy.address() as AddressInfo
    const content = Buffer.from(`HTTPS_PROXY=http://127.0.0.1:${port}\n`)
    const after = { content, mode: 0o644, uid: 0, gid: 0 }
    const change = {
      kind: 'file',
      step: 'use the proxy',
      path: '/etc/default/hostcertd',
      before: null,
      after,
      isSecret: false,
    } as const
    const entries = [{ change, folders: [], merge: null }]
    for (const folder of ['etc/default', 'lib/hostcertd-enroll']) await mkdir(machine.path(folder))
    await writeFile(machine.path('etc/default/hostcertd'), content)
    await writeFile(
      machine.path('lib/hostcertd-enroll/journal.json'),
      textOfRuns([{ isFinished: true, entries }]),
      { mode: 0o600 },
    )
    await writeFile(
      machine.path('etc/hostcertd/hostcertd.yaml'),
      JSON.stringify({
        issuer: { url: 'https://issuer.example.com', ssh_host_id: ID },
        auth: { method: 'token', token_file: machine.path('token') },
      }),
    )

    const program = machine.run('unenroll', '--yes', '--delete-host')
    const ended = endOf(program)
    await expect.poll(() => tunnels, { timeout: 60_000 }).toEqual(['issuer.example.com:443'])
    expect(existsSync(machine.path('etc/default/hostcertd'))).toBe(false)
    program.kill('SIGINT')
    const { status, stderr } = await ended
    expect(status).toBe(1)
    expect(stderr).toContain(
      `everything on this host was undone, but the host may still exist at the issuer; to delete it: hostcertd unenroll --delete-host --host-id ${ID} --url https://issuer.example.com --admin-token-file FILE\n`,
    )
    expect(stderr).toMatch(/ended by SIGINT\n$/)
    proxy.closeAllConnections()
    proxy.close()
  },
)

test(
  'unenroll that was interrupted before it deleted the host: the next one names it, from the journal',
  canRun,
  async () => {
    await using machine = await makeMachine({ mayRead: 'all', mayCreate: true, mayDelete: 'all' })
    const { issuer } = machine
    await writeFile(machine.path('etc/hostcertd/conf.d/reload.yaml'), 'sshd: {reload: never}\n')
    const byHand = 'note: sshd.reload is never: reload sshd by hand; until then it'
    const says = (line: string): string => expect.stringContaining(line) as string
    expect(await endOf(machine.enroll('--user-ca'))).toEqual({
      status: 0,
      stderr: says(`${byHand} keeps its previous configuration\n`),
    })
    const hostId = issuer.hosts[HOSTNAME] ?? ''
    // All that an interrupted one did.
    const undone = await endOf(machine.run('unenroll', '--yes'))
    expect(undone).toEqual({
      status: 1,
      stderr: says(
        `${byHand} keeps the configuration that was undone\nonce sshd is reloaded, run \`hostcertd unenroll\` again\n`,
      ),
    })
    expect(undone.stderr).toContain('not taken back: /etc/ssh/hostcertd/user-ca.pub: sshd reads it')
    const keys = machine.path('etc/ssh/hostcertd/user-ca.pub')
    expect(existsSync(keys)).toBe(true)
    expect(existsSync(machine.path('etc/hostcertd/hostcertd.yaml'))).toBe(false)
    const deleting = ['unenroll', '--yes', '--delete-host']
    expect(await endOf(machine.run(...deleting))).toEqual({
      status: 1,
      stderr: `CONFIG_INVALID: this machine registered the host ${hostId}, but nothing else says that it is its own still; to delete it, add --url ${issuer.url} --host-id ${hostId}\n`,
    })
    const login = ['--admin-token-file', machine.path('token')]
    const named = ['--url', issuer.url, '--host-id', hostId]
    expect(await endOf(machine.run(...deleting, ...named, ...login))).toEqual({
      status: 0,
      stderr: says(`deleted the host ${hostId} at ${issuer.url}\n`),
    })
    expect(Object.keys(issuer.hosts)).toEqual([])
    expect(await endOf(machine.run('unenroll', '--yes'))).toMatchObject({ status: 0 })
    expect(existsSync(keys)).toBe(false)
    expect(await endOf(machine.run(...deleting, ...named, ...login))).toEqual({
      status: 0,
      stderr: says(`has no host ${hostId}`),
    })
  },
)

test('enroll waits while the root helper has the lock of sshd', canRun, async () => {
  await using machine = await makeMachine()
  // So that there is a line to add.
  await writeFile(machine.path('etc/ssh/sshd_config'), '')
  const lock = machine.path('run/hostcertd-reload/lock')
  await mkdir(dirname(lock), { recursive: true })
  await writeFile(lock, '')
  const helper = spawn('flock', [lock, 'sh', '-c', 'echo locked; read line'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  expect(String(await once(helper.stdout, 'data'))).toBe('locked\n')
  const enrolled = endOf(machine.enroll())
  // Those that wait are listed with an arrow, by proc(5).
  const waiting = new RegExp(`-> FLOCK .*:${(await stat(lock)).ino} `)
  await expect.poll(async () => readFile('/proc/locks', 'utf8'), { timeout: 60_000 }).toMatch(waiting)
  helper.stdin.end('\n')
  expect(await enrolled).toMatchObject({ status: 0 })
})

test.each([
  { key: 'Ctrl-C', typed: '\u0003', says: 'ended by SIGINT' },
  { key: 'Ctrl-D', typed: '\u0004', says: 'CREDENTIAL_UNREADABLE: the client secret is empty' },
])('$key instead of a secret: $says', canType, async ({ typed, says }) => {
  await using machine = await makeMachine()
  const wanted = ['--url', machine.issuer.url, '--host-id', ID, '--hostname', HOSTNAME]
  const login = ['--auth', 'universal-auth', '--client-id', ID]
  const line = [process.execPath, PROGRAM, 'enroll', ...wanted, ...login]
  const inside = ['unshare', '-m', 'sh', '-c', `'${ENTER}'`, machine.path(''), ...line].join(' ')
  const program = spawn('script', ['-qec', inside, '/dev/null'], { env: environmentWith({}), stdio: 'pipe' })
  let said = ''
  program.stdout.on('data', (part) => (said += String(part)))
  await expect.poll(() => said, { timeout: 60_000 }).toContain('client secret: ')
  program.stdin.write(typed)
  const status = await exitOf(program)
  expect({ status, said: said.trimEnd().split('\r\n').at(-1) }).toEqual({
    status: 1,
    said: expect.stringContaining(says) as string,
  })
})
