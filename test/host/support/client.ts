import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKey, signCertificate } from '../../support/ssh-keygen.ts'
import { tryCommand, type Outcome } from './commands.ts'
import { HOSTNAME, outside, type Network } from './network.ts'

/** Types of host key, as ssh's options name them. */
export type HostKeyType = 'ssh-ed25519' | 'ecdsa-sha2-nistp256' | 'ssh-rsa'

/** What Debian's openssh-server makes. */
export const HOST_KEY_TYPES: readonly HostKeyType[] = ['ssh-ed25519', 'ecdsa-sha2-nistp256', 'ssh-rsa']

/** The algorithms that ask for a host's certificate of one type and for nothing else. */
const CERTIFICATE_ALGORITHMS: Readonly<Record<HostKeyType, string>> = {
  'ssh-ed25519': 'ssh-ed25519-cert-v01@openssh.com',
  'ecdsa-sha2-nistp256': 'ecdsa-sha2-nistp256-cert-v01@openssh.com',
  'ssh-rsa': 'rsa-sha2-512-cert-v01@openssh.com',
}

/**
 * By what a client knows the host: its certificate of this type alone; a certificate of `any` type; one, or a plain key
 * that was `known` before; null: it takes any key, for a host without a certificate.
 */
export type Trust = HostKeyType | 'any' | 'known' | null

/** A person with ssh at the other end of the veth pair, who knows nothing of the host but the CA's public key. */
export class Client {
  /** To be put into somebody's authorized_keys. */
  readonly publicKey: string
  readonly #network: Network
  readonly #folder: string
  readonly #hostname: string

  /** @param publicKey see {@link makeClient} */
  constructor(network: Network, folder: string, publicKey: string, hostname: string) {
    this.#hostname = hostname
    this.#network = network
    this.#folder = folder
    this.publicKey = publicKey
  }

  /**
   * Log in as root and say `hello`.
   *
   * @param more options of ssh
   */
  async logIn(type: Trust, more: readonly string[] = []): Promise<Outcome> {
    const file = join(this.#folder, type === 'known' ? 'known_hosts_with_keys' : 'known_hosts')
    const trust =
      type === null
        ? ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null']
        : ['StrictHostKeyChecking=yes', `UserKnownHostsFile=${file}`]
    if (type !== null && type !== 'any' && type !== 'known')
      trust.push(`HostKeyAlgorithms=${CERTIFICATE_ALGORITHMS[type]}`)
    const usual = ['GlobalKnownHostsFile=/dev/null', 'BatchMode=yes', 'ConnectTimeout=10']
    const options = [...usual, `HostKeyAlias=${this.#hostname}`, ...trust].flatMap((option) => ['-o', option])
    const who = ['-i', join(this.#folder, 'id'), '-l', 'root', this.#network.hostAddress]
    const argv = ['ssh', '-F', 'none', ...more, ...options, ...who, 'echo', 'hello']
    return await tryCommand([...outside(this.#network), ...argv], { timeout: 30_000 })
  }

  /** Let the client know this alone. @param knownHosts a line of known_hosts */
  async trust(knownHosts: string): Promise<void> {
    const file = join(this.#folder, 'known_hosts')
    await writeFile(`${file}.new`, `${knownHosts}\n`)
    await rename(`${file}.new`, file)
  }

  /** Log in by a user certificate of its key from now on, too. @param ca path of the CA's private key */
  async carryCertificate(ca: string): Promise<void> {
    const wish = { ca, publicKey: this.publicKey, kind: 'user', principals: ['root'] } as const
    const file = join(this.#folder, 'id-cert.pub')
    await writeFile(`${file}.new`, `${await signCertificate(wish)}\n`)
    // Whoever logs in meanwhile reads the one or the other.
    await rename(`${file}.new`, file)
  }

  /** Let the host be `known` by these keys, and by the CA. @param publicKeys a line each */
  async know(publicKeys: string): Promise<void> {
    const ca = await readFile(join(this.#folder, 'known_hosts'), 'utf8')
    const keys = publicKeys.trimEnd().replace(/^/gm, `${this.#hostname} `)
    await writeFile(join(this.#folder, 'known_hosts_with_keys'), `${keys}\n${ca}`)
  }

  /**
   * Whether every kind of certificate is served, and good enough for ssh to log in by it.
   *
   * @returns what ssh said of those that are not; empty when all is well
   */
  async verifyAll(
    types: readonly HostKeyType[] = HOST_KEY_TYPES,
    more: readonly string[] = [],
  ): Promise<readonly string[]> {
    const complaints: string[] = []
    for (const type of types) {
      const { stdout, stderr } = await this.logIn(type, more)
      if (stdout !== 'hello\n') complaints.push(`${type}: ${stderr}`)
    }
    return complaints
  }
}

/** @param folder an existing folder for its files */
export async function makeClient(
  network: Network,
  folder: string,
  caPublicKey: string,
  hostname = HOSTNAME,
): Promise<Client> {
  await writeFile(join(folder, 'known_hosts'), `@cert-authority ${hostname} ${caPublicKey}\n`)
  const publicKey = await generateKey(join(folder, 'id'), 'ed25519', 'client')
  return new Client(network, folder, publicKey, hostname)
}
