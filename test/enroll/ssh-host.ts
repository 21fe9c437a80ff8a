import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { SshdWanted } from '../../agent/enroll/sshd.ts'
import type { SshdCheck } from '../../agent/host/sshd-files.ts'
import { dropInText } from '../../agent/host/sshd.ts'
import { scan } from '../support/private-sshd/client.ts'
import { freePort } from '../support/private-sshd/process.ts'
import { generateKey, type SignOptions, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

/** One configuration of sshd, and what enroll is to make of it. */
export interface Case {
  /** Paths below /etc/ssh, and bytes as latin1. */
  readonly files: Readonly<Record<string, string>>
  /** Null: the files are written, and nothing is planned. */
  readonly wanted: SshdWanted | null
  /** Written after the changes: what the root helper and others write. */
  readonly later?: Readonly<Record<string, string>>
  /** Whether the changes are taken back in the end, and sshd is asked for its user CAs at each step. */
  readonly isUndone?: boolean
}

export interface Planned {
  /** `PATH: STEP` of each change. */
  readonly steps: readonly string[]
  readonly modes: readonly (number | null)[]
  readonly notes: readonly string[]
  readonly problems: readonly string[]
  /** What `sshd -T` prints, without the changes and with them and {@link Case.later}. */
  readonly before: readonly string[]
  readonly after: readonly string[]
  /** /etc/ssh/sshd_config with the changes, as latin1. */
  readonly main: string
  readonly check: SshdCheck
  /** The line of `sshd -T` before the first change, after each one, and after each one is undone. */
  readonly userCas: readonly string[]
  /** /etc/ssh/sshd_config at the very end. */
  readonly undone: string
  /** Steps and problems of a second plan, with the changes made. */
  readonly again: readonly string[]
}

export const HOST_KEY_TYPES = ['rsa', 'ecdsa', 'ed25519'] as const
type HostKeyType = (typeof HOST_KEY_TYPES)[number]

const ENTER = 'mount --bind "$0" /etc/ssh && exec "$@"'
const PROGRAM = fileURLToPath(new URL('planned-in-place.ts', import.meta.url))

/** A host of its own in which /etc/ssh is a folder of the test: a mount namespace, with the real sshd. */
export class SshHost implements AsyncDisposable {
  readonly #folder: TemporaryFolder

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder
  }

  /** With three host keys, and a copy of a certificate of hostcertd for each. */
  static async make(): Promise<SshHost> {
    const host = new SshHost(await makeTemporaryFolder())
    await mkdir(host.path('hostcertd'), { recursive: true })
    await Promise.all([
      ...['ca', 'other-ca'].map((name) => generateKey(join(host.#folder.path, name), 'ed25519', '')),
      ...HOST_KEY_TYPES.map((type) => generateKey(host.path(`ssh_host_${type}_key`), type, '')),
    ])
    for (const type of HOST_KEY_TYPES)
      await writeFile(host.path(`hostcertd/ssh_host_${type}_key-cert.pub`), await host.certify(type))
    return host
  }

  /** Where something of /etc/ssh lies. */
  path(name: string): string {
    return join(this.#folder.path, 'ssh', name)
  }

  /** A line with its end. */
  async certify(type: HostKeyType, wish: Partial<SignOptions> = {}): Promise<string> {
    const publicKey = this.path(`ssh_host_${type}_key.pub`)
    const ca = join(this.#folder.path, wish.ca ?? 'ca')
    return `${await signCertificate({ principals: ['web1'], ...wish, publicKey, ca })}\n`
  }

  /** Make the plan for each case in turn, and the changes in it. */
  async plan(cases: readonly Case[]): Promise<readonly Planned[]> {
    const child = this.#enter([process.execPath, PROGRAM], ['pipe', 'pipe', 'pipe'])
    child.stdin?.end(JSON.stringify(cases))
    const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)])
    if (stdout === '') throw new Error(stderr)
    return JSON.parse(stdout) as Planned[]
  }

  /** What sshd presents with its configuration as it is now, by type of host key; null: no certificate. */
  async presented(): Promise<Readonly<Record<string, string | null>>> {
    const port = await freePort()
    const options = ['-D', '-e', '-p', String(port), '-o', 'ListenAddress=127.0.0.1', '-o', 'UsePAM=no']
    const child = this.#enter(['/usr/sbin/sshd', ...options], ['ignore', 'ignore', 'pipe'])
    const ended = once(child, 'exit')
    let log = ''
    child.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()))
    try {
      while (!log.includes('Server listening')) {
        if (child.exitCode !== null) throw new Error(`sshd ended: ${log}`)
        await Promise.race([once(child.stderr!, 'data'), ended])
      }
      const found: Record<string, string | null> = {}
      for (const type of HOST_KEY_TYPES) found[type] = await scan(port, type)
      return found
    } finally {
      child.kill()
      await ended
    }
  }

  #enter(argv: readonly string[], stdio: ('pipe' | 'ignore')[]): ReturnType<typeof spawn> {
    return spawn('/usr/bin/unshare', ['-m', 'sh', '-c', ENTER, this.path(''), ...argv], { stdio })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder.remove()
  }
}

/** As the root helper writes it, once there is a certificate for each host key. */
export const HELPERS_DROP_IN = {
  '/etc/ssh/sshd_config.d/40-hostcertd.conf':
    dropInText(
      '/etc/ssh/hostcertd',
      HOST_KEY_TYPES.map((type) => `ssh_host_${type}_key-cert.pub`),
    ) ?? '',
}

/**
 * What `infisical ssh add-host --configure-sshd` makes of sshd_config, as in its source: lines that begin with a keyword
 * and a space are written over with `force` (without it, it gives up), what is missing is appended in the order of a Go
 * map, which is any, and the last line has no end.
 */
export function addHost(
  content: string,
  type: string,
  { isForced = false, order = ['TrustedUserCAKeys', 'HostKey', 'HostCertificate'] } = {},
): string {
  const values: Readonly<Record<string, string>> = {
    TrustedUserCAKeys: '/etc/ssh/infisical_user_ca.pub',
    HostKey: `/etc/ssh/ssh_host_${type}_key`,
    HostCertificate: `/etc/ssh/ssh_host_${type}_key-cert.pub`,
  }
  const lines = content.split('\n')
  const seen = new Set<string>()
  for (const [index, line] of lines.entries()) {
    for (const [keyword, value] of Object.entries(values)) {
      if (!line.trim().startsWith(`${keyword} `)) continue
      if (!isForced) throw new Error(`sshd_config already contains: ${line}`)
      seen.add(keyword)
      lines[index] = `${keyword} ${value}`
    }
  }
  for (const keyword of order) if (!seen.has(keyword)) lines.push(`${keyword} ${values[keyword]}`)
  return lines.join('\n')
}
