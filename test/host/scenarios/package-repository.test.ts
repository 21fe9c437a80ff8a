import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../../support/temporary-folder.ts'
import { command } from '../support/commands.ts'
import { stateOfHost } from '../support/enrolling.ts'
import { enrollOptions, installFromDebian, makeRepository, type Repository } from '../support/fleet.ts'
import { bootHost, type Host } from '../support/host.ts'
import { packages } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'
import { servedCertificates } from '../support/served.ts'
import { atTerminal } from '../support/terminal.ts'
import { startWebServer } from '../support/web-server.ts'

const TEN_MINUTES = 600_000

describeOnEachRelease('docs/installing.md', (release) => {
  test('Debian: what it says, and one line of enroll', { timeout: TEN_MINUTES }, async () => {
    await using folder = await makeTemporaryFolder()
    await using host = await bootHost(release)
    await installFromDebian(host, ['curl', 'gpg'])
    const repository = await makeRepository(host, folder.path)
    await using _server = await publish(host, repository, folder.path)

    const [fetching, showing, installing] = await follow(host, 'Debian and Ubuntu')
    expect([fetching, showing]).toEqual([
      expect.stringMatching(/^curl /),
      expect.stringMatching(/^gpg --show-keys/),
    ])
    const shown = await host.container.sh(`${fetching}\n${showing}`)
    expect(shown.replaceAll(' ', '')).toContain(repository.fingerprint)
    await host.container.sh(String(installing))
    await expectEnrolledAndBack(host)
  })

  test('Fedora and RHEL: what it says, and one line of enroll', { timeout: TEN_MINUTES }, async () => {
    await using folder = await makeTemporaryFolder()
    await using host = await bootHost(release)
    await installFromDebian(host, ['dnf'])
    await standInForDebian(host, folder.path)
    const repository = await makeRepository(host, folder.path)
    await using _server = await publish(host, repository, folder.path)

    const [installing] = await follow(host, 'Fedora and RHEL')
    const { status, stdout } = await atTerminal(host.container, String(installing), [
      ['Importing', 'y'],
      ['Installed size', 'y'],
      ['Downloading Packages', 'y'],
    ])
    expect(status, stdout).toBe(0)
    await expectEnrolledAndBack(host)
  })
})

/** As the addresses in the document have it. */
async function publish(host: Host, { key }: Repository, folder: string): Promise<AsyncDisposable> {
  const web = join(folder, 'web')
  await mkdir(web)
  await symlink(dirname(key), join(web, 'hostcertd'))
  return startWebServer(host, 'packages.example.com', web)
}

/** Write the files of a section of the document. @returns its commands, in order */
async function follow({ container }: Host, heading: string): Promise<readonly string[]> {
  const text = await readFile('docs/installing.md', 'utf8')
  const [section = ''] = text.split(`### ${heading}\n`)[1]?.split(/^##/m) ?? []
  for (const [, path = '', content = ''] of section.matchAll(/`(\/\S+)`:\n\n```\n([^]*?)^```$/gm))
    await container.write(path, content)
  return [...section.matchAll(/^# (.+)$/gm)].map(([, line = '']) => line)
}

/** dnf finds nothing of Debian in rpm's database, so a package without files provides all that the rpm requires. */
async function standInForDebian({ container }: Host, folder: string): Promise<void> {
  const required = (await command(['rpm', '--query', '--requires', '--package', packages().rpm])).split('\n')
  const provided = required
    .filter((one) => one !== '' && !one.startsWith('rpmlib('))
    .map((one) => one.replace('>=', '='))
  const spec = `Name: debian
Version: 1
Release: 1
Summary: What Debian has
License: none
BuildArch: noarch
${[...new Set(provided)].map((one) => `Provides: ${one}`).join('\n')}

%description
None.

%files
`
  await writeFile(join(folder, 'debian.spec'), spec)
  const build = ['rpmbuild', '-bb', '--define', `_topdir ${folder}/rpmbuild`, join(folder, 'debian.spec')]
  await command(build)
  await copyFile(
    join(folder, 'rpmbuild/RPMS/noarch/debian-1-1.noarch.rpm'),
    join(container.root, 'srv/debian.rpm'),
  )
  await container.run(['rpm', '--install', '/srv/debian.rpm'])
}

async function expectEnrolledAndBack(host: Host): Promise<void> {
  const { container, client } = host
  const before = await stateOfHost(host)
  const { options, secret: input } = await enrollOptions(host)
  const line = ['hostcertd', 'enroll', ...options, '--client-secret-file', '-']

  const enrolled = await container.run([...line, '--yes', '--json'], { input })
  const { known_hosts: knownHosts } = JSON.parse(enrolled) as { readonly known_hosts: string }
  await client.trust(knownHosts)
  expect(await client.verifyAll()).toEqual([])
  expect(await servedCertificates(host)).toHaveLength(3)
  expect(await container.try([...line, '--check'], { input })).toMatchObject({ status: 0 })
  expect(JSON.parse(await container.run([...line, '--yes', '--json'], { input }))).toMatchObject({
    changed: false,
    steps: [],
  })

  await container.run(['hostcertd', 'unenroll', '--yes'])
  expect(await stateOfHost(host)).toBe(before)
  expect(await servedCertificates(host)).toEqual([])
  expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
}
