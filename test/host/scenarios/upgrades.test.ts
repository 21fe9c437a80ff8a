import { expect, test } from 'vitest'
import { longestGap, loginsWhile, summaryOf } from '../support/connecting.ts'
import { bootEnrolledHost, untilServed } from '../support/installed-host.ts'
import { BOOKWORM, describeOnEachRelease } from '../support/releases.ts'
import { servedCertificates, stagedCertificates } from '../support/served.ts'
import { journal, unitProperty } from '../support/status.ts'
import { offerRelease, openSshVersion, upgradeOpenSsh } from '../support/upgrade.ts'

/** dpkg unpacks, configures and restarts sshd, on a machine that has other things to do. */
const GAP_MILLISECONDS = 30_000

const upgrade = () => {
  test('12 to 13 to testing, under a running agent: served throughout', { timeout: 1_200_000 }, async () => {
    await using host = await bootEnrolledHost(BOOKWORM)
    const { container, client, issuer } = host
    const pid = await unitProperty(container, 'hostcertd.service', 'MainPID')
    for (const suite of ['trixie', 'testing'] as const) {
      await offerRelease(container, suite)
      const [before, signed, served] = [
        await openSshVersion(container),
        await issuer.ask({ do: 'count' }),
        await servedCertificates(host),
      ]
      const during = await loginsWhile(host, async () => {
        await upgradeOpenSsh(container)
        await untilServed(host)
      })
      const after = await openSshVersion(container)
      const name = `openssh-server ${before} -> ${after}`
      console.log(`${name}: ${summaryOf(during)}`)
      for (const { at, end, words } of [...during.strict, ...during.other]) {
        if (end !== 'in') console.log(`  ${at} ms: ${end}: ${words}`)
      }
      expect(after).not.toBe(before)
      expect(during.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
      expect(longestGap(during)).toBeLessThan(GAP_MILLISECONDS)
      expect(await servedCertificates(host)).toEqual(served)
      expect(await issuer.ask({ do: 'count' })).toBe(signed)
      expect(await client.verifyAll()).toEqual([])

      const renewing = await loginsWhile(host, async () => {
        await container.run(['hostcertd', 'renew', '--force'])
        await untilServed(host)
      })
      console.log(`${name}: then renewed: ${summaryOf(renewing)}`)
      expect(renewing.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
      expect(await servedCertificates(host)).toEqual(await stagedCertificates(host))
    }
    expect(await unitProperty(container, 'hostcertd.service', 'MainPID')).toBe(pid)
    expect(await journal(container, '--priority=err')).toEqual([])
  })
}

describeOnEachRelease('upgrades of openssh-server in place', upgrade, [BOOKWORM])
