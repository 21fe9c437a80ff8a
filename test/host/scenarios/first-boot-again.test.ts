import { expect, test } from 'vitest'
import { stateOfHost } from '../support/enrolling.ts'
import { eventually } from '../support/eventually.ts'
import { bootHost } from '../support/host.ts'
import { install } from '../support/installed-host.ts'
import { BOOKWORM, describeOnEachRelease } from '../support/releases.ts'
import { unitProperty } from '../support/status.ts'
import { registeringWords, TEMPLATE } from '../support/template.ts'

const UNIT = 'hostcertd-enroll.service'
/** An attempt takes about a minute: an issuer that cannot be reached is asked four times, over 35 s. */
const ATTEMPT_MILLISECONDS = 300_000

describeOnEachRelease(
  'failed attempts of the first boot',
  (release) => {
    test("are undone inside the service's sandbox and retried, immediately after a restart", async () => {
      await using host = await bootHost(release)
      const { container, client, issuer } = host
      await install(host, 'deb')
      const words = [...(await registeringWords(host)), '--wait', '30s']
      await container.run(['hostcertd', 'enroll', '--template', '--shared-secret', ...words])
      await container.run(['rm', '/root/secret'])
      const before = await stateOfHost(host)
      const journal = ['journalctl', '--no-pager', '--output=cat', `--unit=${UNIT}`]
      const untilLogged = async (pattern: RegExp): Promise<string> =>
        eventually(`it logs ${pattern}`, ATTEMPT_MILLISECONDS, async () => {
          const logged = await container.run(journal)
          return pattern.test(logged) && logged
        }).catch(async (cause: unknown) => {
          throw new Error(await container.run(journal), { cause })
        })
      const expectAsBefore = async (): Promise<void> => {
        expect(await stateOfHost(host)).toBe(before)
        expect(await container.try(['sshd', '-t'])).toMatchObject({ status: 0 })
        expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
        expect(await client.logIn('ssh-ed25519')).toMatchObject({ status: 255 })
      }

      await issuer.ask({ do: 'stop' })
      await container.run(['systemctl', 'start', UNIT])
      // systemd has started it again, and it waits for half a minute.
      await untilLogged(/^ISSUER_UNREACHABLE: .*\nthis attempt failed[^]*^attempt 2 begins in \d+ s$/m)
      await expectAsBefore()

      // It signs for enroll, which then makes its changes, and not for the service.
      const signed = await issuer.ask({ do: 'count' })
      await issuer.ask({ do: 'start' })
      await container.run(['systemctl', 'restart', UNIT])
      await eventually('a certificate was issued', ATTEMPT_MILLISECONDS, async () => {
        return (await issuer.ask({ do: 'count' })) !== signed
      })
      // As long as that lasts, no later attempt changes anything.
      await issuer.ask({ do: 'fail-always', fault: { kind: 'hang' }, route: 'issue' })
      const failed = await untilLogged(/^SSHD_NOT_SERVING: /m)
      expect(failed).toMatch(/^undone: what was changed \(.*(?:start|reload) the service/m)
      expect(failed).not.toMatch(/not undone|undoes what was changed/)
      await expectAsBefore()

      await issuer.ask({ do: 'heal' })
      await container.run(['systemctl', 'restart', UNIT])
      await eventually('it has ended', ATTEMPT_MILLISECONDS, async () => {
        return (await unitProperty(container, UNIT, 'ActiveState')) === 'inactive'
      }).catch(async (cause: unknown) => {
        throw new Error(await container.run(journal), { cause })
      })
      expect(await unitProperty(container, UNIT, 'Result')).toBe('success')
      expect(await client.verifyAll()).toEqual([])
      expect((await container.try(['test', '-e', TEMPLATE])).status).toBe(1)
    }, 900_000)
  },
  [BOOKWORM],
)
