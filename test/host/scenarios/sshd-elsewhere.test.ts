import { expect, test } from 'vitest'
import { longestGap, loginsWhile, newlyDistrusted, summaryOf } from '../support/connecting.ts'
import { eventually } from '../support/eventually.ts'
import type { Host } from '../support/host.ts'
import { bootEnrolledHost, untilServed } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { servedCertificates, stagedCertificates } from '../support/served.ts'
import { readStatus } from '../support/status.ts'

const PORT = 2222
const ON_PORT = ['-p', String(PORT)]
const LONG = { timeout: 600_000 }
/** What sshd listens on is asked when the daemon starts, and with each installation. */
const NEXT_PASS_MILLISECONDS = 120_000
const GAP_MILLISECONDS = 20_000

const SETTINGS: readonly { readonly name: string; readonly move: string; readonly gap: number }[] = [
  {
    name: 'on port 2222',
    move: `
      echo 'Port ${PORT}' >/etc/ssh/sshd_config.d/10-port.conf
      systemctl restart ssh.service`,
    gap: GAP_MILLISECONDS,
  },
  {
    // sshd itself knows nothing of the port.
    name: 'by ssh.socket on port 2222',
    move: `
      mkdir -p /etc/systemd/system/ssh.socket.d
      printf '[Socket]\\nListenStream=\\nListenStream=${PORT}\\n' >/etc/systemd/system/ssh.socket.d/port.conf
      systemctl daemon-reload
      systemctl disable --now ssh.service
      systemctl enable --now ssh.socket`,
    gap: GAP_MILLISECONDS,
  },
  {
    name: 'on port 2222, with a server that has other host keys on port 22',
    move: `
      echo 'Port ${PORT}' >/etc/ssh/sshd_config.d/10-port.conf
      systemctl restart ssh.service
      mkdir /etc/ssh/second
      for type in ed25519 ecdsa rsa; do
        ssh-keygen -q -t $type -N '' -f /etc/ssh/second/ssh_host_\${type}_key
        echo "HostKey /etc/ssh/second/ssh_host_\${type}_key" >>/etc/ssh/second/sshd_config
      done
      systemd-run --unit=second-sshd --property=RuntimeDirectory=second /usr/sbin/sshd -D -f /etc/ssh/second/sshd_config -o PidFile=/run/second/pid`,
    gap: GAP_MILLISECONDS,
  },
]

describeOnEachRelease('an sshd that is elsewhere', (release) => {
  test.each(SETTINGS)(
    '$name: found, renewed, and found again by a daemon that is restarted',
    LONG,
    async (setting) => {
      await using host = await bootEnrolledHost(release)
      const { container, client } = host
      await container.sh(setting.move)
      const moved = Date.now()
      await container.run(['systemctl', 'reload', 'hostcertd.service'])
      const logins = await loginsWhile(
        host,
        async () => {
          await untilSeen(host, moved)
          for (let times = 0; times < 2; times += 1) {
            // renew asks sshd itself; what it saw is the daemon's knowledge too.
            const renewed = Date.now()
            const outcome = await container.try(['hostcertd', 'renew', '--force'])
            console.log(`${release.title}: renew: ${outcome.status} ${outcome.stdout}${outcome.stderr}`)
            await untilRenewed(host)
            await untilSeen(host, renewed)
          }
          const restarted = Date.now()
          await container.run(['systemctl', 'restart', 'hostcertd.service'])
          await untilSeen(host, restarted)
        },
        { port: PORT },
      )
      console.log(`${release.title}: ${setting.name}: ${summaryOf(logins)}`)
      expect(newlyDistrusted(logins)).toEqual([])
      expect(longestGap(logins)).toBeLessThan(setting.gap)
      expect(await client.verifyAll(undefined, ON_PORT)).toEqual([])
      const { certificates, sshd } = await readStatus(container)
      expect(sshd.state).toBe('up')
      for (const { state, served, host_key, key_type } of certificates) {
        if (key_type === 'ssh-mldsa44-ed25519') continue
        expect([host_key, state, served]).toEqual([
          host_key,
          'valid',
          expect.objectContaining({ matches: true, unknown: null }),
        ])
      }
      expect(await container.try(['hostcertd', 'check'])).toMatchObject({ status: 0 })
      const doctor = await container.try(['hostcertd', 'doctor'])
      console.log(`${release.title}: ${setting.name}: doctor\n${doctor.stdout}`)
      expect(doctor).toMatchObject({ status: 0 })
    },
  )
})

async function untilRenewed(host: Host): Promise<void> {
  await eventually('sshd serves the newest certificates', NEXT_PASS_MILLISECONDS, async () => {
    const [served, staged] = [await servedCertificates(host, PORT), await stagedCertificates(host)]
    return served.length === 3 && served.join() === staged.join()
  })
}

/** The agent has seen every certificate served, after this moment. */
async function untilSeen(host: Host, after: number): Promise<void> {
  await untilServed(host)
  await eventually('seen by the agent', NEXT_PASS_MILLISECONDS, async () => {
    const { certificates } = await readStatus(host.container)
    const signed = certificates.filter(({ key_type }) => key_type !== 'ssh-mldsa44-ed25519')
    // Times in the document are whole seconds.
    return signed.every(
      ({ served }) => served?.matches === true && Date.parse(served.checked_at ?? '') > after - 1000,
    )
  })
}
