import { chmod, chown, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ED25519 } from '../cli/bare-host.ts'
import { closedPort } from '../issuer/harness.ts'
import { OWNER, testBroken, type Broken } from './broken.ts'
import type { Ward } from './ward.ts'

const CONFIGURATION: readonly Broken[] = [
  {
    name: 'no configuration',
    breakIt: async ({ host }) => rm(host.configPath),
    troubles: ['configuration failure'],
    message: /not enrolled: .*hostcertd\.yaml does not exist/,
    remedy: /write .*hostcertd\.yaml with issuer\.url/,
  },
  {
    name: 'a configuration with two mistakes',
    breakIt: async (ward) => ward.configure({ log: { level: 'loud' }, nonsense: 'x' }),
    troubles: ['configuration failure'],
    message: /log\.level|nonsense/,
    remedy: /correct it in .*hostcertd\.yaml/,
  },
  {
    name: 'a pinned CA that the daemon cannot read, though root can',
    onlyRoot: true,
    breakIt: async ({ host, secretFile, caFile }) => {
      for (const path of [host.statePath, join(host.folder, 'certs'), secretFile])
        await chown(path, OWNER, OWNER)
      await chmod(caFile, 0o600)
    },
    troubles: ['configuration failure'],
    message: /the daemon's user \(65534\) cannot read .*issuer-ca\.pub: .*mode 0600/,
    remedy: /chmod 644 .*issuer-ca\.pub/,
  },
]

const EXCHANGE: readonly Broken[] = [
  {
    name: 'TLS roots that the daemon cannot read, though root can: the issuer is asked as the daemon',
    onlyRoot: true,
    options: { https: true },
    breakIt: async ({ host, secretFile, issuer }) => {
      for (const path of [host.statePath, join(host.folder, 'certs'), secretFile])
        await chown(path, OWNER, OWNER)
      await chmod(issuer.tlsCaFile, 0o600)
    },
    troubles: ['configuration failure', 'tls failure'],
    message: /the daemon's user \(65534\) cannot read /,
    remedy: /chmod 644 /,
  },
]

const CREDENTIALS: readonly Broken[] = [
  {
    name: 'no credential',
    breakIt: async ({ secretFile }) => rm(secretFile),
    troubles: ['credentials failure'],
    message: /cannot read the client secret from .*client-secret: no such file or directory/,
    remedy: /umask 077; cat > .*client-secret/,
  },
  {
    name: 'an empty credential',
    breakIt: async ({ secretFile }) => writeFile(secretFile, '\n'),
    troubles: ['credentials failure'],
    message: /client-secret is empty/,
    remedy: /write the client secret to it/,
  },
  {
    name: 'a credential that everybody can read',
    breakIt: async ({ secretFile }) => chmod(secretFile, 0o644),
    troubles: ['credentials warning'],
    message: /mode 0644: every user of this host can read the client secret/,
    remedy: /chmod o= .*client-secret/,
  },
  {
    name: 'a credential with something pasted along',
    breakIt: async ({ secretFile }) =>
      writeFile(secretFile, `${(await readFile(secretFile, 'utf8')).trim()} \n`),
    troubles: ['credentials warning', 'login failure'],
    message: /contains spaces or line breaks/,
    remedy: /must contain only the client secret, on one line/,
  },
  {
    name: 'a credential that the daemon cannot read, though root can',
    onlyRoot: true,
    breakIt: async ({ host }) => {
      await chown(host.statePath, OWNER, OWNER)
      await chown(join(host.folder, 'certs'), OWNER, OWNER)
    },
    troubles: ['credentials failure'],
    message: /the user of the exchange \(65534\) cannot read the client secret: .*mode 0600/,
    remedy: /chown 65534:65534 .*client-secret && chmod 400/,
  },
  {
    name: 'a service account token that is not projected',
    breakIt: async (ward) => ward.configure({ auth: projectedIn(ward) }),
    troubles: ['credentials failure'],
    message: /cannot read the service account token from .*token: no such file or directory/,
    remedy: /^project a service account token into this pod at .*token \(a volume of type projected\)/,
  },
  {
    name: 'a service account token without the group of the daemon',
    onlyRoot: true,
    breakIt: async (ward) => {
      const auth = projectedIn(ward)
      await ward.configure({ auth })
      await writeFile(auth.token_file, 'a.b.c')
      await chmod(auth.token_file, 0o640)
      await chown(ward.host.statePath, OWNER, OWNER)
      await chown(join(ward.host.folder, 'certs'), OWNER, OWNER)
    },
    troubles: ['credentials failure'],
    message: /the user of the exchange \(65534\) cannot read the service account token: .*mode 0640/,
    remedy: /^set `securityContext\.fsGroup: 65534` in the pod/,
  },
]

function projectedIn({ host, clientId }: Ward): { readonly token_file: string } & Record<string, string> {
  return { method: 'kubernetes', identity_id: clientId, token_file: join(host.folder, 'projected-token') }
}

const CERTIFICATES: readonly Broken[] = [
  {
    name: 'no certificate yet',
    breakIt: async ({ host }) => rm(host.certificatePath(ED25519)),
    troubles: ['certificates failure'],
    message: /ssh_host_ed25519_key-cert\.pub does not exist/,
    remedy: /systemctl start hostcertd.*hostcertd renew/,
  },
  {
    name: 'a host key that was replaced',
    breakIt: async ({ host }) => host.addHostKey(ED25519, 'ed25519'),
    troubles: ['certificates failure'],
    message: /cannot be used: CERT_KEY_MISMATCH/,
    remedy: /the host key was replaced/,
  },
  {
    name: 'an expired certificate, and the last error of the daemon',
    breakIt: async ({ host, issuer }) => {
      await host.certify(ED25519, { ca: issuer.caKeyPath, validity: '-2h:-1h' })
      await issuer.stop()
      await host.verb(['renew'])
      await issuer.start()
    },
    troubles: ['certificates failure'],
    message: /expired 1h.* ago; the last attempt: ISSUER_UNREACHABLE: cannot reach \S+: connect ECONNREFUSED/,
    remedy: /^the issuer is reachable now: `hostcertd renew`$/,
  },
  {
    name: 'an expired certificate, and the cause of the last error is still there',
    breakIt: async ({ host, issuer, clientId }) => {
      await host.certify(ED25519, { ca: issuer.caKeyPath, validity: '-2h:-1h' })
      issuer.setClientSecret(clientId, 'another')
      await host.verb(['renew'])
    },
    troubles: ['login failure', 'certificates failure'],
    message: /ISSUER_UNAUTHORIZED/,
    remedy: /^check auth\.client_id .*, create a new client secret/,
    remedies: {
      certificates: /^check auth\.client_id .*, create a new client secret .*; then `hostcertd renew`$/,
    },
  },
  {
    name: 'a folder for certificates that the daemon may not write in',
    onlyRoot: true,
    breakIt: async (ward) => {
      await chown(ward.host.statePath, OWNER, OWNER)
      await chown(ward.secretFile, OWNER, OWNER)
    },
    troubles: ['directory failure'],
    message: /the daemon's user \(65534\) cannot write to .*certs: .*of user 0/,
    remedy: /install -d -o 65534 -g 65534 -m 755 .*certs/,
  },
]

const SERVICES: readonly Broken[] = [
  {
    name: 'no daemon',
    breakIt: async (ward) => ward.configure({ health: { listen: `127.0.0.1:${await closedPort()}` } }),
    troubles: ['daemon warning'],
    message: /not running, or not listening on 127\.0\.0\.1:\d+/,
    remedy: /systemctl enable --now hostcertd/,
  },
  {
    name: 'a reload command that is not there',
    breakIt: async (ward) =>
      ward.configure({ sshd: { address: 'none', reload_command: ['/nonexistent/reload'] } }),
    troubles: ['reload failure'],
    message: /sshd\.reload_command: \/nonexistent\/reload does not exist/,
    remedy: /correct sshd\.reload_command/,
  },
  {
    name: 'a reload command that cannot be executed',
    breakIt: async (ward) => {
      const script = join(ward.host.folder, 'reload')
      await writeFile(script, '#!/bin/sh\n', { mode: 0o644 })
      await ward.configure({ sshd: { address: 'none', reload_command: [script] } })
    },
    troubles: ['reload failure'],
    message: /reload cannot be executed/,
    remedy: /chmod 755 .*reload/,
  },
  {
    name: 'no way to reload',
    breakIt: async (ward) => ward.configure({ sshd: { address: 'none' } }),
    troubles: ['reload warning'],
    message: /\/run\/hostcertd-reload\.sock does not exist and sshd\.reload_command is not set/,
    remedy: /hostcertd-reload\.socket.*set sshd\.reload_command/,
  },
  {
    name: 'sshd is not where it is asked',
    breakIt: async (ward) =>
      ward.configure({ sshd: { address: `127.0.0.1:${await closedPort()}`, reload: 'never' } }),
    troubles: ['served failure'],
    message: /SSHD_UNREACHABLE: sshd is not running, or not at this address: 127/,
    remedy:
      /^start sshd: `systemctl start ssh` \(sshd\), or set sshd\.address \(127\.0\.0\.1:\d+\) to where it listens/,
  },
]

testBroken([...CONFIGURATION, ...EXCHANGE, ...CREDENTIALS, ...CERTIFICATES, ...SERVICES])
