import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { readStatus } from './support/status.ts'

interface Finding {
  readonly step: string
  readonly status: 'ok' | 'warning' | 'failure' | 'skipped'
  readonly message: string
  readonly remedy: string | null
}

describeOnEachRelease(
  'diagnosis on an installed host',
  (release) => {
    const shared = sharedEnrolledHost(release)

    /** What doctor says is not well. */
    async function complaints(): Promise<readonly Finding[]> {
      const { stdout } = await shared().container.try(['hostcertd', 'doctor', '--json'])
      const findings = JSON.parse(stdout) as readonly Finding[]
      expect(findings.length).toBeGreaterThan(10)
      return findings.filter(({ status }) => status === 'failure' || status === 'warning')
    }

    test('doctor and check find nothing wrong with a host that is well', async () => {
      const { container } = shared()
      const doctor = await container.try(['hostcertd', 'doctor'])
      console.log(`${release.title}: hostcertd doctor\n${doctor.stdout}`)
      expect(await complaints()).toEqual([])
      expect(doctor).toMatchObject({ status: 0 })
      const check = await container.try(['hostcertd', 'check'])
      expect(check).toMatchObject({ status: 0, stdout: expect.stringMatching(/^HOSTCERTD OK - 3 host keys/) })
      const written = await container.try([
        'hostcertd',
        'metrics',
        'write',
        '/var/lib/hostcertd/hostcertd.prom',
      ])
      expect(written).toMatchObject({ status: 0 })
    })

    test('doctor names a helper that cannot be reached, and a drop-in that sshd does not read', async () => {
      const { container } = shared()
      await container.run(['systemctl', 'stop', 'hostcertd-reload.socket'])
      const withoutHelper = await complaints()
      await container.run(['systemctl', 'start', 'hostcertd-reload.socket'])
      expect(withoutHelper.map(({ message, remedy }) => `${message} ${remedy}`).join('\n')).toMatch(
        /hostcertd-reload/,
      )
      await container.sh("sed -i 's/^Include/#Include/' /etc/ssh/sshd_config && systemctl reload ssh.service")
      const withoutInclude = await complaints()
      await container.sh("sed -i 's/^#Include/Include/' /etc/ssh/sshd_config && systemctl reload ssh.service")
      expect(withoutInclude.map(({ remedy }) => remedy).join('\n')).toContain(
        'Include /etc/ssh/sshd_config.d/*.conf',
      )
      await container.run(['systemctl', 'reload', 'hostcertd.service'])
      await untilServed(shared())
      expect(await complaints()).toEqual([])
    })

    test('an exchange that is stopped, and one that goes by another configuration than the one in force', async () => {
      const { container } = shared()
      const remove = 'rm /var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub'
      const errors = async () => {
        const { certificates } = await readStatus(container)
        return certificates.map(({ last_error: error }) => `${error?.code} ${error?.message}`).join('\n')
      }
      const untilItSays = (words: RegExp) =>
        eventually(`the daemon says ${words}`, 30_000, async () => words.test(await errors()))
      await container.sh(`systemctl stop hostcertd-exchange.socket; ${remove}`)
      await untilItSays(/ISSUER_UNREACHABLE .*systemctl restart hostcertd-exchange\.socket/)
      expect((await complaints()).map(({ message }) => message).join('\n')).toContain(
        'hostcertd-exchange.sock',
      )
      await container.sh('systemctl start hostcertd-exchange.socket; systemctl reload hostcertd')
      await untilServed(shared())
      expect(await complaints()).toEqual([])

      await container.write('/etc/hostcertd/conf.d/10-test.yaml', 'issuer: {timeout: 29s}\n')
      await container.sh(remove)
      await untilItSays(/CONFIG_INVALID .*differs from the one in use/)
      await container.run(['systemctl', 'reload', 'hostcertd'])
      await untilServed(shared())

      // A mistake that does not concern the exchange: the old configuration is kept, and renews. Verbs end with it.
      await container.write('/etc/hostcertd/conf.d/20-test.yaml', 'health: {listen: nowhere}\n')
      await container.sh(`systemctl reload hostcertd; ${remove}`)
      await eventually('it is issued anew', 30_000, async () => {
        const { status } = await container.try([
          'test',
          '-s',
          '/var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub',
        ])
        return status === 0
      })
      await container.sh('rm -r /etc/hostcertd/conf.d; systemctl reload hostcertd')
      await untilServed(shared())
      expect(await complaints()).toEqual([])
    })

    test('doctor names a folder that only the sandbox of the service keeps the daemon out of', async () => {
      const { container } = shared()
      const file = '/etc/hostcertd/conf.d/90-elsewhere.yaml'
      await container.sh('install -d -o hostcertd -g hostcertd /srv/certs && mkdir -p /etc/hostcertd/conf.d')
      await container.write(file, 'certificates:\n  directory: /srv/certs\n')
      const found = await complaints()
      await container.run(['rm', '-r', file, '/srv/certs'])
      expect(found.filter(({ step }) => step === 'directory')).toEqual([
        expect.objectContaining({
          status: 'failure',
          message: '/srv/certs: it is read-only for hostcertd.service (ProtectSystem=strict)',
          remedy: expect.stringContaining('`ReadWritePaths=/srv/certs`') as string,
        }),
      ])
      expect(await complaints()).toEqual([])
    })
  },
  ONE_BY_DEFAULT,
)
