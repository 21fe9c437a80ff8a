import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { command, tryCommand } from '../support/commands.ts'
import { enrollOptions, installFromDebian, makeRepository } from '../support/fleet.ts'
import { bootHost, type Host } from '../support/host.ts'
import { packages } from '../support/installed-host.ts'
import { outside } from '../support/network.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { servedCertificates } from '../support/served.ts'

/** A dozen plays, each of many steps over SSH. */
const TWENTY_MINUTES = 1_200_000
const NO_REPOSITORY = { hostcertd_repository: '', hostcertd_repository_key: '' }

describeOnEachRelease('the Ansible role', (release) => {
  test(
    'installs and enrolls over SSH, changes nothing the second time, takes all back',
    { timeout: TWENTY_MINUTES },
    async () => {
      await using folder = await makeTemporaryFolder()
      await using host = await bootHost(release)
      // What Ansible itself needs on a host.
      await installFromDebian(host, ['python3', 'python3-apt'])
      const repository = await makeRepository(host, folder.path)
      const { options, secret } = await enrollOptions(host)
      const play = await playbook(host, folder.path, {
        hostcertd_repository: repository.url,
        hostcertd_repository_key: repository.key,
        hostcertd_enroll_options: [...options, '--client-secret-file=-'],
        hostcertd_secret: secret,
      })

      // Nothing is installed yet, so there is nothing to ask.
      const planned = await play('--check')
      expect(planned.failed, planned.output).toBe(0)
      expect(planned.changed).toBeGreaterThan(0)
      expect(
        await host.container.try(['test', '-e', '/etc/apt/sources.list.d/hostcertd.sources']),
      ).toMatchObject({ status: 1 })

      const first = await play()
      expect(first.failed, first.output).toBe(0)
      expect(first.changed).toBeGreaterThan(0)
      expect(await host.client.verifyAll()).toEqual([])
      expect(await play()).toMatchObject({ failed: 0, changed: 0 })
      expect(await play('--check')).toMatchObject({ failed: 0, changed: 0 })

      const other = await play(
        '--check',
        '--extra-vars',
        JSON.stringify({
          hostcertd_enroll_options: [...options, '--client-secret-file=-', '--on-copy=stop'],
        }),
      )
      expect(other).toMatchObject({ failed: 0, changed: 1 })

      const refused = await play('--extra-vars', JSON.stringify({ hostcertd_secret: 'not-the-secret' }))
      expect(refused).toMatchObject({ failed: 1 })
      expect(refused.output).toContain('refused the client id or secret')
      expect(await host.client.verifyAll()).toEqual([])

      const absent = ['--extra-vars', 'hostcertd_state=absent']
      expect((await play('--check', ...absent)).changed).toBeGreaterThan(0)
      expect(await servedCertificates(host)).toHaveLength(3)
      expect(await play(...absent)).toMatchObject({ failed: 0 })
      expect(await servedCertificates(host)).toEqual([])
      expect(await host.container.try(['test', '-e', '/usr/bin/hostcertd'])).toMatchObject({ status: 1 })
      expect(await play(...absent)).toMatchObject({ failed: 0, changed: 0 })

      const fromFile = [
        '--extra-vars',
        JSON.stringify({ ...NO_REPOSITORY, hostcertd_package: packages().deb }),
      ]
      expect(await play(...fromFile)).toMatchObject({ failed: 0 })
      expect(await host.client.verifyAll()).toEqual([])
      expect(await play(...fromFile)).toMatchObject({ failed: 0, changed: 0 })
      expect(await play(...fromFile, ...absent)).toMatchObject({ failed: 0 })
      expect(await host.container.sh('ls /var/cache')).not.toContain('hostcertd')
      for (const { output } of [planned, first, refused]) expect(output).not.toContain(secret)
      expect(await host.container.run(['journalctl', '--no-pager'])).not.toContain(secret)
    },
  )
})

describeOnEachRelease('bootstrap.sh', (release) => {
  test(
    'adds the repository, installs and enrolls a host that has nothing; a key with another fingerprint is refused',
    { timeout: TWENTY_MINUTES },
    async () => {
      await using folder = await makeTemporaryFolder()
      await using host = await bootHost(release)
      await installFromDebian(host, ['gpg'])
      const { container, client } = host
      const repository = await makeRepository(host, folder.path)
      const { options, secret } = await enrollOptions(host)
      await command(['cp', 'packaging/fleet/bootstrap.sh', join(container.root, 'srv')])
      const run = async (fingerprint: string) => {
        const own = ['--repository', repository.url, '--key-fingerprint', fingerprint]
        const argv = ['sh', '/srv/bootstrap.sh', ...own, '--', ...options, '--client-secret-file', '-']
        return container.try(argv, { input: secret })
      }

      expect(await run('0'.repeat(40))).toMatchObject({
        status: 65,
        stderr: expect.stringContaining(`is ${repository.fingerprint}, not 000`),
      })
      expect(await container.try(['test', '-e', '/etc/apt/keyrings/hostcertd.asc'])).toMatchObject({
        status: 1,
      })
      const first = await run(repository.fingerprint)
      expect(first, first.stderr).toMatchObject({ status: 0 })
      expect(await client.verifyAll()).toEqual([])
      expect(await run(repository.fingerprint)).toMatchObject({
        status: 0,
        stderr: expect.stringContaining('nothing changed'),
      })
    },
  )
})

interface Play {
  readonly changed: number
  readonly failed: number
  readonly output: string
}

/** A playbook with the role alone, run from the machine that the client is. */
async function playbook({ container, network }: Host, folder: string, variables: object) {
  await command(['sh', resolve('test/support/ensure-tools.sh'), 'ansible'])
  const key = join(dirname(container.root), 'client', 'id')
  const home = join(folder, 'ansible')
  await mkdir(home)
  const [inventory, file, secrets] = ['inventory', 'play.yml', 'variables.json'].map((name) =>
    join(home, name),
  ) as [string, string, string]
  await writeFile(
    inventory,
    `web1 ansible_host=${network.hostAddress} ansible_user=root ansible_ssh_private_key_file=${key}\n`,
  )
  await writeFile(file, '- hosts: all\n  roles: [hostcertd]\n')
  await writeFile(secrets, JSON.stringify(variables), { mode: 0o600 })
  const env = {
    ...process.env,
    LC_ALL: 'C.UTF-8',
    HOME: home,
    ANSIBLE_ROLES_PATH: resolve('packaging/fleet/ansible/roles'),
    ANSIBLE_PYTHON_INTERPRETER: '/usr/bin/python3',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_PIPELINING: '1',
    // No connection stays open after the play.
    ANSIBLE_SSH_ARGS:
      '-F none -o ControlMaster=no -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null',
  }
  return async (...options: string[]): Promise<Play> => {
    const argv = [
      'ansible-playbook',
      '-v',
      '--inventory',
      inventory,
      '--extra-vars',
      `@${secrets}`,
      ...options,
      file,
    ]
    const { stdout, stderr } = await tryCommand([...outside(network), ...argv], {
      env,
      timeout: TWENTY_MINUTES,
    })
    const output = stdout + stderr
    const recap = /ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+)/.exec(output)
    if (recap === null) throw new Error(output)
    return { changed: Number(recap[1]), failed: Number(recap[2]), output }
  }
}
