import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { command } from '../host/support/commands.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const SCRIPT = resolve('systemd/import-credentials')
const UNITS = 'usr/lib/systemd/system'
const DROP_INS = [`${UNITS}/hostcertd-exchange@.service.d`, `${UNITS}/hostcertd-ephemeral.service.d`]

async function importCredentials(root: string, version: number, ...args: string[]): Promise<string> {
  const bin = join(root, 'bin')
  await mkdir(bin, { recursive: true })
  await writeFile(join(bin, 'systemctl'), `#!/bin/sh\necho 'systemd ${version} (test)'\n`, { mode: 0o755 })
  const env = { PATH: `${bin}:${process.env['PATH']}`, HOSTCERTD_ROOT: root }
  return await command(['sh', SCRIPT, ...args], { env })
}

test.each([
  { version: 252, line: 'LoadCredential=hostcertd_client-secret' },
  { version: 257, line: 'ImportCredential=hostcertd_*' },
])('systemd $version: $line; `remove` leaves nothing', async ({ version, line }) => {
  await using folder = await makeTemporaryFolder()
  const former = join(folder.path, UNITS, 'hostcertd.service.d')
  await mkdir(former, { recursive: true })
  await writeFile(join(former, 'credentials.conf'), 'of version 0.1')
  expect(await importCredentials(folder.path, version)).toBe('')
  for (const dropIn of DROP_INS)
    expect(await readFile(join(folder.path, dropIn, 'credentials.conf'), 'utf8')).toContain(`\n${line}\n`)
  expect(existsSync(former)).toBe(false)
  await importCredentials(folder.path, version, 'remove')
  for (const dropIn of DROP_INS) expect(existsSync(join(folder.path, dropIn))).toBe(false)
})

test("an administrator's drop-ins of hostcertd.service with credentials are named, and no others", async () => {
  await using folder = await makeTemporaryFolder()
  const own = '/etc/systemd/system/hostcertd.service.d'
  await mkdir(join(folder.path, own), { recursive: true })
  await writeFile(
    join(folder.path, own, 'a.conf'),
    '[Service]\nLoadCredential=hostcertd_client-secret:/root/s\n',
  )
  await writeFile(join(folder.path, own, 'b.conf'), '[Service]\n#LoadCredential=x\nNice=5\n')
  await writeFile(join(folder.path, own, 'c.conf'), '[Service]\n SetCredentialEncrypted = x:y\n')
  const said = await importCredentials(folder.path, 257)
  expect(said).toContain(`hostcertd: ${own}/a.conf sets credentials`)
  expect(said).toContain(`hostcertd: ${own}/c.conf sets credentials`)
  expect(said).not.toContain('b.conf')
  expect(said).toContain('hostcertd-exchange@.service')
})
