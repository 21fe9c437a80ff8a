import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { certAuthorityLine } from '../support/private-sshd.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { HOSTNAME, makeWorld } from '../support/world.ts'

const SCRIPT = join(import.meta.dirname, '../../docs/examples/sign-host-key.sh')

test('issuer.command with a CA of ssh-keygen: certificates for all host keys, served, and proven to a client', async () => {
  await using folder = await makeTemporaryFolder()
  const at = (name: string): string => join(folder.path, name)
  const ca = await generateKey(at('ca'), 'ed25519', 'host CA')
  // Beside the CA key lies a credential, as systemd would pass it.
  await copyFile(at('ca'), at('hostcertd_ca-key'))
  await writeFile(at('host-ca.pub'), `${ca}\n`)
  await using world = await makeWorld({
    environment: { CREDENTIALS_DIRECTORY: folder.path },
    config: {
      issuer: {
        url: undefined,
        ssh_host_id: undefined,
        command: ['/bin/sh', SCRIPT, 'credential:ca-key', HOSTNAME],
      },
      auth: undefined,
      verify: { host_ca_file: at('host-ca.pub'), principals: [HOSTNAME] },
    },
  })
  const { agent, issuer, sshd } = world
  await agent.start()
  await agent.waitFor('all are served', async () => (await agent.health('/readyz')).status === 200)
  const knownHosts = certAuthorityLine(HOSTNAME, ca)
  expect(await sshd.connect({ knownHosts, hostname: HOSTNAME })).toMatchObject({ status: 0 })
  expect(issuer.requests).toEqual([])

  const { stdout } = await agent.verb('status', '--json')
  expect(JSON.parse(stdout)).toMatchObject({ issuer: { url: null, reachable: true } })
  const metrics = await agent.health('/metrics')
  expect(await metrics.text()).toMatch(/^hostcertd_issuer_requests_total\{route="issue",code="200"\} 3$/m)
  expect((await agent.verb('renew', '--force')).status).toBe(0)
  const doctor = await agent.verb('doctor', '--issue', '--json')
  expect(doctor.status).not.toBeNull()
  const findings = JSON.parse(doctor.stdout) as { step: string; status: string; message: string }[]
  expect(findings.filter(({ step }) => step === 'issuer' || step === 'issue')).toMatchObject([
    { step: 'issuer', status: 'ok', message: expect.stringContaining('/bin/sh signs the certificates') },
    ...Array.from({ length: 3 }, () => ({ step: 'issue', status: 'ok' })),
  ])
  expect(await agent.stop()).toBe(0)
})
