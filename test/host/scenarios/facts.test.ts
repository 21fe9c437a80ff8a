import { copyFile, mkdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { command, tryCommand } from '../support/commands.ts'
import { installFromDebian, isInDebian } from '../support/fleet.ts'
import type { Host } from '../support/host.ts'
import { bootEnrolledHost } from '../support/installed-host.ts'
import { outside } from '../support/network.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { readStatus } from '../support/status.ts'

/** As the README of packaging/fleet has it. */
const FACTS = {
  'hostcertd.fact': '/etc/ansible/facts.d',
  'hostcertd.sh': '/etc/facter/facts.d',
} as const

describeOnEachRelease('facts of an enrolled host', (release) => {
  test('Facter and Ansible have the document of `hostcertd status --json`', async (context) => {
    context.skip(!(await isInDebian(release, 'facter')), `${release.title} has no package facter`)
    await using host = await bootEnrolledHost(release)
    const { container } = host
    await installFromDebian(host, ['facter', 'python3'])
    for (const [name, folder] of Object.entries(FACTS)) {
      await container.run(['install', '-d', folder])
      await copyFile(resolve('packaging/fleet/facts', name), join(container.root, 'srv', name))
      await container.run(['install', '-m', '0755', `/srv/${name}`, folder])
    }
    const status = await readStatus(container)
    expect(status.certificates.map(({ state }) => state)).toContain('valid')

    console.log(`${release.title}: Facter ${await container.run(['facter', '--version'])}`)
    const facter = await container.try(['facter', '--json', 'hostcertd'])
    expect(facter).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse(facter.stdout)).toEqual({ hostcertd: status })
    const one = ['facter', 'hostcertd.certificates.0.host_key']
    expect(await container.run(one)).toBe(`${status.certificates[0]?.host_key}\n`)

    expect(await localFacts(host)).toEqual({ hostcertd: status })

    // A host where hostcertd fails has no fact for Facter, and the reason in its place for Ansible.
    await container.run(['chmod', '0', '/usr/bin/hostcertd'])
    const without = await container.try(['facter', '--json', 'hostcertd'])
    expect(JSON.parse(without.stdout)).toEqual({ hostcertd: null })
    expect(without.stderr).toContain('hostcertd')
    const { hostcertd: reason } = (await localFacts(host)) as { hostcertd: unknown }
    expect(reason).toMatch(/error|fail/i)
  })
})

/** `ansible_local`, which Ansible's setup module gathers over SSH. */
async function localFacts({ container, network }: Host): Promise<unknown> {
  await command(['sh', resolve('test/support/ensure-tools.sh'), 'ansible'])
  const folder = dirname(container.root)
  const home = join(folder, 'ansible')
  await mkdir(home, { recursive: true })
  const env = {
    ...process.env,
    LC_ALL: 'C.UTF-8',
    HOME: home,
    ANSIBLE_PYTHON_INTERPRETER: '/usr/bin/python3',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_SSH_ARGS: `-F none -i ${join(folder, 'client/id')} -o ControlMaster=no -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null`,
  }
  const setup = ['--module-name', 'setup', '--args', 'gather_subset=!all,!min,local']
  const argv = ['ansible', 'all', '--inventory', `${network.hostAddress},`, '--user', 'root', ...setup]
  const { stdout, stderr } = await tryCommand([...outside(network), ...argv], { env })
  if (!stdout.includes('{')) throw new Error(stdout + stderr)
  const { ansible_facts: facts } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
    ansible_facts: { ansible_local: unknown }
  }
  return facts.ansible_local
}
