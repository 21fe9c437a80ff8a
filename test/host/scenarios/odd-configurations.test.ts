import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { signCertificate } from '../../support/ssh-keygen.ts'
import { longestGap, loginsWhile, summaryOf } from '../support/connecting.ts'
import { eventually } from '../support/eventually.ts'
import { askHelper } from '../support/helper.ts'
import type { Host } from '../support/host.ts'
import { bootEnrolledHost, untilServed } from '../support/installed-host.ts'
import { HOSTNAME } from '../support/network.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { copiedCertificates, servedCertificates, stagedCertificates } from '../support/served.ts'
import { readStatus } from '../support/status.ts'

const LONG = { timeout: 600_000 }
const NEXT_PASS_MILLISECONDS = 120_000
const GAP_MILLISECONDS = 20_000

describeOnEachRelease('a configuration that is odd', (release) => {
  test(
    'HostKeyAgent: private keys in an agent alone, renewed there; a dead agent costs no certificate',
    LONG,
    async () => {
      await using host = await bootEnrolledHost(release)
      const { container, client } = host
      await moveKeysIntoAgent(host)
      const logins = await loginsWhile(host, async () => {
        await container.run(['systemctl', 'reload', 'hostcertd.service'])
        await untilServed(host)
        for (let times = 0; times < 2; times += 1) {
          const outcome = await container.try(['hostcertd', 'renew', '--force'])
          console.log(`${release.title}: HostKeyAgent: ${outcome.status} ${outcome.stdout}${outcome.stderr}`)
          await untilNewest(host)
          await untilServed(host)
        }
      })
      console.log(`${release.title}: HostKeyAgent: ${summaryOf(logins)}`)
      expect(logins.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
      expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
      expect(await client.verifyAll()).toEqual([])

      const copies = await copiedCertificates(host)
      await container.run(['systemctl', 'stop', 'host-key-agent.service'])
      const answer = await askHelper(container, 'hostcertd', 'install\n')
      console.log(`${release.title}: HostKeyAgent, dead: the helper: ${answer.stdout}`)
      await container.run(['systemctl', 'reload', 'hostcertd.service'])
      await container.try(['hostcertd', 'renew', '--force'])
      expect(await copiedCertificates(host)).toHaveLength(copies.length)
      await container.sh(`${START_AGENT}
      systemctl restart ssh.service hostcertd.service`)
      await untilServed(host)
      await untilNewest(host)
      expect(await client.verifyAll()).toEqual([])
    },
  )

  test(
    'two HostCertificate lines for one key: the one that wins is named, and nobody asks for more',
    LONG,
    async () => {
      await using host = await bootEnrolledHost(release)
      const { container, client, issuer } = host
      const certificate = await signCertificate({
        ca: issuer.facts.caKeyPath,
        publicKey: join(container.root, 'etc/ssh/ssh_host_ed25519_key.pub'),
        keyId: 'by-hand',
        principals: [HOSTNAME],
        validity: '-5m:+30d',
      })
      const configuration = await readFile(join(container.root, 'etc/ssh/sshd_config'), 'utf8')
      const line = configuration.split('\n').length
      const logins = await loginsWhile(host, async () => {
        await container.write('/etc/ssh/by-hand-cert.pub', `${certificate}\n`)
        await container.write(
          '/etc/ssh/sshd_config',
          `${configuration}HostCertificate /etc/ssh/by-hand-cert.pub\n`,
        )
        await container.sh('sshd -t; systemctl reload ssh.service; systemctl reload hostcertd.service')
        await eventually('status shows it', NEXT_PASS_MILLISECONDS, async () => {
          const { certificates } = await readStatus(container)
          return certificates.some(
            ({ host_key, state }) => host_key === 'ssh_host_ed25519_key' && state === 'unconfirmed',
          )
        })
        const signed = Number(await issuer.ask({ do: 'count' }))
        const doctor = await container.try(['hostcertd', 'doctor'])
        console.log(`${release.title}: two lines: doctor\n${doctor.stdout}`)
        expect(doctor.status).toBe(1)
        expect(doctor.stdout).toMatch(new RegExp(`/etc/ssh/sshd_config(?::| line |, line )${line}\\b`))
        const { notes } = await readStatus(container)
        expect(notes.join('\n')).toMatch(/\/etc\/ssh\/sshd_config\b/)
        await container.run(['systemctl', 'restart', 'hostcertd.service'])
        expect(await container.try(['hostcertd', 'check'])).toMatchObject({ status: 1 })
        expect(await issuer.ask({ do: 'count' })).toBe(signed)
        // Renewed all the same, for one day the other line may go.
        const before = await stagedCertificates(host)
        await container.try(['hostcertd', 'renew', '--force'])
        expect((await stagedCertificates(host)).filter((one) => before.includes(one))).toEqual([])
        await container.write('/etc/ssh/sshd_config', configuration)
        await container.sh('systemctl reload ssh.service; systemctl reload hostcertd.service')
        await untilServed(host)
      })
      console.log(`${release.title}: two lines: ${summaryOf(logins)}`)
      expect(logins.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
      expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
      await untilNewest(host)
      expect(await client.verifyAll()).toEqual([])
    },
  )
})

const START_AGENT = `
systemctl start host-key-agent.service
for tries in $(seq 100); do [ -S /run/host-key-agent.sock ] && break; sleep 0.1; done
for key in /root/keys/ssh_host_*_key; do SSH_AUTH_SOCK=/run/host-key-agent.sock ssh-add -q "$key"; done
`

/** Their files go where sshd does not look; it is told the public halves, and where the agent is. */
async function moveKeysIntoAgent({ container }: Host): Promise<void> {
  await container.write(
    '/etc/systemd/system/host-key-agent.service',
    '[Service]\nExecStart=/usr/bin/ssh-agent -D -a /run/host-key-agent.sock\n',
  )
  await container.sh(`
    mkdir -m 700 /root/keys
    for key in /etc/ssh/ssh_host_*_key; do
      echo "HostKey $key.pub" >>/etc/ssh/sshd_config.d/10-agent.conf
      mv "$key" /root/keys
    done
    echo 'HostKeyAgent /run/host-key-agent.sock' >>/etc/ssh/sshd_config.d/10-agent.conf
    ${START_AGENT}
    sshd -t
    systemctl restart ssh.service`)
}

async function untilNewest(host: Host): Promise<void> {
  await eventually('sshd serves the newest certificates', NEXT_PASS_MILLISECONDS, async () => {
    const [served, staged] = [await servedCertificates(host), await stagedCertificates(host)]
    return served.length === 3 && served.join() === staged.join()
  })
}
