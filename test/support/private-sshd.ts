import type { ChildProcess } from 'node:child_process'
import { appendFile, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, scan, type ClientResult, type ConnectOptions } from './private-sshd/client.ts'
import {
  pathsIn,
  writeConfiguration,
  writeReloadScript,
  type SshdPaths,
} from './private-sshd/configuration.ts'
import {
  freePort,
  isRunning,
  makePrivilegeSeparationFolder,
  readLog,
  startListener,
  stopListener,
} from './private-sshd/process.ts'
import { generateKey, type KeyType } from './ssh-keygen.ts'

export { certAuthorityLine, type ClientResult, type ConnectOptions } from './private-sshd/client.ts'

export type HostKeyType = Extract<KeyType, 'ed25519' | 'ecdsa' | 'rsa'>

export interface PrivateSshdOptions {
  /** An existing folder for all its files. */
  readonly folder: string
  /** Default: all three. */
  readonly hostKeyTypes?: readonly HostKeyType[]
  /** Where its `HostCertificate` lines point; made when missing. Default: `certs` in the folder. Null: no lines. */
  readonly certificateDirectory?: string | null
  /** The comment of the host keys is `root@HOSTNAME`. Default `host1`. */
  readonly hostname?: string
  /** Lines that come first in the configuration, and so win; no `Match`. */
  readonly extraConfig?: string
  /** Default: any that is free. */
  readonly port?: number
}

/** Start a real sshd on 127.0.0.1, with host keys and a client key of its own. As root or as an ordinary user. */
export async function startPrivateSshd(options: PrivateSshdOptions): Promise<PrivateSshd> {
  const { folder, hostKeyTypes = ['ed25519', 'ecdsa', 'rsa'], hostname = 'host1' } = options
  const paths = pathsIn(folder)
  const certificates =
    options.certificateDirectory === undefined ? join(folder, 'certs') : options.certificateDirectory
  if (certificates !== null) await mkdir(certificates, { recursive: true })
  const comment = `root@${hostname}`
  const [clientKey] = await Promise.all([
    generateKey(paths.clientKey, 'ed25519', 'client'),
    ...hostKeyTypes.map((type) => generateKey(join(folder, keyName(type)), type, comment)),
  ])
  await writeFile(paths.authorizedKeys, `${clientKey}\n`)
  await writeReloadScript(paths)
  const hostKeys = hostKeyTypes.map((type) => join(folder, keyName(type)))
  const hostCertificates =
    certificates === null ? [] : hostKeyTypes.map((type) => join(certificates, `${keyName(type)}-cert.pub`))
  const { extraConfig = '' } = options
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort())
    await writeConfiguration(paths, { port, hostKeys, hostCertificates, extraConfig })
    const sshd = new PrivateSshd(paths, port, certificates, comment)
    try {
      await sshd.start()
      return sshd
    } catch (error) {
      // Somebody else may take a free port first.
      const taken = String(error).includes('Address already in use')
      if (!taken || options.port !== undefined || attempt === START_ATTEMPTS) throw error
    }
  }
}

const START_ATTEMPTS = 3

/** A running sshd of a test's own. `await using` stops it. Made by {@link startPrivateSshd}. */
export class PrivateSshd implements AsyncDisposable {
  readonly port: number
  /** Null when its configuration names no certificates. */
  readonly certificateDirectory: string | null
  readonly #paths: SshdPaths
  readonly #comment: string
  #child: ChildProcess | null = null
  #soundConfig: string | null = null

  constructor(paths: SshdPaths, port: number, certificateDirectory: string | null, comment: string) {
    this.#paths = paths
    this.port = port
    this.certificateDirectory = certificateDirectory
    this.#comment = comment
  }

  get folder(): string {
    return this.#paths.folder
  }

  get configPath(): string {
    return this.#paths.config
  }

  /** For `reload_command`: checks the configuration (78 when it is bad), then reloads. */
  get reloadScript(): string {
    return this.#paths.reloadScript
  }

  /** For `host_keys`. */
  get hostKeysPattern(): string {
    return join(this.folder, 'ssh_host_*_key.pub')
  }

  /** Whether the listener lives; a reload of a bad configuration ends it. */
  get running(): boolean {
    return this.#child !== null && isRunning(this.#child)
  }

  /** Of the listener; a reload keeps it. @throws when it is stopped */
  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined) throw new Error(`the sshd of ${this.folder} is stopped`)
    return pid
  }

  /** The private half; the public half has `.pub` besides. */
  hostKeyPath(type: HostKeyType): string {
    return join(this.folder, keyName(type))
  }

  /** Where sshd looks for the certificate of a host key. @throws when its configuration names none */
  certificatePath(type: HostKeyType): string {
    if (this.certificateDirectory === null) throw new Error(`the sshd of ${this.folder} has no certificates`)
    return join(this.certificateDirectory, `${keyName(type)}-cert.pub`)
  }

  /** Everything it has logged, over all starts. */
  async log(): Promise<string> {
    return await readLog(this.#paths)
  }

  /** How often {@link reloadScript} has reloaded it. */
  async reloadCount(): Promise<number> {
    const text = await readFile(this.#paths.reloadCounter, 'utf8').catch(() => '')
    return text.split('\n').length - 1
  }

  /** Make the configuration one that `sshd -t` refuses. */
  async breakConfig(): Promise<void> {
    this.#soundConfig ??= await readFile(this.configPath, 'utf8')
    await appendFile(this.configPath, 'NoSuchKeyword yes\n')
  }

  /** Undo {@link breakConfig}. */
  async mendConfig(): Promise<void> {
    if (this.#soundConfig !== null) await writeFile(this.configPath, this.#soundConfig)
    this.#soundConfig = null
  }

  /** Listen, again on the same port after {@link stop}. @throws with the log when it does not come up */
  async start(): Promise<void> {
    if (this.running) return
    await makePrivilegeSeparationFolder()
    this.#child = await startListener(this.#paths)
  }

  /** End the listener; clients that are connected stay so. May be called twice. */
  async stop(): Promise<void> {
    if (this.#child !== null) await stopListener(this.#child, this.#paths)
    this.#child = null
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** Log in with the real ssh and run `true`. */
  async connect(wish: ConnectOptions): Promise<ClientResult> {
    return await connect(this.port, this.#paths.clientKey, wish)
  }

  /** The certificate that it presents, `TYPE BASE64`; null for none. */
  async scan(type: HostKeyType): Promise<string | null> {
    return await scan(this.port, type)
  }

  /**
   * Replace a host key, or delete both halves. sshd sees it at its next reload, or at once, as its version has it.
   *
   * @param how `in-place`: the files are truncated and written; `rename`: new files take their places
   */
  async rotateKey(type: HostKeyType, how: 'in-place' | 'rename' | 'delete'): Promise<void> {
    const path = this.hostKeyPath(type)
    const halves = ['', '.pub']
    if (how === 'delete') {
      for (const half of halves) await rm(path + half)
      return
    }
    // In the same folder for the rename, but under a name that no pattern for host keys matches.
    const fresh = join(this.folder, `new_${type}`)
    await generateKey(fresh, type, this.#comment)
    for (const half of halves) {
      if (how === 'rename') await rename(fresh + half, path + half)
      else await copyFile(fresh + half, path + half)
    }
    if (how === 'in-place') await Promise.all(halves.map((half) => rm(fresh + half)))
  }
}

function keyName(type: HostKeyType): string {
  return `ssh_host_${type}_key`
}
