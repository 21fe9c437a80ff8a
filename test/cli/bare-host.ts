import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKey, signCertificate, type KeyType, type SignOptions } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { hostcertd, type ProgramOptions, type ProgramResult } from './hostcertd.ts'

export const ED25519 = 'ssh_host_ed25519_key'
export const ECDSA = 'ssh_host_ecdsa_key'

/** Of the host at its issuer. */
export const SSH_HOST_ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'

type Sections = Readonly<Record<string, unknown>>

/** A host without an sshd, with a configuration and an ed25519 host key. Nobody listens where its issuer should be. */
export interface BareHost extends AsyncDisposable {
  readonly folder: string
  readonly configPath: string
  readonly statePath: string
  /** Write the configuration with these sections over the usual ones. */
  configure(changes?: Sections): Promise<void>
  addHostKey(name: string, type: KeyType): Promise<void>
  hostKeyPath(name: string): string
  certificatePath(name: string): string
  /** Put a certificate of the pinned CA's in place, two hours long unless told otherwise. */
  certify(name: string, wish?: Partial<SignOptions>): Promise<void>
  /** Run a verb with its configuration. */
  verb(args: readonly string[], options?: ProgramOptions): Promise<ProgramResult>
  /** Path, size, owner and time of change of every file but the lock, to see what a verb wrote. */
  files(): Promise<string[]>
}

export async function makeBareHost(changes: Sections = {}): Promise<BareHost> {
  const temporary = await makeTemporaryFolder()
  const at = (...parts: readonly string[]): string => join(temporary.path, ...parts)
  await Promise.all(['etc', 'certs', 'state'].map(async (name) => mkdir(at(name))))
  await writeFile(at('token'), 'a-token\n', { mode: 0o600 })
  await generateKey(at('ca'), 'ed25519')
  const usual = {
    issuer: { url: 'http://127.0.0.1:1', ssh_host_id: SSH_HOST_ID, timeout: '5s' },
    auth: { method: 'token', token_file: at('token') },
    host_keys: at('etc', 'ssh_host_*_key.pub'),
    certificates: { directory: at('certs') },
    verify: { host_ca_file: at('ca.pub') },
    sshd: { address: 'none', reload: 'never' },
    health: { listen: 'none' },
    state_directory: at('state'),
  }
  const configPath = at('hostcertd.yaml')
  const hostKeyPath = (name: string): string => at('etc', `${name}.pub`)
  const certificatePath = (name: string): string => at('certs', `${name}-cert.pub`)
  const host: BareHost = {
    folder: temporary.path,
    configPath,
    statePath: at('state'),
    configure: async (sections = {}) => writeFile(configPath, JSON.stringify({ ...usual, ...sections })),
    addHostKey: async (name, type) => void (await generateKey(at('etc', name), type, 'root@web1')),
    hostKeyPath,
    certificatePath,
    certify: async (name, wish = {}) => {
      const publicKey = hostKeyPath(name)
      const usualWish = { ca: at('ca'), publicKey, principals: ['web1'], serial: 7n, validity: '-1h:+1h' }
      await writeFile(certificatePath(name), `${await signCertificate({ ...usualWish, ...wish })}\n`)
    },
    verb: async (args, options) => hostcertd([...args, '--config', configPath], options),
    files: async () => {
      const entries = await readdir(temporary.path, { recursive: true })
      const wanted = entries.filter((entry) => entry !== join('state', 'lock') && entry !== 'state')
      return Promise.all(
        wanted.toSorted().map(async (entry) => {
          const { size, uid, gid, mtimeMs } = await stat(at(entry))
          return `${entry} ${size} ${uid}:${gid} ${mtimeMs}`
        }),
      )
    },
    [Symbol.asyncDispose]: async () => temporary.remove(),
  }
  await host.addHostKey(ED25519, 'ed25519')
  await host.configure(changes)
  return host
}

/** The sections that make a bare host a member of an issuer. */
export function memberOf(issuer: {
  readonly url: string
  readonly hostId: string
  readonly clientId: string
  readonly clientSecretFile: string
}): { readonly issuer: object; readonly auth: object } {
  return {
    issuer: { url: issuer.url, ssh_host_id: issuer.hostId, timeout: '5s' },
    auth: {
      method: 'universal-auth',
      client_id: issuer.clientId,
      client_secret_file: issuer.clientSecretFile,
    },
  }
}

/** A certificate as it lies on disk. */
export async function certificateOf(host: BareHost, name: string): Promise<string | null> {
  return readFile(host.certificatePath(name), 'utf8').catch(() => null)
}
