import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { tryCommand } from '../host/support/commands.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const FOLDER = resolve('systemd')
const UNITS = (await readdir(FOLDER)).filter((name) => /\.(?:service|socket|timer)$/.test(name))

test('there are units', () => {
  expect(UNITS).toEqual(expect.arrayContaining(['hostcertd.service', 'hostcertd-textfile.timer']))
})

test('systemd has nothing to say of the units', async () => {
  await using folder = await makeTemporaryFolder()
  // What they start is not installed here.
  for (const name of UNITS) {
    const text = await readFile(join(FOLDER, name), 'utf8')
    const installed = /\/usr\/lib\/hostcertd\/(?:bin\/node|[\w-]+)(?= |$)/gm
    await writeFile(join(folder.path, name), text.replaceAll(installed, '/bin/true'))
  }
  const paths = UNITS.map((name) => join(folder.path, name.replace('@.', '@probe.')))
  const verified = await tryCommand(['systemd-analyze', 'verify', '--man=no', ...paths])
  expect(verified).toMatchObject({ status: 0, stderr: '' })
})
