import { expect, test } from 'vitest'
import { enrollCommand, interrupt, linesSaid, runSaying, stateOfHost } from '../support/enrolling.ts'
import { eventually } from '../support/eventually.ts'
import { bootHost } from '../support/host.ts'
import { enrolByHand, install, untilServed } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { servedCertificates } from '../support/served.ts'

const MINUTES = 10 * 60_000
const CONFIG = '/etc/hostcertd/hostcertd.yaml'
const UNENROLL = 'hostcertd unenroll --yes'

describeOnEachRelease('enroll beside other work', (release) => {
  test(
    'two enrolls at once, a renew, a signal to unenroll, configurations that cannot be used, deletion',
    async () => {
      await using host = await bootHost(release)
      const { container, client, issuer } = host
      await install(host, 'deb')
      const before = await stateOfHost(host)
      const line = `${await enrollCommand(host)} --yes --json`

      // What cannot be used is named, and nothing is changed.
      const overriding = '/etc/hostcertd/conf.d/50-fleet.yaml'
      for (const { path, text, says } of [
        { path: CONFIG, text: 'issuer: [\n', says: `CONFIG_INVALID: ${CONFIG}:` },
        {
          path: overriding,
          text: 'issuer: {url: "https://other.example.com"}\n',
          says: `issuer.url is set to something else in ${overriding}`,
        },
        {
          path: overriding,
          text: 'auth: {method: token}\n',
          says: `auth.method is set to something else in ${overriding}`,
        },
      ]) {
        await container.write(path, text)
        const { status, stderr } = await container.try(['sh', '-c', line])
        expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(says) })
        await container.sh(`rm ${path}; rmdir /etc/hostcertd/conf.d 2>/dev/null || true`)
        expect(await stateOfHost(host)).toBe(before)
      }

      // The second waits for the first, then finds nothing to do; so does `renew`, which has a lock of its own.
      const first = runSaying(host, line)
      await eventually('the first is at work', 60_000, linesSaid(host, 2))
      const [one, two, three] = await Promise.all([
        first,
        container.try(['sh', '-c', line]),
        container.try(['hostcertd', 'renew']),
      ])
      expect([one.status, two.status]).toEqual([0, 0])
      expect(two.stderr).toContain('waiting for another hostcertd to finish')
      expect(JSON.parse(two.stdout)).toMatchObject({ changed: false })
      expect(three.stderr).not.toContain('    at ')
      expect(await client.verifyAll()).toEqual([])

      // A signal does not leave an unenroll half-way.
      const ended = await interrupt(
        host,
        UNENROLL,
        'INT',
        async () => (await container.try(['systemctl', 'is-active', 'hostcertd'])).status !== 0,
      )
      expect([0, 1]).toContain(ended.status)
      expect(await container.try(['sh', '-c', UNENROLL])).toMatchObject({ status: 0 })
      expect(await stateOfHost(host)).toBe(before)
      expect(await servedCertificates(host)).toEqual([])

      // Deleted at the issuer in the end, from here or from any machine, and again without a complaint.
      const { host_id: id } = JSON.parse(await container.sh(line)) as { host_id: string }
      await container.write('/root/token', String(await issuer.ask({ do: 'add-admin-token' })), 0o600)
      const enrolled = await stateOfHost(host)
      const remote = `hostcertd unenroll --delete-host --host-id ${id} --url ${issuer.facts.url} --ca-file /etc/ssl/issuer-ca.pem --admin-token-file /root/token`
      expect(await container.try(['sh', '-c', `${remote} --check`])).toMatchObject({ status: 2 })
      const own = await container.try(['sh', '-c', 'hostcertd unenroll --delete-host --yes'])
      expect(own).toMatchObject({ status: 1, stderr: expect.stringContaining(`--host-id ${id}`) })
      expect(own.stderr).toContain('ISSUER_FORBIDDEN')
      expect(await stateOfHost(host)).toBe(before)
      expect(enrolled).not.toBe(before)
      const deleted = await container.try(['sh', '-c', `${remote} --yes`])
      expect(deleted).toMatchObject({ status: 0, stderr: expect.stringContaining(`deleted the host ${id}`) })
      expect(await container.try(['sh', '-c', `${remote} --yes`])).toMatchObject({ status: 0 })
      expect(await container.try(['sh', '-c', `${remote} --check`])).toMatchObject({ status: 0 })
      expect(await stateOfHost(host)).toBe(before)
      const gone = await container.try(['sh', '-c', line])
      expect(gone).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(
          /^ISSUER_NOT_FOUND: .*\ncheck --url and --host-id or --project; .*\n$/m,
        ),
      })
      expect(await stateOfHost(host)).toBe(before)
    },
    MINUTES,
  )

  test(
    'a host that was enrolled by hand is adopted, and unenroll takes back only what enroll changed',
    async () => {
      await using host = await bootHost(release)
      const { container, client } = host
      await install(host, 'deb')
      await enrolByHand(host)
      await untilServed(host)
      await container.sh(
        `{ echo '# By hand.'; cat ${CONFIG}; echo; echo '# The end.'; } >/root/new; cat /root/new >${CONFIG}`,
      )
      const before = await stateOfHost(host)
      const served = await servedCertificates(host)
      const written = await container.run(['cat', CONFIG])

      const result = JSON.parse(await container.sh('hostcertd enroll --yes --json --on-copy stop')) as {
        steps: readonly { step: string; detail: string }[]
      }
      expect(await container.run(['cat', CONFIG])).toBe(`${written}enrollment:\n  on_copy: stop\n`)
      expect(result.steps.map(({ detail }) => detail).filter((detail) => detail.startsWith('/'))).toEqual([
        CONFIG,
        '/var/lib/hostcertd-enroll/enrollment.json',
        '/etc/ssh/hostcertd/*-cert.pub, /etc/ssh/sshd_config.d/40-hostcertd.conf',
      ])
      expect(await client.verifyAll()).toEqual([])
      expect(await container.try(['hostcertd', 'enroll', '--check'])).toMatchObject({ status: 0 })

      await container.sh(UNENROLL)
      expect(await stateOfHost(host)).toBe(before)
      await untilServed(host)
      expect(await servedCertificates(host)).toEqual(served)
    },
    MINUTES,
  )
})
