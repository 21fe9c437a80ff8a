import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { servedCertificates, stagedCertificates } from './support/served.ts'
import { readStatus, unitProperty } from './support/status.ts'

const BROKEN = '/etc/ssh/sshd_config.d/90-somebody.conf'
const HELPER_DROP_IN = '/etc/systemd/system/hostcertd-reload@.service.d/failing.conf'
/** A retry after a reload that failed comes within a minute, by itself. */
const RECOVERY_MILLISECONDS = 150_000

describeOnEachRelease(
  'trouble with sshd',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test('a configuration broken by somebody else: the listener is left alone', async () => {
      const { container, client } = shared()
      const listener = await unitProperty(container, 'ssh.service', 'MainPID')
      await container.write(BROKEN, 'NonsenseByAnAdministrator yes\n')
      expect(await renewAll()).toMatchObject({ status: 1 })
      expect(await unitProperty(container, 'ssh.service', 'MainPID')).toBe(listener)
      expect(await client.logIn('ssh-ed25519')).toMatchObject({ stdout: 'hello\n' })
      await reportsError('SSHD_CONFIG_INVALID')
      await container.run(['rm', BROKEN])
      await recovers('by itself')
    })

    test('the helper fails: said so, and made good later', async () => {
      const { container, client } = shared()
      await container.write(HELPER_DROP_IN, '[Service]\nExecStart=\nExecStart=/bin/false\n')
      await container.run(['systemctl', 'daemon-reload'])
      expect(await renewAll()).toMatchObject({ status: 1 })
      await reportsError('SSHD_RELOAD_FAILED')
      expect(await client.verifyAll()).toEqual([])
      await container.sh(`rm ${HELPER_DROP_IN}; systemctl daemon-reload`)
      await recovers()
    })

    test.each([
      { name: 'stopped', down: 'systemctl stop ssh.service', up: 'systemctl start ssh.service' },
      {
        name: 'masked',
        down: 'systemctl mask --now ssh.service',
        up: 'systemctl unmask ssh.service; systemctl start ssh.service',
      },
    ])('sshd $name: it is not started, and serves the new certificates once it is', async ({ down, up }) => {
      const { container } = shared()
      await container.sh(down)
      const before = await unitProperty(container, 'ssh.service', 'UnitFileState')
      await renewAll()
      expect(await unitProperty(container, 'ssh.service', 'ActiveState')).toBe('inactive')
      expect(await unitProperty(container, 'ssh.service', 'UnitFileState')).toBe(before)
      await reportsError('SSHD_UNREACHABLE')
      await container.sh(up)
      await recovers()
    })

    // The last, for Debian's own way back fails: a running sshd outlives its socket, and the next one finds the port taken.
    test('ssh.socket: renewed while sshd waits for a connection, and while it runs', async () => {
      const { container } = shared()
      await container.sh('systemctl disable --now ssh.service; systemctl enable --now ssh.socket')
      // Idle at first; then sshd runs, for clients have come.
      for (let times = 0; times < 2; times += 1) {
        await renewAll()
        await recovers()
        expect(await unitProperty(container, 'ssh.socket', 'ActiveState')).toBe('active')
      }
      expect((await container.try(['systemctl', '--failed', '--no-legend'])).stdout).toBe('')
    })

    async function renewAll() {
      const outcome = await shared().container.try(['hostcertd', 'renew', '--force'])
      console.log(`${release.title}: renew --force: ${outcome.status}\n${outcome.stdout}${outcome.stderr}`)
      return outcome
    }

    /** Told by the agent, which looks soon after `renew` has changed its files. */
    async function reportsError(code: string): Promise<void> {
      let seen: readonly unknown[] = []
      await eventually(`status shows ${code}`, 30_000, async () => {
        const { certificates } = await readStatus(shared().container)
        seen = certificates
        return certificates.some(({ last_error }) => last_error?.code === code)
      }).catch((cause: unknown) => {
        throw new Error(JSON.stringify(seen), { cause })
      })
    }

    /** The newest certificates are served, and clients are content. Told or not, the agent sees to it. */
    async function recovers(told: 'told' | 'by itself' = 'told'): Promise<void> {
      const host = shared()
      if (told === 'told') await host.container.run(['systemctl', 'reload', 'hostcertd.service'])
      await eventually('sshd serves the newest certificates', RECOVERY_MILLISECONDS, async () => {
        const [served, staged] = [await servedCertificates(host), await stagedCertificates(host)]
        return served.length === 3 && served.join() === staged.join()
      })
      await untilServed(host)
      expect(await host.client.verifyAll()).toEqual([])
    }
  },
  ONE_BY_DEFAULT,
)
