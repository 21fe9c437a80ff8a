import { join } from 'node:path'
import { expect, test } from 'vitest'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { longestGap, loginsWhile, summaryOf, type Login } from './support/connecting.ts'
import { enrollCommand } from './support/enrolling.ts'
import { bootHost } from './support/host.ts'
import { install, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { servedCertificates } from './support/served.ts'

const USER_CAS = '/etc/ssh/hostcertd/user-ca.pub'
const STATUS = '/var/lib/hostcertd-enroll/ca-status.json'
/** A reload refuses connections for milliseconds; the rest is a busy machine. */
const GAP_MILLISECONDS = 20_000
/** Of both clients: a fraction of what a busy machine manages in that time. */
const FEWEST_LOGINS = 20
/** What ssh says when its own ConnectTimeout is over, which a busy machine may need. */
const TIMED_OUT = /timed out/

describeOnEachRelease(
  'the rotation of both CAs, with a client that knows the host by a CA alone and is known by a CA alone',
  (release) => {
    test('not one login is refused', { timeout: 600_000, retry: 0 }, async () => {
      await using folder = await makeTemporaryFolder()
      await using host = await bootHost(release)
      const { container, client, issuer } = host
      const [oldUserCa, newUserCa] = [join(folder.path, 'old'), join(folder.path, 'new')]
      const nameUserCa = async (publicKey: string): Promise<unknown> =>
        issuer.ask({ do: 'fail-always', fault: { status: 200, body: publicKey }, route: 'user-ca' })
      await nameUserCa(await generateKey(oldUserCa, 'ed25519', ''))
      const newUserCaKey = await generateKey(newUserCa, 'ed25519', '')
      await install(host, 'deb')
      const line = `${await enrollCommand(host)} --user-ca`
      await container.run(['sh', '-c', `${line} --yes`])
      const knownHosts = async (): Promise<string> =>
        container.run(['hostcertd', 'ca', 'show', '--hosts', 'web1.example.com'])
      await client.trust(await knownHosts())
      await client.carryCertificate(oldUserCa)
      await container.run(['rm', '/root/.ssh/authorized_keys'])

      const begun = performance.now()
      const rotate = async (): Promise<void> => {
        // The host CA: clients know the new one before the host has a certificate of it.
        const before = await servedCertificates(host)
        const newHostCa = String(await issuer.ask({ do: 'rotate-host-ca' }))
        await container.write('/root/new-ca.pub', `${newHostCa}\n`)
        const listed = await container.run(['ssh-keygen', '-l', '-f', '/root/new-ca.pub'])
        const fingerprint = listed.split(' ')[1] ?? ''
        const news = await container.try(['hostcertd', 'ca', 'refresh', '--now'])
        expect(news.status).toBe(0)
        expect(`${news.stdout}${news.stderr}`).toContain(fingerprint)
        const refused = await container.try(['hostcertd', 'renew', '--force'])
        expect(`${refused.stdout}${refused.stderr}`).toContain('CERT_CA_MISMATCH')
        expect(await servedCertificates(host)).toEqual(before)
        await container.run(['sh', '-c', `${line} --ca-fingerprint ${fingerprint} --yes`])
        const both = await knownHosts()
        expect(both).toContain(newHostCa.split(' ')[1])
        expect(both.match(/@cert-authority/g)).toHaveLength(2)
        await client.trust(both)
        await container.run(['hostcertd', 'renew', '--force'])
        await untilServed(host)
        const served = await servedCertificates(host)
        expect(served).toHaveLength(before.length)
        expect(served.filter((certificate) => before.includes(certificate))).toEqual([])
        // By the new CA alone.
        await client.trust(`@cert-authority web1.example.com ${newHostCa}`)
        expect(await client.verifyAll()).toEqual([])

        // The user CA: after one run, certificates of the old and of the new CA are accepted.
        await nameUserCa(newUserCaKey)
        await container.run(['hostcertd', 'ca', 'refresh', '--now'])
        expect(await client.logIn('any')).toMatchObject({ stdout: 'hello\n' })
        await client.carryCertificate(newUserCa)
        expect(await client.logIn('any')).toMatchObject({ stdout: 'hello\n' })

        // Both old ones go: that of the users when its overlap is over, that of the host when it is pinned no more.
        const since = new Date(Date.now() - 15 * 86_400_000).toISOString().replace(/\.\d+/, '')
        await container.sh(`sed -i 's/"unnamed_since": "[^"]*"/"unnamed_since": "${since}"/' ${STATUS}`)
        await container.run(['hostcertd', 'ca', 'refresh', '--now'])
        expect((await container.sh(`grep -v '^#' ${USER_CAS}`)).trim()).toBe(newUserCaKey.trim())
        await container.write('/etc/hostcertd/host-ca.pub', `${newHostCa}\n`)
        await container.run(['systemctl', 'reload', 'hostcertd'])
        await container.run(['hostcertd', 'renew', '--force'])
        await untilServed(host)
        expect((await knownHosts()).match(/@cert-authority/g)).toHaveLength(1)
        expect(await client.verifyAll()).toEqual([])
      }
      // Both know the host by its CA alone.
      const logins = await loginsWhile(host, rotate, { other: 'any', atOnce: 2 })
      const all = [...logins.strict, ...logins.other]
      const seconds = (performance.now() - begun) / 1000
      console.log(
        `${release.title}: rotation of the CAs: ${summaryOf(logins)}; ${(all.length / seconds).toFixed(1)} logins a second`,
      )
      const isExcused = ({ end, words }: Login): boolean =>
        end === 'interrupted' && (!release.readsCertificatesAnew || TIMED_OUT.test(words))
      const refused = all.filter(({ end }) => end !== 'in')
      expect(refused.filter((login) => !isExcused(login))).toEqual([])
      expect(all.length - refused.length).toBeGreaterThanOrEqual(FEWEST_LOGINS)
      expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
    })
  },
  ONE_BY_DEFAULT,
)
