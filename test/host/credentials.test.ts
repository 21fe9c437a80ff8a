import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { journal, unitProperty } from './support/status.ts'

const UNIT = 'hostcertd.service'
const FOLDER = '/etc/hostcertd/credentials'
const STORE = '/etc/credstore'

describeOnEachRelease(
  'credentials',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test("a secret that only the system's store has: for the service, and for verbs that root runs", async () => {
      const { container, client, issuer } = shared()
      await container.sh(`
      systemctl stop ${UNIT}
      mkdir -pm 700 ${STORE}
      mv ${FOLDER}/client-secret ${STORE}/hostcertd_client-secret
      rm /var/lib/hostcertd/certs/*
      systemctl start ${UNIT}`)
      const signed = Number(await issuer.ask({ do: 'count' }))
      await untilServed(shared())
      expect(await client.verifyAll()).toEqual([])
      expect(await journal(container, '--priority=err')).toEqual([])
      expect(await container.try(['hostcertd', 'renew', '--force'])).toMatchObject({ status: 0 })
      expect(await issuer.ask({ do: 'count' })).toBeGreaterThanOrEqual(signed + 3)
      await untilServed(shared())
      const doctor = await container.try(['hostcertd', 'doctor'])
      expect(doctor).toMatchObject({ status: 0, stdout: expect.stringContaining('hostcertd_client-secret') })

      await container.sh(`
      mv ${STORE}/hostcertd_client-secret ${FOLDER}/client-secret
      rmdir ${STORE}`)
      expect(await container.try(['hostcertd', 'renew', '--force'])).toMatchObject({ status: 0 })
      await untilServed(shared())
    })

    test('a changed secret counts without a restart, and the daemon itself has none', async () => {
      const { container, issuer } = shared()
      const pid = await unitProperty(container, UNIT, 'MainPID')
      await container.sh(`cd ${FOLDER}; mv client-secret /root/kept; (umask 077; echo wrong >client-secret)`)
      const refused = await container.try(['hostcertd', 'renew', '--force'])
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('ISSUER_UNAUTHORIZED') })
      await container.sh(`
      mv /root/kept ${FOLDER}/client-secret
      rm /var/lib/hostcertd/certs/*`)
      const signed = Number(await issuer.ask({ do: 'count' }))
      await container.run(['systemctl', 'reload', UNIT])
      await eventually(
        'all are issued anew',
        30_000,
        async () => Number(await issuer.ask({ do: 'count' })) >= signed + 3,
      )
      await untilServed(shared())
      expect(await unitProperty(container, UNIT, 'MainPID')).toBe(pid)
      expect(await container.run(['find', '/run/credentials', '-name', 'hostcertd.service'])).toBe('')
      const environment = await container.run(['tr', '\\0', '\n'], {
        input: await container.run(['cat', `/proc/${pid}/environ`]),
      })
      expect(environment).not.toContain('CREDENTIALS_DIRECTORY')
    })
  },
  ONE_BY_DEFAULT,
)
