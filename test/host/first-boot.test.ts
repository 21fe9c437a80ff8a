import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { bootHost } from './support/host.ts'
import { install } from './support/installed-host.ts'
import type { Registered } from './support/issuer-messages.ts'
import { HOSTNAME } from './support/network.ts'
import { BOOKWORM, describeOnEachRelease } from './support/releases.ts'
import { unitProperty } from './support/status.ts'
import { registeringWords, TEMPLATE } from './support/template.ts'

const UNIT = 'hostcertd-enroll.service'

describeOnEachRelease(
  'the template of an image',
  (release) => {
    test('is taken back by unenroll, and used up by the service of the first boot', async () => {
      await using host = await bootHost(release)
      const { container, client, issuer } = host
      await install(host, 'deb')
      expect(await unitProperty(container, UNIT, 'UnitFileState')).toBe('enabled')
      expect(await unitProperty(container, 'hostcertd-ephemeral.service', 'UnitFileState')).toBe('disabled')
      const words = await registeringWords(host)
      const line = ['hostcertd', 'enroll', '--template', ...words]

      const refused = await container.try(line)
      expect(refused).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('--shared-secret') as string,
      })
      const named = await container.try([...line, '--shared-secret', '--hostname', 'web7.example.com'])
      expect(named).toMatchObject({ status: 64, stderr: expect.stringContaining('--hostname') as string })
      const before = await container.sh('ls -lR /etc/hostcertd /etc/default')
      await container.run([...line, '--shared-secret'])
      expect(await container.sh(`stat -c '%a %U' ${TEMPLATE}`)).toBe('600 root\n')
      expect(await container.try([...line, '--shared-secret', '--check'])).toMatchObject({ status: 0 })
      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await container.sh('ls -lR /etc/hostcertd /etc/default')).toBe(before)
      expect(await issuer.ask({ do: 'hosts' })).toEqual({})

      await container.run([...line, '--shared-secret'])
      await container.run(['rm', '/root/secret'])
      // It is a boot that enrolls it, and whatever waits for multi-user.target does not wait for the jitter.
      await container.sh(`sed -i 's/"jitter_seconds": 2,/"jitter_seconds": 86400,/' ${TEMPLATE}`)
      await container.reboot()
      expect(await unitProperty(container, 'multi-user.target', 'ActiveState')).toBe('active')
      expect(await unitProperty(container, UNIT, 'ActiveState')).toBe('active')
      expect(await issuer.ask({ do: 'hosts' })).toEqual({})
      await container.sh(`sed -i 's/"jitter_seconds": 86400,/"jitter_seconds": 2,/' ${TEMPLATE}`)
      // As a first attempt, which waits for nothing but the jitter.
      await container.sh(
        `systemctl stop ${UNIT}; rm -f /run/hostcertd-enroll/attempts; systemctl start ${UNIT}`,
      )
      await eventually('it has ended', 120_000, async () => {
        return (await unitProperty(container, UNIT, 'ActiveState')) === 'inactive'
      })
      const said = await container.run(['journalctl', '--no-pager', '--output=cat', `--unit=${UNIT}`])
      expect(said).toContain(`${HOSTNAME} is enrolled`)
      expect(Object.keys((await issuer.ask({ do: 'hosts' })) as Registered)).toEqual([HOSTNAME])
      expect(await client.verifyAll()).toEqual([])
      // Nothing of it is left, in the journal of enroll neither.
      expect((await container.try(['test', '-e', TEMPLATE])).status).toBe(1)
      expect(
        (await container.try(['grep', '-q', TEMPLATE, '/var/lib/hostcertd-enroll/journal.json'])).status,
      ).toBe(1)
      await container.run(['systemctl', 'start', UNIT])
      expect(await unitProperty(container, UNIT, 'ConditionResult')).toBe('no')
    })
  },
  [BOOKWORM],
)
