import { expect, test } from 'vitest'
import { askHelper } from './support/helper.ts'
import { sharedEnrolledHost } from './support/installed-host.ts'
import { describeOnEachRelease } from './support/releases.ts'
import { tryInSandbox } from './support/sandbox.ts'
import { unitProperty } from './support/status.ts'

/** As `systemd-analyze security` has it, 0 to 10. */
const MOST_EXPOSED = 1.5

describeOnEachRelease('the agent of an installed host', (release) => {
  const shared = sharedEnrolledHost(release)

  test('is not root and has no capabilities', async () => {
    const { container } = shared()
    const pid = await unitProperty(container, 'hostcertd.service', 'MainPID')
    const status = await container.run(['cat', `/proc/${pid}/status`])
    const uid = (await container.run(['id', '-u', 'hostcertd'])).trim()
    expect(uid).not.toBe('0')
    expect(fieldOf(status, 'Uid')).toBe([uid, uid, uid, uid].join('\t'))
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(`${set} ${fieldOf(status, set)}`).toBe(`${set} 0000000000000000`)
    }
    expect(fieldOf(status, 'NoNewPrivs')).toBe('1')
    // 2: a filter of system calls.
    expect(fieldOf(status, 'Seccomp')).toBe('2')
  })

  test.each([
    '/etc/ssh/ssh_host_ed25519_key',
    '/etc/ssh/ssh_host_rsa_key',
    '/etc/ssh/ssh_host_ecdsa_key',
    '/etc/shadow',
    '/etc/hostcertd/credentials/client-secret',
    '/root/.ssh/authorized_keys',
  ])('cannot read %s', async (path) => {
    const { container } = shared()
    await container.run(['test', '-s', path])
    expect(await tryInSandbox(container, `cat ${path} >/dev/null`)).toMatchObject({ done: false })
  })

  test.each([
    '/etc/probe',
    '/etc/ssh/probe',
    '/etc/ssh/sshd_config.d/99-probe.conf',
    '/etc/ssh/hostcertd/probe-cert.pub',
    '/etc/hostcertd/probe',
    '/etc/systemd/system/probe.service',
    '/run/probe',
    '/usr/lib/hostcertd/probe',
    '/var/lib/probe',
    '/var/log/probe',
    '/home/probe',
    '/root/probe',
    '/srv/probe',
    '/dev/shm/probe',
  ])('cannot write %s', async (path) => {
    expect(await tryInSandbox(shared().container, `echo probe >${path}`)).toMatchObject({ done: false })
  })

  test.each(['/var/lib/hostcertd/probe', '/run/hostcertd/probe'])('can write %s, its own', async (path) => {
    expect(await tryInSandbox(shared().container, `echo probe >${path} && rm ${path}`)).toMatchObject({
      done: true,
    })
  })

  test.each(['hostcertd.service', 'hostcertd-reload@probe.service'])(
    'systemd rates %s 1.5 or better',
    async (unit) => {
      const said = await shared().container.run(['systemd-analyze', 'security', '--no-pager', unit])
      const [, exposure] = /Overall exposure level for .*: ([\d.]+)/.exec(said) ?? []
      console.log(`${release.title}: ${unit}: exposure ${exposure}`)
      expect(Number(exposure)).toBeLessThanOrEqual(MOST_EXPOSED)
    },
  )

  test('alone among users may talk to the root helper', async () => {
    const { container } = shared()
    await container.run(['useradd', 'mallory'])
    for (const user of ['mallory', 'nobody', 'sshd']) {
      expect(await askHelper(container, user, 'reload\n')).toMatchObject({
        status: 1,
        stdout: '',
        stderr: 'EACCES\n',
      })
    }
    expect(await askHelper(container, 'hostcertd', 'reload\n')).toMatchObject({ status: 0, stderr: '' })
    await container.run(['userdel', 'mallory'])
  })
})

function fieldOf(status: string, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? 'missing'
}
