import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { textOfRuns } from '../../agent/enroll/journal-format.ts'
import { type JournalRun, readJournal } from '../../agent/enroll/journal.ts'
import { type Fault, type LocalIssuer, startLocalIssuer } from '../support/local-issuer.ts'
import { isRoot, runsIf } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { LIVE, startFakeDaemon, statusAnswer } from './fake-daemon.ts'
import { environmentWith, exitOf, PROGRAM } from './hostcertd.ts'
import { isInstalled } from './typed.ts'

const HOSTNAME = 'web1.example.com'
const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const FOLDERS = ['etc', 'lib', 'run']
const SYSTEMCTL_FILE = '/usr/bin/systemctl'
const ENTER = `mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run &&
  mount --bind "$0/systemctl" ${SYSTEMCTL_FILE} && exec "$@"`
const OF_THE_SYSTEM = ['passwd', 'group', 'nsswitch.conf', 'ld.so.cache']
const canRun = runsIf(
  isRoot && existsSync(SYSTEMCTL_FILE),
  'only root can run it, where there is a systemctl',
)
const canType = runsIf(
  isRoot && existsSync(SYSTEMCTL_FILE) && (await isInstalled('script')),
  'only root can run it, where there are systemctl and script(1)',
)
/** Of a service that is neither enabled nor active, and that starts. */
const SYSTEMCTL = `#!/bin/sh
case $1 in is-enabled) echo disabled; exit 1 ;; is-active) echo inactive; exit 3 ;; esac`

/** A machine with an issuer, on which the built program is root, and what the service will say once it is started. */
interface Machine extends AsyncDisposable {
  readonly issuer: LocalIssuer
  readonly enroll: (...options: readonly string[]) => ChildProcess
  readonly run: (...line: readonly string[]) => ChildProcess
  /** Where a file of it is: `etc/default/hostcertd`. */
  readonly path: (name: string) => string
  readonly journal: () => Promise<readonly JournalRun[]>
}

/** @param permissions of the identity; by default it may read and register all hosts */
async function makeMachine(
  permissions: Parameters<LocalIssuer['addToken']>[0] = { mayRead: 'all', mayCreate: true },
): Promise<Machine> {
  const folder = await makeTemporaryFolder()
  const at = (...names: string[]): string => join(folder.path, ...names)
  for (const name of [...FOLDERS, 'issuer', 'etc/ssh', 'etc/hostcertd/conf.d'])
    await mkdir(at(name), { recursive: true })
  for (const name of OF_THE_SYSTEM) await copyFile(`/etc/${name}`, at('etc', name))
  await generateKey(at('etc', 'ssh', 'ssh_host_ed25519_key'), 'ed25519', '')
  await writeFile(at('etc', 'ssh', 'sshd_config'), 'Include /etc/ssh/sshd_config.d/*.conf\n')
  await writeFile(at('etc', 'machine-id'), `${'a'.repeat(32)}\n`)
  await writeFile(at('systemctl'), SYSTEMCTL, { mode: 0o755 })

  const issuer = await startLocalIssuer({ folder: at('issuer') })
  await writeFile(at('token'), issuer.addToken(permissions))
  const daemon = await startFakeDaemon({
    '/livez': LIVE,
    get '/status'() {
      return served()
    },
  })
  await writeFile(
    at('etc', 'hostcertd', 'conf.d', 'port.yaml'),
    JSON.stringify({ health: { listen: daemon.listen } }),
  )
  const run: Machine['run'] = (...line) =>
    spawn('/usr/bin/unshare', ['-m', 'sh', '-c', ENTER, folder.path, process.execPath, PROGRAM, ...line], {
      env: environmentWith({}),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  return {
    issuer,
    run,
    path: at,
    enroll: (...options) => {
      const wanted = [
        '--url',
        issuer.url,
        '--project',
        issuer.projectId,
        '--register',
        '--hostname',
        HOSTNAME,
      ]
      const login = ['--auth', 'token', '--token-file', at('token')]
      return run('enroll', '--yes', ...wanted, ...login, ...options)
    },
    journal: async () => readJournal(at('lib', 'hostcertd-enroll')),
    [Symbol.asyncDispose]: async () => {
      await daemon[Symbol.asyncDispose]()
      await issuer.stop()
      await folder.remove()
    },
  }
}

function served() {
  const now = new Date(Date.now() + 1_000).toISOString()
  return statusAnswer([
    {
      host_key: 'ssh_host_ed25519_key',
      key_type: 'ssh-ed25519',
      certificate: '/c',
      state: 'valid',
      reason: null,
      serial: '7',
      key_id: null,
      principals: [HOSTNAME],
      ca_fingerprint: null,
      valid_after: null,
      valid_before: null,
      renewal_due: null,
      served: { serial: '7', matches: true, valid_before: null, checked_at: now, unknown: null },
      last_attempt: null,
      last_success: null,
      failures: 0,
      last_error: null,
    },
  ])
}

async function endOf(program: ChildProcess): Promise<{ status: number | null; stderr: string }> {
  const { stdout, stderr } = program
  if (stdout === null || stderr === null) throw new Error('no pipes')
  const [said, status] = await Promise.all([text(stderr), exitOf(program), text(stdout)])
  return { status, stderr: said }
}

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
        `${byHand} keeps the configuration that was undone, whose certificates are gone\nonce sshd is reloaded, run \`hostcertd unenroll\` again\n`,
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

test('unenroll takes back a user CA that no journal knows, as of ca refresh', canRun, async () => {
  await using machine = await makeMachine()
  await writeFile(machine.path('etc/hostcertd/conf.d/reload.yaml'), 'sshd: {reload: never}\n')
  const files = [
    'etc/ssh/hostcertd/user-ca.pub',
    'etc/ssh/sshd_config.d/41-hostcertd-user-ca.conf',
    'lib/hostcertd-enroll/ca-status.json',
  ].map((name) => machine.path(name))
  for (const path of files) {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, 'something\n')
  }
  const there = () => files.map((path) => existsSync(path))
  // A later run knew the file only as it was then.
  const state = (content: string) => ({ content: Buffer.from(content), mode: 0o644, uid: 0, gid: 0 })
  const change = {
    kind: 'file',
    step: 'trust the user CA',
    path: '/etc/ssh/hostcertd/user-ca.pub',
    before: state('a CA that was revoked since\n'),
    after: state('both\n'),
    isSecret: false,
    isOwn: true,
  } as const
  await writeFile(
    machine.path('lib/hostcertd-enroll/journal.json'),
    textOfRuns([{ isFinished: true, entries: [{ change, folders: [], merge: null }] }]),
    { mode: 0o600 },
  )
  const asked = expect.stringContaining('logins by user certificate end') as string
  expect(await endOf(machine.run('unenroll', '--yes', '--keep-user-ca'))).toMatchObject({ status: 0 })
  expect(await endOf(machine.run('unenroll', '--check'))).toMatchObject({ status: 2 })
  expect(there()).toEqual([true, true, true])
  expect(await endOf(machine.run('unenroll', '--yes'))).toEqual({ status: 1, stderr: asked })
  expect(there()).toEqual([true, false, false])
  // sshd was reloaded by hand.
  expect(await endOf(machine.run('unenroll', '--yes'))).toMatchObject({ status: 0 })
  expect(there()).toEqual([false, false, false])
  expect(await machine.journal()).toEqual([])
  expect(await endOf(machine.run('unenroll', '--check'))).toMatchObject({ status: 0 })
})

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
