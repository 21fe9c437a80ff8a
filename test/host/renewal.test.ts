import { expect, test } from 'vitest'
import { runsIf } from '../support/skip.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { knockWhile } from './support/knocking.ts'
import { describeOnEachRelease } from './support/releases.ts'
import { servedCertificates } from './support/served.ts'

describeOnEachRelease('a renewal', (release) => {
  const shared = sharedEnrolledHost(release)

  test('replaces every certificate', async () => {
    const { container, client } = shared()
    const before = await servedCertificates(shared())
    await container.run(['hostcertd', 'renew', '--force'])
    const after = await servedCertificates(shared())
    expect(after).toHaveLength(before.length)
    for (const certificate of before) expect(after).not.toContain(certificate)
    await untilServed(shared())
    expect(await client.verifyAll()).toEqual([])
  })

  // Where a reload is needed some are refused for its milliseconds; and OpenSSH from 9.8 on punishes such a client.
  const refusesNone = runsIf(release.readsCertificatesAnew, 'a reload of this sshd refuses connections')
  test('refuses no connection', refusesNone, async () => {
    const { container, network } = shared()
    const { answered, refused } = await knockWhile(network, async () => {
      await container.run(['hostcertd', 'renew', '--force'])
    })
    console.log(`${release.title}: ${answered} connections answered, ${refused.length} refused`)
    expect(answered).toBeGreaterThan(10)
    expect(refused).toEqual([])
  })
})
