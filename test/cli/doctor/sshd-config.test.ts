import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll } from 'vitest'
import { makePrivilegeSeparationFolder } from '../../support/private-sshd/process.ts'
import { generateKey } from '../../support/ssh-keygen.ts'
import { ED25519, type BareHost } from '../bare-host.ts'
import { isRoot, testBroken, type Broken } from './broken.ts'

/** What sshd makes of its configuration only root can know. */
const onlyRoot = true
const BROKEN: readonly Broken[] = [
  {
    name: 'no HostCertificate line',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => change(sshdConfig, (text) => text.replace(/HostCertificate .*\n/, '')),
    troubles: ['sshd-config failure'],
    message: /does not name .*ssh_host_ed25519_key-cert\.pub; it names none/,
    remedy: /add `HostCertificate .*ssh_host_ed25519_key-cert\.pub` near the top of .*sshd_config/,
  },
  {
    name: 'a HostCertificate line for another place',
    onlyRoot,
    breakIt: async ({ sshdConfig }) =>
      change(sshdConfig, (text) => text.replace(/(HostCertificate ).*/, '$1/etc/ssh/old-cert.pub')),
    troubles: ['sshd-config failure'],
    message: /does not name .*; it names \/etc\/ssh\/old-cert\.pub/,
    remedy: /add `HostCertificate/,
  },
  {
    name: 'HostCertificate added below a Match block',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => {
      const block = 'Match User nobody\n  X11Forwarding no\nHostCertificate'
      await change(sshdConfig, (text) => text.replace('HostCertificate', block))
    },
    troubles: ['sshd-config failure'],
    message: /sshd_config:4: HostCertificate .* stands below a Match line/,
    remedy: /move it above the first Match line/,
  },
  {
    name: 'an Include below a Match block',
    onlyRoot,
    breakIt: async ({ host, sshdConfig }) => {
      await dropIn(host)
      const block = `Match User nobody\nInclude ${host.folder}/sshd_config.d/*.conf`
      await change(sshdConfig, (text) => text.replace(/HostCertificate.*/, block))
    },
    troubles: ['sshd-config failure'],
    message: /40-hostcertd\.conf:1: HostCertificate .* stands below a Match line/,
    remedy: /if it comes by an Include, move that to the top of the file/,
  },
  {
    name: 'a drop-in that nothing includes',
    onlyRoot,
    breakIt: async ({ host, sshdConfig }) => {
      await dropIn(host)
      await change(sshdConfig, (text) => text.replace(/HostCertificate.*/, ''))
    },
    troubles: ['sshd-config failure'],
    message: /40-hostcertd\.conf does, but .*sshd_config does not include it/,
    remedy: /add `Include .*\/sshd_config\.d\/\*\.conf` at the top of .*sshd_config/,
  },
  {
    name: 'a HostKey line that leaves ours out',
    onlyRoot,
    breakIt: async ({ host, sshdConfig }) => {
      const other = join(host.folder, 'other_key')
      await generateKey(other, 'ed25519')
      await change(sshdConfig, (text) => text.replace(/HostKey .*/, `HostKey ${other}`))
    },
    troubles: ['sshd-config failure'],
    message: /does not load .*ssh_host_ed25519_key: the HostKey lines at .*sshd_config:1 replace its own/,
    remedy: /add `HostKey .*ssh_host_ed25519_key` there/,
  },
  {
    name: 'HostKeyAlgorithms without certificates',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => change(sshdConfig, (text) => `${text}HostKeyAlgorithms ssh-ed25519\n`),
    troubles: ['sshd-config failure'],
    message: /sshd_config:3: HostKeyAlgorithms leaves out ssh-ed25519-cert-v01@openssh\.com/,
    remedy: /take the HostKeyAlgorithms line out, or add/,
  },
  {
    name: 'a configuration that sshd does not accept',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => change(sshdConfig, (text) => `${text}NoSuchKeyword yes\n`),
    troubles: ['sshd-config failure'],
    message: /SSHD_CONFIG_INVALID: .*NoSuchKeyword/,
    remedy: /until `sshd -t -f .*sshd_config` is silent/,
  },
  {
    name: 'host keys that are not there',
    onlyRoot,
    breakIt: async ({ sshdConfig }) =>
      change(sshdConfig, (text) => text.replace(/HostKey .*/, 'HostKey /nonexistent/key')),
    troubles: ['sshd-config failure'],
    message: /sshd finds none of its host keys: .*\/nonexistent\/key/,
    remedy: /correct the HostKey lines/,
  },
  {
    name: 'a public half without its private half',
    onlyRoot,
    breakIt: async ({ host }) => {
      const path = host.hostKeyPath(ED25519)
      await rename(path.replace(/\.pub$/, ''), `${path}.moved`)
    },
    troubles: ['host-keys warning', 'sshd-config failure'],
    message: /but there is no .*ssh_host_ed25519_key/,
    remedy: /make the pair anew/,
  },
]

beforeAll(async () => {
  if (isRoot) await makePrivilegeSeparationFolder()
})

testBroken(BROKEN)

async function change(path: string, edit: (text: string) => string): Promise<void> {
  await writeFile(path, edit(await readFile(path, 'utf8')))
}

/** The line in a drop-in beside sshd's configuration. */
async function dropIn(host: BareHost): Promise<void> {
  const folder = join(host.folder, 'sshd_config.d')
  await mkdir(folder)
  await writeFile(join(folder, '40-hostcertd.conf'), `HostCertificate ${host.certificatePath(ED25519)}\n`)
}
