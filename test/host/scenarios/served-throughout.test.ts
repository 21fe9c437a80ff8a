import { expect, test } from 'vitest'
import { longestGap, loginsWhile, newlyDistrusted, summaryOf, type Logins } from '../support/connecting.ts'
import { eventually } from '../support/eventually.ts'
import { bootHost, type Host } from '../support/host.ts'
import { bootEnrolledHost, enrolByHand, install, untilServed } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { copiedCertificates, servedCertificates, stagedCertificates } from '../support/served.ts'
import { readStatus } from '../support/status.ts'

const DROP_IN = '/etc/ssh/sshd_config.d/40-hostcertd.conf'
/** The next pass comes within a minute, and then sshd is reloaded. */
const NEXT_PASS_MILLISECONDS = 120_000
/** A reload refuses connections for milliseconds, a restart for a second; the rest is a busy machine. */
const GAP_MILLISECONDS = 20_000
const LONG = { timeout: 600_000 }

describeOnEachRelease('a strict client that connects all the while', (release) => {
  const report = (what: string, logins: Logins) =>
    console.log(`${release.title}: ${what}: ${summaryOf(logins)}`)

  test(
    'first issue: whoever knew the plain keys gets in throughout, the others from then on',
    LONG,
    async () => {
      await using host = await bootHost(release)
      await host.client.know(await host.container.sh('cat /etc/ssh/ssh_host_*_key.pub'))
      const logins = await loginsWhile(
        host,
        async () => {
          await install(host, 'deb')
          await enrolByHand(host)
          await untilServed(host)
          await eventually('somebody strict was let in', 30_000, async () => {
            return (await host.client.logIn('any')).stdout === 'hello\n'
          })
        },
        { other: 'known' },
      )
      report('first issue', logins)
      expect(newlyDistrusted(logins)).toEqual([])
      expect(logins.other.filter(({ end }) => end === 'distrusted')).toEqual([])
      expect(logins.strict.at(-1)).toMatchObject({ end: 'in' })
    },
  )

  test('renewals, by hand and by themselves', LONG, async () => {
    await using host = await bootEnrolledHost(release)
    const { container, issuer, hostId } = host
    const logins = await loginsWhile(host, async () => {
      for (let times = 0; times < 3; times += 1) {
        await container.run(['hostcertd', 'renew', '--force'])
        await untilServed(host)
      }
      await issuer.ask({ do: 'set-ttl', hostId, seconds: 120 })
      await container.run(['hostcertd', 'renew', '--force'])
      const before = await stagedCertificates(host)
      await eventually('each was renewed by itself', 300_000, async () => {
        const staged = await stagedCertificates(host)
        return staged.length === before.length && !staged.some((certificate) => before.includes(certificate))
      })
      await untilServed(host)
    })
    report('renewals', logins)
    expect(logins.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
    expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
    expect(await servedCertificates(host)).toEqual(await stagedCertificates(host))
  })

  test('host keys replaced one after the other', LONG, async () => {
    await using host = await bootEnrolledHost(release)
    const logins = await loginsWhile(host, async () => {
      for (const type of ['ed25519', 'ecdsa', 'rsa']) {
        const before = await servedCertificates(host)
        await host.container.sh(`
          ssh-keygen -q -t ${type} -N '' -f /etc/ssh/new
          mv /etc/ssh/new /etc/ssh/ssh_host_${type}_key
          mv /etc/ssh/new.pub /etc/ssh/ssh_host_${type}_key.pub`)
        await untilRenewed(host, before, 1)
      }
    })
    report('rotation, key by key', logins)
    expect(logins.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
    expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
  })

  test('all host keys replaced at once', LONG, async () => {
    await using host = await bootEnrolledHost(release)
    let rotated = 0
    const logins = await loginsWhile(host, async () => {
      const start = performance.now()
      const before = await servedCertificates(host)
      await host.container.sh('rm /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub; ssh-keygen -A')
      rotated = performance.now() - start
      await untilRenewed(host, before, 3)
    })
    report('rotation, all at once', logins)
    // Where sshd presents a key from the moment that it is made, no certificate fits it yet, whoever looks after it.
    const allowed = release.readsCertificatesAnew ? rotated + NEXT_PASS_MILLISECONDS / 2 : 0
    const distrusted = logins.strict.filter(({ end }) => end === 'distrusted')
    expect(distrusted.filter(({ at }) => at > allowed)).toEqual([])
    expect(logins.strict.at(-1)).toMatchObject({ end: 'in' })
  })

  test('the drop-in removed, changed, emptied: written again, without a new certificate', LONG, async () => {
    await using host = await bootEnrolledHost(release)
    const { container, issuer } = host
    const drop = await container.run(['cat', DROP_IN])
    const signed = await issuer.ask({ do: 'count' })
    const logins = await loginsWhile(host, async () => {
      for (const deed of ['rm', "sed -i '/ed25519/d'", 'truncate -s 0']) {
        await container.sh(`${deed} ${DROP_IN}`)
        await eventually(`the drop-in is there again after ${deed}`, NEXT_PASS_MILLISECONDS, async () => {
          return (await container.try(['cat', DROP_IN])).stdout === drop
        })
        await untilServed(host)
      }
    })
    report('drop-in removed', logins)
    expect(logins.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
    expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
    expect(await issuer.ask({ do: 'count' })).toBe(signed)
    expect(await host.client.verifyAll()).toEqual([])
  })

  test(
    'the drop-in removed and sshd reloaded without it: served again, without a new certificate',
    LONG,
    async () => {
      await using host = await bootEnrolledHost(release)
      const { container, issuer } = host
      const [signed, served] = [await issuer.ask({ do: 'count' }), await servedCertificates(host)]
      let removed = 0
      const logins = await loginsWhile(host, async () => {
        const start = performance.now()
        await container.sh(`rm ${DROP_IN}; systemctl reload ssh.service`)
        removed = performance.now() - start
        await eventually('served again', NEXT_PASS_MILLISECONDS, async () => {
          return (await servedCertificates(host)).join() === served.join()
        })
        await untilServed(host)
      })
      report('drop-in removed, sshd reloaded', logins)
      // From the deed until the next pass nobody can help it.
      for (const { at } of logins.strict.filter(({ end }) => end === 'distrusted')) {
        expect(at).toBeLessThan(removed + NEXT_PASS_MILLISECONDS)
      }
      expect(logins.strict.at(-1)).toMatchObject({ end: 'in' })
      expect(await issuer.ask({ do: 'count' })).toBe(signed)
    },
  )

  test(
    'public halves missing, emptied, in another format: every certificate stays, and status says why',
    LONG,
    async () => {
      await using host = await bootEnrolledHost(release)
      const { container } = host
      const copies = await copiedCertificates(host)
      const logins = await loginsWhile(host, async () => {
        await container.sh(`
        cp -a /etc/ssh/*.pub /root
        cd /etc/ssh
        rm ssh_host_ed25519_key.pub
        truncate -s 0 ssh_host_ecdsa_key.pub
        ssh-keygen -e -f /root/ssh_host_rsa_key.pub >ssh_host_rsa_key.pub
        systemctl reload ssh.service hostcertd.service`)
        await eventually('status has a note', NEXT_PASS_MILLISECONDS, async () => {
          await container.run(['systemctl', 'reload', 'hostcertd.service'])
          return (await readStatus(container)).notes.length > 0
        })
        console.log(`${release.title}: notes: ${(await readStatus(container)).notes.join('\n')}`)
        await container.try(['hostcertd', 'renew', '--force'])
        await container.run(['systemctl', 'reload', 'ssh.service'])
        expect(await copiedCertificates(host)).toHaveLength(copies.length)
        expect(await host.client.verifyAll()).toEqual([])
        await container.sh('cp -a /root/ssh_host_*_key.pub /etc/ssh; systemctl reload hostcertd.service')
        await untilServed(host)
        await eventually('the notes are gone', NEXT_PASS_MILLISECONDS, async () => {
          return (await readStatus(container)).notes.length === 0
        })
      })
      report('public halves', logins)
      expect(logins.strict.filter(({ end }) => end === 'distrusted')).toEqual([])
      expect(longestGap(logins)).toBeLessThan(GAP_MILLISECONDS)
      expect(await host.client.verifyAll()).toEqual([])
    },
  )
})

/** So many of the certificates that were served are new ones, and none is missing. */
async function untilRenewed(host: Host, before: readonly string[], count: number): Promise<void> {
  await eventually('new certificates are served', NEXT_PASS_MILLISECONDS, async () => {
    const served = await servedCertificates(host)
    const renewed = served.filter((certificate) => !before.includes(certificate))
    return served.length === before.length && renewed.length === count
  })
  await untilServed(host)
}
