import { describe, expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import { command } from './support/commands.ts'
import { bootHost, type Host } from './support/host.ts'
import { enrolByHand, install, packages, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease } from './support/releases.ts'
import { copiedCertificates, servedCertificates, stagedCertificates } from './support/served.ts'
import { journal, readStatus, unitProperty } from './support/status.ts'

describeOnEachRelease('installing on a bare host', (release) => {
  test.each([{ kind: 'deb' }, { kind: 'rpm' }] as const)(
    'from the $kind: idle until enrolled, then every host key has a certificate that clients trust',
    async ({ kind }) => {
      await using host = await bootHost(release)
      const { container, client } = host
      await install(host, kind)
      // A Debian install starts and enables its services, an rpm leaves that to the administrator's presets.
      if (kind === 'rpm') await container.run(['systemctl', 'enable', '--now', 'hostcertd.service'])
      expect(await container.run(['systemctl', 'is-enabled', 'hostcertd.service'])).toBe('enabled\n')
      expect(await unitProperty(container, 'hostcertd.service', 'ActiveState')).toBe('active')
      expect(await unitProperty(container, 'hostcertd.service', 'StatusText')).toContain('not enrolled')
      expect(await readStatus(container)).toMatchObject({ enrolled: false, certificates: [] })
      expect(await container.run(['sshd', '-t'])).toBe('')
      expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })

      await enrolByHand(host)
      await untilServed(host)
      expect(await client.verifyAll()).toEqual([])
      const served = await servedCertificates(host)
      expect(served).toHaveLength(3)
      expect(await stagedCertificates(host)).toEqual(served)
      expect(await copiedCertificates(host)).toEqual(served)
      expect(await unitProperty(container, 'hostcertd.service', 'NRestarts')).toBe('0')
      expect(await journal(container, '--priority=err')).toEqual([])
      expect(await complaintsOfSystemd(host)).toEqual([])
      expect((await container.try(['systemctl', '--failed', '--no-legend'])).stdout).toBe('')
    },
  )
})

describe('the rpm', needsRoot, () => {
  test('requires what the program needs', async () => {
    const required = await command(['rpm', '--query', '--package', '--requires', packages().rpm])
    expect(required).toMatch(/^(openssh-server|\/usr\/sbin\/sshd)\b/m)
    // ssh and ssh-keygen: /usr/bin/… or the packages that have them.
    expect(required).toMatch(/^(openssh-clients|\/usr\/bin\/ssh)$/m)
    expect(required).toMatch(/^(openssh|\/usr\/bin\/ssh-keygen)\b/m)
    expect(required).toMatch(/^(libatomic|libatomic\.so\.1)/m)
    expect(required).toMatch(/^systemd\b/m)
  })
})

/** What systemd itself warned about the package's units, sysusers and tmpfiles. */
async function complaintsOfSystemd({ container }: Host): Promise<readonly string[]> {
  const argv = [
    'journalctl',
    '--boot',
    '--no-pager',
    '--quiet',
    '--output=cat',
    '--priority=warning',
    '--grep=hostcertd',
  ]
  const { stdout } = await container.try(argv)
  // The container's cgroup has no pids controller (see Container), which systemd from 258 on complains of.
  return stdout.split('\n').filter((line) => line !== '' && !line.includes('Failed to read pids.max'))
}
