import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type JournalRun, readJournal } from '../../agent/enroll/journal.ts'
import { type LocalIssuer, startLocalIssuer } from '../support/local-issuer.ts'
import { isRoot, runsIf } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { LIVE, startFakeDaemon, statusAnswer, validCertificate } from './fake-daemon.ts'
import { environmentWith, exitOf, PROGRAM } from './hostcertd.ts'

export const HOSTNAME = 'web1.example.com'
const FOLDERS = ['etc', 'lib', 'run']
const SYSTEMCTL_FILE = '/usr/bin/systemctl'
export const ENTER = `mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run &&
  mount --bind "$0/systemctl" ${SYSTEMCTL_FILE} && exec "$@"`
const OF_THE_SYSTEM = ['passwd', 'group', 'nsswitch.conf', 'ld.so.cache']
export const hasMachine = isRoot && existsSync(SYSTEMCTL_FILE)
export const canRun = runsIf(hasMachine, 'only root can run it, where there is a systemctl')
/** Of a service that is neither enabled nor active, and that starts. */
const SYSTEMCTL = `#!/bin/sh
case $1 in is-enabled) echo disabled; exit 1 ;; is-active) echo inactive; exit 3 ;; esac`

/** A machine with an issuer, on which the built program is root, and what the service will say once it is started. */
export interface Machine extends AsyncDisposable {
  readonly issuer: LocalIssuer
  readonly enroll: (...options: readonly string[]) => ChildProcess
  readonly run: (...line: readonly string[]) => ChildProcess
  /** Where a file of it is: `etc/default/hostcertd`. */
  readonly path: (name: string) => string
  readonly journal: () => Promise<readonly JournalRun[]>
}

/** @param permissions of the identity; by default it may read and register all hosts */
export async function makeMachine(
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
  const checked_at = new Date(Date.now() + 1_000).toISOString()
  const presented = { serial: '7', matches: true, valid_before: null, checked_at, unknown: null }
  return statusAnswer([{ ...validCertificate('ssh_host_ed25519_key', presented), principals: [HOSTNAME] }])
}

export async function endOf(program: ChildProcess): Promise<{ status: number | null; stderr: string }> {
  const { stdout, stderr } = program
  if (stdout === null || stderr === null) throw new Error('no pipes')
  const [said, status] = await Promise.all([text(stderr), exitOf(program), text(stdout)])
  return { status, stderr: said }
}
