import { copyFile, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { ED25519, type BareHost } from '../cli/bare-host.ts'
import { makePrivilegeSeparationFolder } from '../support/private-sshd/process.ts'
import { isRoot, needsRoot } from '../support/skip.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { testBroken, type Broken } from './broken.ts'
import { findingsIn, of, troubles, type FindingStatus } from './findings.ts'
import { makeWard, type Ward } from './ward.ts'

/** What sshd makes of its configuration only root can know. */
const onlyRoot = true
const BROKEN: readonly Broken[] = [
  {
    name: 'no HostCertificate line',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => change(sshdConfig, (text) => text.replace(/HostCertificate .*\n/, '')),
    troubles: ['sshd-config failure'],
    message: /has no HostCertificate line for .*ssh_host_ed25519_key-cert\.pub; current lines: none/,
    remedy: /add `HostCertificate .*ssh_host_ed25519_key-cert\.pub` near the top of .*sshd_config/,
  },
  {
    name: 'a HostCertificate line for another place',
    onlyRoot,
    breakIt: async ({ sshdConfig }) =>
      change(sshdConfig, (text) => text.replace(/(HostCertificate ).*/, '$1/etc/ssh/old-cert.pub')),
    troubles: ['sshd-config failure'],
    message: /has no HostCertificate line for .*; current lines: \/etc\/ssh\/old-cert\.pub/,
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
    message: /sshd_config:4: HostCertificate .* is below a Match line/,
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
    message: /40-hostcertd\.conf:1: HostCertificate .* is below a Match line/,
    remedy: /if it is in an included file, move the Include line to the top of the file/,
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
    message: /does not load .*ssh_host_ed25519_key: the HostKey lines at .*sshd_config:1 replace the default/,
    remedy: /add `HostKey .*ssh_host_ed25519_key` there/,
  },
  {
    name: 'HostKeyAlgorithms without certificates',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => change(sshdConfig, (text) => `${text}HostKeyAlgorithms ssh-ed25519\n`),
    troubles: ['sshd-config failure'],
    message: /sshd_config:3: HostKeyAlgorithms does not include ssh-ed25519-cert-v01@openssh\.com/,
    remedy: /^remove the HostKeyAlgorithms line, or add these types to it; then `sshd -t && /,
  },
  {
    name: 'a configuration that sshd does not accept',
    onlyRoot,
    breakIt: async ({ sshdConfig }) => change(sshdConfig, (text) => `${text}NoSuchKeyword yes\n`),
    troubles: ['sshd-config failure'],
    message: /SSHD_CONFIG_INVALID: .*NoSuchKeyword/,
    remedy: /until `sshd -t -f .*sshd_config` prints nothing/,
  },
  {
    name: 'host keys that are not there',
    onlyRoot,
    breakIt: async ({ sshdConfig }) =>
      change(sshdConfig, (text) => text.replace(/HostKey .*/, 'HostKey /nonexistent/key')),
    troubles: ['sshd-config failure'],
    message: /sshd can load none of its host keys: \/nonexistent\/key \(\S+sshd_config:1\) does not exist$/,
    remedy: /^correct those HostKey lines, or restore the files$/,
  },
  {
    name: 'an agent for host keys that does not run',
    onlyRoot,
    breakIt: async ({ sshdConfig }) =>
      change(
        sshdConfig,
        (text) => `${text.replace(/HostKey (.*)/, 'HostKey $1.pub')}HostKeyAgent /nonexistent.sock\n`,
      ),
    troubles: ['sshd-config failure'],
    message:
      /sshd finds no host key; \S+sshd_config:3 sets HostKeyAgent \/nonexistent\.sock: Could not connect/,
    remedy:
      /^start the agent and add the keys to it, until `SSH_AUTH_SOCK=\/nonexistent\.sock ssh-add -l` lists them/,
  },
  {
    name: 'a later HostCertificate line for the same key',
    onlyRoot,
    breakIt: async (ward) => {
      const old = await certifyElsewhere(ward, 'old')
      await change(ward.sshdConfig, (text) => `${text}# by hand\nHostCertificate "${old}" # once\n`)
    },
    troubles: ['sshd-config failure'],
    message:
      /^\S+sshd_config:4: HostCertificate \S+old-cert\.pub \(serial 99\) comes after \S+sshd_config:2: HostCertificate \S+ssh_host_ed25519_key-cert\.pub \(serial 7\): if several .* sshd uses the last$/,
    remedy: /^remove \S+sshd_config:4; then `sshd -t && systemctl reload ssh` \(sshd\)$/,
  },
  {
    name: 'a line in sshd_config behind the Include of a drop-in',
    onlyRoot,
    breakIt: async (ward) => {
      const old = await certifyElsewhere(ward, 'old')
      await dropIn(ward.host)
      const lines = `Include ${ward.host.folder}/sshd_config.d/*.conf\nHostCertificate ${old}`
      await change(ward.sshdConfig, (text) => text.replace(/HostCertificate.*/, lines))
    },
    troubles: ['sshd-config failure'],
    message:
      /^\S+sshd_config:3: HostCertificate \S+old-cert\.pub \(serial 99\) comes after \S+40-hostcertd\.conf:1: /,
    remedy: /^remove \S+sshd_config:3; then/,
  },
  {
    name: 'a line for another certificate of the key, and none for ours',
    onlyRoot,
    breakIt: async (ward) => {
      const old = await certifyElsewhere(ward, 'old')
      await change(ward.sshdConfig, (text) => text.replace(/HostCertificate .*/, `HostCertificate ${old}`))
    },
    troubles: ['sshd-config failure'],
    message:
      /has no HostCertificate line for \S+; for this host key it has \S+sshd_config:2: HostCertificate \S+ \(serial 99\)$/,
    remedy:
      /^replace \S+sshd_config:2 with `HostCertificate \S+certs\/ssh_host_ed25519_key-cert\.pub`; then `sshd -t/,
  },
]

/** What is as good, or none of sshd's business. */
const FINE: readonly { readonly name: string; readonly change: (ward: Ward) => Promise<void> }[] = [
  {
    name: 'later lines whose files are missing, garbage, or for another key',
    change: async (ward) => {
      const { folder } = ward.host
      const other = await generateKey(join(folder, 'other'), 'ed25519')
      await writeFile(join(folder, 'other.pub'), `${other}\n`)
      const foreign = await certifyElsewhere(ward, 'foreign', join(folder, 'other.pub'))
      await writeFile(join(folder, 'garbage'), 'garbage\n')
      const lines = ['missing', 'garbage'].map((name) => `HostCertificate ${join(folder, name)}\n`).join('')
      await change(ward.sshdConfig, (text) => `${text}${lines}HostCertificate ${foreign}\n`)
    },
  },
  {
    name: 'an earlier line for the same key',
    change: async (ward) => {
      const old = await certifyElsewhere(ward, 'old')
      await change(ward.sshdConfig, (text) => `HostCertificate ${old}\n${text}`)
    },
  },
  {
    name: 'host keys behind symlinks, which sshd knows by another path',
    change: async (ward) => {
      const path = ward.host.hostKeyPath(ED25519).replace(/\.pub$/, '')
      const there = join(ward.host.folder, 'persistent_key')
      for (const half of ['', '.pub']) {
        await rename(path + half, there + half)
        await symlink(there + half, path + half)
      }
      await change(ward.sshdConfig, (text) => text.replace(/HostKey .*/, `HostKey ${there}`))
    },
  },
  {
    name: 'a copy of the host key, which sshd loads',
    change: async (ward) => {
      const path = ward.host.hostKeyPath(ED25519).replace(/\.pub$/, '')
      const copy = join(ward.host.folder, 'copy_key')
      await copyFile(path, copy)
      await change(ward.sshdConfig, (text) => text.replace(/HostKey .*/, `HostKey ${copy}`))
    },
  },
]

beforeAll(async () => {
  if (isRoot) await makePrivilegeSeparationFolder()
})

testBroken(BROKEN)

describe('no problems found', needsRoot, () => {
  test.each(FINE)('$name', async ({ change: make }) => {
    await using ward = await makeWard()
    await make(ward)
    expect(troubles((await ward.diagnose()).findings)).toEqual([])
  })
})

/** In front of the real one, and changes what it prints. */
const OTHER_SSHDS: readonly {
  readonly name: string
  readonly script: string
  readonly status: FindingStatus
  readonly message: RegExp
}[] = [
  {
    name: 'keywords as OpenSSH 10.4 and later print them',
    script: `sshd "$@" | sed 's/^hostkey /HostKey /; s/^hostcertificate /HostCertificate /; s/^hostkeyalgorithms /HostKeyAlgorithms /; s/^listenaddress /ListenAddress /'`,
    status: 'ok',
    message: /^nothing in \S+sshd_config prevents the certificates from being served$/,
  },
  {
    name: 'keywords that nobody knows',
    script: `sshd "$@" | sed 's/^/new-/'`,
    status: 'unknown',
    message: /^sshd did not print its configuration \(\S+\): sshd -T printed no HostKey line$/,
  },
  {
    name: 'nothing',
    script: 'exit 0',
    status: 'unknown',
    message: /did not print its configuration .*: sshd -T printed no HostKey/,
  },
  {
    name: 'nothing, and a status',
    script: 'exit 3',
    status: 'unknown',
    message: /did not print its configuration .*: sshd -T ended with status 3 and printed nothing$/,
  },
  {
    name: 'no /run/sshd',
    script: 'echo "Missing privilege separation directory: /run/sshd" >&2; exit 255',
    status: 'unknown',
    message: /^cannot run sshd -T: Missing privilege separation directory: \/run\/sshd$/,
  },
  {
    name: 'killed',
    script: 'kill -9 $$',
    status: 'unknown',
    message: /did not print its configuration .*: \S+sshd was killed by SIGKILL$/,
  },
]

test.each(OTHER_SSHDS)('sshd -T: $name', needsRoot, async ({ script, status, message }) => {
  await using ward = await makeWard()
  const bin = join(ward.host.folder, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'sshd'), `#!/bin/sh\nPATH=/usr/sbin:/sbin:/usr/bin:/bin\n${script}\n`, {
    mode: 0o755,
  })
  const environment = { PATH: `${bin}:${process.env['PATH'] ?? ''}` }
  const { stdout } = await ward.host.verb(['doctor', '--json', '--sshd-config', ward.sshdConfig], {
    environment,
  })
  const findings = findingsIn(stdout)
  expect(troubles(findings)).toEqual([])
  expect(of('sshd-config', findings)).toEqual([
    expect.objectContaining({ status, message: expect.stringMatching(message) as string }),
  ])
})

/** A certificate with serial 99 in a place of its own, by default for the host key. */
async function certifyElsewhere(
  { host, issuer }: Ward,
  name: string,
  publicKey = host.hostKeyPath(ED25519),
): Promise<string> {
  const path = join(host.folder, `${name}-cert.pub`)
  const wish = { ca: issuer.caKeyPath, publicKey, principals: ['web1'], serial: 99n, validity: '-1h:+1h' }
  await writeFile(path, `${await signCertificate(wish)}\n`)
  return path
}

async function change(path: string, edit: (text: string) => string): Promise<void> {
  await writeFile(path, edit(await readFile(path, 'utf8')))
}

/** The line in a drop-in beside sshd's configuration. */
async function dropIn(host: BareHost): Promise<void> {
  const folder = join(host.folder, 'sshd_config.d')
  await mkdir(folder)
  await writeFile(join(folder, '40-hostcertd.conf'), `HostCertificate ${host.certificatePath(ED25519)}\n`)
}
