import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { bootHost, type Host } from './support/host.ts'
import { enrolByHand, install, packages, untilServed } from './support/installed-host.ts'
import { takeInventory } from './support/inventory.ts'
import { makeNextVersion } from './support/next-version.ts'
import { describeOnEachRelease } from './support/releases.ts'
import { servedCertificates } from './support/served.ts'
import { unitProperty } from './support/status.ts'

const UNIT = 'hostcertd.service'

describeOnEachRelease('the life of the package', (release) => {
  test('upgrade and downgrade while running, remove, reinstall, purge without a trace', async () => {
    await using folder = await makeTemporaryFolder()
    await using host = await bootHost(release)
    const { container, client, issuer } = host
    const next = await makeNextVersion(packages().deb, folder.path)
    const bare = await takeInventory(container)
    await install(host, 'deb')
    await enrolByHand(host)
    await untilServed(host)
    const signed = await issuer.ask({ do: 'count' })
    const served = await servedCertificates(host)

    const version = await versionOf(host)
    for (const [file, want] of [
      [next, `${version}+next`],
      [packages().deb, version],
    ] as const) {
      const pid = await unitProperty(container, UNIT, 'MainPID')
      const failures = await logInWhile(host, () => install(host, 'deb', file))
      expect(failures).toEqual([])
      expect(await versionOf(host)).toBe(want)
      expect(await unitProperty(container, UNIT, 'ActiveState')).toBe('active')
      expect(await unitProperty(container, UNIT, 'MainPID')).not.toBe(pid)
      expect(await unitProperty(container, UNIT, 'NRestarts')).toBe('0')
      await untilServed(host)
    }
    expect(await servedCertificates(host)).toEqual(served)
    expect(await issuer.ask({ do: 'count' })).toBe(signed)

    await container.run(['apt-get', 'remove', '--yes', 'hostcertd'])
    expect(await container.run(['sshd', '-T'])).toBe(bare.sshd)
    expect(await servedCertificates(host)).toEqual([])
    expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
    expect((await container.try(['test', '-e', '/etc/ssh/hostcertd'])).status).toBe(1)
    // The administrator's configuration and the state stay, for a reinstall.
    await container.run(['test', '-s', '/etc/hostcertd/hostcertd.yaml'])
    await install(host, 'deb')
    await untilServed(host)
    expect(await client.verifyAll()).toEqual([])

    // Purge takes what the package knows of; what an administrator wrote by hand goes with the folder.
    await container.run(['apt-get', 'purge', '--yes', 'hostcertd'])
    expect(difference(bare.files, (await takeInventory(container)).files)).toEqual([])
    expect(await takeInventory(container)).toEqual(bare)
    expect((await container.try(['systemctl', '--failed', '--no-legend'])).stdout).toBe('')
    expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
    await container.run(['id', 'hostcertd'])

    await install(host, 'deb')
    await enrolByHand(host)
    await untilServed(host)
    expect(await client.verifyAll()).toEqual([])
  })

  test("an upgrade keeps the administrator's word: stopped, disabled, masked", async () => {
    await using folder = await makeTemporaryFolder()
    await using host = await bootHost(release)
    const { container } = host
    const next = await makeNextVersion(packages().deb, folder.path)
    await install(host, 'deb')
    for (const [word, file] of [
      ['disable', next],
      ['mask', packages().deb],
    ] as const) {
      await container.run(['systemctl', word, '--now', UNIT])
      await install(host, 'deb', file)
      expect(await unitProperty(container, UNIT, 'UnitFileState')).toBe(`${word.replace(/e$/, '')}ed`)
      expect(await unitProperty(container, UNIT, 'ActiveState')).toBe('inactive')
    }
  })
})

/** Log in again and again, by the certificate alone, while something is done. @returns what ssh said of failures */
async function logInWhile({ client }: Host, work: () => Promise<unknown>): Promise<readonly string[]> {
  const failures: string[] = []
  const over = new AbortController()
  const done = work().finally(() => over.abort())
  while (!over.signal.aborted) {
    const { stdout, stderr } = await client.logIn('ssh-ed25519')
    if (stdout !== 'hello\n') failures.push(stderr)
  }
  await done
  return failures
}

async function versionOf({ container }: Host): Promise<string> {
  return await container.run(['dpkg-query', '--show', '--showformat=${Version}', 'hostcertd'])
}

function difference(before: readonly string[], after: readonly string[]): readonly string[] {
  const [old, now] = [new Set(before), new Set(after)]
  return [
    ...after.filter((line) => !old.has(line)),
    ...before.filter((line) => !now.has(line)).map((l) => `gone: ${l}`),
  ]
}
