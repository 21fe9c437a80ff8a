import { expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { journal } from './support/status.ts'

describeOnEachRelease(
  'the journal',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test('has a plain line for each event, and no errors while all is well', async () => {
      const { container } = shared()
      const lines = await journal(container)
      console.log(`${release.title}: journalctl -u hostcertd:\n${lines.join('\n')}`)
      for (const line of lines) expect(line).toMatch(/^[\w"'(][ -~–…→]*$/)
      for (const type of ['ed25519', 'ecdsa', 'rsa']) {
        expect(lines.filter((line) => line.includes(`ssh_host_${type}_key`)).length).toBeGreaterThan(0)
      }
      expect(await journal(container, '--priority=err')).toEqual([])
    })

    test('has the errors under -p err, and nothing else there', async () => {
      const { container, issuer } = shared()
      const message = 'You are not allowed to issue-host-cert on ssh-hosts'
      const body = { reqId: 'req-journal', statusCode: 403, message, error: 'PermissionDenied' }
      await issuer.ask({ do: 'fail-always', fault: { status: 403, body } })
      await container.sh(
        'rm /var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub; systemctl restart hostcertd',
      )
      const errors = await eventually('an error in the journal', 60_000, async () => {
        const found = await journal(container, '--priority=err')
        return found.length > 0 && found
      })
      console.log(`${release.title}: journalctl -p err -u hostcertd:\n${errors.join('\n')}`)
      expect(errors.join('\n')).toContain('ISSUER_FORBIDDEN')
      expect(errors.join('\n')).toContain('req-journal')
      for (const line of errors) expect(line).toMatch(/ISSUER_FORBIDDEN|not allowed/)
      await issuer.ask({ do: 'heal' })
      await container.run(['systemctl', 'reload', 'hostcertd.service'])
      await untilServed(shared())
    })
  },
  ONE_BY_DEFAULT,
)
