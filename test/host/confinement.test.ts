import { expect, test } from 'vitest'
import { askHelper } from './support/helper.ts'
import { sharedEnrolledHost } from './support/installed-host.ts'
import { describeOnEachRelease } from './support/releases.ts'
import { ALLOWED, FORBIDDEN } from './support/sandbox-probes.ts'
import { MOST_EXPOSED, NEEDED_CALLS, NO_SANDBOX, REFUSED_CALLS, SANDBOX } from './support/sandbox-settings.ts'
import { CONFINED, tryAsRoot, tryInSandbox } from './support/sandbox.ts'
import { unitProperty } from './support/status.ts'

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

  test.each(CONFINED)('%s: each line of its sandbox is there, and understood', async (unit) => {
    const { container } = shared()
    const want = SANDBOX[unit]
    const properties = Object.keys(want).join()
    const said = await container.run(['systemctl', 'show', `--property=${properties}`, unit])
    const settings = said.split('\n').flatMap((line) => {
      const [, name = '', setting = ''] = /^(\w+)=(.*)$/.exec(line) ?? []
      return name === '' ? [] : [[name, wordsOf(setting)] as const]
    })
    const wanted = Object.entries(want).map(([name, setting]) => [name, wordsOf(setting)] as const)
    expect(Object.fromEntries(settings)).toEqual(Object.fromEntries(wanted))
    const calls = (await unitProperty(container, unit, 'SystemCallFilter')).split(' ')
    expect(calls).toContain('execve')
    expect(calls.filter((call) => REFUSED_CALLS.includes(call))).toEqual(NEEDED_CALLS[unit] ?? [])
    // Whoever adds a line to the unit adds it here too.
    const file = await container.run(['cat', await unitProperty(container, unit, 'FragmentPath')])
    const written = [...file.replace(/^[^]*\[Service\]/, '').matchAll(/^(\w+)=/gm)].map(
      ([, name = '']) => name,
    )
    expect(written.filter((name) => !(name in want) && !NO_SANDBOX.has(name) && name !== 'WantedBy')).toEqual(
      [],
    )
  })

  test.each(CONFINED)('%s can do its work, and none of what root can do elsewhere', async (unit) => {
    const { container } = shared()
    await container.sh('echo >/tmp/of-root')
    const [forbidden, allowed] = [FORBIDDEN[unit], ALLOWED[unit]]
    // A probe that fails for another reason than the sandbox would prove nothing.
    expect(await tryAsRoot(container, forbidden)).toEqual(Object.keys(forbidden))
    const done = await tryInSandbox(container, unit, { ...forbidden, ...allowed })
    expect(done).toEqual(Object.keys(allowed))
  })

  test.each(CONFINED)('systemd rates the exposure of %s as low as it was', async (unit) => {
    const said = await shared().container.run(['systemd-analyze', 'security', '--no-pager', unit])
    const [, exposure] = /Overall exposure level for .*: ([\d.]+)/.exec(said) ?? []
    console.log(`${release.title}: ${unit}: exposure ${exposure}`)
    expect(Number(exposure)).toBeLessThanOrEqual(MOST_EXPOSED[unit])
  })

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

/** Of lists of folders and the like, which newer systemd sorts. */
function wordsOf(setting: string): readonly string[] {
  return setting.split(' ').toSorted()
}

function fieldOf(status: string, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? 'missing'
}
