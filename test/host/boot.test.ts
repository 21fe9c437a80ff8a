import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { readStatus, unitProperty } from './support/status.ts'

const SHORT_TTL_SECONDS = 15
/** A boot takes a second or two; an agent that held it up would do so for its time-out of half a minute. */
const BOOT_MILLISECONDS = 20_000
const MONTH_SECONDS = 30 * 86_400

describeOnEachRelease(
  'a boot',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test('renews what has expired while the host was off', async () => {
      const { container, client, issuer, hostId } = shared()
      await issuer.ask({ do: 'set-ttl', hostId, seconds: SHORT_TTL_SECONDS })
      await renewForTheLastTime()
      const { certificates } = await readStatus(container)
      const ends = certificates.map(({ valid_before }) => Date.parse(valid_before ?? ''))
      await container.powerOff()
      await issuer.ask({ do: 'set-ttl', hostId, seconds: MONTH_SECONDS })
      await sleep(Math.max(0, ...ends.map((end) => end - Date.now())) + 1000)
      await container.boot()
      await untilServed(shared())
      expect(await client.verifyAll()).toEqual([])
      const after = await readStatus(container)
      for (const { valid_before } of after.certificates) {
        expect(Date.parse(valid_before ?? '')).toBeGreaterThan(Date.now() + 20 * 86_400_000)
      }
    })

    test('is not held up by an issuer that does not answer', async () => {
      const { container, client, issuer, hostId } = shared()
      await issuer.ask({ do: 'set-ttl', hostId, seconds: SHORT_TTL_SECONDS })
      await renewForTheLastTime()
      await container.powerOff()
      await sleep(SHORT_TTL_SECONDS * 1000)
      await issuer.ask({ do: 'set-ttl', hostId, seconds: MONTH_SECONDS })
      await issuer.ask({ do: 'fail-always', fault: { kind: 'hang' } })
      const start = performance.now()
      await container.boot()
      const took = performance.now() - start
      console.log(`${release.title}: booted in ${Math.round(took)} ms with an issuer that does not answer`)
      expect(took).toBeLessThan(BOOT_MILLISECONDS)
      expect(await unitProperty(container, 'hostcertd.service', 'ActiveState')).toBe('active')
      expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
      await issuer.ask({ do: 'heal' })
      await eventually('renewed once the issuer answers again', 180_000, async () => {
        return (await client.verifyAll()).length === 0
      })
    })

    /** The agent is stopped, or it would renew certificates as short as these before the host is off. */
    async function renewForTheLastTime(): Promise<void> {
      const { container } = shared()
      await container.run(['systemctl', 'stop', 'hostcertd.service'])
      await container.run(['hostcertd', 'renew', '--force'])
    }
  },
  ONE_BY_DEFAULT,
)
