import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { eventually } from '../support/eventually.ts'
import { enrollOptions, installFromDebian, makeRepository } from '../support/fleet.ts'
import { bootHost } from '../support/host.ts'
import { describeOnEachRelease } from '../support/releases.ts'

const TEN_MINUTES = 600_000
const FOLDER = resolve('packaging/fleet/cloud-init')

describeOnEachRelease('cloud-init', (release) => {
  test(
    'its own check accepts all user data, and a host boots with it as a member',
    { timeout: TEN_MINUTES },
    async () => {
      await using folder = await makeTemporaryFolder()
      await using host = await bootHost(release)
      const { container, client } = host
      await installFromDebian(host, ['cloud-init'])
      for (const name of await readdir(FOLDER)) {
        await container.write(`/srv/${name}`, await readFile(join(FOLDER, name), 'utf8'))
        const check = await container.try(['cloud-init', 'schema', '--config-file', `/srv/${name}`])
        expect(check, name).toMatchObject({ status: 0, stdout: expect.stringMatching(/^Valid/) })
      }
      await container.write('/srv/bad.yaml', '#cloud-config\nruncmd: 1\n')
      expect(await container.try(['cloud-init', 'schema', '--config-file', '/srv/bad.yaml'])).toMatchObject({
        status: 1,
      })

      const repository = await makeRepository(host, folder.path)
      const { options, secret } = await enrollOptions(host)
      const userData = (await readFile(join(FOLDER, 'universal-auth.yaml'), 'utf8'))
        .replace(
          /^ {6}-----BEGIN PGP[^]*?-----END PGP PUBLIC KEY BLOCK-----$/m,
          indented(await readFile(repository.key, 'utf8')),
        )
        .replaceAll('https://packages.example.com/hostcertd', repository.url)
        .replace('(the secret)', secret)
        .replace(
          /^ {4}- --url=[^]*?(?= {4}- --client-secret-file)/m,
          options.map((option) => `    - ${option}\n`).join(''),
        )
      const seed = join(container.root, 'var/lib/cloud/seed/nocloud')
      await mkdir(seed, { recursive: true })
      await writeFile(join(seed, 'user-data'), userData)
      // No locale is there to be set; host keys and root's login stay.
      await writeFile(
        join(seed, 'vendor-data'),
        '#cloud-config\nlocale: false\nssh_deletekeys: false\ndisable_root: false\n',
      )
      await writeFile(join(seed, 'meta-data'), 'instance-id: test-1\nlocal-hostname: web1\n')
      await container.write(
        '/etc/cloud/cloud.cfg.d/99-test.cfg',
        'datasource_list: [NoCloud]\nnetwork: {config: disabled}\n',
      )
      // There is no network but to the issuer.
      await container.sh('rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*')

      await container.powerOff()
      await container.startBooting()
      const done = await eventually('cloud-init is done', 180_000, async () => {
        const { stdout } = await container.try(['cloud-init', 'status'])
        return /status: (done|error)/.exec(stdout)?.[1]
      })
      const output = await readFile(join(container.root, 'var/log/cloud-init-output.log'), 'utf8')
      expect(done, output).toBe('done')
      expect(await client.verifyAll(), output).toEqual([])
      expect(output).not.toContain(secret)
      expect(await container.try(['test', '-e', '/run/hostcertd-secret'])).toMatchObject({ status: 1 })
    },
  )
})

function indented(text: string): string {
  return text.trimEnd().replace(/^/gm, '      ')
}
