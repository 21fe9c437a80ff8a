import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { servedCertificates } from './support/served.ts'

const WITHIN_SECONDS = 30_000

describeOnEachRelease(
  'host keys deleted and made anew',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test.each([
      ['ssh-keygen', '-A'],
      ['dpkg-reconfigure', 'openssh-server'],
    ])('by %s %s', async (...generate) => {
      const { container, client } = shared()
      const before = await servedCertificates(shared())
      await container.sh('rm /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub')
      await container.run(generate)
      const start = performance.now()
      // Until it is reloaded a new sshd keeps the old keys and certificates, and clients have nothing to complain of.
      await eventually('new certificates are served', WITHIN_SECONDS, async () => {
        const served = await servedCertificates(shared())
        return served.length === before.length && !served.some((certificate) => before.includes(certificate))
      })
      console.log(`${release.title}: ${generate.join(' ')}: ${Math.round(performance.now() - start)} ms`)
      await untilServed(shared())
      expect(await client.verifyAll()).toEqual([])
    })

    test('one key taken away: its certificate goes, the others stay', async () => {
      const { container, client } = shared()
      await container.sh('mkdir /root/kept; mv /etc/ssh/ssh_host_ecdsa_key* /root/kept')
      const copy = '/etc/ssh/hostcertd/ssh_host_ecdsa_key-cert.pub'
      await eventually(
        'the copy is gone',
        90_000,
        async () => (await container.try(['test', '-e', copy])).status === 1,
      )
      expect(await container.run(['sshd', '-T'])).not.toContain(copy)
      expect(await client.verifyAll(['ssh-ed25519', 'ssh-rsa'])).toEqual([])
      await container.sh('mv /root/kept/* /etc/ssh; rmdir /root/kept')
      await untilServed(shared())
    })
  },
  ONE_BY_DEFAULT,
)
