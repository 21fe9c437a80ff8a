import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { certAuthorityLine } from '../../agent/cert/known-hosts.ts'
import { readCaKeys } from '../../agent/host/pinned-cas.ts'
import { command, tryCommand } from '../host/support/commands.ts'
import { needsRoot } from '../support/skip.ts'
import { generateKey } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const PROGRAM = resolve('agent/main.ts')
const FIVE_MINUTES = 300_000
/** The play of docs/clients.md. */
const PLAY = /```yaml\n(- hosts: clients\n[^]*?)```/
  .exec(await readFile(resolve('docs/clients.md'), 'utf8'))?.[1]
  ?.replace('hosts: clients\n  become: true', 'hosts: localhost\n  connection: local\n  gather_facts: false')
  .replace('/etc/ssh/ssh_known_hosts', "'{{ path }}'")

test('what the role installs a file as, it removes again', async () => {
  const tasks = async (name: string): Promise<string> =>
    readFile(resolve(`packaging/fleet/ansible/roles/hostcertd/tasks/${name}.yml`), 'utf8')
  const written = [...(await tasks('install')).matchAll(/^ +dest: "?(.+?)"?$/gm)].flatMap(([, path = '']) =>
    path.includes('{{ hostcertd_package | splitext | last }}')
      ? ['.deb', '.rpm'].map((end) => path.replace(/\{\{.*\}\}/, end))
      : [path],
  )
  expect(written.length).toBeGreaterThan(4)
  const removed = [...(await tasks('remove')).matchAll(/^ +- (\/.+)$/gm)].map(([, path = '']) => path)
  expect(removed).toEqual(expect.arrayContaining(written))
})

describe('Ansible', needsRoot, () => {
  beforeAll(async () => command(['sh', resolve('test/support/ensure-tools.sh'), 'ansible']), FIVE_MINUTES)

  test(
    'known_hosts: CAs are added beside each other, once, and one is removed alone',
    async () => {
      await using folder = await makeTemporaryFolder()
      const at = (name: string): string => join(folder.path, name)
      for (const ca of ['old', 'new']) await generateKey(at(ca), 'ed25519', '')
      await writeFile(at('cas.pub'), await readFile(at('old.pub')))
      await configure(folder.path)
      await writeFile(at('play.yml'), PLAY ?? '')
      const other =
        '@cert-authority *.example.net ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPLoF0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
      await writeFile(at('known_hosts'), `${other}\n`)
      const play = async (...options: readonly string[]): Promise<number> => {
        const show = ['ca', 'show', '--format', 'ansible', '--hosts', '*.example.com']
        await writeFile(at('variables.yml'), await command(hostcertd(folder.path, show)))
        return changedBy(folder.path, options)
      }
      expect(await play()).toBe(1)
      expect(await play()).toBe(0)
      // A second CA of the same type is published before it signs.
      await writeFile(
        at('cas.pub'),
        `${await readFile(at('old.pub'), 'utf8')}${await readFile(at('new.pub'), 'utf8')}`,
      )
      expect(await play()).toBe(1)
      expect(await play()).toBe(0)
      const [oldCa, newCa] = await readCaKeys(at('cas.pub'))
      const lines = async (): Promise<string[]> =>
        (await readFile(at('known_hosts'), 'utf8'))
          .trim()
          .split('\n')
          .map((line) => line.replace(/,host-ca-\w+\.invalid/, ''))
      const [oldLine, newLine] = [oldCa, newCa].map((ca) => ca && certAuthorityLine(['*.example.com'], ca))
      expect(await lines()).toEqual([other, oldLine, newLine])
      // The old one is no longer pinned.
      await writeFile(at('cas.pub'), await readFile(at('old.pub')))
      expect(await play('--extra-vars', 'state=absent')).toBe(1)
      expect(await lines()).toEqual([other, newLine])
    },
    FIVE_MINUTES,
  )

  test(
    'the local fact is the status document, and Facter gets the same',
    async () => {
      await using folder = await makeTemporaryFolder()
      const at = (name: string): string => join(folder.path, name)
      await generateKey(at('ca'), 'ed25519', '')
      await copyFile(at('ca.pub'), at('cas.pub'))
      await configure(folder.path)
      for (const name of ['bin', 'facts.d']) await mkdir(at(name))
      const program = hostcertd(folder.path, []).map((word) => `'${word}'`)
      await writeFile(at('bin/hostcertd'), `#!/bin/sh\nexec ${program.join(' ')} "$@"\n`)
      await chmod(at('bin/hostcertd'), 0o755)
      await copyFile(resolve('packaging/fleet/facts/hostcertd.fact'), at('facts.d/hostcertd.fact'))
      const env = environmentOf(folder.path, `${at('bin')}:${process.env['PATH']}`)
      const setup = [
        'ansible',
        'localhost',
        '--module-name',
        'setup',
        '--args',
        `gather_subset=!all,!min,local fact_path=${at('facts.d')}`,
      ]
      const said = await command(setup, { env })
      const { ansible_facts } = JSON.parse(said.slice(said.indexOf('{'))) as {
        ansible_facts: { ansible_local: { hostcertd: unknown } }
      }
      expect(ansible_facts.ansible_local.hostcertd).toMatchObject({ enrolled: true, certificates: [] })

      const facter = resolve('packaging/fleet/facts/hostcertd.sh')
      const external = JSON.parse(await command([facter], { env })) as unknown
      expect(external).toEqual({ hostcertd: ansible_facts.ansible_local.hostcertd })
      // Without hostcertd there is no fact, and it says why.
      const without = await tryCommand([facter], { env: environmentOf(folder.path, '/bin:/usr/bin') })
      expect(without).toMatchObject({ status: 127, stdout: '' })
      expect(without.stderr).toContain('hostcertd')
    },
    FIVE_MINUTES,
  )
})

/** From the sources, for the bundle is built at the same time by another test. */
function hostcertd(folder: string, args: readonly string[]): string[] {
  return ['env', `HOSTCERTD_CONFIG=${join(folder, 'hostcertd.yaml')}`, process.execPath, PROGRAM, ...args]
}

async function configure(folder: string): Promise<void> {
  const config = {
    issuer: { url: 'http://127.0.0.1:1', ssh_host_id: '8c1efcfc-434c-4c43-80e3-53c9eae6672a' },
    auth: { method: 'token', token_file: join(folder, 'token') },
    host_keys: join(folder, 'ssh_host_*_key.pub'),
    certificates: { directory: join(folder, 'certs') },
    verify: { host_ca_file: join(folder, 'cas.pub') },
    sshd: { address: 'none', reload: 'never' },
    health: { listen: 'none' },
    state_directory: join(folder, 'state'),
  }
  await writeFile(join(folder, 'hostcertd.yaml'), JSON.stringify(config))
}

/** Runs the play and returns how many of its tasks changed something. @throws when one failed */
async function changedBy(folder: string, options: readonly string[]): Promise<number> {
  const at = (name: string): string => join(folder, name)
  const variables = ['--extra-vars', `@${at('variables.yml')}`, '--extra-vars', `path=${at('known_hosts')}`]
  const argv = ['ansible-playbook', '--inventory', 'localhost,', ...variables, ...options, at('play.yml')]
  const output = await command(argv, { env: environmentOf(folder, process.env['PATH'] ?? '') })
  const [, changed] = /changed=(\d+) +unreachable=0 +failed=0/.exec(output) ?? []
  if (changed === undefined) throw new Error(output)
  return Number(changed)
}

function environmentOf(folder: string, path: string): NodeJS.ProcessEnv {
  return {
    PATH: path,
    LC_ALL: 'C.UTF-8',
    HOME: folder,
    ANSIBLE_PYTHON_INTERPRETER: '/usr/bin/python3',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_LOCALHOST_WARNING: 'false',
  }
}
