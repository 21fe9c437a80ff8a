import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { lastTurn, unitProperty } from './support/status.ts'

const UNIT = 'hostcertd.service'

describeOnEachRelease(
  'systemd and the agent',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test('killed: back within seconds, as often as it takes, without asking for certificates again', async () => {
      const { container, issuer } = shared()
      const signed = await issuer.ask({ do: 'count' })
      for (let times = 0; times < 3; times += 1) await restartsAfter('SIGKILL', 20_000)
      await untilServed(shared())
      expect(await issuer.ask({ do: 'count' })).toBe(signed)
      expect(await unitProperty(container, UNIT, 'Result')).toBe('success')
    })

    test('hung: the watchdog restarts it', async () => {
      const { container, client } = shared()
      const usual = await unitProperty(container, UNIT, 'WatchdogUSec')
      // The design's five minutes, at most; here ten seconds, to save the time.
      expect(usual).toMatch(/^([1-5]min|\d+s)/)
      const dropIn = '/etc/systemd/system/hostcertd.service.d/watchdog.conf'
      await container.write(dropIn, '[Service]\nWatchdogSec=10s\nTimeoutAbortSec=2s\n')
      await container.sh('systemctl daemon-reload; systemctl restart hostcertd.service')
      await restartsAfter('SIGSTOP', 60_000)
      await container.sh(`rm ${dropIn}; systemctl daemon-reload; systemctl restart hostcertd.service`)
      await untilServed(shared())
      expect(await client.verifyAll()).toEqual([])
    })

    test('SIGUSR1: it looks at everything at once', async () => {
      const { container } = shared()
      const pid = await unitProperty(container, UNIT, 'MainPID')
      // By itself it looks with each minute, and a little after what happened last.
      const before = await eventually('nothing is happening', 120_000, async () => {
        const [turn, now] = [await lastTurn(container), Date.now() / 1000]
        return now - turn > 5 && now % 60 < 40 && turn
      })
      await container.run(['systemctl', 'kill', '--kill-who=main', '--signal=SIGUSR1', UNIT])
      await eventually('it has looked', 15_000, async () => (await lastTurn(container)) > before)
      expect(await unitProperty(container, UNIT, 'MainPID')).toBe(pid)
    })

    test('a configuration that cannot be used: it stays down, and says why', async () => {
      const { container } = shared()
      await container.write('/etc/hostcertd/conf.d/50-wrong.yaml', 'renewal: { window: never }\n')
      await container.try(['systemctl', 'restart', UNIT])
      await eventually('the unit has failed', 15_000, async () => {
        return (await unitProperty(container, UNIT, 'ActiveState')) === 'failed'
      })
      expect(await unitProperty(container, UNIT, 'ExecMainStatus')).toBe('78')
      const said = await container.run([
        'journalctl',
        '--no-pager',
        '-p',
        'err',
        '--output=cat',
        `--unit=${UNIT}`,
      ])
      expect(said).toContain('renewal.window')
      await container.sh(`rm /etc/hostcertd/conf.d/50-wrong.yaml; systemctl restart ${UNIT}`)
      await untilServed(shared())
    })

    async function restartsAfter(signal: 'SIGKILL' | 'SIGSTOP', milliseconds: number): Promise<void> {
      const { container } = shared()
      const before = await unitProperty(container, UNIT, 'MainPID')
      await container.run(['systemctl', 'kill', '--kill-who=main', `--signal=${signal}`, UNIT])
      await eventually(`running again after ${signal}`, milliseconds, async () => {
        const pid = await unitProperty(container, UNIT, 'MainPID')
        return (
          pid !== '0' && pid !== before && (await unitProperty(container, UNIT, 'ActiveState')) === 'active'
        )
      })
    }
  },
  ONE_BY_DEFAULT,
)
