import { expect, test } from 'vitest'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease } from './support/releases.ts'

interface Finding {
  readonly step: string
  readonly status: 'ok' | 'warning' | 'failure' | 'skipped'
  readonly message: string
  readonly remedy: string | null
}

describeOnEachRelease('diagnosis on an installed host', (release) => {
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
})
