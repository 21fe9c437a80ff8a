import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { ED25519 } from '../cli/bare-host.ts'
import { listen } from '../issuer/harness.ts'
import { errorRow } from '../support/local-issuer.ts'
import { testBroken } from './broken.ts'
import { of, troubles } from './findings.ts'
import { makeWard } from './ward.ts'

testBroken([
  {
    name: 'the wrong host id',
    breakIt: async ({ issuer, hostId }) => issuer.removeHost(hostId),
    troubles: ['issuer failure', 'permission failure'],
    message: /ISSUER_NOT_FOUND: .*has no such host/,
    remedy:
      /^check `issuer\.ssh_host_id` and `issuer\.url`\..* The configured values are http:.* and [0-9a-f-]{36}$/,
  },
  {
    name: 'a base URL with a path too much',
    breakIt: async (ward) => {
      const url = `${ward.issuer.url}/infisical`
      await ward.configure({ issuer: { url, ssh_host_id: ward.hostId } })
    },
    troubles: ['issuer warning', 'login failure'],
    message: /has nothing at \/infisical/,
    remedy: /correct issuer\.url/,
  },
  {
    name: 'a proxy that answers in its place',
    breakIt: async ({ issuer }) => issuer.failAlways({ kind: 'html', status: 200 }),
    troubles: ['issuer failure', 'login failure'],
    message: /ISSUER_INVALID_RESPONSE/,
    remedy:
      /^check `issuer\.url`, and whether a proxy or a login page responds .* The configured URL is http:/,
  },
  {
    name: 'a clock that is six minutes behind',
    options: { now: () => Date.now() + 400_000 },
    breakIt: async () => {},
    troubles: ['clock failure'],
    message: /this host's clock is (?:399|400|401) s behind the issuer's/,
    remedy: /timedatectl set-ntp true/,
  },
  {
    name: 'a clock that is two minutes ahead',
    options: { now: () => Date.now() - 120_000 },
    breakIt: async () => {},
    troubles: ['clock warning'],
    message: /clock is 1(?:19|20|21) s ahead of the issuer's/,
    remedy: /chrony/,
  },
  {
    name: "a pinned CA that is no longer the issuer's",
    breakIt: async ({ issuer }) => issuer.rotateCa(),
    troubles: ['issuer failure'],
    message: /CERT_CA_MISMATCH: .*its CA for this host is SHA256:.* pins SHA256:/,
    remedy: /ask the administrators of the issuer: .*put the new public key into .*issuer-ca\.pub/,
  },
  {
    name: 'a pinned CA file with nonsense',
    breakIt: async ({ caFile }) => writeFile(caFile, 'nonsense\n'),
    troubles: ['configuration failure', 'certificates failure'],
    message: /CONFIG_INVALID: verify\.host_ca_file: .*issuer-ca\.pub: line 1/,
    remedy: /write the public key of the host CA into that file, .*restart hostcertd/,
  },
  {
    name: 'no pinned CA file, and a certificate to be issued',
    args: ['--issue'],
    breakIt: async ({ caFile }) => rm(caFile),
    troubles: ['configuration failure', 'certificates failure'],
    message: /CONFIG_INVALID: verify\.host_ca_file: .*issuer-ca\.pub: no such file/,
    remedy: /write the public key of the host CA into that file/,
  },
  {
    name: 'a wrong secret',
    breakIt: async ({ issuer, clientId }) => issuer.setClientSecret(clientId, 'another'),
    troubles: ['login failure'],
    message: /ISSUER_UNAUTHORIZED: .*Invalid credentials.* The proof of identity: client id [0-9a-f-]{36}$/,
    remedy: /check auth\.client_id \([0-9a-f-]{36}\), create a new client secret .*client-secret/,
  },
  {
    name: 'an identity that is locked after wrong secrets',
    breakIt: async ({ issuer }) => issuer.failAlways(errorRow('identity-locked'), 'login'),
    troubles: ['login failure'],
    message: /LOGIN_LOCKED: .*temporarily locked/,
    remedy: /^wait 5 minutes: .*If it still refuses the secret then, check auth\.client_id/,
  },
  {
    name: 'an address that the issuer lets nobody in from',
    breakIt: async ({ issuer }) => issuer.failAlways(errorRow('forbidden-ip')),
    troubles: ['issuer failure', 'login failure'],
    message: /ISSUER_FORBIDDEN: .*current IP address" \(403 ForbiddenError\)$/,
    remedy:
      /^ask an administrator of the issuer: if the message is about the address, allow the identity to log in/,
  },
  {
    name: 'an address that it lets in, but not to issue',
    args: ['--issue'],
    breakIt: async ({ issuer }) => issuer.failAlways(errorRow('forbidden-ip'), 'issue'),
    troubles: ['issue failure'],
    message: /ISSUER_FORBIDDEN: .*current IP address" \(403 ForbiddenError\)$/,
    remedy: /if the message is about the address, allow the identity to log in from this host's address/,
  },
  {
    name: 'an access token that is no good',
    breakIt: async (ward) => {
      await writeFile(ward.secretFile, 'a-token\n')
      await ward.configure({ auth: { method: 'token', token_file: ward.secretFile } })
    },
    troubles: ['permission failure'],
    message: /ISSUER_UNAUTHORIZED: .*refused the access token/,
    remedy: /write a new access token of the identity to .*client-secret/,
  },
  {
    name: 'no leave to issue',
    options: { mayIssue: false },
    args: ['--issue'],
    breakIt: async () => {},
    troubles: ['issue failure'],
    message:
      /ssh_host_ed25519_key: ISSUER_FORBIDDEN: .*You are not allowed to issue-host-cert.*permissions for this: none$/,
    remedy: /grant it `issue-host-cert` on `ssh-hosts` .* after about 10 s; then run .* to retry$/,
  },
  {
    name: 'an identity that sees two hosts more',
    options: { mayRead: 'all' },
    breakIt: async ({ issuer }) => {
      for (const hostname of ['web2.example.com', 'db1.example.com'])
        issuer.addHost({ hostname, ttlSeconds: 3600 })
    },
    troubles: ['permission warning'],
    message: /^this identity can see 2 other hosts of the project; with the role ssh-host-bootstrapper, or a/,
    remedy: /by the condition \{"hostname":\{"\$eq":"web1\.example\.com"\}\}, and give it no role that/,
  },
  {
    name: 'principals that will never be in the certificate',
    breakIt: async (ward) => {
      const principals = ['web2.example.com', 'web1.example.com']
      await ward.host.certify(ED25519, { ca: ward.issuer.caKeyPath, principals })
      await ward.configure({ verify: { host_ca_file: ward.caFile, principals: ['web2.example.com'] } })
    },
    troubles: ['permission failure'],
    message: /will be for web1\.example\.com, but verify\.principals also requires web2\.example\.com/,
    remedy: /^add the missing names at the issuer, or remove them from verify\.principals/,
  },
])

test('a server that accepts connections and says nothing ends the waiting', async () => {
  await using ward = await makeWard()
  await using silent = await listen(createServer())
  const url = `http://127.0.0.1:${silent.port}`
  await ward.configure({ issuer: { url, ssh_host_id: ward.hostId, timeout: '1s' } })
  const { findings } = await ward.diagnose()
  expect(troubles(findings)).toEqual(['issuer failure'])
  expect(of('login', findings)).toMatchObject([
    { status: 'skipped', message: 'needs a connection to the issuer' },
  ])
  expect(of('issuer', findings)[0]).toMatchObject({
    message: expect.stringMatching(/^ISSUER_TIMEOUT/) as string,
    remedy: expect.stringContaining('check the log of the issuer') as string,
  })
})
