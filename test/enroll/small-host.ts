import { existsSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import type { Change, FileChange, FileState } from '../../agent/enroll/change.ts'
import { readFileState } from '../../agent/enroll/files.ts'
import { type Journal, openJournal } from '../../agent/enroll/journal.ts'
import type { Performers } from '../../agent/enroll/perform.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { type FaultyOperations, faultyOperations } from './faulty-operations.ts'

export const SSHD_CONFIG = 'Port 22\nHostCertificate /old\nMatch all\n'

/** `/etc` and the folder of the journal, in a folder of a test's own, and what is outside of the files. */
export interface SmallHost extends AsyncDisposable {
  readonly etc: string
  readonly state: string
  /** What the service keeps. */
  readonly kept: string
  readonly journal: string
  readonly service: { isEnabled: boolean; isActive: boolean; calls: string[] }
  /** sshd reads its configuration. */
  readBySshd(): Promise<void>
  /** Of /etc and of what the service keeps, by path, and what sshd has read: all that must be as before. */
  snapshot(): Promise<Record<string, unknown>>
  open(faulty?: FaultyOperations): Promise<Journal>
  /** All kinds of changes, as one call of enroll makes them. */
  changes(): Promise<readonly Change[]>
}

export function fileState(content: string, mode = 0o644): FileState {
  return {
    content: Buffer.from(content, 'latin1'),
    mode,
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
  }
}

export function fileChange(path: string, before: FileState | null, after: FileState | null): FileChange {
  return { kind: 'file', step: `write ${path}`, path, before, after, isSecret: false }
}

/** Hundreds of hosts, each of which syncs hundreds of times: what a power cut leaves is seen by the order of the calls. */
const IN_MEMORY = existsSync('/dev/shm') ? '/dev/shm' : undefined

export async function makeSmallHost(): Promise<SmallHost> {
  const folder = await makeTemporaryFolder(IN_MEMORY)
  const [etc, state] = [join(folder.path, 'etc'), join(folder.path, 'lib', 'enroll')]
  const kept = join(folder.path, 'lib', 'service')
  const at = (...names: string[]): string => join(etc, ...names)
  await fs.mkdir(at('ssh', 'sshd_config.d'), { recursive: true })
  await fs.writeFile(at('ssh', 'sshd_config'), SSHD_CONFIG, { mode: 0o600 })
  await fs.writeFile(at('ssh', 'leftover'), 'TrustedUserCAKeys /old\n')
  await fs.mkdir(join(kept, 'certs'), { recursive: true })
  await fs.writeFile(join(kept, 'certs', 'old'), 'old\n')
  const service = { isEnabled: false, isActive: false, calls: [] as string[] }

  const configOfSshd = async (): Promise<string> => {
    const files = ['sshd_config', 'sshd_config.d/40-hostcertd.conf'].map((name) => at('ssh', name))
    return (await Promise.all(files.map((file) => fs.readFile(file, 'latin1').catch(() => '')))).join()
  }
  let readConfig = await configOfSshd()
  const readBySshd = async (): Promise<void> => {
    readConfig = await configOfSshd()
  }

  const performersWith = ({ step }: FaultyOperations): Performers => ({
    systemctl: async (args) => {
      if (args[0] === 'show') {
        const stdout = `ActiveState=${service.isActive ? 'active' : 'inactive'}\nUnitFileState=${service.isEnabled ? 'enabled' : 'disabled'}\n`
        return { status: 0, failure: null, stderr: '', stdout }
      }
      return step(async () => {
        service.calls.push(args.join(' '))
        const [verb] = args
        if (verb === 'enable' || verb === 'disable') service.isEnabled = verb === 'enable'
        if (args.includes('--now')) service.isActive = verb === 'enable'
        if (verb === 'stop') service.isActive = false
        if (verb === 'start' || verb === 'reload-or-restart') service.isActive = true
        return { status: 0, failure: null, stderr: '' }
      })
    },
    reloadSshd: () =>
      step(async () => {
        await readBySshd()
        return null
      }),
  })

  const snapshot = async (): Promise<Record<string, unknown>> => {
    const found: Record<string, unknown> = {}
    for (const name of (await fs.readdir(etc, { recursive: true })).sort()) {
      const { mode, uid, gid } = await fs.lstat(at(name))
      const isFile = (mode & 0o170000) === 0o100000
      found[name] = { mode, uid, gid, content: isFile ? await fs.readFile(at(name), 'latin1') : null }
    }
    for (const name of (await fs.readdir(kept, { recursive: true })).sort())
      found[`kept/${name}`] = (await fs.lstat(join(kept, name))).isFile()
    found['what sshd has read'] = readConfig
    return found
  }

  const changes = async (): Promise<readonly Change[]> => {
    const config = fileState(SSHD_CONFIG, 0o600)
    const once = fileState(`Include ${at('hostcertd.conf')}\n${SSHD_CONFIG}`, 0o644)
    const twice = fileState(once.content.toString().replace('HostCertificate /old\n', ''), 0o644)
    return [
      fileChange(at('hostcertd', 'hostcertd.yaml'), null, fileState('issuer:\n  url: x\n')),
      {
        ...fileChange(at('hostcertd', 'credentials', 'secret'), null, fileState('hunter2', 0o600)),
        isSecret: true,
        isCredential: true,
      },
      { kind: 'sshd', step: 'reload sshd' },
      fileChange(at('ssh', 'sshd_config'), config, once),
      fileChange(at('ssh', 'sshd_config'), once, twice),
      fileChange(at('ssh', 'leftover'), await readFileState(at('ssh', 'leftover')), null),
      {
        kind: 'copies',
        step: 'certificates',
        paths: [at('ssh', 'hostcertd', '*-cert.pub'), at('ssh', 'sshd_config.d', '40-hostcertd.conf')],
        before: [],
        state: { folder: kept, before: ['certs', 'certs/old'] },
      },
      {
        kind: 'service',
        step: 'start',
        unit: 'hostcertd.service',
        before: { isEnabled: service.isEnabled, isActive: service.isActive },
      },
    ]
  }

  return {
    etc,
    state,
    kept,
    journal: join(state, 'journal.json'),
    service,
    readBySshd,
    snapshot,
    changes,
    open: (faulty = faultyOperations()) =>
      openJournal({ folder: state, performers: performersWith(faulty), operations: faulty.operations }),
    [Symbol.asyncDispose]: folder.remove,
  }
}

/** What others may bring about before enroll does. */
export function isNotedFirst({ kind }: Change): boolean {
  return kind === 'sshd' || kind === 'copies' || kind === 'service'
}

/** What enroll does: all changes, and the helper its copies. */
export async function enroll(host: SmallHost, journal: Journal): Promise<void> {
  const run = journal.begin()
  const changes = await host.changes()
  await run.note(changes.filter(isNotedFirst))
  for (const change of changes) await run.make(change)
  const copies = join(host.etc, 'ssh', 'hostcertd')
  await fs.mkdir(copies)
  await fs.writeFile(join(copies, 'ssh_host_ed25519_key-cert.pub'), 'certificate\n')
  await fs.writeFile(join(host.etc, 'ssh', 'sshd_config.d', '40-hostcertd.conf'), 'HostCertificate x\n')
  await fs.mkdir(join(host.kept, 'certs', 'more'))
  for (const name of ['attempts.json', 'certs/old', 'certs/new-cert.pub', 'certs/more/a'])
    await fs.writeFile(join(host.kept, name), 'new\n')
  await host.readBySshd()
  await run.finish()
}
