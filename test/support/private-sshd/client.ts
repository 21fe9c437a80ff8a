import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { makeTemporaryFolder } from '../temporary-folder.ts'

/** How an ssh client connects, and what it trusts. */
export interface ConnectOptions {
  /** Lines of a `known_hosts` file; see {@link certAuthorityLine}. */
  readonly knownHosts: string | readonly string[]
  /** The name that the client believes it connects to. */
  readonly hostname: string
  /** Default true: never trust what is not known. */
  readonly strict?: boolean
  /** As `-o HostKeyAlgorithms`; default: the client's own. */
  readonly hostKeyAlgorithms?: string
}

export interface ClientResult {
  /** 0 when `true` ran on the host; 255 when ssh refused; null when it was killed. */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

const CONNECT_MILLISECONDS = 20_000

/** A line of `known_hosts` that trusts a CA for a name or pattern. */
export function certAuthorityLine(hostname: string, caPublicKey: string): string {
  return `@cert-authority ${hostname} ${caPublicKey}`
}

/** Log in with the real ssh, as the current user, and run `true`. Reads no configuration and no agent. */
export async function connect(port: number, key: string, wish: ConnectOptions): Promise<ClientResult> {
  await using folder = await makeTemporaryFolder()
  const knownHosts = `${folder.path}/known_hosts`
  await writeFile(knownHosts, `${[wish.knownHosts].flat().join('\n')}\n`)
  const options = [
    `StrictHostKeyChecking=${wish.strict === false ? 'no' : 'yes'}`,
    `UserKnownHostsFile=${knownHosts}`,
    'GlobalKnownHostsFile=/dev/null',
    `HostKeyAlias=${wish.hostname}`,
    'BatchMode=yes',
    'IdentitiesOnly=yes',
    'IdentityAgent=none',
    'ConnectTimeout=10',
    'UpdateHostKeys=no',
    ...(wish.hostKeyAlgorithms === undefined ? [] : [`HostKeyAlgorithms=${wish.hostKeyAlgorithms}`]),
  ].flatMap((option) => ['-o', option])
  const target = `${userInfo().username}@127.0.0.1`
  return await run('ssh', ['-F', '/dev/null', '-p', String(port), '-i', key, ...options, target, 'true'])
}

/**
 * The certificate that sshd presents for a type of key, by `ssh-keyscan -c`.
 *
 * @param type as `ssh-keyscan -t`: `ed25519`, `ecdsa`, `rsa`
 * @returns `TYPE BASE64`, or null when it presents none
 */
export async function scan(port: number, type: string): Promise<string | null> {
  const { stdout } = await run('ssh-keyscan', ['-c', '-t', type, '-p', String(port), '127.0.0.1'])
  // Some versions print the banner as a comment, some the host name first.
  const lines = stdout.split('\n').filter((line) => !line.startsWith('#'))
  return lines.map((line) => /\S+-cert-v01@openssh\.com \S+/.exec(line)?.[0]).find(Boolean) ?? null
}

async function run(program: string, options: readonly string[]): Promise<ClientResult> {
  return await new Promise((resolve) => {
    const child = execFile(program, options, { timeout: CONNECT_MILLISECONDS }, (_error, stdout, stderr) => {
      resolve({ status: child.exitCode, stdout, stderr })
    })
  })
}
