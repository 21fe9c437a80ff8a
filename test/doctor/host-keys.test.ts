import { execFile } from 'node:child_process'
import { chmod, copyFile, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { ED25519 } from '../cli/bare-host.ts'
import { PROGRAM } from '../cli/hostcertd.ts'
import { isRoot, runsIf } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { testBroken, type Broken } from './broken.ts'
import { findingsIn, of } from './findings.ts'
import { makeWard, type Ward } from './ward.ts'

const run = promisify(execFile)
const onlyRoot = true
/** The command that writes a public half anew. */
const FROM_PRIVATE = /`ssh-keygen -y -f (\S+\/ssh_host_ed25519_key) > \1\.pub && chmod 644 \1\.pub`/

const BROKEN: readonly Broken[] = [
  {
    name: 'a public half that is missing, of the only key',
    breakIt: async ({ host }) => rm(host.hostKeyPath(ED25519)),
    troubles: ['configuration warning', 'host-keys failure'],
    message: /nothing matches .* yet/,
    remedy: /correct it in .*hostcertd\.yaml/,
    remedies: { 'host-keys': FROM_PRIVATE },
  },
  {
    name: 'a public half that is missing, beside another key',
    onlyRoot,
    breakIt: async ({ host }) => {
      const etc = join(host.folder, 'etc')
      await generateKey(join(etc, 'ssh_host_ecdsa_key'), 'ecdsa')
      await rm(join(etc, 'ssh_host_ecdsa_key.pub'))
      await generateKey(join(etc, 'ssh_host_p521_key'), 'ecdsa-521')
      await rm(join(etc, 'ssh_host_p521_key.pub'))
    },
    troubles: ['host-keys warning'],
    message: /ssh_host_ecdsa_key has no public half, so no certificate is issued for it: \S+\.pub is missing/,
    remedy: /`ssh-keygen -y -f \S+ssh_host_ecdsa_key > \S+ssh_host_ecdsa_key\.pub && chmod 644 /,
  },
  ...(
    [
      ['damaged', async () => 'ssh-ed25519 AAAA', /the public key is cut short/],
      ['empty', async () => '', /the file holds no public key/],
      ['with a byte order mark', async (text) => `\u{FEFF}${text}`, /begins with a byte order mark/],
      ['in RFC 4716 format', async (_text, path) => toRfc4716(path), /is in RFC 4716 format/],
    ] satisfies [string, (text: string, path: string) => Promise<string>, RegExp][]
  ).map(([what, write, why]) => ({
    name: `a public half ${what}`,
    breakIt: async ({ host }: Ward) => {
      const path = host.hostKeyPath(ED25519)
      await writeFile(path, await write(await readFile(path, 'utf8'), path))
    },
    troubles: ['host-keys failure'],
    message: new RegExp(`HOST_KEY_UNREADABLE: cannot read \\S+ssh_host_ed25519_key\\.pub: .*${why.source}`),
    remedy: FROM_PRIVATE,
  })),
  {
    name: 'a public half that cannot be read, and no private half',
    breakIt: async ({ host }) => {
      const path = host.hostKeyPath(ED25519)
      await writeFile(path, await toRfc4716(path))
      await rm(path.replace(/\.pub$/, ''))
    },
    troubles: ['host-keys failure', 'sshd-config failure'],
    onlyRoot,
    message: /is in RFC 4716 format/,
    remedy: /^rewrite it as one line `TYPE BASE64`: .* by `ssh-keygen -i -f \S+ssh_host_ed25519_key\.pub`/,
  },
  {
    name: 'halves of two keys',
    onlyRoot,
    breakIt: async ({ host, issuer }) => {
      const other = join(host.folder, 'other')
      await generateKey(other, 'ed25519')
      await copyFile(`${other}.pub`, host.hostKeyPath(ED25519))
      await host.certify(ED25519, { ca: issuer.caKeyPath })
    },
    troubles: ['host-keys failure'],
    message:
      /ssh_host_ed25519_key\.pub is not the public half of \S+ssh_host_ed25519_key: it is SHA256:\S+, and the private half belongs to SHA256:\S+ \(ssh-ed25519\)$/,
    remedy: FROM_PRIVATE,
  },
  {
    name: 'a private half that others may read',
    onlyRoot,
    breakIt: async ({ host }) => chmod(host.hostKeyPath(ED25519).replace(/\.pub$/, ''), 0o644),
    troubles: ['host-keys warning', 'sshd-config failure'],
    message: /ssh_host_ed25519_key cannot be read: .*bad permissions$/,
    remedy: /^sshd must be able to read it: `chmod 600 \S+ssh_host_ed25519_key`, and remove any passphrase$/,
  },
  {
    name: 'a public half without its private half',
    onlyRoot,
    breakIt: async ({ host }) => {
      const path = host.hostKeyPath(ED25519)
      await rename(path.replace(/\.pub$/, ''), `${path}.moved`)
      await generateKey(join(host.folder, 'etc', 'ssh_host_rsa_key'), 'rsa')
    },
    troubles: ['host-keys warning', 'certificates failure', 'sshd-config failure'],
    message: /, but \S+ssh_host_ed25519_key is missing$/,
    remedy: /^restore \S+ssh_host_ed25519_key, or remove \S+\.pub if that key is no longer used$/,
  },
  {
    name: 'a host key that the issuer does not sign',
    breakIt: async ({ host }) => {
      await rm(host.hostKeyPath(ED25519))
      await rm(host.hostKeyPath(ED25519).replace(/\.pub$/, ''))
      await generateKey(join(host.folder, 'etc', 'ssh_host_p521_key'), 'ecdsa-521')
    },
    troubles: ['host-keys failure', 'sshd-config failure'],
    onlyRoot,
    message: /the issuer does not sign keys of these types/,
    remedy:
      /^add one that it signs, beside those: `ssh-keygen -q -t ed25519 -N '' -f \S+\/etc\/ssh_host_ed25519_key`/,
  },
]

testBroken(BROKEN)

const canMount =
  isRoot &&
  (await run('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/etc/ssh']).then(
    () => true,
    () => false,
  ))

test.each([
  {
    name: 'none at all',
    files: {},
    remedy:
      /^`ssh-keygen -A` makes new host keys; clients that know this host by others will refuse it, so restore/,
  },
  {
    name: 'a private half somewhere else',
    files: { 'elsewhere/key': 'private' },
    config: 'HostKey /etc/ssh/elsewhere/key\n',
    remedy:
      /^set host_keys to their location \(\/etc\/ssh\/elsewhere\/key\.pub\); a public half that is missing is/,
  },
  {
    name: 'a private half under a usual name',
    files: { ssh_host_rsa_key: 'private' },
    remedy: /^`ssh-keygen -y -f \/etc\/ssh\/ssh_host_rsa_key > /,
  },
  {
    name: 'an agent',
    files: {},
    config: 'HostKeyAgent /run/agent.sock\n',
    remedy:
      /^\/etc\/ssh\/sshd_config:1 names an agent: write each public key that `SSH_AUTH_SOCK=\/run\/agent\.sock ssh-add -L`/,
  },
])(
  'no public host key, in a mount namespace: $name',
  runsIf(canMount, 'nothing can be mounted here'),
  async ({ files, config = '', remedy }) => {
    await using ward = await makeWard()
    await ward.configure({ host_keys: '/etc/ssh/ssh_host_*_key.pub' })
    const script = [
      'set -e',
      'mount -t tmpfs tmpfs /etc/ssh',
      `printf '%s' '${config}' >/etc/ssh/sshd_config`,
      ...Object.entries(files).map(
        ([name, text]) => `mkdir -p "$(dirname /etc/ssh/${name})"; echo '${text}' >/etc/ssh/${name}`,
      ),
      'exec "$@"',
    ].join('\n')
    const doctor = [process.execPath, PROGRAM, 'doctor', '--json', '--config', ward.host.configPath]
    const { stdout } = await run('unshare', ['-m', 'sh', '-c', script, 'sh', ...doctor]).catch(
      (error: { readonly stdout: string }) => error,
    )
    const found = of('host-keys', findingsIn(stdout)).filter(({ status }) => status === 'failure')
    expect(found.map((finding) => finding.remedy)).toEqual([expect.stringMatching(remedy)])
  },
)

async function toRfc4716(path: string): Promise<string> {
  return (await run('ssh-keygen', ['-e', '-f', path])).stdout
}
