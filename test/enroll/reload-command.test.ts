import * as fs from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { BY_HAND } from '../../agent/enroll/perform.ts'
import { reloadConfiguredSshd, reloadUnlessByHand } from '../../agent/enroll/reload.ts'
import { needsRoot } from '../support/skip.ts'

/** Not in a folder in which everybody may write, as /tmp is. */
let folder = ''
const at = (...names: string[]): string => join(folder, ...names)
const reload = async () => reloadConfiguredSshd(new AbortController().signal, at('hostcertd.yaml'))
const command = (...argv: readonly string[]): string =>
  `sshd:\n  reload_command: ${JSON.stringify(argv)}\nno_such_setting: 1\n`
beforeEach(async () => {
  folder = await fs.mkdtemp(join(homedir(), '.hostcertd-test-'))
  await fs.mkdir(at('conf.d'))
})
afterEach(() => fs.rm(folder, { recursive: true }))

test('sshd is reloaded by reload_command, whatever else the configuration says; conf.d counts', async () => {
  await fs.writeFile(at('hostcertd.yaml'), command('/bin/sh', '-c', 'exit 3'))
  expect(await reload()).toMatch(/^reload_command failed: \/bin\/sh ended with status 3/)
  await fs.writeFile(at('conf.d', '1.yaml'), command('/usr/bin/touch', at('reloaded')))
  expect(await reload()).toBeNull()
  await fs.access(at('reloaded'))
  // It is there before hostcertd.yaml, and when that is taken back.
  await fs.rm(at('reloaded'))
  await fs.rm(at('hostcertd.yaml'))
  expect(await reload()).toBeNull()
  await fs.access(at('reloaded'))
})

test.each([
  { name: 'no list', text: 'sshd:\n  reload_command: /bin/true\n', why: /sshd\.reload_command must/ },
  { name: 'no absolute path', text: command('touch', 'x'), why: /absolute path/ },
  { name: 'no YAML', text: 'sshd: [\n', why: /hostcertd\.yaml/ },
])('a configuration with $name is not taken for one without a command', async ({ text, why }) => {
  await fs.writeFile(at('hostcertd.yaml'), text)
  const said = await reload()
  expect(said).toMatch(/^how sshd is reloaded is not known: /)
  expect(said).toMatch(why)
})

test('a command that others than root could name is not run', needsRoot, async () => {
  const file = at('hostcertd.yaml')
  await fs.writeFile(file, command('/usr/bin/touch', at('reloaded')))
  for (const [path, mode, owner] of [
    [file, 0o666, 0],
    [file, 0o644, 7],
    [folder, 0o777, 0],
  ] as const) {
    await fs.chmod(path, mode)
    await fs.chown(path, owner, 0)
    expect(await reload()).toContain(`other users than root may write to ${path}`)
    await fs.chown(path, 0, 0)
    await fs.chmod(path, 0o755)
  }
  expect(await fs.readdir(folder)).not.toContain('reloaded')
})

test('a command that others than root can change is not run', needsRoot, async () => {
  await fs.mkdir(at('theirs'))
  await fs.chown(at('theirs'), 65_534, 0)
  await fs.symlink('/bin/true', at('theirs', 'link'))
  await fs.writeFile(at('theirs', 'program'), `#!/bin/sh\ntouch ${at('reloaded')}\n`, { mode: 0o755 })
  for (const argv of [
    [at('theirs', 'program')],
    [at('theirs', 'link')],
    ['/bin/sh', at('theirs', 'nothing-yet')],
  ]) {
    await fs.writeFile(at('hostcertd.yaml'), command(...argv))
    const said = await reload()
    expect([argv, said]).toEqual([
      argv,
      `how sshd is reloaded is not known: other users than root may write to ${at('theirs')}`,
    ])
  }
  await fs.writeFile(at('hostcertd.yaml'), command('/bin/true', '/tmp/hostcertd-anything'))
  expect(await reload()).toContain('may write to /tmp')
  expect(await fs.readdir(folder)).not.toContain('reloaded')
})

test('sshd.reload: never: it is not reloaded', async () => {
  await fs.writeFile(
    at('hostcertd.yaml'),
    command('/usr/bin/touch', at('reloaded')).replace('sshd:', 'sshd:\n  reload: never'),
  )
  const reloadOrNot = async () => reloadUnlessByHand(new AbortController().signal, at('hostcertd.yaml'))
  expect(await reloadOrNot()).toBe(BY_HAND)
  // Nor is it taken for one that was.
  expect(await reload()).toBe('sshd.reload is never')
  expect(await fs.readdir(folder)).not.toContain('reloaded')
  await fs.writeFile(at('conf.d', '1.yaml'), 'sshd:\n  reload: always\n')
  expect(await reloadOrNot()).toBeNull()
  await fs.access(at('reloaded'))
})
