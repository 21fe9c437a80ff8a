import { join } from 'node:path'
import { expect, test } from 'vitest'
import { generateKey, signCertificate } from '../../support/ssh-keygen.ts'
import { bootHost } from '../support/host.ts'
import { install } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { unitProperty } from '../support/status.ts'

const TIMER = 'hostcertd-ca.timer'
const SERVICE = 'hostcertd-ca.service'
const KEYS = '/etc/ssh/hostcertd/user-ca.pub'
const CONF = '/etc/hostcertd/conf.d/50-user-ca.yaml'

describeOnEachRelease('the CAs of user certificates', (release) => {
  test('are kept by root’s timer, confined, and who has a certificate of the new one logs in', async () => {
    await using host = await bootHost(release)
    const { container, issuer } = host
    await install(host, 'deb')
    expect(await unitProperty(container, TIMER, 'UnitFileState')).toBe('disabled')
    await container.sh('systemctl enable --now hostcertd-ca.timer')
    expect(await unitProperty(container, TIMER, 'ActiveState')).toBe('active')
    await container.write(CONF, 'user_ca: { install: true }\n')

    const ca = await generateKey(join(container.root, 'root/user-ca'), 'ed25519', '')
    const key = await generateKey(join(container.root, 'root/login'), 'ed25519', '')
    const certificate = await signCertificate({
      ca: join(container.root, 'root/user-ca'),
      publicKey: key,
      kind: 'user',
      principals: ['root'],
    })
    await container.write('/root/login-cert.pub', `${certificate}\n`)
    const logIn =
      'ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -i /root/login root@127.0.0.1 true'
    expect((await container.try(['sh', '-c', logIn])).status).not.toBe(0)

    await issuer.ask({ do: 'fail-always', fault: { status: 200, body: ca }, route: 'user-ca' })
    await container.run(['systemctl', 'start', SERVICE])
    expect(await container.run(['cat', KEYS])).toContain(ca)
    expect(await container.sh(`stat -c '%a %U %G' ${KEYS}`)).toBe('644 root root\n')
    expect((await container.try(['sh', '-c', logIn])).status).toBe(0)

    await issuer.ask({ do: 'fail-always', fault: { status: 200, body: '<html></html>' }, route: 'user-ca' })
    expect((await container.try(['hostcertd', 'ca', 'refresh', '--now'])).stderr).toContain('USER_CA_INVALID')
    expect((await container.try(['sh', '-c', logIn])).status).toBe(0)

    // Removing the package locks nobody out.
    await container.sh('apt-get remove --yes hostcertd')
    expect((await container.try(['sh', '-c', logIn])).status).toBe(0)
  })
})
