import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'
import { bootHost, type Host } from './support/host.ts'
import { enrolByHand, install, packages, untilServed } from './support/installed-host.ts'
import { takeInventory } from './support/inventory.ts'
import { makeNextRpm, makeNextVersion, NEXT_RPM_VERSION } from './support/next-version.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT, TRIXIE, type Release } from './support/releases.ts'
import { servedCertificates } from './support/served.ts'
import { unitProperty } from './support/status.ts'

const UNIT = 'hostcertd.service'

describeOnEachRelease(
  'the life of the package',
  (release) => {
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

    test("an upgrade keeps the administrator's word: disabled, masked; what is only stopped is started", async () => {
      await using folder = await makeTemporaryFolder()
      await using host = await bootHost(release)
      const { container } = host
      const next = await makeNextVersion(packages().deb, folder.path)
      await install(host, 'deb')
      for (const [words, file, state, active] of [
        // Debian's custom: who wants it to stay down disables it.
        [['stop'], next, 'enabled', 'active'],
        [['disable', '--now'], packages().deb, 'disabled', 'inactive'],
        [['mask', '--now'], next, 'masked', 'inactive'],
      ] as const) {
        await container.run(['systemctl', ...words, UNIT])
        await install(host, 'deb', file)
        expect([words, await unitProperty(container, UNIT, 'UnitFileState')]).toEqual([words, state])
        expect([words, await unitProperty(container, UNIT, 'ActiveState')]).toEqual([words, active])
      }
    })
  },
  ONE_BY_DEFAULT,
)

// The scriptlets are shell of our own, and the same everywhere.
const tryLifeOfRpm = (release: Release) => {
  test(
    'upgrade, downgrade, stopped, disabled, masked, erased, installed again',
    { timeout: 600_000 },
    async () => {
      await using folder = await makeTemporaryFolder()
      const next = await makeNextRpm(folder.path)
      await using host = await bootHost(release)
      const { container, client, issuer } = host
      const bare = await takeInventory(container)
      await install(host, 'rpm')
      // By the presets of this distribution.
      expect(await stateOf(host)).toBe('enabled active')
      await enrolByHand(host)
      await untilServed(host)
      const signed = await issuer.ask({ do: 'count' })
      const served = await servedCertificates(host)
      const upgradeTo = (file: string) => upgradeRpm(host, file)

      for (const [file, want] of [
        [next, NEXT_RPM_VERSION],
        [packages().rpm, await versionOfRpm(host)],
      ] as const) {
        const pid = await unitProperty(container, UNIT, 'MainPID')
        expect(await logInWhile(host, () => upgradeTo(file))).toEqual([])
        expect(await versionOfRpm(host)).toBe(want)
        expect(await stateOf(host)).toBe('enabled active')
        expect(await unitProperty(container, UNIT, 'MainPID')).not.toBe(pid)
        expect(await unitProperty(container, UNIT, 'NRestarts')).toBe('0')
        await untilServed(host)
      }
      expect(await servedCertificates(host)).toEqual(served)
      expect(await issuer.ask({ do: 'count' })).toBe(signed)

      for (const [words, file, want] of [
        [['stop'], next, 'enabled inactive'],
        [['disable'], packages().rpm, 'disabled inactive'],
        [['mask'], next, 'masked inactive'],
      ] as const) {
        await container.run(['systemctl', ...words, UNIT])
        await upgradeTo(file)
        expect([words, await stateOf(host)]).toEqual([words, want])
      }
      await container.sh(`systemctl unmask ${UNIT}; systemctl enable --now ${UNIT}`)
      await untilServed(host)

      await container.run(['rpm', '--erase', 'hostcertd'])
      const { files, units, sshd } = await takeInventory(container)
      expect({ units, sshd }).toEqual({ units: bare.units, sshd: bare.sshd })
      const left = difference(bare.files, files).map((line) => line.replace(/\t.*/, ''))
      // The administrator's configuration and the state, for `rpm` has no purge; its own database; and what is part of
      // the file system where rpm is at home.
      const expected = /^\/(?:(?:etc|var\/lib)\/hostcertd|var\/lib\/rpm|usr\/share\/licenses$)(?:\/|$)/
      expect(left.filter((path) => !expected.test(path))).toEqual([])
      expect(left).toEqual(
        expect.arrayContaining(['/etc/hostcertd/hostcertd.yaml', '/var/lib/hostcertd/certs']),
      )
      expect(await servedCertificates(host)).toEqual([])
      expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
      expect((await container.try(['systemctl', '--failed', '--no-legend'])).stdout).toBe('')
      await container.run(['id', 'hostcertd'])

      await container.write('/etc/systemd/system-preset/00-site.preset', 'disable hostcertd.service\n')
      await install(host, 'rpm')
      expect(await stateOf(host)).toBe('disabled inactive')
      await container.run(['systemctl', 'enable', '--now', UNIT])
      await untilServed(host)
      expect(await client.verifyAll()).toEqual([])
    },
  )
}
describeOnEachRelease('the life of the rpm', tryLifeOfRpm, [TRIXIE])

async function stateOf({ container }: Host): Promise<string> {
  const [file, active] = [
    await unitProperty(container, UNIT, 'UnitFileState'),
    await unitProperty(container, UNIT, 'ActiveState'),
  ]
  return `${file} ${active}`
}

async function upgradeRpm({ container }: Host, file: string): Promise<void> {
  const inside = '/srv/upgrade.rpm'
  await copyFile(file, join(container.root, inside))
  await container.run(['rpm', '--upgrade', '--oldpackage', '--nodeps', inside])
}

async function versionOfRpm({ container }: Host): Promise<string> {
  return await container.run(['rpm', '--query', '--queryformat', '%{VERSION}', 'hostcertd'])
}

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
