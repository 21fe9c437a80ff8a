import { join } from 'node:path'
import { expect, test } from 'vitest'
import { generateKey, signCertificate } from '../../support/ssh-keygen.ts'
import { enrollCommand } from '../support/enrolling.ts'
import { bootHost } from '../support/host.ts'
import { install } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { unitProperty } from '../support/status.ts'

const TIMER = 'hostcertd-ca.timer'
const SERVICE = 'hostcertd-ca.service'
const KEYS = '/etc/ssh/hostcertd/user-ca.pub'
const STATUS = '/var/lib/hostcertd-enroll/ca-status.json'
const LOG_IN =
  'ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes root@127.0.0.1'

describeOnEachRelease('the CAs of user certificates', (release) => {
  test('are put in place by enroll, kept by root’s timer, taken back by unenroll', async () => {
    await using host = await bootHost(release)
    const { container, issuer } = host
    await install(host, 'deb')
    expect(await unitProperty(container, TIMER, 'UnitFileState')).toBe('disabled')

    const root = join(container.root, 'root')
    const makeCa = async (name: string): Promise<string> => {
      const ca = await generateKey(join(root, name), 'ed25519', '')
      const publicKey = await generateKey(join(root, `${name}-login`), 'ed25519', '')
      const wish = { ca: join(root, name), publicKey, kind: 'user', principals: ['root'] } as const
      await container.write(`/root/${name}-login-cert.pub`, `${await signCertificate(wish)}\n`)
      return ca
    }
    const logsIn = async (name: string): Promise<boolean> =>
      (await container.try(['sh', '-c', `${LOG_IN} -i /root/${name}-login true`])).status === 0
    const names = async (body: string): Promise<void> => {
      await issuer.ask({ do: 'fail-always', fault: { status: 200, body }, route: 'user-ca' })
    }
    const [one, two] = [await makeCa('one'), await makeCa('two')]
    await names(one)
    const line = `${await enrollCommand(host)} --user-ca --yes`
    expect(await logsIn('one')).toBe(false)
    const enrolled = await container.try(['sh', '-c', line])
    expect(enrolled.status, enrolled.stderr).toBe(0)
    expect(await logsIn('one')).toBe(true)
    expect(await unitProperty(container, TIMER, 'ActiveState')).toBe('active')
    const again = await container.try(['sh', '-c', line])
    expect(again.stderr).toContain('nothing changed')

    // The issuer replaces its CA: one run of the timer, in its sandbox.
    const refresh = async (): Promise<void> => {
      const started = await container.try(['systemctl', 'start', SERVICE])
      const said = await container.run(['journalctl', '--no-pager', '--output=cat', `--unit=${SERVICE}`])
      expect(started.status, said).toBe(0)
    }
    await names(two)
    await refresh()
    expect(await container.sh(`stat -c '%a %U %G' ${KEYS}`)).toBe('644 root root\n')
    expect([await logsIn('one'), await logsIn('two')]).toEqual([true, true])

    // The overlap is over: 15 days ago the issuer named the old one last.
    const since = new Date(Date.now() - 15 * 86_400_000).toISOString().replace(/\.\d+/, '')
    await container.sh(`sed -i 's/"unnamed_since": "[^"]*"/"unnamed_since": "${since}"/' ${STATUS}`)
    await refresh()
    expect([await logsIn('one'), await logsIn('two')]).toEqual([false, true])

    await names('<html></html>')
    const refused = await container.try(['hostcertd', 'ca', 'refresh', '--now'])
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('USER_CA_INVALID') as string })
    expect([await logsIn('one'), await logsIn('two')]).toEqual([false, true])

    await container.run(['hostcertd', 'unenroll', '--yes'])
    expect([await logsIn('one'), await logsIn('two')]).toEqual([false, false])
    expect(await unitProperty(container, TIMER, 'UnitFileState')).toBe('disabled')
    for (const path of [KEYS, STATUS]) expect((await container.try(['ls', path])).status, path).not.toBe(0)
  })

  test('that the timer put in place, because user_ca.install was set by hand, is taken back, too', async () => {
    await using host = await bootHost(release)
    const { container } = host
    await install(host, 'deb')
    const files = async (): Promise<string> =>
      container.sh("find /etc/ssh -type f -printf '%p %m %u %g ' -exec md5sum {} ';' | sort")
    const before = await files()
    await container.run(['sh', '-c', `${await enrollCommand(host)} --yes`])
    await container.write('/etc/hostcertd/conf.d/50-user-ca.yaml', 'user_ca: {install: true}\n')
    await container.run(['systemctl', 'start', SERVICE])
    const trusted = async (): Promise<string> =>
      (await container.sh('sshd -T | grep -i trustedusercakeys')).split(' ').at(-1) ?? ''
    expect(await trusted()).toBe(`${KEYS}\n`)
    const ended = await container.try(['hostcertd', 'unenroll', '--yes'])
    expect(ended).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('logins by user certificate end') as string,
    })
    expect(await trusted()).toBe('none\n')
    expect(await files()).toBe(before)
  })

  test('without a user CA the timer is enabled too, and says when the issuer names another host CA', async () => {
    await using host = await bootHost(release)
    const { container, issuer } = host
    await install(host, 'deb')
    await container.run(['sh', '-c', `${await enrollCommand(host)} --yes`])
    expect(await unitProperty(container, TIMER, 'ActiveState')).toBe('active')
    const ca = String(await issuer.ask({ do: 'rotate-host-ca' }))
    await container.write('/root/new-ca.pub', `${ca}\n`)
    const [, fingerprint = ''] = (await container.run(['ssh-keygen', '-l', '-f', '/root/new-ca.pub'])).split(
      ' ',
    )
    await container.run(['systemctl', 'start', SERVICE])
    const said = await container.run(['journalctl', '--no-pager', '--output=cat', `--unit=${SERVICE}`])
    expect(said).toContain(`the issuer names the host CA ${fingerprint}, which is not pinned`)
    for (const path of [KEYS, STATUS]) expect((await container.try(['ls', path])).status, path).not.toBe(0)
    await container.run(['hostcertd', 'unenroll', '--yes'])
    expect(await unitProperty(container, TIMER, 'UnitFileState')).toBe('disabled')
  })
})
