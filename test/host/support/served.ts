import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { listCertificate } from '../../support/ssh-keygen.ts'
import { HOST_KEY_TYPES } from './client.ts'
import type { Host } from './host.ts'

/**
 * The certificates that sshd presents, each as `TYPE SERIAL`, in order.
 *
 * Learnt by logging in, not by ssh-keyscan: OpenSSH from 9.8 on punishes an address for connections without a login.
 */
export async function servedCertificates({ client }: Host, port = 22): Promise<readonly string[]> {
  const served: string[] = []
  for (const type of HOST_KEY_TYPES) {
    const { stderr } = await client.logIn(type, ['-v', '-p', String(port)])
    const [, name, serial] = /^debug1: Server host certificate: (\S+) \S+, serial (\d+)/m.exec(stderr) ?? []
    if (name !== undefined) served.push(`${name} ${serial}`)
  }
  return served.toSorted()
}

/** The certificates that the agent has verified and put into its own folder, as {@link servedCertificates} has them. */
export async function stagedCertificates({ container }: Host): Promise<readonly string[]> {
  return await certificatesIn(join(container.root, 'var/lib/hostcertd/certs'))
}

/** The copies that sshd reads. */
export async function copiedCertificates({ container }: Host): Promise<readonly string[]> {
  return await certificatesIn(join(container.root, 'etc/ssh/hostcertd'))
}

async function certificatesIn(folder: string): Promise<readonly string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('-cert.pub'))
  const said = await Promise.all(names.map((name) => listCertificate(join(folder, name))))
  return said
    .map((text) => `${/^\s*Type: (\S+)/m.exec(text)?.[1]} ${/^\s*Serial: (\d+)/m.exec(text)?.[1]}`)
    .toSorted()
}
